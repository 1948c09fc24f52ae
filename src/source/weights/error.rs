//! Every way a weight can fail to be poured.

use std::io;
use std::path::PathBuf;

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::source::{adapter, safetensors};

/// Why a weight cannot be poured.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Tensors(#[from] safetensors::Error),
    #[error(transparent)]
    Adapter(#[from] adapter::Error),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("the checkpoint `{dir}` has no tensor for parameter `{parameter}`")]
    NoTensor { dir: PathBuf, parameter: String },
    #[error("there is no adapter {index}; {n_adapters} are open")]
    NoAdapter { index: usize, n_adapters: usize },
    #[error("adapter `{dir}` has no low-rank pair for module `{module}`")]
    NoModule { dir: PathBuf, module: String },
    #[error(
        "what `{init}` takes out of module `{module}` for adapter `{dir}` has not been computed"
    )]
    NotPrepared { dir: PathBuf, module: String, init: &'static str },
    #[error("tensor `{tensor}` of shape {shape:?} cannot be transposed: it is not a matrix")]
    NotAMatrix { tensor: String, shape: Vec<usize> },
    #[error("tensor `{tensor}` does not fit f16: element {index:?} is {value}, the limit is 65504")]
    Overflow { tensor: String, index: Vec<usize>, value: f32 },
    #[error("tensor `{tensor}` is not finite: element {index:?} is {value}")]
    NotFinite { tensor: String, index: Vec<usize>, value: f32 },
    #[error("cannot write tensor `{tensor}`: {error}")]
    Sink { tensor: String, error: io::Error },
}

impl Error {
    /// A value that cannot be written: not finite, or beyond f16.
    pub(super) fn bad_value(tensor: &str, index: Vec<usize>, value: f32) -> Self {
        let tensor = tensor.to_owned();
        if value.is_finite() {
            Self::Overflow { tensor, index, value }
        } else {
            Self::NotFinite { tensor, index, value }
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Tensors(e) => e.hint(),
            Self::Adapter(e) => e.hint(),
            Self::NoTensor { .. } => Some(
                "the checkpoint is not complete, or not of the architecture its config names"
                    .to_owned(),
            ),
            Self::NotFinite { .. } => Some(
                "the training that wrote it diverged, or the file is damaged: take an earlier checkpoint".to_owned(),
            ),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Tensors(e) => e.error_kind(),
            Self::Adapter(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
            Self::Sink { error, .. } => error.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}
