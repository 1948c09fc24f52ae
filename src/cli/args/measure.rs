//! Arguments of `evaluate`, `verify`, `gate` and `explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::backend::{BackendArgs, VerifyBackend, verify_backend};
use crate::coreml::ComputeUnits;
use crate::eval::defaults;

/// Default of `--top-k`.
const TOP_K: u64 = crate::eval::TOP_K as u64;

/// Evaluation options.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Reference: the source checkpoint (computed in f32) or a package.
    #[arg(long, value_name = "DIR|PKG")]
    pub reference: Option<PathBuf>,
    /// LoRA adapters merged into the package.
    #[arg(long, value_name = "DIR")]
    pub lora_checkpoint: Vec<PathBuf>,
    /// LLM2Vec adapters of `encode`.
    #[arg(long, value_name = "DIR")]
    pub llm2vec_checkpoint: Vec<PathBuf>,
    /// Text for perplexity and divergence: a file, JSON lines with `text`, or `wikitext-2` or `tinystories` from the hub.
    #[arg(long, value_name = "FILE|NAME")]
    pub text: Option<String>,
    /// Calibration text of the package. An evaluation text that overlaps with it is refused.
    #[arg(long, value_name = "FILE|NAME", requires = "text")]
    pub calibration: Option<String>,
    /// Window size in tokens [default: the package's sequence length].
    #[arg(long, value_name = "N")]
    pub window: Option<u64>,
    /// Distance between window starts in tokens [default: the window size].
    #[arg(long, value_name = "N")]
    pub stride: Option<u64>,
    /// Maximum number of windows to evaluate.
    #[arg(long, value_name = "N", default_value_t = defaults::WINDOWS)]
    pub windows: u64,
    /// Number of top reference tokens per position for the divergence; the remaining probability is one bucket.
    #[arg(long, value_name = "K", default_value_t = TOP_K, value_parser = clap::value_parser!(u64).range(1..))]
    pub top_k: u64,
    /// Skip the noise floor, which recomputes the reference on some windows.
    #[arg(long)]
    pub no_noise_floor: bool,
    /// Golden prompts: a JSON list of strings.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Use the prompts as plain text, without the model's chat template.
    #[arg(long)]
    pub no_chat_template: bool,
    /// Number of tokens to generate per prompt.
    #[arg(long, value_name = "N", default_value_t = defaults::MAX_TOKENS)]
    pub max_tokens: u64,
    /// Sentences for the embedding comparison: a JSON list of strings.
    #[arg(long, value_name = "FILE")]
    pub sentences: Option<PathBuf>,
    /// Number of timed calls per function; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub latency: u64,
    /// Tokenizer directory [default: `NAME.tokenizer` beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
}

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Packages to evaluate.
    #[arg(value_name = "PKG", required = true)]
    pub packages: Vec<PathBuf>,
    /// Evaluation options.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Runtime options.
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Report the fp16 error of each operation on the text or the sentences. Needs no reference.
    #[arg(long)]
    pub precision_report: bool,
    /// Number of operations in the precision report.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub worst: usize,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Package to verify.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// Evaluation options.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Runtime, as for `evaluate`; `both` compares the outputs of Core ML and the interpreter on random inputs, without a
    /// reference.
    #[arg(long, value_name = "LIST|both", value_parser = verify_backend)]
    pub backend: Option<VerifyBackend>,
    /// Compute units of Core ML, as for `evaluate`.
    #[arg(long, value_name = "UNITS")]
    pub compute_units: Option<ComputeUnits>,
    /// Random seed of the inputs of `--backend both`.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Calls per function that `--backend both` compares.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub calls: u16,
    /// Tolerance of `--backend both`, relative to the largest element of an output.
    #[arg(long, value_name = "PART", default_value_t = 0.02)]
    pub tolerance: f64,
    /// Threshold of a gate, such as `cosine=0.99`. Repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    pub gate: Vec<String>,
}

/// Arguments of `gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// Sweep report.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// Baseline report; a variant that is worse than the one of the same name fails.
    #[arg(long, value_name = "OLD")]
    pub baseline: Option<PathBuf>,
    /// Output form.
    #[arg(long, value_enum, default_value_t = GateForm::Table)]
    pub form: GateForm,
    /// Threshold of a gate, such as `cosine=0.99`. Repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    pub gate: Vec<String>,
}

/// Output forms of verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateForm {
    /// Terminal table.
    Table,
    /// Markdown, for job summaries.
    Markdown,
    /// JUnit XML.
    Junit,
    /// GitHub annotations.
    Github,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Name of a gate, or `schemes` [default: list all gates].
    #[arg(value_name = "GATE")]
    pub gate: Option<String>,
}
