//! What every command is given: settings, printer, progress, clock, and Python when it is needed.

use std::sync::OnceLock;

use crate::base::error::{Blame, Hint};
use crate::base::progress::Progress;
use crate::cli::args::Global;
use crate::cli::clock::SystemClock;
use crate::cli::config::Config;
use crate::cli::failure::Failure;
use crate::cli::printer::Printer;
use crate::cli::progress;
use crate::cli::settings::Settings;
use crate::python::{self, EnvError, Environment, Interpreter, PythonError};

/// The surroundings of one command.
pub(super) struct Context {
    /// Writes answers and notes.
    pub(super) printer: Printer,
    /// The environment's settings.
    pub(super) settings: Settings,
    /// Shows progress.
    pub(super) progress: Box<dyn Progress>,
    /// The time.
    pub(super) clock: SystemClock,
    config: OnceLock<Config>,
    environment: OnceLock<Environment>,
    interpreter: OnceLock<Interpreter>,
}

impl Context {
    pub(super) fn new(global: &Global, printer: Printer) -> Self {
        Self {
            printer,
            settings: Settings::from_env(global.cache_dir.as_deref()),
            progress: progress::listener(global.progress, global.quiet),
            clock: SystemClock::start(),
            config: OnceLock::new(),
            environment: OnceLock::new(),
            interpreter: OnceLock::new(),
        }
    }

    /// The user's `config.toml`, read at the first call.
    pub(super) fn config(&self) -> Result<&Config, Failure> {
        if self.config.get().is_none() {
            let read = Config::read(&self.settings.config_file)?;
            self.config.get_or_init(|| read);
        }
        Ok(self.config.get().expect("set above"))
    }

    /// What the Python layer wants to know.
    pub(super) fn python_settings(&self) -> python::Settings {
        python::Settings {
            cache_dir: self.settings.cache_dir.clone(),
            python_override: self.settings.python.clone(),
            offline: self.settings.offline,
        }
    }

    /// The environment that Python runs in, made if there is none.
    pub(super) fn environment(&self) -> Result<&Environment, EnvError> {
        if self.environment.get().is_none() {
            let made = python::ensure(&self.python_settings(), &*self.progress)?;
            self.environment.get_or_init(|| made);
        }
        Ok(self.environment.get().expect("set above"))
    }

    /// Whether Python can be used at once, without making its environment.
    pub(super) fn has_python(&self) -> bool {
        self.environment.get().is_some() || python::ready(&self.python_settings()).is_some()
    }

    /// Python, started at the first call.
    pub(super) fn python(&self) -> Result<&Interpreter, StartError> {
        if self.interpreter.get().is_none() {
            let log = self.settings.cache_dir.join("python.log");
            let started = Interpreter::start(self.environment()?, &log)?;
            self.interpreter.get_or_init(|| started);
        }
        Ok(self.interpreter.get().expect("set above"))
    }
}

/// Why Python cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
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

    fn blame(&self) -> Blame {
        match self {
            Self::Environment(e) => e.blame(),
            Self::Python(e) => e.blame(),
        }
    }
}
