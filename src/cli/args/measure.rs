//! What measures and judges packages: `evaluate`, `verify`, `gate`, `explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::backend::{BackendArgs, Judged, judged};
use crate::coreml::ComputeUnits;

/// What `--top-k` is where it is not given.
const TOP_K: u64 = crate::eval::TOP_K as u64;

/// What is measured, and against what.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// What is compared with: the source checkpoint, whose f32 results count, or a package.
    #[arg(long, value_name = "DIR|PKG")]
    pub reference: Option<PathBuf>,
    /// LoRA adapters that the package has merged.
    #[arg(long, value_name = "DIR")]
    pub lora_checkpoint: Vec<PathBuf>,
    /// LLM2Vec adapters of `encode`.
    #[arg(long, value_name = "DIR")]
    pub llm2vec_checkpoint: Vec<PathBuf>,
    /// Text for perplexity and divergence: a file, JSON lines with `text`, or `wikitext-2` or `tinystories` from the hub.
    #[arg(long, value_name = "FILE|NAME")]
    pub text: Option<String>,
    /// What the package was calibrated on: a text that overlaps with it is refused.
    #[arg(long, value_name = "FILE|NAME", requires = "text")]
    pub calibration: Option<String>,
    /// Tokens in a window of the text [default: the package's sequence length].
    #[arg(long, value_name = "N")]
    pub window: Option<u64>,
    /// Tokens between the starts of two windows [default: a window].
    #[arg(long, value_name = "N")]
    pub stride: Option<u64>,
    /// Windows to score.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub windows: u64,
    /// Tokens of the reference to know one by one at each position, at most all; the others count as one.
    #[arg(long, value_name = "K", default_value_t = TOP_K, value_parser = clap::value_parser!(u64).range(1..))]
    pub top_k: u64,
    /// Do not measure the reference against itself with noise, which computes it anew for some windows.
    #[arg(long)]
    pub no_noise_floor: bool,
    /// Golden prompts, a JSON list of strings.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Continue the prompts as they are, not as a user's messages in the model's chat template.
    #[arg(long)]
    pub no_chat_template: bool,
    /// Tokens to generate for each prompt.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub max_tokens: u64,
    /// Sentences for the embedding check, a JSON list.
    #[arg(long, value_name = "FILE")]
    pub sentences: Option<PathBuf>,
    /// Calls of each function to time; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub latency: u64,
    /// Folder of the tokenizer [default: beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
}

/// `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// The packages to measure.
    #[arg(value_name = "PKG", required = true)]
    pub packages: Vec<PathBuf>,
    /// What is measured.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// What runs the packages.
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Show operation by operation where fp16 loses, on the text or the sentences, without a reference.
    #[arg(long)]
    pub precision_report: bool,
    /// Operations that the report shows.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub worst: usize,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The package to judge.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// What is measured.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// What runs the package, as for `evaluate`; `both` compares Core ML with the interpreter output by output on
    /// inputs made from a seed, without a reference.
    #[arg(long, value_name = "LIST|both", value_parser = judged)]
    pub backend: Option<Judged>,
    /// What Core ML may compute on, as for `evaluate`.
    #[arg(long, value_name = "UNITS")]
    pub compute_units: Option<ComputeUnits>,
    /// What `--backend both` makes its inputs from.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Calls of each function that `--backend both` compares.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub calls: u16,
    /// The largest difference that `--backend both` allows, as a part of an output's largest element.
    #[arg(long, value_name = "PART", default_value_t = 0.02)]
    pub tolerance: f64,
    /// A gate's threshold, such as `cosine=0.99`; may be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    pub gate: Vec<String>,
}

/// `gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// The report of a sweep.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// An older report, whose variants of the same names must not have been better.
    #[arg(long, value_name = "OLD")]
    pub baseline: Option<PathBuf>,
    /// The form of the answer: for people, for a job summary, for a CI system's list of tests, as annotations.
    #[arg(long, value_enum, default_value_t = GateForm::Table)]
    pub form: GateForm,
    /// A gate's threshold, such as `cosine=0.99`; may be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    pub gate: Vec<String>,
}

/// The forms of verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateForm {
    /// Lines for a terminal.
    Table,
    /// Markdown.
    Markdown,
    /// JUnit XML.
    Junit,
    /// GitHub workflow commands.
    Github,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The gate; without it, all are listed.
    #[arg(value_name = "GATE")]
    pub gate: Option<String>,
}
