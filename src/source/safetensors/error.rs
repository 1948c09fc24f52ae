//! Every way a safetensors checkpoint can be wrong.

use std::io;
use std::path::PathBuf;

use crate::base::error::{ErrorKind, Hint};
use crate::source::dtype::Dtype;
use crate::source::{json, lfs, torch};

/// What is wrong with the files of a checkpoint, and where.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Pointer(#[from] lfs::Pointer),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Torch(#[from] torch::Error),
    #[error("`{file}` is {what}, not a safetensors file")]
    OtherFormat { file: PathBuf, what: &'static str },
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
    #[error("`{dir}` holds no weights{}", but(.found.as_deref()))]
    NoWeights { dir: PathBuf, found: Option<String> },
    #[error("the tensors of `{dir}` have the prefix `{prefix}`: `{tensor}`")]
    Prefix { dir: PathBuf, prefix: String, tensor: String },
    #[error("tensor `{tensor}` of `{dir}` is {dtype}: the weights are quantized already")]
    Quantized { dir: PathBuf, tensor: String, dtype: Dtype },
    #[error("`{dir}` has no tensor `{tensor}`")]
    NoTensor { dir: PathBuf, tensor: String },
    #[error("tensor `{tensor}` in `{file}` is {dtype}, not a float weight")]
    NotFloat { file: PathBuf, tensor: String, dtype: Dtype },
}

fn but(found: Option<&str>) -> String {
    found.map_or_else(String::new, |found| format!(", but `{found}`"))
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::TooShort { .. }
            | Self::Truncated { .. }
            | Self::MissingShard { .. }
            | Self::OtherFormat { what: "empty", .. } => {
                Some("the download or copy is not complete: fetch the file again".to_owned())
            }
            Self::Pointer(e) => e.hint(),
            Self::Json(e) => e.hint(),
            Self::Torch(e) => e.hint(),
            Self::Io(e) => e.hint(),
            Self::OtherFormat { what: "an HTML page", .. } => Some(
                "a web page was saved in place of the file: download the file itself, with a token if the \
                 repository asks for one"
                    .to_owned(),
            ),
            Self::NoWeights { found: Some(found), .. } if found.ends_with(".safetensors") => Some(
                "a model's weights are in `model.safetensors`, or in shards that \
                 `model.safetensors.index.json` lists"
                    .to_owned(),
            ),
            Self::NoWeights { found: Some(_), .. } => Some(
                "take the checkpoint in safetensors, as `save_pretrained` of transformers writes it".to_owned(),
            ),
            Self::NoWeights { found: None, .. } => {
                Some("pass the folder that holds `model.safetensors` or its index".to_owned())
            }
            Self::NotInShard { .. } => Some(
                "the index and the shards are of different downloads: fetch both again".to_owned(),
            ),
            Self::Prefix { prefix, .. } => Some(format!(
                "a wrapper of the training was saved with the model: save the model inside it, or rename the tensors \
                 without `{prefix}`"
            )),
            Self::Quantized { .. } => {
                Some("take the original checkpoint in f16, bf16 or f32".to_owned())
            }
            Self::NotFloat { .. } => Some(
                "checkpoints that are quantized already cannot be converted: take the original in f16, bf16 or f32"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Json(e) => e.error_kind(),
            Self::Torch(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}
