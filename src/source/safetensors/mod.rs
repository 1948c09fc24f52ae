//! The tensors of a folder: safetensors or PyTorch files, one or shards with an index.

mod error;
mod file;
mod header;
mod shards;

pub use error::Error;
pub use file::TensorFile;
pub use header::Entry;
pub use shards::Tensors;

use super::dtype::Dtype;

/// A tensor read whole: little-endian, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: Dtype,
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values are read as they were written")]
mod tests;
