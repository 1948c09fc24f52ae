//! The commands, one file each: settings in, exit code out.

mod backend;
mod bench;
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
mod job;
mod manifest;
mod measure;
mod open_tokenizer;
mod precision;
mod predict;
mod quantize;
mod recorded;
mod report;
mod sentences;
mod setup;
mod sidecar;
mod sweep;
mod texts;
mod tokenize;
mod verify;

use super::args::{Cli, Command};
use super::failure::Failure;
use super::printer::Printer;
use context::Context;

/// Everything a command ends with: an exit code, or a failure.
type Outcome = Result<u8, Failure>;

/// Everything holds.
const HOLDS: u8 = 0;
/// A judgement was asked for and is not to be had.
const INCONCLUSIVE: u8 = 3;

/// Runs the command that was typed.
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
