//! How a command ends badly: one line of fact, a hint, an exit code.

use std::error::Error;

use crate::base::error::{Blame, Hint};

/// What is told to the user when a command cannot do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The fact, with the causes that add to it.
    pub(crate) message: String,
    /// What can be done.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) code: u8,
}

impl Failure {
    /// A failure of usage or input.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: Blame::Input.exit_code() }
    }

    /// The same with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
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
        Self { message, hint: error.hint(), code: error.blame().exit_code() }
    }
}
