//! Every way a model can fail to arrive.

use std::io;
use std::path::PathBuf;

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};

/// Why a repository cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("`{model}` is neither a folder nor a repository's name")]
    NoSuchModel { model: String },
    #[error("the hub at {endpoint} has no repository `{repository}` with revision `{revision}`")]
    NotFound { endpoint: String, repository: String, revision: String },
    #[error("the hub at {endpoint} refuses `{repository}` with status {status}, {}", token(*.with_token))]
    Denied { endpoint: String, repository: String, status: u16, with_token: bool },
    #[error("the hub at {endpoint} cannot be reached: {reason}")]
    Network { endpoint: String, reason: String },
    #[error("the hub at {endpoint} answers {what} with status {status}")]
    Status { endpoint: String, what: String, status: u16 },
    #[error("the hub's answer about `{what}` makes no sense: {reason}")]
    BadAnswer { what: String, reason: String },
    #[error("repository `{repository}` has no file `{file}`")]
    NoFile { repository: String, file: String },
    #[error("repository `{repository}` holds no weights")]
    NoWeights { repository: String },
    #[error("`{index}` of `{repository}` names `{file}`, which the repository does not have")]
    MissingShard { repository: String, index: String, file: String },
    #[error("`{file}` of `{repository}` arrived with {found} bytes; the hub announced {expected}")]
    WrongSize { repository: String, file: String, expected: u64, found: u64 },
    #[error(
        "`{file}` of `{repository}` arrived with SHA-256 {found}; the hub announced {expected}"
    )]
    WrongDigest { repository: String, file: String, expected: String, found: String },
    #[error("another process holds `{lock}`")]
    Locked { lock: PathBuf },
    #[error("the client cannot start: {reason}")]
    Client { reason: String },
}

fn token(with_token: bool) -> &'static str {
    if with_token { "even with the token" } else { "without a token" }
}

impl Error {
    /// True if the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. } | Self::WrongSize { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            _ => false,
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoSuchModel { .. } => "pass a folder, or a repository as OWNER/NAME",
            Self::NotFound { .. } => "check the spelling of `--model` and `--revision`",
            Self::Denied { with_token: false, .. } => {
                "if it is private or gated, pass a token with `--hf-token`; if not, check the spelling"
            }
            Self::Denied { with_token: true, .. } => {
                "accept the model's terms on its page, or pass another `--hf-token`"
            }
            Self::Network { .. } => {
                "connect to the network, or pass a folder that holds the checkpoint"
            }
            Self::WrongSize { .. } | Self::WrongDigest { .. } => {
                "the file was removed from the cache: run again to fetch it afresh"
            }
            Self::Locked { .. } => "wait until the other download has ended",
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
            Self::Network { .. }
            | Self::Status { .. }
            | Self::BadAnswer { .. }
            | Self::WrongSize { .. }
            | Self::WrongDigest { .. }
            | Self::Locked { .. }
            | Self::Client { .. } => ErrorKind::Environment,
            _ => ErrorKind::Input,
        }
    }
}
