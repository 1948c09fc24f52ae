//! Apple's framework on a Mac: what it is, compiled models, prediction, compute plans. Elsewhere, a typed absence.
//!
//! `enabled` holds every call of the framework and is built for macOS alone; `absent` has the same names everywhere
//! else. All that can be decided without the framework stands in the other files and is tested on any machine.

mod array;
mod cache;
mod plan;
mod units;

#[cfg(not(target_os = "macos"))]
mod absent;
#[cfg(target_os = "macos")]
mod enabled;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

#[cfg(not(target_os = "macos"))]
pub use absent::{Model, State, detect, plan};
pub use array::{Array, ArrayError, Element, gather, scatter};
pub use cache::{Cache, CacheError, Compiled};
#[cfg(target_os = "macos")]
pub use enabled::{Model, State, detect, plan};
pub use plan::{ComputePlan, Planned, Reason, Share};
pub use units::ComputeUnits;

use crate::base::error::{ErrorKind, Hint};

/// Compute devices of Core ML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor.
    Cpu,
    /// The graphics processor.
    Gpu,
    /// The Neural Engine.
    NeuralEngine,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::NeuralEngine => "Neural Engine",
        })
    }
}

/// The framework of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Framework {
    /// The system it belongs to, with its build: compiled models of another one are not used.
    pub system: String,
    /// What it can compute on; empty where the system is too old to say.
    pub devices: Vec<Device>,
    /// Cores of the Neural Engine, where there is one.
    pub neural_engine_cores: Option<u64>,
}

/// Why there is no framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("Core ML is not on this machine: it is part of macOS, and this is {os} on {arch}")]
pub struct Absent {
    /// This system.
    pub os: &'static str,
    /// Its processor.
    pub arch: &'static str,
}

impl Absent {
    /// What is said on this machine where there is no framework.
    pub const HERE: Self = Self { os: std::env::consts::OS, arch: std::env::consts::ARCH };
}

/// Options of loading a model.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it may be computed on.
    pub units: ComputeUnits,
    /// Cache of compiled models.
    pub cache: Cache,
}

/// A model to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The package, or the compiled model.
    pub path: PathBuf,
    /// The functions to load.
    pub functions: Vec<String>,
    /// True if the model has functions beside its only one, so that they are asked for by name.
    pub named: bool,
}

/// What a prediction takes or gives under one name.
#[derive(Debug, Clone, PartialEq)]
pub enum Feature {
    /// An array.
    Array(Array),
    /// A text: the class of a classifier.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Numbers by class, in no order.
    Scores(Vec<(Class, f64)>),
}

/// A class of a classifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A name.
    Text(String),
    /// A number.
    Int(i64),
}

/// How long the framework took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Compiling; nothing where a compiled model was found.
    pub compile: Option<Duration>,
    /// Loading the compiled model, once for each function.
    pub load: Duration,
}

/// Why the framework did not do what was asked of it.
#[derive(Debug, Error)]
pub enum CoreMlError {
    /// There is none.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// What the framework itself says.
    #[error("Core ML cannot {doing}: {says}")]
    Framework {
        /// What it was to do.
        doing: String,
        /// Its words.
        says: String,
    },
    /// Something that this system's framework does not have yet.
    #[error("{what} needs macOS {since}, this is {system}")]
    TooOld {
        /// What.
        what: &'static str,
        /// The first system that has it.
        since: &'static str,
        /// This system.
        system: String,
    },
    /// An input that Core ML has no array for.
    #[error("input `{name}`: {what}")]
    Input {
        /// Its name.
        name: String,
        /// Description of the problem.
        what: String,
    },
    /// An output that there is no tensor for.
    #[error("output `{name}` is {what}")]
    Output {
        /// Its name.
        name: String,
        /// Description.
        what: &'static str,
    },
    /// A function that was not loaded.
    #[error("function `{name}` is not loaded")]
    NoFunction {
        /// Its name.
        name: String,
    },
    /// An array whose bytes and strides do not fit.
    #[error("array `{name}`: {source}")]
    Array {
        /// Its name.
        name: String,
        /// Description of the mismatch.
        source: ArrayError,
    },
    /// The cache of compiled models.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Hint for CoreMlError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Absent(absent) => absent.hint(),
            Self::Framework { .. } | Self::TooOld { .. } => {
                Some("`--backend interp` runs the same package without the framework".to_owned())
            }
            Self::Cache(e) => e.hint(),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Absent(_) | Self::Framework { .. } | Self::TooOld { .. } => {
                ErrorKind::Environment
            }
            Self::Cache(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

impl Hint for Absent {
    fn hint(&self) -> Option<String> {
        Some(
            "pass `--backend interp`, or `--backend auto` to take the framework where there is one"
                .to_owned(),
        )
    }

    fn error_kind(&self) -> ErrorKind {
        ErrorKind::Environment
    }
}
