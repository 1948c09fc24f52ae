//! Why a conversion cannot be done.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::blob::WriterError;
use crate::mil::{ConstError, DType};
use crate::package::{DraftError, PackageError};
use crate::python::PythonError;
use crate::source::{adapter, checkpoint, llm2vec, weights};

/// What stopped a conversion.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// An adapter.
    #[error(transparent)]
    Adapter(#[from] adapter::Error),
    /// A weight.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The drawing of the graph.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// Python's answer is not what was agreed.
    #[error("Python's answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    /// A skeleton cannot be opened.
    #[error("skeleton of `{function}`: {error}")]
    Skeleton {
        /// The function.
        function: String,
        /// Description of the problem.
        error: PackageError,
    },
    /// A skeleton without its function.
    #[error("skeleton of `{function}` has no function `main`")]
    NoMain {
        /// The function.
        function: String,
    },
    /// A constant of a skeleton.
    #[error(transparent)]
    Const(#[from] ConstError),
    /// The package cannot be written.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The blob file cannot be written.
    #[error(transparent)]
    Blob(#[from] WriterError),
    /// A placeholder that Python's table does not list.
    #[error("the program refers to placeholder {id}, which the table does not list")]
    UnknownPlaceholder {
        /// The id.
        id: u64,
    },
    /// A placeholder exported with another shape than the checkpoint stores.
    #[error("`{tensor}` is exported as {exported:?} and stored as {stored:?}")]
    PlaceholderShape {
        /// The checkpoint's tensor.
        tensor: String,
        /// Shape in the program.
        exported: Vec<u64>,
        /// Shape in the checkpoint.
        stored: Vec<u64>,
    },
    /// A placeholder of a type that weights are not poured as.
    #[error("a weight is exported as {dtype}, not fp16 or fp32")]
    PlaceholderType {
        /// The type in the program.
        dtype: DType,
    },
    /// Settings of an LLM2Vec adapter.
    #[error(transparent)]
    Llm2Vec(#[from] llm2vec::Error),
    /// A checkpoint that makes embeddings by itself, and an adapter that would too.
    #[error(
        "`modules.json` begins with `{class}`, and an LLM2Vec adapter is given: `encode` can follow one of them"
    )]
    TwoEncoders {
        /// The class of the first module.
        class: String,
    },
    /// Lengths that do not fit each other.
    #[error("sequence length {seq_len} is no multiple of the prompt chunk {chunk}")]
    Chunk {
        /// Positions.
        seq_len: u64,
        /// Tokens per call of `init`.
        chunk: u64,
        /// Positions that the model knows.
        positions: u64,
    },
    /// States before iOS18.
    #[error("target {target} has no states")]
    NoStates {
        /// The target.
        target: String,
    },
    /// A branch of `encode` on layers that a chat adapter numbers anew.
    #[error(
        "`{}` cannot stay beside the weights: a chat adapter replicates layers, so they are not those it was \
         trained on",
        adapter.display()
    )]
    ReplicatedLayers {
        /// The adapter of `encode`.
        adapter: PathBuf,
    },
    /// Something stands where the package should.
    #[error("`{}` exists", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// Not enough room on the disk.
    #[error("`{}` has {free} free, the package needs {needed}", path.display())]
    Disk {
        /// The folder of the output.
        path: PathBuf,
        /// Free, as people write it.
        free: String,
        /// Needed.
        needed: String,
    },
}

impl Hint for ConvertError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Checkpoint(e) => e.hint(),
            Self::Adapter(e) => e.hint(),
            Self::Weights(e) => e.hint(),
            Self::Llm2Vec(e) => e.hint(),
            Self::TwoEncoders { .. } => Some(
                "leave out `--llm2vec-checkpoint`, or take a base without `modules.json`"
                    .to_owned(),
            ),
            Self::Python(e) => e.hint(),
            Self::Draft(e) => e.hint(),
            Self::Blob(e) => e.hint(),
            Self::Io(e) => e.hint(),
            Self::Skeleton { error, .. } => error.hint(),
            Self::Chunk { seq_len, chunk, positions } => {
                let above = seq_len.next_multiple_of(*chunk);
                let below = seq_len - seq_len % chunk;
                let length = if above <= *positions { above } else { below };
                let divides = |n: &u64| seq_len.is_multiple_of(*n);
                let divisor = (1..=*chunk).rev().find(divides).unwrap_or(1);
                Some(if length == 0 {
                    format!("pass `--prompt-chunk {divisor}`")
                } else {
                    format!("pass `--seq-len {length}`, or `--prompt-chunk {divisor}`")
                })
            }
            Self::NoStates { .. } => Some("pass `--kv-cache io`, or a target of iOS18".to_owned()),
            Self::ReplicatedLayers { .. } => Some("use `--encode-adapters merge`".to_owned()),
            Self::Exists { .. } => {
                Some("pass `--force` to replace it, or choose another output".to_owned())
            }
            Self::Disk { .. } => {
                Some("free some room, or choose an output on another disk".to_owned())
            }
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
            Self::Weights(e) => e.error_kind(),
            Self::Python(e) => e.error_kind(),
            Self::Draft(e) => e.error_kind(),
            Self::Answer(_) | Self::Blob(_) | Self::Disk { .. } => ErrorKind::Environment,
            _ => ErrorKind::Input,
        }
    }
}
