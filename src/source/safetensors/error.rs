//! Every way a safetensors checkpoint can be wrong.

use std::io;
use std::path::PathBuf;

use crate::base::error::{Blame, Hint};
use crate::source::dtype::Dtype;

/// What is wrong with the files of a checkpoint, and where.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("`{file}` is {length} bytes long: too short for a safetensors header")]
    TooShort { file: PathBuf, length: u64 },
    #[error("`{file}` claims a header of {header} bytes; the limit is {limit}")]
    HeaderTooLarge { file: PathBuf, header: u64, limit: u64 },
    #[error("`{file}` is truncated: its header needs {expected} bytes, the file has {found}")]
    Truncated { file: PathBuf, expected: u64, found: u64 },
    #[error("`{file}` is {found} bytes long, {extra} more than its header accounts for")]
    TrailingBytes { file: PathBuf, found: u64, extra: u64 },
    #[error("the header of `{file}` is not valid: {reason}")]
    BadHeader { file: PathBuf, reason: String },
    #[error("tensor `{tensor}` in `{file}` has type {dtype}, which is not known")]
    UnknownDtype { file: PathBuf, tensor: String, dtype: String },
    #[error("tensor `{tensor}` in `{file}` has offsets {begin}..{end}, which are not a range")]
    BadOffsets { file: PathBuf, tensor: String, begin: u64, end: u64 },
    #[error(
        "tensor `{tensor}` in `{file}` occupies {found} bytes; shape {shape:?} of {dtype} needs {expected}"
    )]
    WrongSize {
        file: PathBuf,
        tensor: String,
        dtype: Dtype,
        shape: Vec<usize>,
        expected: u64,
        found: u64,
    },
    #[error("tensors `{first}` and `{second}` in `{file}` overlap at byte {at}")]
    Overlap { file: PathBuf, first: String, second: String, at: u64 },
    #[error("`{file}` has a hole of {length} bytes before tensor `{tensor}`")]
    Hole { file: PathBuf, tensor: String, length: u64 },
    #[error("`{index}` is not a shard index: {reason}")]
    BadIndex { index: PathBuf, reason: String },
    #[error("shard `{shard}` named by `{index}` is missing ({n_tensors} tensors live in it)")]
    MissingShard { index: PathBuf, shard: String, n_tensors: usize },
    #[error("`{index}` places tensor `{tensor}` in `{shard}`, which does not have it")]
    NotInShard { index: PathBuf, shard: String, tensor: String },
    #[error("`{dir}` holds `{file}` but no safetensors weights")]
    PickleOnly { dir: PathBuf, file: String },
    #[error("`{dir}` holds no safetensors weights")]
    NoWeights { dir: PathBuf },
    #[error("`{dir}` has no tensor `{tensor}`")]
    NoTensor { dir: PathBuf, tensor: String },
    #[error("tensor `{tensor}` in `{file}` is {dtype}, not a float weight")]
    NotFloat { file: PathBuf, tensor: String, dtype: Dtype },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::TooShort { .. } | Self::Truncated { .. } | Self::MissingShard { .. } => {
                Some("the download or copy is not complete: fetch the file again".to_owned())
            }
            Self::PickleOnly { .. } => Some(
                "convert the weights to safetensors first: load the model with `transformers` and call \
                 `save_pretrained(DIR, safe_serialization=True)`"
                    .to_owned(),
            ),
            Self::NoWeights { .. } => {
                Some("pass the folder that holds `model.safetensors` or its index".to_owned())
            }
            Self::NotFloat { .. } => Some(
                "checkpoints that are quantised already cannot be poured: take the original in f16, bf16 or f32"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Io(e) => e.blame(),
            _ => Blame::Input,
        }
    }
}
