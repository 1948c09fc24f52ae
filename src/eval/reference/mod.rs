//! `Reference`: what the source model itself says, in f32; computed once and kept.

mod cache;
mod identity;
mod noise;
mod package;
mod python;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use cache::Cached;
pub use identity::Identity;
pub use noise::Noise;
pub use package::PackageReference;
pub use python::{Ask, Checkpoint, PythonReference};

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::eval::divergence::Expected;
use crate::lm::{Prepared, Sentence};

/// The reference of an evaluation.
pub trait Reference: Send + Sync {
    /// Identity: all inputs that can change the results.
    fn identity(&self) -> &Identity;
    /// What it is, in a few words for reports.
    fn describe(&self) -> String;
    /// What its distributions are computed in, in a word or two.
    fn kind(&self) -> String {
        "f32".to_owned()
    }
    /// Distributions over the next token at every position of windows of one length.
    fn logits(&self, windows: &[Vec<u32>], top_k: usize) -> Result<Distributions, ReferenceError>;
    /// How far the reference is from itself with noise of the size of fp16 rounding; nothing where that is not known.
    fn noise(&self, windows: &[Vec<u32>]) -> Result<Option<Noise>, ReferenceError>;
    /// Greedy continuations of prompts.
    fn generate(&self, request: &Continue) -> Result<Vec<Continuation>, ReferenceError>;
    /// Embeddings of sentences.
    fn embed(&self, request: &EmbedRequest) -> Result<Vec<Vec<f32>>, ReferenceError>;
    /// Fails if the source's own tokenizer gives other tokens to one of `texts`; passes where it has none to ask.
    fn check_tokens(&self, _texts: &[TokenizedText]) -> Result<(), ReferenceError> {
        Ok(())
    }
}

/// A text with the tokens that the artifact's tokenizer gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizedText {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// What was made of the text before.
    pub form: TextForm,
}

/// Tokenization of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextForm {
    /// The text alone.
    Plain,
    /// With the tokens that the tokenizer puts around a text.
    Special,
    /// As a user's message in the model's chat template.
    Chat,
}

/// Sentences to embed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EmbedRequest {
    /// The sentences as they are given.
    pub sentences: Vec<Sentence>,
    /// The same as tokens, as the artifact sees them.
    pub prepared: Vec<Prepared>,
    /// Tokens that the artifact takes at most.
    pub seq_len: usize,
    /// True if spaces around a text are removed.
    pub strip: bool,
}

/// Prompts to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Continue {
    /// The tokens of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// Tokens to generate at most for each.
    pub max_tokens: usize,
    /// Tokens that end a text; the one met is the last of the continuation.
    pub eos: Vec<u32>,
}

/// One greedy continuation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Continuation {
    /// The new tokens.
    #[serde(rename = "ids")]
    pub tokens: Vec<u32>,
    /// For each of them, the largest logit less the second largest.
    pub margins: Vec<f64>,
    /// For each of them, the likeliest tokens with their logits, likeliest first; nothing where they are not known.
    #[serde(default)]
    pub likeliest: Vec<Vec<(u32, f64)>>,
}

/// Distributions over the next token at every position of W windows of T tokens: K tokens each, and the rest as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Distributions {
    /// T.
    pub window: usize,
    /// K.
    pub top_k: usize,
    /// Log-probability of the token that follows, [W, T - 1].
    pub next: Vec<f32>,
    /// The most likely tokens, most likely first, [W, T, K].
    pub ids: Vec<u32>,
    /// Their log-probabilities, [W, T, K].
    pub log_probs: Vec<f32>,
    /// Logarithm of the probability of all others together, [W, T].
    pub tail: Vec<f32>,
}

impl Distributions {
    /// Refuses tokens that a model of `vocab` tokens does not have.
    pub fn check(&self, vocab: usize) -> Result<(), ReferenceError> {
        match self.ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => {
                let what =
                    format!("token {id} is not below the artifact's vocabulary size {vocab}");
                Err(ReferenceError::Failed {
                    message: what,
                    advice: Some(
                        "check that the artifact was made from this checkpoint".to_owned(),
                    ),
                    blame: ErrorKind::Input,
                })
            }
            None => Ok(()),
        }
    }

    /// True if all tables are those of `windows` windows of `length` tokens, `top_k` tokens at each position.
    pub(in crate::eval) fn fits(&self, windows: usize, length: usize, top_k: usize) -> bool {
        let rows = windows * length;
        (self.window, self.top_k) == (length, top_k)
            && self.tail.len() == rows
            && self.next.len() == windows * length.saturating_sub(1)
            && [self.ids.len(), self.log_probs.len()] == [rows * top_k; 2]
    }

    /// Returns the reference distribution after the token at `position` of window `w`.
    pub fn at(&self, w: usize, position: usize) -> Expected<'_> {
        let row = w * self.window + position;
        let range = row * self.top_k..(row + 1) * self.top_k;
        let (ids, log_probs) = (&self.ids[range.clone()], &self.log_probs[range]);
        Expected { ids, log_probs, tail: self.tail[row] }
    }

    /// Negative log-likelihood of the token after `position` of window `w`.
    pub fn nll(&self, w: usize, position: usize) -> f64 {
        -f64::from(self.next[w * (self.window - 1) + position])
    }
}

/// Why the reference says nothing.
#[derive(Debug, Error)]
pub enum ReferenceError {
    /// The computation of the reference failed.
    #[error("reference: {message}")]
    Failed {
        /// Error message.
        message: String,
        /// Hint, if any.
        advice: Option<String>,
        /// Kind of the error.
        blame: ErrorKind,
    },
    /// An answer of another form than was asked for.
    #[error("reference: {what}")]
    Answer {
        /// Description of the error.
        what: String,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The user stopped.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Hint for ReferenceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { advice, .. } => advice.clone(),
            Self::Io(e) => e.hint(),
            Self::Answer { .. } | Self::Cancelled(_) => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Failed { blame, .. } => *blame,
            Self::Answer { .. } => ErrorKind::Environment,
            Self::Io(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
        }
    }
}
