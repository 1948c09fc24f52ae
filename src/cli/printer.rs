//! The one place that writes to the terminal: data to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::args::Format;
use crate::pipeline::Failure;

/// Writes what a command has to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    format: Format,
    quiet: bool,
}

/// Width assumed where stdout is no terminal.
const DEFAULT_WIDTH: usize = 100;

#[expect(clippy::unused_self, reason = "only who was given a printer prints")]
impl Printer {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet }
    }

    /// True if answers are JSON.
    pub(crate) fn json(self) -> bool {
        self.format != Format::Table
    }

    /// True if answers that come in parts are told part by part, each a line of JSON.
    pub(crate) fn json_lines(self) -> bool {
        self.format == Format::Jsonl
    }

    /// The answer of a command: `value` as JSON or `text` for people, as `--format` says.
    pub(crate) fn answer<T: Serialize>(self, value: &T, text: &str) -> io::Result<()> {
        match self.format {
            Format::Table => self.data(text),
            Format::Json => self.data(&serde_json::to_string_pretty(value)?),
            Format::Jsonl => self.data(&serde_json::to_string(value)?),
        }
    }

    /// A line of data, as it is.
    pub(crate) fn data(self, text: &str) -> io::Result<()> {
        self.line(text).map(|_| ())
    }

    /// A line of many; says whether there is somebody to read the next.
    pub(crate) fn line(self, text: &str) -> io::Result<ControlFlow<()>> {
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        self.piece(&format!("{text}{end}"))
    }

    /// Part of a line, seen at once; says whether there is somebody to read the next.
    pub(crate) fn piece(self, text: &str) -> io::Result<ControlFlow<()>> {
        // `anstream` takes away more than colours where stdout is no terminal: U+007F inside a JSON string, for one.
        let written = if self.json() {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        } else {
            let mut out = anstream::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        match written {
            Ok(()) => Ok(ControlFlow::Continue(())),
            // A reader such as `head` that has seen enough is no failure.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(e) => Err(e),
        }
    }

    /// A line of information for people.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            stderr_line(text);
        }
    }

    /// Something that went wrong without stopping the command.
    pub(crate) fn warn(self, text: &str) {
        stderr_line(&format!("{}: {text}", "warning".yellow().bold()));
    }

    /// Prints the error that ended the command.
    pub(crate) fn failure(self, failure: &Failure) {
        stderr_line(&format!("{}: {}", "error".red().bold(), failure.message));
        if let Some(hint) = &failure.hint {
            stderr_line(&format!("{}: {hint}", "hint".cyan().bold()));
        }
    }

    /// True if stdout takes colours: a terminal without `NO_COLOR`.
    pub(crate) fn colored(self) -> bool {
        anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
    }

    /// Columns that a table may fill.
    pub(crate) fn width(self) -> usize {
        let columns = comfy_table::Table::new().width();
        if io::stdout().is_terminal() {
            columns.map_or(DEFAULT_WIDTH, usize::from)
        } else {
            DEFAULT_WIDTH
        }
    }
}

/// One line to stderr; when even that is gone there is nobody left to tell.
pub(super) fn stderr_line(text: &str) {
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}
