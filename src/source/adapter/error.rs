//! Every way an adapter can be wrong, or wrong for its base.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::error::{ErrorKind, Hint};
use crate::source::{json, safetensors};

/// What is wrong with an adapter, and where.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Tensors(#[from] safetensors::Error),
    #[error("`{file}` does not exist")]
    NoConfig { file: PathBuf },
    #[error("`{dir}` holds no `adapter_model.safetensors`")]
    NoWeights { dir: PathBuf },
    #[error("`{file}` cannot be read: {reason}")]
    BadConfig { file: PathBuf, reason: String },
    #[error("adapter `{file}` is of type {peft_type}, which is not supported (LORA is)")]
    PeftType { file: PathBuf, peft_type: String, remedy: &'static str },
    #[error("adapter `{file}` is an adapter of MLX, which is not supported")]
    Mlx { file: PathBuf },
    #[error("adapter `{file}` sets `{setting}` to {value}, which is not supported")]
    Setting { file: PathBuf, setting: String, value: String, remedy: &'static str },
    #[error(
        "adapter `{dir}` replicates layers {ranges:?}, beyond the {n_layers} layers of its base"
    )]
    Layers { dir: PathBuf, ranges: Vec<[usize; 2]>, n_layers: usize },
    #[error(
        "tensor `{tensor}` in `{dir}` is one that PEFT does not load: its `{setting}` leaves the module out"
    )]
    Ignored { dir: PathBuf, tensor: String, setting: &'static str },
    #[error("adapter `{dir}` has no tensor for `{module}`, which its `{setting}` asks for")]
    Missing { dir: PathBuf, module: String, setting: &'static str },
    #[error("tensor `{tensor}` in `{dir}` has a name that no LoRA adapter uses")]
    UnknownTensor { dir: PathBuf, tensor: String },
    #[error("module `{module}` in `{dir}` has {has} but no {lacks}")]
    HalfPair { dir: PathBuf, module: String, has: &'static str, lacks: &'static str },
    #[error("adapter `{dir}` holds no tensor")]
    Empty { dir: PathBuf },
    #[error(
        "adapter `{dir}` does not fit `{base}`: {n_mismatches} of its {n_tensors} parts, first {first}"
    )]
    DoesNotFit {
        dir: PathBuf,
        base: PathBuf,
        n_mismatches: usize,
        n_tensors: usize,
        first: Box<Mismatch>,
    },
    #[error("adapter `{dir}` has `{what}`, which cannot stay beside the weights")]
    NotABranch { dir: PathBuf, what: String },
    #[error("adapter `{dir}` changes nothing: every product of its low-rank pairs is zero")]
    ChangesNothing { dir: PathBuf },
}

/// One part of an adapter that does not fit its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
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
    /// A token beyond the vocabulary.
    Token {
        /// The embedding's parameter.
        parameter: String,
        /// The token.
        token: usize,
        /// Tokens of the embedding.
        rows: usize,
    },
    /// A parameter of `modules_to_save` that the file does not hold.
    NotSaved {
        /// The parameter.
        parameter: String,
    },
    /// A module that the configuration targets and that has no pair.
    NoPair {
        /// The module.
        module: String,
    },
    /// The adapter changes the size of the vocabulary but does not bring this parameter.
    Vocabulary {
        /// The parameter.
        parameter: String,
        /// Tokens of the new vocabulary.
        rows: usize,
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

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { parameter } => write!(f, "`{parameter}`, which the base does not have"),
            Self::Shape { parameter, adapter, base } => {
                write!(f, "`{parameter}`: shape {adapter:?} in the adapter, {base:?} in the base")
            }
            Self::Rank { module, a, b, rank } => {
                write!(f, "`{module}`: lora_A {a:?} and lora_B {b:?} are not of rank {rank}")
            }
            Self::Token { parameter, token, rows } => {
                write!(f, "`{parameter}`: token {token} is beyond its {rows} tokens")
            }
            Self::NotSaved { parameter } => {
                write!(f, "`{parameter}`, which `modules_to_save` names and the adapter lacks")
            }
            Self::NoPair { module } => {
                write!(f, "`{module}`, which `target_modules` names and which has no pair")
            }
            Self::Vocabulary { parameter, rows } => {
                write!(
                    f,
                    "`{parameter}`, which the adapter lacks in its vocabulary of {rows} tokens"
                )
            }
            Self::Magnitude { module, found, outputs } => {
                write!(f, "`{module}`: {found} magnitudes for {outputs} outputs")
            }
        }
    }
}

impl Mismatch {
    fn hint(&self) -> &'static str {
        const RESIZE: &str = "give the base the adapter's vocabulary first (`model.resize_token_embeddings(SIZE)`, \
             `model.save_pretrained(FOLDER)`) and pass that folder as the model";
        match self {
            Self::Token { .. } | Self::Vocabulary { .. } => RESIZE,
            Self::Shape { parameter, .. } if is_of_vocabulary(parameter) => RESIZE,
            Self::NotSaved { .. } | Self::NoPair { .. } => {
                "the adapter is not complete, or not of this base; save it again with PEFT"
            }
            _ => "pass the base model that the adapter was trained on",
        }
    }
}

fn is_of_vocabulary(parameter: &str) -> bool {
    let module = parameter.strip_suffix(".weight").unwrap_or(parameter);
    let leaf = module.rsplit('.').next().unwrap_or(module);
    ["embed_tokens", "wte", "word_embeddings", "lm_head"].contains(&leaf)
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Json(e) => e.hint(),
            Self::Tensors(e) => e.hint(),
            Self::NoConfig { .. } | Self::NoWeights { .. } => {
                Some("pass the folder that PEFT's `save_pretrained` wrote".to_owned())
            }
            Self::PeftType { remedy, .. } | Self::Setting { remedy, .. } => {
                Some((*remedy).to_owned())
            }
            Self::Mlx { .. } => Some(
                "fuse it (`mlx_lm.fuse --model BASE --adapter-path ADAPTER --save-path FUSED`, with `--dequantize` \
                 for a quantised base) and convert the fused checkpoint"
                    .to_owned(),
            ),
            Self::Layers { .. } => {
                Some("pass the base model that the adapter was trained on".to_owned())
            }
            Self::Ignored { setting, .. } => Some(format!(
                "correct `{setting}` in `adapter_config.json`, or remove the tensor from the file"
            )),
            Self::Missing { .. } => {
                Some("the adapter is not complete; save it again with PEFT".to_owned())
            }
            Self::DoesNotFit { first, .. } => Some(first.hint().to_owned()),
            Self::NotABranch { .. } => Some("use `--encode-adapters merge`".to_owned()),
            Self::ChangesNothing { .. } => {
                Some("the adapter was saved before it was trained; leave it out or pass the trained one".to_owned())
            }
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Tensors(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}
