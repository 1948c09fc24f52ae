//! Every way an adapter can be wrong, or wrong for its base.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::error::{Blame, Hint};
use crate::source::safetensors;

/// What is wrong with an adapter, and where.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tensors(#[from] safetensors::Error),
    #[error("`{file}` does not exist")]
    NoConfig { file: PathBuf },
    #[error("`{dir}` holds no `adapter_model.safetensors`")]
    NoWeights { dir: PathBuf },
    #[error("`{file}` cannot be read: {reason}")]
    BadConfig { file: PathBuf, reason: String },
    #[error("adapter `{file}` is of type {peft_type}, which is not supported (LORA is)")]
    PeftType { file: PathBuf, peft_type: String },
    #[error("adapter `{file}` sets `{setting}` to {value}, which is not supported")]
    Setting { file: PathBuf, setting: &'static str, value: String },
    #[error("tensor `{tensor}` in `{dir}` has a name that no LoRA adapter uses")]
    UnknownTensor { dir: PathBuf, tensor: String },
    #[error("module `{module}` in `{dir}` has {has} but no {lacks}")]
    HalfPair { dir: PathBuf, module: String, has: &'static str, lacks: &'static str },
    #[error("adapter `{dir}` holds no tensor")]
    Empty { dir: PathBuf },
    #[error(
        "adapter `{dir}` does not fit `{base}`: {n_misfits} of its {n_tensors} parts, first {first}"
    )]
    DoesNotFit {
        dir: PathBuf,
        base: PathBuf,
        n_misfits: usize,
        n_tensors: usize,
        first: Box<Misfit>,
    },
    #[error("adapter `{dir}` changes nothing: every product of its low-rank pairs is zero")]
    ChangesNothing { dir: PathBuf },
}

/// One part of an adapter that does not fit its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The base has no such parameter.
    Absent {
        /// The parameter that the adapter changes.
        parameter: String,
    },
    /// The parameter has another shape.
    Shape {
        /// The parameter that the adapter changes.
        parameter: String,
        /// The shape that the adapter changes.
        adapter: Vec<usize>,
        /// The shape in the base.
        base: Vec<usize>,
    },
    /// The pair's inner sides are not the configured rank.
    Rank {
        /// The module.
        module: String,
        /// Shape of `lora_A`.
        a: Vec<usize>,
        /// Shape of `lora_B`.
        b: Vec<usize>,
        /// The rank that the configuration gives the module.
        rank: usize,
    },
    /// The magnitude has not one value for each output.
    Magnitude {
        /// The module.
        module: String,
        /// Values in the magnitude.
        found: usize,
        /// Outputs of the module.
        outputs: usize,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { parameter } => write!(f, "`{parameter}`, which the base does not have"),
            Self::Shape { parameter, adapter, base } => {
                write!(f, "`{parameter}`: shape {adapter:?} in the adapter, {base:?} in the base")
            }
            Self::Rank { module, a, b, rank } => {
                write!(f, "`{module}`: lora_A {a:?} and lora_B {b:?} are not of rank {rank}")
            }
            Self::Magnitude { module, found, outputs } => {
                write!(f, "`{module}`: {found} magnitudes for {outputs} outputs")
            }
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Tensors(e) => e.hint(),
            Self::NoConfig { .. } | Self::NoWeights { .. } => {
                Some("pass the folder that PEFT's `save_pretrained` wrote".to_owned())
            }
            Self::PeftType { .. } | Self::Setting { .. } => Some(
                "merge it with PEFT (`merge_and_unload`, `save_pretrained`) and convert the merged checkpoint"
                    .to_owned(),
            ),
            Self::DoesNotFit { .. } => {
                Some("pass the base model that the adapter was trained on".to_owned())
            }
            Self::ChangesNothing { .. } => {
                Some("the adapter was saved before it was trained; leave it out or pass the trained one".to_owned())
            }
            _ => None,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Io(e) => e.blame(),
            Self::Tensors(e) => e.blame(),
            _ => Blame::Input,
        }
    }
}
