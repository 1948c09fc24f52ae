//! PyTorch files (`pytorch_model.bin`): where each tensor's bytes lie, found without executing the pickle inside.
//!
//! `torch.save` writes a zip archive of one pickle and one uncompressed entry per storage; before PyTorch 1.6 it wrote
//! four pickles, a list of storages and their bytes. The pickle is read by a machine that knows tensors, dictionaries
//! and plain values, and refuses every other class by name.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

mod archive;
mod legacy;
mod pickle;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::dtype::Dtype;
use super::lfs;
use super::positional::File;
use super::safetensors::Entry;
use crate::base::error::{ErrorKind, Hint};

/// A pickle longer than this is none of a model's weights.
const MAX_PICKLE: u64 = 256 << 20;

/// What is wrong with a PyTorch file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Pointer(#[from] lfs::Pointer),
    #[error("`{file}` is not a PyTorch file: {reason}")]
    NotTorch { file: PathBuf, reason: String },
    #[error("`{file}` is cut off: {reason}")]
    Truncated { file: PathBuf, reason: String },
    #[error("the pickle in `{file}` asks for `{class}`, which is not a tensor")]
    Class { file: PathBuf, class: String },
    #[error("the pickle in `{file}` cannot be read: {reason}")]
    Pickle { file: PathBuf, reason: String },
    #[error("`{file}` holds no tensors by name, but {keys}")]
    NoTensors { file: PathBuf, keys: String },
    #[error("tensor `{tensor}` in `{file}` {reason}")]
    Tensor { file: PathBuf, tensor: String, reason: String },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(e) => e.hint(),
            Self::Pointer(e) => e.hint(),
            Self::Truncated { .. } => {
                Some("the download or copy is not complete: fetch the file again".to_owned())
            }
            Self::Class { .. } | Self::NoTensors { .. } => Some(
                "only weights are read, and nothing in the file is executed: save the model's `state_dict()` with \
                 safetensors"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

/// The tensors of a file: where they lie, and the strides of those that are not row-major.
pub(super) struct Layout {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) strides: BTreeMap<String, Vec<usize>>,
}

/// Where a storage lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Storage {
    begin: u64,
    end: u64,
}

/// Finds the tensors of a PyTorch file.
pub(super) fn layout(file: &File) -> Result<Layout, Error> {
    let path = file.path();
    let start = beginning(file, 512)?;
    lfs::check(path, &start)?;
    let not_torch =
        |reason: &str| Err(Error::NotTorch { file: path.to_owned(), reason: reason.to_owned() });
    match start.as_slice() {
        [] => not_torch("it is empty"),
        [b'P', b'K', ..] => archive::layout(file),
        [0x80, 2..=5, ..] => legacy::layout(file),
        [b'<', ..] => not_torch("it is an HTML page"),
        [b'G', b'G', b'U', b'F', ..] => not_torch("it is a GGUF file"),
        _ => not_torch("it is neither an archive nor a pickle"),
    }
}

/// The first `n` bytes of a file, or all of a shorter one.
fn beginning(file: &File, n: u64) -> io::Result<Vec<u8>> {
    let n = usize::try_from(n.min(file.length())).unwrap_or(usize::MAX);
    let mut bytes = vec![0; n];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The element type that PyTorch calls `name`: a storage class or a dtype.
fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "torch.FloatStorage" | "torch.float32" => Dtype::F32,
        "torch.DoubleStorage" | "torch.float64" => Dtype::F64,
        "torch.HalfStorage" | "torch.float16" => Dtype::F16,
        "torch.BFloat16Storage" | "torch.bfloat16" => Dtype::BF16,
        "torch.BoolStorage" | "torch.bool" => Dtype::Bool,
        "torch.CharStorage" | "torch.int8" => Dtype::I8,
        "torch.ByteStorage" | "torch.uint8" => Dtype::U8,
        "torch.ShortStorage" | "torch.int16" => Dtype::I16,
        "torch.uint16" => Dtype::U16,
        "torch.IntStorage" | "torch.int32" => Dtype::I32,
        "torch.uint32" => Dtype::U32,
        "torch.LongStorage" | "torch.int64" => Dtype::I64,
        "torch.uint64" => Dtype::U64,
        "torch.float8_e4m3fn" => Dtype::F8E4M3,
        "torch.float8_e5m2" => Dtype::F8E5M2,
        _ => return None,
    })
}

/// Reads the pickle of the file at `path`, or says what is wrong in words that name the file.
fn load(path: &Path, bytes: &[u8]) -> Result<(pickle::Pickle, usize), Error> {
    let file = path.to_owned();
    pickle::load(bytes).map_err(|error| match error {
        pickle::Error::End => Error::Truncated { file, reason: "its pickle has no end".to_owned() },
        pickle::Error::Class(class) => Error::Class { file, class },
        pickle::Error::Other(reason) => Error::Pickle { file, reason },
    })
}
