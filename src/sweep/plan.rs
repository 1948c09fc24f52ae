//! A plan: the variants of a sweep in the order in which they are made, and what part of them one machine makes.

use std::str::FromStr;

use thiserror::Error;

/// The name and the recipe of the baseline, from which all others are compressed.
pub const BASELINE: &str = "fp16";

/// Variants of a sweep.
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
    /// Storage of its weights.
    pub recipe: String,
    /// The fewest bits that the recipe gives to a weight.
    pub bits: u32,
}

impl Variant {
    /// True if this is the baseline.
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

/// One of several equal parts of a sweep, for machines that know nothing of each other: `2/5` is the second of five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1 on.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

/// A text that names no part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("shard `{text}` is not of the form `1/4`: a number from 1 on, and of how many")]
pub struct ShardError {
    text: String,
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let read = || {
            let (number, of) = text.split_once('/')?;
            let shard = Self { number: number.parse().ok()?, of: of.parse().ok()? };
            (1..=shard.of).contains(&shard.number).then_some(shard)
        };
        read().ok_or_else(|| ShardError { text: text.to_owned() })
    }
}

impl Shard {
    /// The variants of this part: dealt like cards, so that neighbours in a grid, which take as long as each other, go to
    /// different machines; the baseline is in each, since all others are compressed from it and compared with it.
    pub(super) fn assign_shard(self, variants: &mut Vec<Variant>) {
        let mut dealt = 0;
        variants.retain(|variant| {
            if variant.is_baseline() {
                return true;
            }
            dealt += 1;
            (dealt - 1) % self.of == self.number - 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read_or_refused() {
        let cases = [
            ("1/1", Some((1, 1))),
            ("2/5", Some((2, 5))),
            ("0/2", None),
            ("3/2", None),
            ("2", None),
        ];
        for (text, want) in cases {
            let read = text.parse::<Shard>().ok().map(|shard| (shard.number, shard.of));
            assert_eq!(read, want, "{text}");
        }
    }

    #[test]
    fn shards_together_are_the_plan() {
        let variant =
            |name: &str| Variant { name: name.to_owned(), recipe: name.to_owned(), bits: 4 };
        let all = ["fp16", "a", "b", "c", "d", "e"];
        for of in 1..8 {
            let mut seen = Vec::new();
            for number in 1..=of {
                let mut part: Vec<Variant> = all.map(variant).to_vec();
                Shard { number, of }.assign_shard(&mut part);
                assert_eq!(part[0].name, "fp16");
                assert!(part.len() <= 1 + 5_usize.div_ceil(of), "{of}: {part:?}");
                seen.extend(part[1..].iter().map(|v| v.name.clone()));
            }
            seen.sort();
            assert_eq!(seen, all[1..], "{of}");
        }
    }
}
