//! Command-line arguments, parsed by `clap`. Settings from the environment and config.toml are in `settings`.

#![expect(clippy::doc_markdown, reason = "the texts are help on a terminal")]

mod backend;
mod convert;
#[cfg(test)]
mod docs;
mod inspect;
mod measure;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use backend::{BackendArgs, VerifyBackend};
pub use convert::{
    ConvertArgs, Engine, InterfaceArgs, ModelArgs, PaletteGranularity, QuantizeArgs, SetupArgs,
    SweepArgs,
};
pub use inspect::{InspectArgs, ManifestCommand, RenderArgs, ReportArgs, ReportForm};
pub use measure::{EvaluateArgs, ExplainArgs, GateArgs, GateForm, MeasureArgs, VerifyArgs};
pub use run::{
    EmbedArgs, GenerateArgs, InputFormat, PrecisionArg, PredictArgs, TemplateArgs, TokenizeArgs,
};

/// Convert models to Core ML packages, compress and test them on any operating system.
#[derive(Debug, Parser)]
#[command(name = "coremill", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 1 a gate failed, 2 invalid usage or input, 3 evaluation invalid or inconclusive, \
                  4 tool or environment error."
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Output format.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Progress format on stderr [default: bar on a terminal, otherwise none].
    #[arg(long, global = true, value_enum)]
    pub progress: Option<ProgressMode>,
    /// Directory for the Python environment, downloads and references [env: COREMILL_CACHE_DIR].
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Print only results, warnings and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable.
    Table,
    /// One JSON document.
    Json,
    /// JSON lines, written as results become available.
    Jsonl,
}

/// Progress formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Progress bar.
    Bar,
    /// One JSON object per line.
    Json,
    /// No progress.
    None,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the Python environment that conversion uses.
    Setup(SetupArgs),
    /// Check the environment: Python, libraries, Core ML, memory and disk.
    Doctor,
    /// Convert a checkpoint to a package.
    Convert(ConvertArgs),
    /// Compress a package.
    Quantize(QuantizeArgs),
    /// Convert a model once, then compress, evaluate and gate many variants.
    Sweep(Box<SweepArgs>),
    /// Evaluate packages against a reference.
    Evaluate(EvaluateArgs),
    /// Evaluate a package and apply gates.
    Verify(VerifyArgs),
    /// Apply gates to the variants of a report.
    Gate(GateArgs),
    /// Run one function of a package on tensors from a file.
    Predict(PredictArgs),
    /// Generate text from a prompt.
    Generate(GenerateArgs),
    /// Tokenize texts.
    Tokenize(TokenizeArgs),
    /// Embed sentences.
    Embed(EmbedArgs),
    /// Show functions, weights and sizes of a package, or how a checkpoint is read.
    Inspect(InspectArgs),
    /// Check, show or update manifests.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Render, merge or compare sweep reports.
    Report(ReportArgs),
    /// Describe a gate, or list the gates or compression schemes.
    Explain(ExplainArgs),
}
