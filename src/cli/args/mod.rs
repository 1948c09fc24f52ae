//! What can be typed, as `clap` sees it; commands get it parsed, settings come from elsewhere.

#![expect(clippy::doc_markdown, reason = "the texts are help on a terminal")]

mod backend;
mod convert;
mod look;
mod measure;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use backend::{BackendArgs, Judged};
pub use convert::{
    ConvertArgs, Engine, PaletteGranularity, QuantizeArgs, SetupArgs, ShapeArgs, SourceArgs,
    SweepArgs,
};
pub use look::{Drawn, InspectArgs, ManifestCommand, ReportArgs, ReportForm};
pub use measure::{EvaluateArgs, ExplainArgs, GateArgs, GateForm, MeasureArgs, VerifyArgs};
pub use run::{
    EmbedArgs, GenerateArgs, LineForm, PrecisionArg, PredictArgs, TemplateArgs, TokenizeArgs,
};

/// Hugging Face checkpoints to Core ML packages that are proven before they ship.
#[derive(Debug, Parser)]
#[command(name = "coremill", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 holds, 1 a gate failed, 2 bad usage or input, 3 the evaluation is invalid or \
                        inconclusive, 4 a tool or the environment failed."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// How answers are written to stdout.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// How progress is shown on stderr [default: bar on a terminal, else none].
    #[arg(long, global = true, value_enum)]
    pub progress: Option<ProgressMode>,
    /// Where the Python environment, downloads and references are kept [env: COREMILL_CACHE_DIR].
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Say nothing but answers, warnings and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON value.
    Json,
    /// For programs: one JSON value on each line, as soon as it is there.
    Jsonl,
}

/// The form of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar.
    Bar,
    /// One JSON object per line.
    Json,
    /// None.
    None,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the Python environment that conversion uses.
    Setup(SetupArgs),
    /// Show what this machine has and what it can do.
    Doctor,
    /// Turn a checkpoint into a package.
    Convert(ConvertArgs),
    /// Compress a package.
    Quantize(QuantizeArgs),
    /// Convert once, then compress, run, evaluate and gate many variants.
    Sweep(Box<SweepArgs>),
    /// Measure packages against their reference.
    Evaluate(EvaluateArgs),
    /// Measure a package and judge it by gates.
    Verify(VerifyArgs),
    /// Judge the variants of a report.
    Gate(GateArgs),
    /// Run one function on named tensors.
    Predict(PredictArgs),
    /// Continue a prompt.
    Generate(GenerateArgs),
    /// Show the tokens of texts.
    Tokenize(TokenizeArgs),
    /// Embed sentences.
    Embed(EmbedArgs),
    /// List what a package holds.
    Inspect(InspectArgs),
    /// Work with manifests.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Draw a report again, merge or compare reports.
    Report(ReportArgs),
    /// Explain a gate.
    Explain(ExplainArgs),
}
