//! The error of a pipeline or command: message, hint and kind.

use std::error::Error;

use crate::base::error::{ErrorKind, Hint};

/// An error with its causes in the message, a hint and the kind that decides the exit code.
#[derive(Debug)]
pub struct Failure {
    /// Message, with the causes that add to it.
    pub message: String,
    /// Suggested remedy.
    pub hint: Option<String>,
    /// Kind of the error.
    pub kind: ErrorKind,
}

impl Failure {
    /// Creates an error of usage or input.
    pub fn input(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: ErrorKind::Input }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Error + Hint> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self { message, hint: error.hint(), kind: error.error_kind() }
    }
}
