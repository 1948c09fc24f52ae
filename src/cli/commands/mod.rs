//! The commands, one file each: settings in, exit code out.

mod context;
mod convert;
mod doctor;
mod inspect;
mod quantize;
mod setup;

use super::args::{Cli, Command};
use super::failure::Failure;
use super::printer::Printer;
use context::Context;

/// Everything a command ends with: an exit code, or a failure.
type Outcome = Result<u8, Failure>;

/// Everything holds.
const HOLDS: u8 = 0;

/// Runs the command that was typed.
pub(super) fn run(cli: Cli, printer: &Printer) -> Outcome {
    let context = Context::new(&cli.global, *printer);
    match cli.command {
        Command::Setup(args) => setup::run(&args, &context),
        Command::Doctor => doctor::run(&context),
        Command::Convert(args) => convert::run(&args, &context),
        Command::Quantize(args) => quantize::run(&args, &context),
        Command::Inspect(args) => inspect::run(&args, &context),
        _ => Err(Failure::input("not yet")),
    }
}
