//! `Error`: the ways compression can be asked for something it cannot do.

use half::f16;
use thiserror::Error;

use super::scheme;
use crate::base::error::Hint;

/// Why a weight was not compressed, or a compressed one not read.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// The slice is not as long as its shape says.
    #[error("shape {shape:?} needs {} values, got {len}", shape.iter().fold(1, |n: usize, size| n.saturating_mul(*size)))]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// The length of the slice.
        len: usize,
    },
    /// There is nothing to compress.
    #[error("shape {shape:?} has no values")]
    Empty {
        /// The shape.
        shape: Vec<usize>,
    },
    /// More values than are counted.
    #[error("shape {shape:?} has more than {} values", u32::MAX)]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// An axis that is not there.
    #[error("shape {shape:?} has no axis {axis}")]
    Axis {
        /// The axis.
        axis: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// An infinity or NaN among the values.
    #[error("value {value} at {at:?} is not finite")]
    NotFinite {
        /// Its index along each axis.
        at: Vec<usize>,
        /// The value.
        value: f16,
    },
    /// The channels do not make whole groups.
    #[error(
        "shape {shape:?} does not divide into groups of {group_size} channels along axis {axis}"
    )]
    Group {
        /// The shape.
        shape: Vec<usize>,
        /// The axis of the channels.
        axis: usize,
        /// Channels that share a table.
        group_size: usize,
    },
    /// The weight does not make whole blocks.
    #[error("shape {shape:?} does not divide into blocks of shape {block:?}")]
    Block {
        /// The shape.
        shape: Vec<usize>,
        /// The size of a block along each axis, 0 for all of it.
        block: Vec<usize>,
    },
    /// The channels of a group do not make whole vectors.
    #[error(
        "shape {shape:?}: {channels} channels along axis {axis} do not divide into vectors of {size}"
    )]
    Vector {
        /// The shape.
        shape: Vec<usize>,
        /// The axis of the channels.
        axis: usize,
        /// Values of a vector.
        size: usize,
        /// Channels that share a table.
        channels: usize,
    },
    /// More distinct values than a table has entries.
    #[error("shape {shape:?} has more than 256 distinct values that share a table")]
    SortedHistogram {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Channels that are not pruned together: more than half of them, or along another axis than the first two.
    #[error("shape {shape:?} is not pruned by {size} channels along axis {axis}")]
    Channels {
        /// The shape.
        shape: Vec<usize>,
        /// The axis.
        axis: usize,
        /// Channels of a block or group.
        size: usize,
    },
    /// Too few values below a threshold for a sparse form to be worth it.
    #[error("shape {shape:?} has {zeros} of {n} magnitudes up to {threshold}, less than half")]
    Sparsity {
        /// The shape.
        shape: Vec<usize>,
        /// Magnitudes up to the threshold.
        zeros: usize,
        /// Values.
        n: usize,
        /// The threshold.
        threshold: f32,
    },
    /// Packed bytes that do not hold the elements they should.
    #[error("{n} elements of {bits} bits take {needed} bytes, got {len}")]
    Packed {
        /// Elements expected.
        n: usize,
        /// Bits of each.
        bits: u8,
        /// Bytes they take.
        needed: usize,
        /// Bytes given.
        len: usize,
    },
    /// Two slices that should be compared or filled differ in length.
    #[error("{expected} values expected, got {len}")]
    Mismatch {
        /// The length that the other side has.
        expected: usize,
        /// The length given.
        len: usize,
    },
    /// A scheme that cannot be read.
    #[error("scheme `{text}` is not known: {fact}")]
    Scheme {
        /// The text.
        text: String,
        /// The part of it that is wrong, and why.
        fact: String,
    },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Group { shape, axis, .. } => Some(format!(
                "choose a group size that divides {}, or one table for the tensor (`-t`)",
                shape[*axis]
            )),
            Self::Block { .. } => Some(
                "choose block sizes that divide the shape, or one scale for a channel (`-c`)"
                    .to_owned(),
            ),
            Self::SortedHistogram { .. } => Some("cluster the values (`pal8`)".to_owned()),
            Self::Channels { .. } => {
                Some("prune at most half of the channels together, along axis 0 or 1".to_owned())
            }
            Self::Sparsity { .. } => Some("raise the threshold, or prune a share".to_owned()),
            Self::Scheme { .. } => Some(format!(
                "schemes are {}; `coremill explain schemes` has all forms",
                scheme::forms()
            )),
            _ => None,
        }
    }
}
