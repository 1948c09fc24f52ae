//! Arguments of `predict`, `generate`, `tokenize` and `embed`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::backend::BackendArgs;

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Package. Several packages run as a chain: outputs feed the inputs of the same name.
    #[arg(value_name = "PKG", required = true)]
    pub packages: Vec<PathBuf>,
    /// Function [default: the package's default function].
    #[arg(long, short, value_name = "NAME")]
    pub function: Option<String>,
    /// Input tensors by name: a safetensors file.
    #[arg(long, short, value_name = "FILE")]
    pub inputs: PathBuf,
    /// Output file (safetensors).
    #[arg(long, short, value_name = "FILE", required_unless_present = "precision_report")]
    pub outputs: Option<PathBuf>,
    /// State file (safetensors), read if it exists and written afterwards.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Intermediate value to write with the outputs. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub tap: Vec<String>,
    /// Precision of intermediate values: `declared` rounds to the declared type, `f32` does not round.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Declared)]
    pub precision: PrecisionArg,
    /// Runtime options.
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Report the fp16 error of each operation on these inputs instead of writing outputs.
    #[arg(long, conflicts_with_all = ["outputs", "tap", "precision"])]
    pub precision_report: bool,
    /// Number of operations in the precision report.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub worst: usize,
}

/// Rounding of intermediate values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Round to the declared types.
    Declared,
    /// Compute in f32.
    F32,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Package.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// Prompt.
    #[arg(long, short, value_name = "TEXT", required_unless_present = "prompt_file")]
    pub prompt: Option<String>,
    /// File with the prompt, `-` for stdin. A final newline is ignored.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
    /// Apply the model's chat template. The prompt is a user message or a JSON list of messages.
    #[arg(long)]
    pub chat: bool,
    /// Chat template options.
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Maximum number of tokens to generate.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 64)]
    pub max_tokens: u64,
    /// Sampling temperature; 0 is greedy decoding.
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Top-k sampling: sample from the K most likely tokens.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Nucleus sampling: sample from the smallest set of tokens with cumulative probability P.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Min-p sampling: drop tokens with less than P times the probability of the most likely one.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    pub min_p: f64,
    /// Random seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Stop string; ends the generation and is removed. Repeatable.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Print the text at the end instead of streaming it.
    #[arg(long)]
    pub no_stream: bool,
    /// Tokenizer directory [default: `NAME.tokenizer` beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Runtime options.
    #[command(flatten)]
    pub backend: BackendArgs,
}

/// Chat template options.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    /// System message.
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Name of the chat template, if the model has several [default: `tool_use` with tools, otherwise `default`].
    #[arg(long, value_name = "NAME", requires = "chat")]
    pub chat_template: Option<String>,
    /// Variable for the chat template; the value is JSON or text. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", requires = "chat")]
    pub chat_arg: Vec<String>,
}

/// Arguments of `tokenize`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("given").args(["text", "file"]).required(true))]
pub struct TokenizeArgs {
    /// Package or tokenizer directory.
    #[arg(value_name = "PKG|DIR")]
    pub source: PathBuf,
    /// Text. Repeatable.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// File of texts (JSON lines: strings or objects with `text`), `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Omit special tokens such as BOS and EOS.
    #[arg(long)]
    pub no_special_tokens: bool,
    /// Apply the chat template. Each text is a user message or a JSON list of messages.
    #[arg(long)]
    pub chat: bool,
    /// Chat template options.
    #[command(flatten)]
    pub template: TemplateArgs,
}

/// Arguments of `embed`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").args(["sentences", "text", "file"]).required(true).multiple(true))]
pub struct EmbedArgs {
    /// Package.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// Sentences.
    #[arg(value_name = "SENTENCE")]
    pub sentences: Vec<String>,
    /// Sentence. Repeatable.
    #[arg(long, short, value_name = "SENTENCE", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// File of sentences, one per line; `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Format of the file [default: `jsonl` for that extension, otherwise `text`].
    #[arg(long, value_name = "FORM", value_enum, requires = "file")]
    pub input_format: Option<InputFormat>,
    /// Output file: X.jsonl or X.safetensors [default: stdout].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Prompt for sentences without their own [default: the checkpoint's default prompt].
    #[arg(long, allow_hyphen_values = true)]
    pub instruction: Option<String>,
    /// Named prompt of the checkpoint for sentences without their own.
    #[arg(long, value_name = "NAME", conflicts_with = "instruction")]
    pub prompt_name: Option<String>,
    /// Normalize embeddings to unit length.
    #[arg(long)]
    pub normalize: bool,
    /// Tokenizer directory [default: `NAME.tokenizer` beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Runtime options.
    #[command(flatten)]
    pub backend: BackendArgs,
}

/// Input formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// One sentence per line.
    Text,
    /// JSON lines: strings, or objects with `text` and optionally `id`, `instruction` and `prompt_name`.
    Jsonl,
}
