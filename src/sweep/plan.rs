//! A plan: the variants of a sweep in the order in which they are made.

/// The name and the recipe of the baseline, from which all others are compressed.
pub const BASELINE: &str = "fp16";

/// What a sweep will make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The variants; the baseline is the first.
    pub variants: Vec<Variant>,
}

/// One artifact of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name, fit for a file.
    pub name: String,
    /// How its weights are stored.
    pub recipe: String,
    /// The fewest bits that the recipe gives to a weight.
    pub bits: u32,
}

impl Variant {
    /// Whether this is the baseline.
    pub fn is_baseline(&self) -> bool {
        self.recipe == BASELINE
    }

    /// The file name of its package.
    pub fn package(&self) -> String {
        format!("{}.mlpackage", self.name)
    }

    /// The file name of its manifest.
    pub fn manifest(&self) -> String {
        format!("{}.manifest.json", self.name)
    }
}
