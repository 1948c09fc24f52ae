//! A session: settings, progress, clock, warnings, and the embedded Python, which starts when it is first needed.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::clock::SystemClock;
use crate::base::error::{ErrorKind, Hint};
use crate::base::progress::{Progress, Silent};
use crate::python::{self, EnvError, Environment, Interpreter, PythonError};

/// Settings of a session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory for the Python environment, downloads and references.
    pub cache_dir: PathBuf,
    /// Python interpreter whose environment is used unchanged; otherwise an environment is created in `cache_dir`.
    pub python: Option<PathBuf>,
    /// Endpoint of the Hugging Face hub or a mirror.
    pub hf_endpoint: Option<String>,
    /// Access token for the hub.
    pub hf_token: Option<String>,
    /// Forbids network access.
    pub offline: bool,
    /// Cache directory of the hub, shared with `huggingface_hub`.
    pub hub_cache: PathBuf,
}

impl Settings {
    /// Settings that keep everything in `cache_dir` and read nothing from the environment.
    pub fn in_dir(cache_dir: impl Into<PathBuf>) -> Self {
        let cache_dir = cache_dir.into();
        Self {
            hub_cache: cache_dir.join("hub"),
            cache_dir,
            python: None,
            hf_endpoint: None,
            hf_token: None,
            offline: false,
        }
    }
}

/// Receives warnings.
pub type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// The environment of conversions, evaluations and sweeps.
pub struct Session {
    /// Settings.
    pub settings: Settings,
    /// Receives progress.
    pub progress: Box<dyn Progress>,
    /// The system clock.
    pub clock: SystemClock,
    warn: Warn,
    environment: OnceLock<Environment>,
    interpreter: OnceLock<Interpreter>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a session without progress; warnings are dropped.
    pub fn new(settings: Settings) -> Self {
        Self::with(settings, Box::new(Silent), Box::new(|_| {}))
    }

    /// Opens a session that reports progress and warnings.
    pub fn with(settings: Settings, progress: Box<dyn Progress>, warn: Warn) -> Self {
        Self {
            settings,
            progress,
            clock: SystemClock::start(),
            warn,
            environment: OnceLock::new(),
            interpreter: OnceLock::new(),
        }
    }

    /// Reports a warning.
    pub fn warn(&self, text: &str) {
        (self.warn)(text);
    }

    /// Returns the settings of the Python environment.
    pub fn python_settings(&self) -> python::Settings {
        python::Settings {
            cache_dir: self.settings.cache_dir.clone(),
            python_override: self.settings.python.clone(),
            offline: self.settings.offline,
        }
    }

    /// The environment that Python runs in, made if there is none.
    pub fn environment(&self) -> Result<&Environment, EnvError> {
        if self.environment.get().is_none() {
            let made = python::ensure(&self.python_settings(), &*self.progress)?;
            self.environment.get_or_init(|| made);
        }
        Ok(self.environment.get().expect("set above"))
    }

    /// True if Python can be used at once, without making its environment.
    pub fn has_python(&self) -> bool {
        self.environment.get().is_some() || python::ready(&self.python_settings()).is_some()
    }

    /// Python, started at the first call.
    pub fn python(&self) -> Result<&Interpreter, StartError> {
        if self.interpreter.get().is_none() {
            let log = self.settings.cache_dir.join("python.log");
            let started = Interpreter::start(self.environment()?, &log)?;
            self.interpreter.get_or_init(|| started);
        }
        Ok(self.interpreter.get().expect("set above"))
    }
}

/// An error of starting Python.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its environment.
    #[error(transparent)]
    Environment(#[from] EnvError),
    /// Python itself.
    #[error(transparent)]
    Python(#[from] PythonError),
}

impl Hint for StartError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Environment(e) => e.hint(),
            Self::Python(e) => e.hint(),
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Environment(e) => e.error_kind(),
            Self::Python(e) => e.error_kind(),
        }
    }
}
