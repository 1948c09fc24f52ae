//! `Hint`: the advice that goes with an error, kept apart from the fact, and whose fault the error is.

use std::io;

/// An error that may know what the reader can do about it.
///
/// The message of an error states the fact, the place and the values; the hint is printed on a line of its own.
pub trait Hint {
    /// One sentence without a full stop, or nothing when there is no advice to give.
    fn hint(&self) -> Option<String>;

    /// What failed: the input, unless the error knows better.
    fn error_kind(&self) -> ErrorKind {
        ErrorKind::Input
    }
}

/// Cause of an error; determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Usage or input: exit code 2.
    Input,
    /// An evaluation that says nothing: exit code 3.
    Evaluation,
    /// A tool, the disk, the network: exit code 4.
    Environment,
    /// The user stopped the run: exit code 130, as shells report an interrupt.
    Interrupt,
}

impl ErrorKind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Input => 2,
            Self::Evaluation => 3,
            Self::Environment => 4,
            Self::Interrupt => 130,
        }
    }
}

impl Hint for io::Error {
    fn hint(&self) -> Option<String> {
        match self.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("free some room, or choose an output on another disk".to_owned())
            }
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
        match self.kind() {
            NotFound | InvalidData | IsADirectory | NotADirectory | UnexpectedEof => {
                ErrorKind::Input
            }
            _ => ErrorKind::Environment,
        }
    }
}

impl Hint for super::cancel::Cancelled {
    fn hint(&self) -> Option<String> {
        None
    }

    fn error_kind(&self) -> ErrorKind {
        ErrorKind::Interrupt
    }
}
