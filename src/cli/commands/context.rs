//! What every command is given: settings, printer, progress, clock, and Python when it is needed.

use std::cell::OnceCell;

use crate::base::progress::Progress;
use crate::cli::args::Global;
use crate::cli::clock::SystemClock;
use crate::cli::failure::Failure;
use crate::cli::printer::Printer;
use crate::cli::progress;
use crate::cli::settings::Settings;
use crate::python::{self, Environment, Interpreter};

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
    started: OnceCell<(Environment, Interpreter)>,
}

impl Context {
    pub(super) fn new(global: &Global, printer: Printer) -> Self {
        Self {
            printer,
            settings: Settings::from_env(),
            progress: progress::listener(global.progress, global.quiet),
            clock: SystemClock::start(),
            started: OnceCell::new(),
        }
    }

    /// What the Python layer wants to know.
    pub(super) fn python_settings(&self) -> python::Settings {
        python::Settings {
            cache_dir: self.settings.cache_dir.clone(),
            python_override: self.settings.python.clone(),
            offline: self.settings.offline,
        }
    }

    /// Python, started at the first call; its environment is made if there is none.
    pub(super) fn python(&self) -> Result<&Interpreter, Failure> {
        Ok(&self.start()?.1)
    }

    /// The environment that Python runs in.
    pub(super) fn environment(&self) -> Result<&Environment, Failure> {
        Ok(&self.start()?.0)
    }

    fn start(&self) -> Result<&(Environment, Interpreter), Failure> {
        if let Some(started) = self.started.get() {
            return Ok(started);
        }
        let environment = python::ensure(&self.python_settings(), &*self.progress)?;
        let log = self.settings.cache_dir.join("python.log");
        let interpreter = Interpreter::start(&environment, &log)?;
        Ok(self.started.get_or_init(|| (environment, interpreter)))
    }
}
