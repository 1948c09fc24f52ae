//! Why a package cannot be compressed.

use std::io;

use thiserror::Error;

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::blob::WriterError;
use crate::mil::ConstError;
use crate::package::DraftError;
use crate::quant;

/// An error of a compression.
#[derive(Debug, Error)]
pub enum CompressError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A constant of the package.
    #[error(transparent)]
    Const(#[from] ConstError),
    /// The package cannot be written.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The blob file cannot be written.
    #[error(transparent)]
    Blob(#[from] WriterError),
    /// A weight that the recipe matches and that its scheme cannot hold.
    #[error("weight `{name}` cannot be `{scheme}`: {error}")]
    Weight {
        /// The weight.
        name: String,
        /// The scheme.
        scheme: String,
        /// Why not.
        error: quant::Error,
    },
    /// A weight whose uses disagree about its channels.
    #[error("weight `{name}` cannot be `{scheme}`: its uses have different output channels")]
    Axes {
        /// The weight.
        name: String,
        /// The scheme.
        scheme: String,
    },
    /// Groups that only a processor takes.
    #[error(
        "scheme `{scheme}` has groups of {size} channels, which the Neural Engine and the GPU do not take"
    )]
    GroupSize {
        /// The scheme.
        scheme: String,
        /// Channels that share a table.
        size: usize,
    },
    /// A weight in fp32.
    #[error("weight `{name}` is fp32; schemes compress fp16")]
    Fp32 {
        /// The weight.
        name: String,
    },
    /// A rule that finds nothing.
    #[error("rule for `{selector}` matches none of the {weights} weights")]
    Idle {
        /// Selector of the rule.
        selector: String,
        /// Number of weights.
        weights: usize,
    },
    /// A package without weights to compress.
    #[error("package has no uncompressed weights")]
    NoWeights,
    /// A target whose packages cannot hold the form.
    #[error("scheme `{scheme}` needs {needed}, the package has specification version {version}")]
    Target {
        /// The scheme.
        scheme: String,
        /// The least target that can hold it.
        needed: &'static str,
        /// The package's version.
        version: i32,
    },
}

impl Hint for CompressError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Draft(e) => e.hint(),
            Self::Blob(e) => e.hint(),
            Self::Io(e) => e.hint(),
            Self::Weight { error, name, .. } => error
                .hint()
                .map(|hint| format!("{hint}; a rule for this weight alone is `/{name}/=SCHEME`")),
            Self::Idle { .. } => {
                Some("`coremill inspect PKG` lists the weights with their components".to_owned())
            }
            Self::NoWeights => {
                Some("compress the fp16 package, not one that is compressed already".to_owned())
            }
            Self::Target { needed, .. } => Some(format!("convert for {needed}")),
            Self::GroupSize { .. } => Some(
                "group sizes are 8, 16, 32 and 64; any with `--compute-units CPU_ONLY`".to_owned(),
            ),
            Self::Axes { .. } => Some("choose one table or scale for the tensor (`-t`)".to_owned()),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
            Self::Blob(_) => ErrorKind::Environment,
            _ => ErrorKind::Input,
        }
    }
}
