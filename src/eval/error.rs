//! Errors of evaluations.

use std::io;

use thiserror::Error;

use super::overlap::{MAX_OVERLAP, RUN};
use super::reference::ReferenceError;
use super::results::Overflow;
use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::lm::chat::ChatError;
use crate::lm::{HeadError, LmError, OVERFLOW_HINT, TokenizerError};
use crate::package::{BundleError, PackageError};
use crate::runtime::RuntimeError;

/// An error of an evaluation.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The model.
    #[error(transparent)]
    Lm(#[from] LmError),
    /// The reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Something that is not finite, and where that begins.
    #[error("{error}; the first such value is {first}")]
    Overflow {
        /// What is not finite.
        error: Box<EvalError>,
        /// The first value that is not.
        first: Box<Overflow>,
    },
    /// A text that the artifact was calibrated on.
    #[error("{:.1} % of the text's runs of {RUN} tokens stand in the calibration text too", share * 100.0)]
    Leak {
        /// The share.
        share: f64,
    },
    /// A text of fewer tokens than one window.
    #[error("text has {tokens} tokens, fewer than one window of {window}")]
    ShortText {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a window.
        window: usize,
    },
    /// A window that does not fit.
    #[error("windows of {window} tokens every {stride} do not fit the sequence length {capacity}")]
    Window {
        /// Tokens of a window.
        window: usize,
        /// Tokens between two starts.
        stride: usize,
        /// The sequence length.
        capacity: usize,
    },
    /// No token could be scored.
    #[error("none of {tokens} scored tokens has a finite log-likelihood")]
    NothingFinite {
        /// Tokens scored.
        tokens: usize,
    },
    /// An empty list.
    #[error("list of {what} is empty")]
    Nothing {
        /// Expected contents.
        what: &'static str,
    },
    /// Two embeddings that cannot be compared.
    #[error("sentence {index}: embedding of {actual} elements, the reference's has {expected}")]
    Width {
        /// Index in the list.
        index: usize,
        /// Elements of the artifact's embedding.
        actual: usize,
        /// Elements of the reference's.
        expected: usize,
    },
}

/// Errors of lower layers that become errors of the model.
macro_rules! from_lm {
    ($($ty:ty),+ $(,)?) => {
        $(impl From<$ty> for EvalError {
            fn from(error: $ty) -> Self {
                Self::Lm(error.into())
            }
        })+
    };
}

from_lm!(
    BundleError,
    Cancelled,
    ChatError,
    HeadError,
    PackageError,
    RuntimeError,
    TokenizerError,
    io::Error
);

impl Hint for EvalError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Lm(e) => e.hint(),
            Self::Reference(e) => e.hint(),
            Self::Leak { .. } => Some(format!(
                "evaluate on another text: at most {} % may be shared, as common phrases are",
                MAX_OVERLAP * 100.0
            )),
            Self::ShortText { tokens, .. } => {
                Some(format!("give a longer text, or a window of at most {tokens} tokens"))
            }
            Self::Window { capacity, .. } => Some(format!(
                "choose a window of 2 to {capacity} tokens and a stride of at least 1 and at most the window less 1, \
                 or equal to it"
            )),
            Self::Overflow { first, .. } if first.in_f32 => Some(
                "it is so without rounding too: check the checkpoint's weights and the inputs"
                    .to_owned(),
            ),
            Self::Overflow { error, .. } => error.hint(),
            Self::NothingFinite { .. } => Some(OVERFLOW_HINT.to_owned()),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Lm(e) => e.error_kind(),
            Self::Reference(e) => e.error_kind(),
            Self::Overflow { error, .. } => error.error_kind(),
            Self::NothingFinite { .. } | Self::Width { .. } => ErrorKind::Evaluation,
            _ => ErrorKind::Input,
        }
    }
}
