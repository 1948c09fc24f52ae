//! Palettization: `pal4-g16`, `uniform6-t`, `unique-g8-a1`, `pal4-t-v2`, `pal4-t-s`.

use std::fmt;

use super::super::bits::Bits;
use super::options::{self, Options};
use super::{Code, Word};

pub(super) const ABOUT: &str = "\
palBITS-GROUPS: palettization, indices of 1, 2, 3, 4, 6 or 8 bits into lookup tables found by k-means
  uniformBITS-GROUPS: equally spaced table entries; unique-GROUPS: tables of the distinct values, if there are few
  GROUPS  -t    one table per tensor
          -gN   one table per N output channels (8, 16, 32, 64; any size with CPU_ONLY)
  then    -aA   groups or vectors along axis A
          -vD   one index for D adjacent values along the channels (not for uniform)
          -s    scale each output channel by its largest magnitude
          -si   scale each input by its largest magnitude along the groups' axis (coremltools' `enable_per_channel_scale`)
";

/// Vectors of at most this many values.
const MOST: usize = 16;

/// Indices into tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Palettize {
    /// Source of a table's entries.
    pub fit: Fit,
    /// Granularity of tables.
    pub granularity: TableGranularity,
    /// The axis that groups and vectors run along, if it is not that of the output channels.
    pub channel_axis: Option<usize>,
    /// Values that one index stands for, side by side along the channel axis; 1 or more.
    pub cluster_dim: usize,
    /// What is divided by its largest magnitude first.
    pub per_channel_scale: Option<PerChannelScale>,
    /// True if the entries are stored as int8.
    pub lut8: bool,
}

/// Source of a table's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fit {
    /// The means of clusters of least squared error.
    Kmeans(Bits),
    /// Equal steps from the smallest to the largest value.
    Uniform(Bits),
    /// The values themselves, which must be few; the width follows.
    Unique,
}

/// What has a scale of its own, by which it is divided before tables are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PerChannelScale {
    /// Each output channel: `s`.
    Outputs,
    /// Each place along all axes but that of the groups: `si`.
    Inputs,
}

/// Granularity of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableGranularity {
    /// The whole weight: `t`.
    PerTensor,
    /// So many channels, at least one: `gN`.
    PerGroupedChannel(usize),
}

pub(super) fn parse(word: &str) -> Option<Result<Word, String>> {
    let mut parts = word.split('-');
    let kind = parts.next().unwrap_or_default();
    let fit = if let Some(bits) = kind.strip_prefix("pal") {
        options::bits(bits).map(Fit::Kmeans)
    } else if let Some(bits) = kind.strip_prefix("uniform") {
        options::bits(bits).map(Fit::Uniform)
    } else if let Some(bits) = kind.strip_prefix("unique") {
        if bits.is_empty() {
            Ok(Fit::Unique)
        } else {
            Err(format!("`{bits}` is not wanted: `unique` finds the bits"))
        }
    } else {
        return None;
    };
    let read = |fit| -> Result<Word, String> {
        let granularity =
            parts.next().ok_or_else(|| format!("`{kind}` needs a granularity (t or gN)"))?;
        let granularity = match granularity.strip_prefix('g') {
            None if granularity == "t" => TableGranularity::PerTensor,
            Some(size) => TableGranularity::PerGroupedChannel(options::size(size)?),
            None => return Err(format!("granularity `{granularity}` is not t or gN")),
        };
        let mut options = Options::new(kind, parts);
        let channel_axis = options.number('a');
        let vector = options.number('v');
        let per_channel_scale = match (options.word("s"), options.word("si")) {
            (false, false) => None,
            (true, false) => Some(PerChannelScale::Outputs),
            (false, true) => Some(PerChannelScale::Inputs),
            (true, true) => {
                return Err(
                    "either the outputs have scales (`-s`) or the inputs (`-si`)".to_owned()
                );
            }
        };
        options.end(&["a", "v", "s", "si"])?;
        if let Some(n) = vector
            && !(2..=MOST).contains(&n)
        {
            return Err(format!("`v{n}`: a vector has 2 to {MOST} values"));
        }
        if vector.is_some() && matches!(fit, Fit::Uniform(_)) {
            return Err("vectors are for k-means and unique".to_owned());
        }
        let along = granularity != TableGranularity::PerTensor
            || vector.is_some()
            || per_channel_scale == Some(PerChannelScale::Inputs);
        if channel_axis.is_some() && !along {
            return Err(
                "an axis is for groups (`gN`), vectors (`-vD`) or scales of inputs (`-si`)"
                    .to_owned(),
            );
        }
        let cluster_dim = vector.unwrap_or(1);
        Ok(Word::Code(Code::Palettize(Palettize {
            fit,
            granularity,
            channel_axis,
            cluster_dim,
            per_channel_scale,
            lut8: false,
        })))
    };
    Some(fit.and_then(read))
}

impl fmt::Display for Palettize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fit {
            Fit::Kmeans(bits) => write!(f, "pal{bits}")?,
            Fit::Uniform(bits) => write!(f, "uniform{bits}")?,
            Fit::Unique => f.write_str("unique")?,
        }
        match self.granularity {
            TableGranularity::PerTensor => f.write_str("-t")?,
            TableGranularity::PerGroupedChannel(n) => write!(f, "-g{n}")?,
        }
        if let Some(axis) = self.channel_axis {
            write!(f, "-a{axis}")?;
        }
        if self.cluster_dim > 1 {
            write!(f, "-v{}", self.cluster_dim)?;
        }
        match self.per_channel_scale {
            None => {}
            Some(PerChannelScale::Outputs) => f.write_str("-s")?,
            Some(PerChannelScale::Inputs) => f.write_str("-si")?,
        }
        if self.lut8 {
            f.write_str("+lut8")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn schemes() -> impl Strategy<Value = Palettize> {
        let bits = || prop::sample::select(&Bits::ALL);
        let fit = prop_oneof![
            bits().prop_map(Fit::Kmeans),
            bits().prop_map(Fit::Uniform),
            Just(Fit::Unique)
        ];
        let granularity = prop_oneof![
            Just(TableGranularity::PerTensor),
            (1_usize..).prop_map(TableGranularity::PerGroupedChannel)
        ];
        let axis = prop::option::of(0_usize..5);
        let scale = prop::sample::select(&[
            None,
            Some(PerChannelScale::Outputs),
            Some(PerChannelScale::Inputs),
        ]);
        (fit, granularity, axis, 1_usize..=MOST, scale, any::<bool>()).prop_map(
            |(fit, granularity, axis, dim, per_channel_scale, lut8)| {
                let cluster_dim = if matches!(fit, Fit::Uniform(_)) { 1 } else { dim };
                let along = granularity != TableGranularity::PerTensor
                    || cluster_dim > 1
                    || per_channel_scale == Some(PerChannelScale::Inputs);
                let channel_axis = axis.filter(|_| along);
                Palettize { fit, granularity, channel_axis, cluster_dim, per_channel_scale, lut8 }
            },
        )
    }
}
