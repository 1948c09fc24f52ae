//! Pruning: `sparse50`, `sparse50-b4`, `sparse2:4`, `below0.01`.

use std::fmt;

use super::Word;
use super::options::{self, Options};

pub(super) const ABOUT: &str = "\
sparseP: pruning, sets the P percent of values with the smallest magnitude to zero; zeros are not stored
  -bN  prunes blocks of N channels, along axis 0 or the axis of -aA
sparseN:M: prunes the N smallest of every M inputs, or along the axis of -aA
belowX: prunes magnitudes up to X; at least half of the values must be that small
";

/// Which values become zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prune {
    /// The smallest magnitudes of the tensor.
    Magnitude {
        /// Which part of them.
        sparsity: Sparsity,
        /// Channels that are kept or pruned together, and their axis.
        block: Option<(usize, usize)>,
    },
    /// The smallest `n` of every `m` values side by side along an axis.
    NofM {
        /// Number of values that become zero.
        n: usize,
        /// Of how many.
        m: usize,
        /// Along which axis.
        axis: usize,
    },
    /// Magnitudes up to a threshold.
    Below(Threshold),
}

/// A part of the values, in thousandths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sparsity(u32);

/// What one is: 100 percent.
const WHOLE: u32 = 100_000;

impl Sparsity {
    /// From a percentage from 0 to below 100 with at most three decimals.
    pub fn from_percent(percent: f64) -> Option<Self> {
        let thousandths = (percent * 1000.0).round();
        let exact = (thousandths / 1000.0 - percent).abs() < 1e-9;
        let inside = (0.0..f64::from(WHOLE)).contains(&thousandths);
        (exact && inside).then_some(Self(thousandths as u32))
    }

    /// The part, between 0 and 1.
    pub fn get(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

/// A magnitude above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u32);

impl Threshold {
    /// A finite number above 0.
    pub fn new(value: f32) -> Option<Self> {
        (value > 0.0 && value.is_finite()).then_some(Self(value.to_bits()))
    }

    /// The number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

pub(super) fn parse(word: &str) -> Option<Result<Word, String>> {
    let mut parts = word.split('-');
    let kind = parts.next().unwrap_or_default();
    if let Some(digits) = kind.strip_prefix("below") {
        return Some(below(digits, Options::new(kind, parts)).map(Word::Prune));
    }
    let amount = kind.strip_prefix("sparse")?;
    Some(sparse(amount, Options::new(kind, parts)).map(Word::Prune))
}

fn below(digits: &str, options: Options<'_>) -> Result<Prune, String> {
    if digits.is_empty() {
        return Err("`below` needs a number".to_owned());
    }
    options.end(&[])?;
    let threshold = digits.parse().ok().and_then(Threshold::new);
    threshold.map(Prune::Below).ok_or_else(|| format!("`{digits}` is not a number above 0"))
}

fn sparse(amount: &str, mut options: Options<'_>) -> Result<Prune, String> {
    let pruned = if let Some((n, m)) = amount.split_once(':') {
        let (n, m) = options::number(n)
            .zip(options::number(m))
            .filter(|&(n, m)| n > 0 && n < m)
            .ok_or_else(|| format!("`{amount}` is not N:M with 0 < N < M"))?;
        // The inputs, as coremltools does where nothing is said.
        Prune::NofM { n, m, axis: options.number('a').unwrap_or(1) }
    } else {
        let sparsity = amount
            .parse()
            .ok()
            .and_then(Sparsity::from_percent)
            .ok_or_else(|| format!("`{amount}` is not a percentage from 0 to below 100"))?;
        let size = options.number('b');
        let axis = options.number('a');
        match (size, axis) {
            (Some(n), _) if n < 2 => {
                return Err(format!("`b{n}`: a block has at least 2 channels"));
            }
            (None, Some(_)) => return Err("an axis is for blocks (`-bN`) or N:M".to_owned()),
            _ => {}
        }
        Prune::Magnitude { sparsity, block: size.map(|size| (size, axis.unwrap_or(0))) }
    };
    options.end(&["b", "a"])?;
    Ok(pruned)
}

impl fmt::Display for Prune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magnitude { sparsity, block } => {
                write!(f, "sparse{}", f64::from(sparsity.0) / 1000.0)?;
                match block {
                    None => Ok(()),
                    Some((size, 0)) => write!(f, "-b{size}"),
                    Some((size, axis)) => write!(f, "-b{size}-a{axis}"),
                }
            }
            Self::NofM { n, m, axis: 1 } => write!(f, "sparse{n}:{m}"),
            Self::NofM { n, m, axis } => write!(f, "sparse{n}:{m}-a{axis}"),
            Self::Below(threshold) => write!(f, "below{}", threshold.get()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn schemes() -> impl Strategy<Value = Prune> {
        let block = prop::option::of((2_usize..100, 0_usize..2));
        prop_oneof![
            (0..WHOLE, block).prop_map(|(thousandths, block)| Prune::Magnitude {
                sparsity: Sparsity(thousandths),
                block
            }),
            (1_usize..8, 1_usize..8, 0_usize..2).prop_map(|(n, more, axis)| Prune::NofM {
                n,
                m: n + more,
                axis
            }),
            (f32::MIN_POSITIVE..1.0).prop_map(|t| Prune::Below(Threshold::new(t).unwrap())),
        ]
    }
}
