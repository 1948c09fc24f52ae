//! The commands, one file each: settings in, exit code out.

mod backend;
mod chat;
mod compare;
mod compute_plan;
mod context;
mod convert;
mod doctor;
mod embed;
mod embeddings;
mod engine;
mod evaluate;
mod explain;
mod gate;
mod gates;
mod generate;
mod inspect;
mod manifest;
mod measure;
mod precision;
mod predict;
mod quantize;
mod report;
mod sentences;
mod setup;
mod sweep;
mod tokenize;
mod verify;

use super::args::{Cli, Command};
use super::printer::Printer;
use crate::pipeline::Failure;
use context::Context;

/// Result of a command: an exit code or an error.
type Outcome = Result<u8, Failure>;

/// Exit code of success.
const SUCCESS: u8 = 0;
/// Exit code of an invalid or inconclusive evaluation.
const INCONCLUSIVE: u8 = 3;

/// Runs a command.
pub(super) fn run(cli: Cli, printer: Printer) -> Outcome {
    let context = Context::new(&cli.global, printer);
    match cli.command {
        Command::Setup(args) => setup::run(&args, &context),
        Command::Doctor => doctor::run(&context),
        Command::Convert(args) => convert::run(&args, &context),
        Command::Quantize(args) => quantize::run(&args, &context),
        Command::Sweep(args) => sweep::run(&args, &context),
        Command::Evaluate(args) => evaluate::run(&args, &context),
        Command::Verify(args) => verify::run(&args, &context),
        Command::Gate(args) => gate::run(&args, &context),
        Command::Predict(args) => predict::run(&args, &context),
        Command::Generate(args) => generate::run(&args, &context),
        Command::Tokenize(args) => tokenize::run(&args, &context),
        Command::Embed(args) => embed::run(&args, &context),
        Command::Inspect(args) => inspect::run(&args, &context),
        Command::Manifest(command) => manifest::run(&command, &context),
        Command::Report(args) => report::run(&args, &context),
        Command::Explain(args) => explain::run(&args, &context),
    }
}
