//! The command line: arguments, settings, commands, printer, progress. The only layer that prints, reads the
//! environment or asks the time.

pub mod args;
mod commands;
mod config;
mod printer;
mod progress;
mod settings;
mod tables;

use std::process::ExitCode;

use clap::Parser as _;

use crate::base::cancel;
use args::Cli;
use printer::Printer;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; clap knows which stream each belongs to.
            let code = if error.use_stderr() { 2 } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(4),
            };
        }
    };
    let printer = Printer::new(cli.global.format, cli.global.quiet);
    // The first Ctrl-C asks for an orderly end; a second one ends the process.
    let handler = ctrlc::set_handler(|| {
        if cancel::requested() {
            std::process::exit(130);
        }
        cancel::request();
    });
    if let Err(error) = handler {
        printer.warn(&format!("Ctrl-C will not end the run cleanly: {error}"));
    }
    match commands::run(cli, printer) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}
