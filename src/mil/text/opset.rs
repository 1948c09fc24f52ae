//! Opsets: the textual form names the system (`ios18`), the binary one the framework (`CoreML8`).

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

const TABLE: &[(&str, &str)] = &[
    ("ios13", "CoreML3"),
    ("ios14", "CoreML4"),
    ("ios15", "CoreML5"),
    ("ios16", "CoreML6"),
    ("ios17", "CoreML7"),
    ("ios18", "CoreML8"),
    ("ios26", "CoreML9"),
];

/// The opset of a name in text; a name that is not known stands for itself and is refused when the program is loaded.
pub(super) fn from_text(name: &str) -> String {
    TABLE.iter().find(|line| line.0 == name).map_or(name, |line| line.1).to_owned()
}

/// The name in text of an opset.
pub(super) fn to_text(opset: &str) -> &str {
    TABLE.iter().find(|line| line.1 == opset).map_or(opset, |line| line.0)
}

/// True if scalars of the opset are written by their element type alone, as from iOS18 on.
pub(super) fn has_short_scalars(opset: &str) -> bool {
    matches!(opset, "CoreML8" | "CoreML9")
}
