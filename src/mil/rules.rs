//! Input constraints of a model description beyond the declared types: shapes and defaults.

use std::collections::BTreeMap;
use std::fmt;

/// The rules of all functions' inputs: by function, then by input.
pub type Rules = BTreeMap<String, BTreeMap<String, Rule>>;

/// Constraints of an input.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// The shapes that the input may have, where the description restricts them.
    pub allowed: Option<Allowed>,
    /// What stands in for the input where none is given.
    pub default: Option<Fill>,
}

/// A tensor of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// Its extents.
    pub shape: Vec<usize>,
    /// The value of each element.
    pub value: f64,
}

/// The shapes that an input may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// For each dimension the least and the greatest extent; no greatest one where there is no bound.
    Range(Vec<(usize, Option<usize>)>),
    /// One of these.
    Enumerated(Vec<Vec<usize>>),
}

impl Allowed {
    /// True if `shape` is among the allowed ones.
    pub fn holds(&self, shape: &[usize]) -> bool {
        match self {
            Self::Range(dims) => {
                dims.len() == shape.len()
                    && dims
                        .iter()
                        .zip(shape)
                        .all(|(&(least, most), &n)| n >= least && most.is_none_or(|most| n <= most))
            }
            Self::Enumerated(shapes) => shapes.iter().any(|s| s == shape),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(dims) => {
                let dim = |&(least, most): &(usize, Option<usize>)| match most {
                    Some(most) if most == least => least.to_string(),
                    Some(most) => format!("{least}..={most}"),
                    None => format!("{least}.."),
                };
                let dims: Vec<_> = dims.iter().map(dim).collect();
                write!(f, "[{}]", dims.join(", "))
            }
            Self::Enumerated(shapes) => {
                let shapes: Vec<_> = shapes.iter().map(|s| format!("{s:?}")).collect();
                f.write_str(&shapes.join(" or "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_are_allowed() {
        let range = Allowed::Range(vec![(1, Some(1)), (2, Some(8)), (0, None)]);
        let several = Allowed::Enumerated(vec![vec![1, 3], vec![2, 3]]);
        let cases: &[(&Allowed, &[usize], bool)] = &[
            (&range, &[1, 2, 0], true),
            (&range, &[1, 8, 1 << 40], true),
            (&range, &[1, 9, 1], false),
            (&range, &[1, 1, 1], false),
            (&range, &[2, 2, 1], false),
            (&range, &[1, 2], false),
            (&several, &[2, 3], true),
            (&several, &[3, 3], false),
            (&several, &[1, 3, 1], false),
        ];
        for (allowed, shape, want) in cases {
            assert_eq!(allowed.holds(shape), *want, "{allowed} {shape:?}");
        }
        assert_eq!(range.to_string(), "[1, 2..=8, 0..]");
        assert_eq!(several.to_string(), "[1, 3] or [2, 3]");
    }
}
