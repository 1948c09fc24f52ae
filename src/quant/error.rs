//! `Error`: the ways compression can be asked for something it cannot do.

use half::f16;
use thiserror::Error;

use super::scheme;
use crate::base::error::Hint;

/// Why a weight was not compressed, or a compressed one not read.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// The slice is not as long as its shape says.
    #[error("shape [{rows}, {cols}] needs {} values, got {len}", rows.saturating_mul(*cols))]
    Length {
        /// Output channels.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// The length of the slice.
        len: usize,
    },
    /// There is nothing to compress.
    #[error("shape [{rows}, {cols}] has no values")]
    Empty {
        /// Output channels.
        rows: usize,
        /// Inputs.
        cols: usize,
    },
    /// More values than are counted.
    #[error("shape [{rows}, {cols}] has more than {} values", u32::MAX)]
    TooLarge {
        /// Output channels.
        rows: usize,
        /// Inputs.
        cols: usize,
    },
    /// An infinity or NaN among the values.
    #[error("value {value} at index {index} (row {row}, column {col}) is not finite")]
    NotFinite {
        /// Position in the slice.
        index: usize,
        /// Its output channel.
        row: usize,
        /// Its input.
        col: usize,
        /// The value.
        value: f16,
    },
    /// The output channels do not make whole groups.
    #[error("shape [{rows}, {cols}] does not divide into groups of {group_size} output channels")]
    Group {
        /// Output channels.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// Output channels that share a table.
        group_size: usize,
    },
    /// The weight does not make whole blocks, or they are not of a kind that shares a scale.
    #[error("shape [{rows}, {cols}] does not divide into blocks of shape {block_shape:?}")]
    Block {
        /// Output channels.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// Output channels and inputs that share a scale.
        block_shape: [usize; 2],
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
            Self::Group { rows, .. } => Some(format!(
                "choose a group size that divides {rows}, or one table for the tensor (`-t`)"
            )),
            Self::Block { cols, .. } => Some(format!(
                "choose a block size that divides {cols}, or one scale for a channel (`-c`)"
            )),
            Self::Scheme { .. } => Some(format!("valid schemes: {}", scheme::FORMS)),
            _ => None,
        }
    }
}
