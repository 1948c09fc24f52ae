//! What uses packages: `predict`, `generate`, `embed`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::backend::BackendArgs;

/// `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The package; several run as one chain, outputs of one feeding the inputs of that name of the next.
    #[arg(value_name = "PKG", required = true)]
    pub packages: Vec<PathBuf>,
    /// The function [default: the package's default].
    #[arg(long, short, value_name = "NAME")]
    pub function: Option<String>,
    /// Inputs by name, a safetensors file.
    #[arg(long, short, value_name = "FILE")]
    pub inputs: PathBuf,
    /// Where the outputs go, a safetensors file.
    #[arg(long, short, value_name = "FILE", required_unless_present = "precision_report")]
    pub outputs: Option<PathBuf>,
    /// The states, read if the file exists and written back.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Intermediate value to write with the outputs; may be given again.
    #[arg(long, value_name = "NAME")]
    pub tap: Vec<String>,
    /// `declared` rounds every value to its declared type, `f32` does not.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Declared)]
    pub precision: PrecisionArg,
    /// What runs the package.
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Show operation by operation where fp16 loses on these inputs, and write nothing.
    #[arg(long, conflicts_with_all = ["outputs", "tap", "precision"])]
    pub precision_report: bool,
    /// Operations that the report shows.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub worst: usize,
}

/// How values are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// To the declared types.
    Declared,
    /// Not at all.
    F32,
}

/// `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The package.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// The text to continue.
    #[arg(long, short)]
    pub prompt: String,
    /// Tokens to generate at most.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 64)]
    pub max_tokens: u64,
    /// 0 takes the likeliest token; above, tokens are drawn.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f64,
    /// Seed of the draw.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Folder of the tokenizer [default: beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// What runs the package.
    #[command(flatten)]
    pub backend: BackendArgs,
}

/// `embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The package.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// A sentence; may be given again.
    #[arg(long, short, required_unless_present = "file")]
    pub text: Vec<String>,
    /// Sentences, one a line.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Instruction before every sentence, left out of the mean (LLM2Vec).
    #[arg(long)]
    pub instruction: Option<String>,
    /// Folder of the tokenizer [default: beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// What runs the package.
    #[command(flatten)]
    pub backend: BackendArgs,
}
