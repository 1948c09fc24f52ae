//! Linear quantization: `int4-b32`, `int8-c`, `uint8-t-sym`, `int4-b0x16`, `int4-b32-ls`.

use std::fmt;

use super::super::dtype::{Dtype, Mode};
use super::options::{self, Options};
use super::{Code, Word};

pub(super) const ABOUT: &str = "\
int4-BLOCKS, uint4-, int8-, uint8-: linear quantization, integers with one scale per block
  BLOCKS  -t     one block per tensor
          -c     one block per output channel
          -bN    blocks of N inputs of an output channel
          -bNxN  block size for each axis, 0 for the full axis
  then    -sym, -asym   range symmetric around zero (default of int4, int8), or range of the values (default of uint4, uint8)
          -ls           scales that minimize the squared error, instead of scales from the largest values
";

/// Axes of a weight, at most.
const RANK: usize = 5;

/// Integers with scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Linear {
    /// The type of the integers.
    pub dtype: Dtype,
    /// Range of the integers: symmetric without zero points, or asymmetric.
    pub mode: Mode,
    /// Granularity of scales.
    pub granularity: ScaleGranularity,
    /// Method that determines scales.
    pub search: ScaleSearch,
}

impl Linear {
    /// True if zero points are stored: not where all of them are 0.
    pub fn has_offset(self) -> bool {
        self.mode == Mode::Asymmetric || !self.dtype.is_signed()
    }
}

impl Mode {
    /// Defaults of recipes.
    pub fn of(dtype: Dtype) -> Self {
        if dtype.is_signed() { Self::Symmetric } else { Self::Asymmetric }
    }
}

/// Granularity of scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScaleGranularity {
    /// The whole weight: `t`.
    PerTensor,
    /// An output channel: `c`.
    PerChannel,
    /// So many inputs of an output channel, at least one: `bN`.
    PerBlock(usize),
    /// A block with a size for each axis: `bNxN…`.
    PerShape(Sizes),
}

/// A size for each axis; 0 is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sizes {
    sizes: [usize; RANK],
    rank: usize,
}

impl Sizes {
    /// The sizes; none if there are too many.
    pub fn new(sizes: &[usize]) -> Option<Self> {
        let mut all = [0; RANK];
        all.get_mut(..sizes.len())?.copy_from_slice(sizes);
        Some(Self { sizes: all, rank: sizes.len() })
    }

    /// One for each axis.
    pub fn get(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }
}

/// Method that determines scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScaleSearch {
    /// From the extreme values of the block, as coremltools does.
    Range,
    /// Of some, the one with the least squared error: `ls`.
    LeastSquares,
}

pub(super) fn parse(word: &str) -> Option<Result<Word, String>> {
    const GRANULARITIES: &str = "t, c, bN or bNxN…";
    let mut parts = word.split('-');
    let kind = parts.next().unwrap_or_default();
    let dtype = Dtype::ALL.into_iter().find(|d| d.name() == kind)?;
    let (name, granularity) = (dtype.name(), parts.next());
    if granularity.is_none() {
        return Some(Err(format!("`{kind}` needs a granularity ({GRANULARITIES})")));
    }
    let read = || -> Result<Word, String> {
        let granularity = granularity.unwrap_or_default();
        let granularity = match granularity.strip_prefix('b') {
            None if granularity == "t" => ScaleGranularity::PerTensor,
            None if granularity == "c" => ScaleGranularity::PerChannel,
            None => return Err(format!("granularity `{granularity}` is not {GRANULARITIES}")),
            Some(sizes) => block(sizes)?,
        };
        let mut options = Options::new(name, parts);
        let mode = if options.word("sym") {
            Mode::Symmetric
        } else if options.word("asym") {
            Mode::Asymmetric
        } else {
            Mode::of(dtype)
        };
        let search =
            if options.word("ls") { ScaleSearch::LeastSquares } else { ScaleSearch::Range };
        options.end(&["sym", "asym", "ls"])?;
        Ok(Word::Code(Code::Linear(Linear { dtype, mode, granularity, search })))
    };
    Some(read())
}

fn block(sizes: &str) -> Result<ScaleGranularity, String> {
    let wrong = |digits: &str| format!("size `{digits}` is not a whole number");
    let all: Vec<usize> = sizes
        .split('x')
        .map(|digits| options::number(digits).ok_or_else(|| wrong(digits)))
        .collect::<Result<_, _>>()?;
    match *all.as_slice() {
        [] | [0] => Err(format!("size `{sizes}` is not a whole number above 0")),
        [size] => Ok(ScaleGranularity::PerBlock(size)),
        _ => Sizes::new(&all)
            .map(ScaleGranularity::PerShape)
            .ok_or_else(|| format!("size `{sizes}` has more than {RANK} axes")),
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype.name())?;
        match self.granularity {
            ScaleGranularity::PerTensor => f.write_str("-t")?,
            ScaleGranularity::PerChannel => f.write_str("-c")?,
            ScaleGranularity::PerBlock(n) => write!(f, "-b{n}")?,
            ScaleGranularity::PerShape(sizes) => {
                for (i, size) in sizes.get().iter().enumerate() {
                    write!(f, "{}{size}", if i == 0 { "-b" } else { "x" })?;
                }
            }
        }
        match self.mode {
            mode if mode == Mode::of(self.dtype) => {}
            Mode::Symmetric => f.write_str("-sym")?,
            Mode::Asymmetric => f.write_str("-asym")?,
        }
        if self.search == ScaleSearch::LeastSquares { f.write_str("-ls") } else { Ok(()) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn schemes() -> impl Strategy<Value = Linear> {
        let granularity = prop_oneof![
            Just(ScaleGranularity::PerTensor),
            Just(ScaleGranularity::PerChannel),
            (1_usize..).prop_map(ScaleGranularity::PerBlock),
            prop::collection::vec(0_usize..200, 2..=RANK)
                .prop_map(|sizes| ScaleGranularity::PerShape(Sizes::new(&sizes).unwrap())),
        ];
        let mode = prop::sample::select(&[Mode::Symmetric, Mode::Asymmetric]);
        let search = prop::sample::select(&[ScaleSearch::Range, ScaleSearch::LeastSquares]);
        (prop::sample::select(&Dtype::ALL), mode, granularity, search).prop_map(
            |(dtype, mode, granularity, search)| Linear { dtype, mode, granularity, search },
        )
    }
}
