//! A sweep at work: every variant built, measured and judged, every finished step kept at once.
//!
//! A run that is killed at any moment and started again ends with the same results: packages and records are written
//! whole, a record is written after what it speaks of, and a step without its record is done again. Verdicts are never
//! kept, so that other gates need no new measurement.

mod dispatch;
mod eta;
mod keep;
mod keys;
mod measure;
mod search;
mod shared;
mod steps;

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::measure::{memory_of, workers};
use self::steps::Runner;
use super::Variant;
use super::budget::{Predicted, Search};
use super::pipeline::{Built, Identity, Measured, Pipeline, StageError};
use super::spec::Spec;
use super::store::StoreError;
use super::texts::TextError;
use crate::base::cancel::Cancelled;
use crate::base::clock::Clock;
use crate::base::error::{ErrorKind, Hint};
use crate::base::progress::Progress;
use crate::eval::results::Paired;
use crate::gate::{Outcome, Verdict};

/// Variants that are compressed in one go: each is a file that is written while all are made.
const TOGETHER: usize = 32;

/// A sweep that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Identity of sources, tools and texts.
    pub identity: Identity,
    /// The variants in the order of the plan.
    pub entries: Vec<Entry>,
    /// The variants two by two, on the tokens that both scored.
    pub paired: Vec<Paired>,
    /// Result of the budget search, if any.
    pub search: Option<Search>,
}

/// Outcome of a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The variant.
    pub variant: Variant,
    /// Outcome.
    pub status: Status,
    /// The package that was written.
    pub built: Option<Built>,
    /// Measurements.
    pub measured: Option<Measured>,
    /// Verdicts of the gates.
    pub verdicts: Vec<Verdict>,
    /// Predicted loss, if available.
    pub predicted: Option<Predicted>,
    /// Why it is not worth keeping though its gates may hold.
    pub rejected: Option<String>,
    /// True if package and manifest stand in the output folder.
    pub kept: bool,
    /// Description of the failure.
    pub failure: Option<Failure>,
}

/// Outcome of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was measured, and judged unless no gate looks at what was measured.
    Judged(Option<Outcome>),
    /// It could not be made or measured.
    Failed,
}

/// A step that failed; it is tried again by the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The variant.
    pub variant: String,
    /// The step: `baseline`, `compress`, `evaluate` or `manifest`.
    pub stage: String,
    /// Description of the event.
    pub message: String,
    /// Suggested remedy.
    pub hint: Option<String>,
    /// Number of runs with this end.
    pub attempts: u32,
}

/// Why a sweep cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// It was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Something that all variants need failed.
    #[error("{stage}: {error}")]
    Stage {
        /// The step.
        stage: &'static str,
        /// Why.
        error: StageError,
    },
    /// A record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text of the evaluation.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Cancelled(e) => StageError::Cancelled(*e).hint(),
            Self::Stage { error, .. } => error.hint(),
            Self::Store(_) | Self::Text(_) | Self::Io(_) => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled(e) => e.error_kind(),
            Self::Stage { error, .. } => error.error_kind(),
            Self::Store(StoreError::Io(e)) | Self::Io(e) => e.error_kind(),
            Self::Text(_) => ErrorKind::Input,
        }
    }
}

impl Run {
    /// The smallest variant that passes all gates, between equals the one that diverges less; under a budget the one of
    /// those that fit which diverges least.
    pub fn best(&self) -> Option<&Entry> {
        keep::best(&self.entries, self.search.as_ref()).map(|i| &self.entries[i])
    }
}

impl Entry {
    /// Nothing is known of `variant` yet.
    pub fn new(variant: Variant) -> Self {
        Self {
            variant,
            status: Status::Failed,
            built: None,
            measured: None,
            verdicts: Vec::new(),
            predicted: None,
            rejected: None,
            kept: false,
            failure: None,
        }
    }
}

/// Takes every variant of `spec` through `stages`; what earlier runs finished is not done again.
pub fn run(
    spec: &Spec,
    stages: &dyn Pipeline,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Run, RunError> {
    let identity = stages.identity().map_err(|error| fatal("sources", error))?;
    let runner = Runner::new(spec, stages, clock, progress, &identity)?;
    let mut entries: Vec<Entry> = spec.plan().variants.into_iter().map(Entry::new).collect();
    runner.expect(entries.iter().map(|entry| &entry.variant));
    runner.dispatch(&mut entries)?;
    for start in (0..entries.len()).step_by(TOGETHER) {
        let end = entries.len().min(start + TOGETHER);
        runner.bring(&mut entries[start..end])?;
        runner.prune(&mut entries, None, false)?;
    }
    let search = match &spec.budget {
        Some(budget) => Some(search::search(&runner, budget, &mut entries)?),
        None => None,
    };
    runner.prune(&mut entries, search.as_ref(), true)?;
    let paired = runner.paired(&entries);
    Ok(Run { identity, entries, paired, search })
}

fn fatal(stage: &'static str, error: StageError) -> RunError {
    match error {
        StageError::Cancelled(cancelled) => cancelled.into(),
        error => RunError::Stage { stage, error },
    }
}
