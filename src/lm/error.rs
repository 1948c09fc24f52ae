//! Errors of loading and using a model.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::bundle::BundleGraphError;
use super::chat::ChatError;
use super::head::HeadError;
use super::layout::LayoutError;
use super::tokenizer::TokenizerError;
use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::package::{BundleError, PackageError};
use crate::runtime::RuntimeError;

/// An error of loading or using a model.
#[derive(Debug, Error)]
pub enum LmError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A bundle of parts.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A bundle whose parts do not fit together.
    #[error("`{}`: {source}", path.display())]
    BundleGraph {
        /// The bundle.
        path: PathBuf,
        /// Description of the mismatch.
        source: BundleGraphError,
    },
    /// A prompt that the chat template does not take.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A head that gives tokens and no logits.
    #[error("the head of `{}` gives the likeliest tokens, not their logits", path.display())]
    NoLogits {
        /// The bundle.
        path: PathBuf,
    },
    /// A package with other functions than the ones this crate writes.
    #[error("`{}`: {source}", path.display())]
    NotOurs {
        /// The package.
        path: PathBuf,
        /// Description of the difference.
        source: LayoutError,
    },
    /// States of two packages that would have to be one.
    #[error("`{}`: `init` and `decode` keep the cache as states and stand in two packages", path.display())]
    StateApart {
        /// The artifact.
        path: PathBuf,
    },
    /// A function that the artifact does not have.
    #[error("artifact has no {missing}")]
    NoRole {
        /// Name of the missing item.
        missing: &'static str,
    },
    /// An output that the runtime did not give.
    #[error("the runtime gave no value `{name}`")]
    NoOutput {
        /// Its name.
        name: String,
    },
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The head cannot be taken out of `init`.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The user stopped.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Nothing to begin with.
    #[error("prompt has no tokens")]
    EmptyPrompt,
    /// More tokens than the cache holds.
    #[error("prompt has {tokens} tokens, the cache holds {capacity}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions of the cache.
        capacity: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is not below the vocabulary size {vocab}")]
    NoToken {
        /// The token.
        token: u32,
        /// Logits there are.
        vocab: usize,
    },
    /// Logits that choose nothing.
    #[error("{count} of {vocab} logits after token {position} are not finite")]
    NonFinite {
        /// Count.
        count: usize,
        /// Of how many.
        vocab: usize,
        /// The position of the last token fed.
        position: usize,
    },
    /// An embedding that has no direction.
    #[error("embedding of sentence {index} (`{text}`) is zero or not finite")]
    Embedding {
        /// Index in the list.
        index: usize,
        /// The sentence.
        text: String,
    },
    /// A sentence that leaves nothing to embed.
    #[error("sentence {index} has no tokens within the sequence length {seq_len}")]
    EmptySentence {
        /// Index in the list.
        index: usize,
        /// The sequence length.
        seq_len: usize,
    },
    /// A prompt that the checkpoint does not have.
    #[error("sentence {index}: no prompt is called `{name}`")]
    PromptName {
        /// Index in the list.
        index: usize,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A prompt that must stay out of pooling, and no input to say so.
    #[error(
        "sentence {index}: `encode` has no input `pool_mask` to leave the prompt out of pooling"
    )]
    NoPoolMask {
        /// Index in the list.
        index: usize,
    },
    /// The token that is pooled is not there once.
    #[error(
        "sentence {index}: the token that begins texts, which is pooled, occurs {found} times, not once"
    )]
    FirstTokens {
        /// Index in the list.
        index: usize,
        /// Number of occurrences.
        found: usize,
    },
}

impl Hint for LmError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Package(e) => e.hint(),
            Self::Bundle(e) => e.hint(),
            Self::NoLogits { .. } => Some(
                "perplexity needs logits: convert without the argmax in the model".to_owned(),
            ),
            Self::Runtime(e) => e.hint(),
            Self::Tokenizer(e) => e.hint(),
            Self::Chat(e) => e.hint(),
            Self::Io(e) => e.hint(),
            Self::Head(e) => e.hint(),
            Self::NotOurs { .. } => Some(
                "only packages with the functions that `coremill convert` writes can be evaluated; `predict` runs others"
                    .to_owned(),
            ),
            Self::NoRole { .. } => Some("`coremill inspect` lists the functions there are".to_owned()),
            Self::PromptName { known, .. } if known.is_empty() => {
                Some("LLM2Vec has no prompts by name: give the text with `--instruction`".to_owned())
            }
            Self::PromptName { known, .. } => Some(format!("it has {}", known.join(", "))),
            Self::NoPoolMask { .. } => Some("convert the checkpoint again".to_owned()),
            Self::EmptyPrompt => Some("give a prompt of at least one token".to_owned()),
            Self::PromptTooLong { tokens, .. } => {
                Some(format!("shorten the prompt, or convert with `--seq-len` of at least {tokens}"))
            }
            Self::NoToken { .. } => {
                Some("check that the tokenizer belongs to this model".to_owned())
            }
            Self::NonFinite { .. } | Self::Embedding { .. } => Some(OVERFLOW_HINT.to_owned()),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Package(e) => e.error_kind(),
            Self::Bundle(e) => e.error_kind(),
            Self::Runtime(e) => e.error_kind(),
            Self::Tokenizer(e) => e.error_kind(),
            Self::Chat(e) => e.error_kind(),
            Self::Io(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
            Self::NonFinite { .. } | Self::Embedding { .. } => ErrorKind::Evaluation,
            _ => ErrorKind::Input,
        }
    }
}

/// Hint for values that are not finite.
pub(crate) const OVERFLOW_HINT: &str = "values overflow fp16 somewhere: `predict --precision f32` runs the same graph without rounding";
