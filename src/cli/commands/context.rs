//! The context of a command: printer, session, and the user's `config.toml`.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cli::args::Global;
use crate::cli::config::Config;
use crate::cli::printer::Printer;
use crate::cli::{progress, settings};
use crate::pipeline::{Failure, Session};

/// The context of one command; a [`Session`] with a printer.
pub(super) struct Context {
    /// Writes results and notes.
    pub(super) printer: Printer,
    session: Session,
    config_file: PathBuf,
    config: OnceLock<Config>,
}

impl Deref for Context {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Context {
    pub(super) fn new(global: &Global, printer: Printer) -> Self {
        let (settings, config_file) = settings::from_env(global.cache_dir.as_deref());
        let progress = progress::listener(global.progress, global.quiet);
        let session =
            Session::with(settings, progress, Box::new(move |warning| printer.warn(warning)));
        Self { printer, session, config_file, config: OnceLock::new() }
    }

    /// Path of the user's `config.toml`, which need not exist.
    pub(super) fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// The user's `config.toml`, read at the first call.
    pub(super) fn config(&self) -> Result<&Config, Failure> {
        if self.config.get().is_none() {
            let read = Config::read(&self.config_file)?;
            self.config.get_or_init(|| read);
        }
        Ok(self.config.get().expect("set above"))
    }
}
