//! `Scheme`: how a weight is compressed, as recipes spell it: `fp16`, `pal4-g16`, `int4-b32`.

use std::fmt;
use std::str::FromStr;

use super::affine::Dtype;
use super::bits::Bits;
use super::error::Error;

/// The forms of a scheme, for hints and help.
pub const FORMS: &str = "fp16; pal{1,2,3,4,6,8}-t, -gN (one table for the tensor, for N output channels); \
     {int4,uint4,int8,uint8}-t, -c, -bN (one scale for the tensor, an output channel, N inputs of one)";

/// How one weight is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Not at all.
    Fp16,
    /// Indices into tables of centroids.
    Palettize {
        /// The width of an index.
        bits: Bits,
        /// What shares a table.
        granularity: TableGranularity,
    },
    /// Integers with scales: symmetric for signed types, with zero points for unsigned ones.
    Affine {
        /// The type of the integers.
        dtype: Dtype,
        /// What shares a scale.
        granularity: ScaleGranularity,
    },
}

/// What shares a table of centroids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableGranularity {
    /// The whole weight: `t`.
    PerTensor,
    /// So many output channels, at least one: `gN`.
    PerGroupedChannel(usize),
}

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScaleGranularity {
    /// The whole weight: `t`.
    PerTensor,
    /// An output channel: `c`.
    PerChannel,
    /// So many inputs of an output channel, at least one: `bN`.
    PerBlock(usize),
}

impl Scheme {
    /// The bits of one stored element: an index, an integer, or 16.
    pub fn bits(self) -> u32 {
        match self {
            Self::Fp16 => 16,
            Self::Palettize { bits, .. } => u32::from(bits.get()),
            Self::Affine { dtype, .. } => u32::from(dtype.bits().get()),
        }
    }

    /// The bits that each value of a `rows` × `cols` weight takes, tables, scales and zero points included,
    /// alignment and what describes the tensor not; an ideal, as nothing is rounded to bytes.
    pub fn bits_per_weight(self, rows: usize, cols: usize) -> f64 {
        let (n_rows, n_cols) = (rows as f64, cols as f64);
        match self {
            Self::Fp16 => 16.0,
            Self::Palettize { bits, granularity } => {
                let rows_in_group = match granularity {
                    TableGranularity::PerTensor => n_rows,
                    TableGranularity::PerGroupedChannel(n) => n as f64,
                };
                f64::from(bits.get()) + 16.0 * bits.n_values() as f64 / (rows_in_group * n_cols)
            }
            Self::Affine { dtype, granularity } => {
                let block_len = match granularity {
                    ScaleGranularity::PerTensor => n_rows * n_cols,
                    ScaleGranularity::PerChannel => n_cols,
                    ScaleGranularity::PerBlock(n) => n as f64,
                };
                let bits = f64::from(dtype.bits().get());
                let zero_point = if dtype.is_signed() { 0.0 } else { bits };
                bits + (16.0 + zero_point) / block_len
            }
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp16 => f.write_str("fp16"),
            Self::Palettize { bits, granularity: TableGranularity::PerTensor } => {
                write!(f, "pal{bits}-t")
            }
            Self::Palettize { bits, granularity: TableGranularity::PerGroupedChannel(n) } => {
                write!(f, "pal{bits}-g{n}")
            }
            Self::Affine { dtype, granularity } => {
                f.write_str(dtype.name())?;
                match granularity {
                    ScaleGranularity::PerTensor => f.write_str("-t"),
                    ScaleGranularity::PerChannel => f.write_str("-c"),
                    ScaleGranularity::PerBlock(n) => write!(f, "-b{n}"),
                }
            }
        }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    /// Reads what [`fmt::Display`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|fact| Error::Scheme { text: text.to_owned(), fact })
    }
}

fn parse(text: &str) -> Result<Scheme, String> {
    if text == "fp16" {
        return Ok(Scheme::Fp16);
    }
    let (kind, granularity) = text.split_once('-').unwrap_or((text, ""));
    if let Some(width) = kind.strip_prefix("pal") {
        let bits = number(width).and_then(|n| u8::try_from(n).ok()).and_then(Bits::new);
        let bits = bits.ok_or_else(|| format!("`{width}` is not 1, 2, 3, 4, 6 or 8 bits"))?;
        let granularity = match granularity {
            "t" => TableGranularity::PerTensor,
            _ => TableGranularity::PerGroupedChannel(sized(kind, granularity, 'g', "t or gN")?),
        };
        return Ok(Scheme::Palettize { bits, granularity });
    }
    let dtype = Dtype::ALL
        .into_iter()
        .find(|d| d.name() == kind)
        .ok_or_else(|| format!("`{kind}` is no kind of compression"))?;
    let granularity = match granularity {
        "t" => ScaleGranularity::PerTensor,
        "c" => ScaleGranularity::PerChannel,
        _ => ScaleGranularity::PerBlock(sized(kind, granularity, 'b', "t, c or bN")?),
    };
    Ok(Scheme::Affine { dtype, granularity })
}

/// The N of a granularity `letter` N.
fn sized(kind: &str, granularity: &str, letter: char, forms: &str) -> Result<usize, String> {
    if granularity.is_empty() {
        return Err(format!("`{kind}` needs a granularity ({forms})"));
    }
    let size = granularity
        .strip_prefix(letter)
        .ok_or_else(|| format!("granularity `{granularity}` is not {forms}"))?;
    match number(size) {
        Some(n) if n > 0 => Ok(n),
        _ => Err(format!("size `{size}` is not a whole number above 0")),
    }
}

/// A number as [`fmt::Display`] writes it: no sign and no zero in front.
fn number(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|n: &usize| n.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::error::Hint as _;

    #[test]
    fn bits_per_weight_by_hand() {
        let check = |text: &str, rows, cols, expected: f64| {
            let scheme: Scheme = text.parse().unwrap();
            assert!((scheme.bits_per_weight(rows, cols) - expected).abs() < 1e-12, "{text}");
        };
        check("fp16", 3, 5, 16.0);
        // 16 entries of 16 bits for 16 · 1024 values.
        check("pal4-g16", 1024, 1024, 4.0 + 256.0 / 16384.0);
        check("pal8-t", 64, 64, 8.0 + 1.0);
        check("pal1-g2", 4, 8, 1.0 + 2.0);
        check("int8-c", 16, 32, 8.5);
        check("int8-t", 16, 32, 8.0 + 16.0 / 512.0);
        check("int4-b32", 16, 32, 4.5);
        check("uint4-b32", 16, 32, 4.625);
    }

    #[test]
    fn what_is_no_scheme() {
        let check = |text: &str, fact: &str| {
            let error = text.parse::<Scheme>().unwrap_err();
            assert_eq!(error.to_string(), format!("scheme `{text}` is not known: {fact}"));
            assert_eq!(error.hint(), Some(format!("valid schemes: {FORMS}")));
        };
        check("", "`` is no kind of compression");
        check("fp32", "`fp32` is no kind of compression");
        check("fp16-t", "`fp16` is no kind of compression");
        check("int2-c", "`int2` is no kind of compression");
        check("PAL4-t", "`PAL4` is no kind of compression");
        check("pal5-t", "`5` is not 1, 2, 3, 4, 6 or 8 bits");
        check("pal-t", "`` is not 1, 2, 3, 4, 6 or 8 bits");
        check("pal04-t", "`04` is not 1, 2, 3, 4, 6 or 8 bits");
        check("pal260-t", "`260` is not 1, 2, 3, 4, 6 or 8 bits");
        check("pal4", "`pal4` needs a granularity (t or gN)");
        check("int8-", "`int8` needs a granularity (t, c or bN)");
        check("pal4-c", "granularity `c` is not t or gN");
        check("int4-g16", "granularity `g16` is not t, c or bN");
        check("pal4-g0", "size `0` is not a whole number above 0");
        check("pal4-g+8", "size `+8` is not a whole number above 0");
        check("int4-b", "size `` is not a whole number above 0");
        check("int4-b32-x", "size `32-x` is not a whole number above 0");
        check(
            "int4-b99999999999999999999",
            "size `99999999999999999999` is not a whole number above 0",
        );
    }

    fn schemes() -> impl Strategy<Value = Scheme> {
        let tables = prop_oneof![
            Just(TableGranularity::PerTensor),
            (1_usize..).prop_map(TableGranularity::PerGroupedChannel)
        ];
        let scales = prop_oneof![
            Just(ScaleGranularity::PerTensor),
            Just(ScaleGranularity::PerChannel),
            (1_usize..).prop_map(ScaleGranularity::PerBlock)
        ];
        prop_oneof![
            Just(Scheme::Fp16),
            (prop::sample::select(&Bits::ALL), tables)
                .prop_map(|(bits, granularity)| Scheme::Palettize { bits, granularity }),
            (prop::sample::select(&Dtype::ALL), scales)
                .prop_map(|(dtype, granularity)| Scheme::Affine { dtype, granularity }),
        ]
    }

    proptest! {
        #[test]
        fn reading_what_is_written(scheme in schemes()) {
            prop_assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }
    }
}
