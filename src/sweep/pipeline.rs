//! The interface between a sweep and the layers that convert, compress and evaluate.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Engine, Variant};
use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::base::progress::Progress;
use crate::eval::Evaluated;
use crate::eval::results::Measurements;
use crate::gate::Verdict;
use crate::manifest::{Artifact, Manifest};

/// The work behind a sweep. All methods may be called from any thread.
///
/// A package is written whole or not at all, in place of what stands at its path.
pub trait Pipeline: Sync {
    /// Returns digests of the sources and versions of the tools; called once, before any work.
    fn identity(&self) -> Result<Identity, StageError>;

    /// Writes to `folder` what all packages in it share, such as the tokenizer; [`baseline`](Self::baseline) does so too.
    fn beside(&self, folder: &Path) -> Result<(), StageError> {
        let _ = folder;
        Ok(())
    }

    /// Converts the model and writes the baseline to `package`.
    fn baseline(&self, package: &Path, progress: &dyn Progress) -> Result<Artifact, StageError>;

    /// Compresses the package at `baseline` by the recipe of each variant and writes the result to its path; what several
    /// recipes want of a weight is made once.
    fn compress_all(
        &self,
        variants: &[(&Variant, PathBuf)],
        baseline: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<Artifact>, StageError>;

    /// Measures the package at `package`; several may be measured at the same time.
    fn evaluate(
        &self,
        variant: &Variant,
        package: &Path,
        progress: &dyn Progress,
    ) -> Result<Evaluated, StageError>;

    /// The machines that make variants in place of this one, where there are some.
    fn engine(&self) -> Option<&dyn Engine> {
        None
    }

    /// Describes the package at `package`.
    fn manifest(
        &self,
        variant: &Variant,
        package: &Path,
        artifact: &Artifact,
        measurements: &Measurements,
        verdicts: &[Verdict],
    ) -> Result<Manifest, StageError>;
}

/// Inputs of all results of a sweep beside its specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// SHA-256 of every file of the checkpoint and its adapters, by role and path (`model/config.json`,
    /// `lora/0/adapter_model.safetensors`).
    pub sources: BTreeMap<String, String>,
    /// Versions of this tool and of the libraries that it uses.
    pub tools: BTreeMap<String, String>,
    /// SHA-256 of the texts that figures rest on, and packages do not.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
}

/// A package that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Built {
    /// Its files and figures.
    pub artifact: Artifact,
    /// Duration; divided evenly among packages that are compressed together.
    pub seconds: f64,
}

/// A package that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The figures.
    pub measurements: Measurements,
    /// Duration.
    pub seconds: f64,
}

/// Why a stage gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StageError {
    /// The run was asked to stop; the stage is neither done nor failed.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The spec or what it names cannot be used.
    #[error("{message}")]
    Input {
        /// Description of the problem.
        message: String,
        /// Suggested remedy.
        hint: Option<String>,
    },
    /// A tool, the disk or the environment failed.
    #[error("{message}")]
    Failed {
        /// Description of the event.
        message: String,
        /// Suggested remedy.
        hint: Option<String>,
    },
}

impl StageError {
    /// A failure that says what `error` says, with its hint.
    pub fn failed(error: &(impl Display + Hint)) -> Self {
        Self::Failed { message: error.to_string(), hint: error.hint() }
    }

    /// An input that cannot be used, as `error` says, with its hint.
    pub fn input(error: &(impl Display + Hint)) -> Self {
        Self::Input { message: error.to_string(), hint: error.hint() }
    }
}

impl Hint for StageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Cancelled(_) => Some("run the same command again to go on from here".to_owned()),
            Self::Input { hint, .. } | Self::Failed { hint, .. } => hint.clone(),
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled(e) => e.error_kind(),
            Self::Input { .. } => ErrorKind::Input,
            Self::Failed { .. } => ErrorKind::Environment,
        }
    }
}
