//! `Scheme`: how a weight is compressed, as recipes spell it: `fp16`, `pal4-g16`, `int4-b32`, `sparse50+pal4-g16+lut8`.
//!
//! A scheme is what is pruned, if anything is, and how the values that are left are stored.

mod linear;
mod options;
mod palettize;
mod prune;

use std::fmt;
use std::str::FromStr;

pub use self::linear::{Linear, ScaleGranularity, ScaleSearch, Sizes};
pub use self::palettize::{Fit, Palettize, PerChannelScale, TableGranularity};
pub use self::prune::{Prune, Sparsity};
pub use super::dtype::Mode;
use super::error::Error;

/// Compression of one weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scheme {
    /// Which values become zero and are not stored.
    pub prune: Option<Prune>,
    /// Storage of the other values.
    pub code: Code,
}

/// Storage of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// As they are.
    Float,
    /// As indices into tables.
    Palettize(Palettize),
    /// As integers with scales.
    Linear(Linear),
}

/// Meaning of a word between two `+`.
enum Word {
    Prune(Prune),
    Code(Code),
    QuantizedLut,
}

/// Reads a word, unless it is of another kind.
type Parse = fn(&str) -> Option<Result<Word, String>>;

/// A kind of word.
struct Kind {
    /// Some of its forms, for hints.
    forms: &'static str,
    /// All of them, for people who ask.
    about: &'static str,
    parse: Parse,
}

/// One line per kind of word.
const KINDS: &[Kind] = &[
    Kind {
        forms: "fp16",
        about: "fp16: not compressed\n",
        parse: |word| (word == "fp16").then_some(Ok(Word::Code(Code::Float))),
    },
    Kind {
        forms: "pal4-t, pal4-g16 (also uniform4-, unique-)",
        about: palettize::ABOUT,
        parse: palettize::parse,
    },
    Kind {
        forms: "int4-b32, int8-c, int8-t (also uint4-, uint8-)",
        about: linear::ABOUT,
        parse: linear::parse,
    },
    Kind { forms: "sparse50, sparse2:4, below0.01", about: prune::ABOUT, parse: prune::parse },
    Kind {
        forms: "sparse50+pal4-g16+lut8",
        about: "Pruning, `+`, and palettization or linear quantization: applies to the values that are not pruned.\n\
                Palettization, `+lut8`: table entries as int8 with one scale.\n",
        parse: |word| (word == "lut8").then_some(Ok(Word::QuantizedLut)),
    },
];

/// Some forms of each kind, for hints.
pub fn forms() -> String {
    let forms: Vec<_> = KINDS.iter().map(|kind| kind.forms).collect();
    forms.join("; ")
}

/// All forms of all kinds, in several lines.
pub fn about() -> String {
    let kinds: Vec<_> = KINDS.iter().map(|kind| kind.about).collect();
    kinds.join("\n")
}

impl Scheme {
    /// Not compressed at all.
    pub const FP16: Self = Self { prune: None, code: Code::Float };

    /// The bits of a stored element times the part of the elements that are stored; 16 where nothing is lost.
    pub fn bits(self) -> u32 {
        let bits = match self.code {
            Code::Float | Code::Palettize(Palettize { fit: Fit::Unique, .. }) => 16,
            Code::Palettize(Palettize { fit: Fit::Kmeans(bits) | Fit::Uniform(bits), .. }) => {
                u32::from(bits.get())
            }
            Code::Linear(linear) => u32::from(linear.dtype.bits().get()),
        };
        let stored = match self.prune {
            None => 1.0,
            Some(Prune::Magnitude { sparsity, .. }) => 1.0 - sparsity.get(),
            Some(Prune::NofM { n, m, .. }) => (m - n) as f64 / m as f64,
            Some(Prune::Below(_)) => 0.5,
        };
        (f64::from(bits) * stored).ceil() as u32
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.prune, &self.code) {
            (None, Code::Float) => f.write_str("fp16"),
            (None, code) => code.fmt(f),
            (Some(prune), Code::Float) => prune.fmt(f),
            (Some(prune), code) => write!(f, "{prune}+{code}"),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.write_str("fp16"),
            Self::Palettize(palettize) => palettize.fmt(f),
            Self::Linear(linear) => linear.fmt(f),
        }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    /// Reads what [`fmt::Display`] writes; options that are the default may be written too.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|fact| Error::Scheme { text: text.to_owned(), fact })
    }
}

fn parse(text: &str) -> Result<Scheme, String> {
    let mut prune = None;
    let mut code = None;
    for word in text.split('+') {
        let read = KINDS
            .iter()
            .find_map(|kind| (kind.parse)(word))
            .ok_or_else(|| format!("`{word}` is no kind of compression"))??;
        match (read, &mut code) {
            (Word::Prune(new), None) if prune.is_none() => prune = Some(new),
            (Word::Code(new), None) => code = Some(new),
            (Word::QuantizedLut, Some(Code::Palettize(palettize))) if !palettize.lut8 => {
                palettize.lut8 = true;
            }
            _ => return Err(format!("`{word}` cannot stand where it does")),
        }
    }
    let scheme = Scheme { prune, code: code.unwrap_or(Code::Float) };
    match (scheme.prune, scheme.code) {
        (Some(_), Code::Float) if code.is_some() => Err("`fp16` stands alone".to_owned()),
        (Some(_), Code::Palettize(p)) if p.per_channel_scale.is_some() || p.cluster_dim > 1 => {
            Err("a sparse palette has neither vectors nor scales".to_owned())
        }
        _ => Ok(scheme),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::error::Hint as _;

    #[test]
    fn what_is_no_scheme() {
        let check = |text: &str, fact: &str| {
            let error = text.parse::<Scheme>().unwrap_err();
            assert_eq!(error.to_string(), format!("scheme `{text}` is not known: {fact}"));
            assert_eq!(
                error.hint(),
                Some(format!("schemes are {}; `coremill explain schemes` has all forms", forms()))
            );
        };
        check("", "`` is no kind of compression");
        check("fp32", "`fp32` is no kind of compression");
        check("fp16-t", "`fp16-t` is no kind of compression");
        check("int2-c", "`int2-c` is no kind of compression");
        check("PAL4-t", "`PAL4-t` is no kind of compression");
        check("pal5-t", "`5` is not 1, 2, 3, 4, 6 or 8 bits");
        check("pal-t", "`` is not 1, 2, 3, 4, 6 or 8 bits");
        check("pal04-t", "`04` is not 1, 2, 3, 4, 6 or 8 bits");
        check("uniform260-t", "`260` is not 1, 2, 3, 4, 6 or 8 bits");
        check("unique4-t", "`4` is not wanted: `unique` finds the bits");
        check("pal4", "`pal4` needs a granularity (t or gN)");
        check("int8-", "granularity `` is not t, c, bN or bNxN…");
        check("int8", "`int8` needs a granularity (t, c, bN or bNxN…)");
        check("pal4-c", "granularity `c` is not t or gN");
        check("int4-g16", "granularity `g16` is not t, c, bN or bNxN…");
        check("pal4-g0", "size `0` is not a whole number above 0");
        check("pal4-g08", "size `08` is not a whole number above 0");
        check("int4-b", "size `` is not a whole number");
        check("int4-b32-x", "`x` is no option of `int4`");
        check("int4-b99999999999999999999", "size `99999999999999999999` is not a whole number");
        check("int4-b1x2x3x4x5x6", "size `1x2x3x4x5x6` has more than 5 axes");
        check("pal4-t-v2-a1", "`a1` is no option of `pal4`, or comes too late");
        check(
            "pal4-t-a1",
            "an axis is for groups (`gN`), vectors (`-vD`) or scales of inputs (`-si`)",
        );
        check("pal4-t-v1", "`v1`: a vector has 2 to 16 values");
        check("uniform4-t-v2", "vectors are for k-means and unique");
        check("pal4-t+lut8+lut8", "`lut8` cannot stand where it does");
        check("int8-c+lut8", "`lut8` cannot stand where it does");
        check("pal4-t+sparse50", "`sparse50` cannot stand where it does");
        check("sparse50+fp16", "`fp16` stands alone");
        check("sparse50+pal4-t-s", "a sparse palette has neither vectors nor scales");
        check("sparse-1", "`` is not a percentage from 0 to below 100");
        check("sparse100", "`100` is not a percentage from 0 to below 100");
        check("sparse50.0001", "`50.0001` is not a percentage from 0 to below 100");
        check("sparse5:4", "`5:4` is not N:M with 0 < N < M");
        check("sparse50-a1", "an axis is for blocks (`-bN`) or N:M");
        check("sparse50-b1", "`b1`: a block has at least 2 channels");
        check("below-1", "`below` needs a number");
        check("belowx", "`x` is not a number above 0");
    }

    #[test]
    fn the_documentation_has_the_forms() {
        let page = include_str!("../../../docs/compression.md");
        assert!(page.contains(about().trim_end()), "docs/compression.md lacks: {}", about());
    }

    #[test]
    fn bits_by_hand() {
        let cases = [
            ("fp16", 16),
            ("pal4-g16", 4),
            ("unique-t", 16),
            ("uniform6-t", 6),
            ("uint8-c", 8),
            ("sparse50", 8),
            ("sparse2:4+int8-c", 4),
            ("sparse75+pal6-t", 2),
            ("below0.1", 8),
        ];
        for (text, bits) in cases {
            assert_eq!(text.parse::<Scheme>().unwrap().bits(), bits, "{text}");
        }
    }

    #[test]
    fn defaults_may_be_written() {
        for (long, short) in
            [("int8-c-sym", "int8-c"), ("uint4-b32-asym", "uint4-b32"), ("sparse50.0", "sparse50")]
        {
            assert_eq!(long.parse::<Scheme>().unwrap().to_string(), short);
        }
    }

    /// Schemes of every kind.
    pub(crate) fn schemes() -> impl Strategy<Value = Scheme> {
        let code = prop_oneof![
            palettize::tests::schemes().prop_map(Code::Palettize),
            linear::tests::schemes().prop_map(Code::Linear),
        ];
        let code = prop_oneof![Just(Code::Float), code];
        (prop::option::of(prune::tests::schemes()), code).prop_map(|(prune, code)| match code {
            Code::Palettize(p) if prune.is_some() => {
                let plain = Palettize { per_channel_scale: None, cluster_dim: 1, ..p };
                let channel_axis = match plain.granularity {
                    TableGranularity::PerTensor => None,
                    TableGranularity::PerGroupedChannel(_) => plain.channel_axis,
                };
                Scheme { prune, code: Code::Palettize(Palettize { channel_axis, ..plain }) }
            }
            code => Scheme { prune, code },
        })
    }

    proptest! {
        #[test]
        fn reading_what_is_written(scheme in schemes()) {
            prop_assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9+:.x-]{0,24}") {
            if let Ok(scheme) = text.parse::<Scheme>() {
                prop_assert_eq!(scheme.to_string().parse(), Ok(scheme));
            }
        }
    }
}
