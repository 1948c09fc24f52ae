//! What uses packages: `predict`, `generate`, `embed`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

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
    #[arg(long, short, value_name = "TEXT", required_unless_present = "prompt_file")]
    pub prompt: Option<String>,
    /// File with the text to continue, `-` for stdin; a line end at its end does not count.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
    /// Render the prompt with the model's chat template: a message of the user, or messages as a JSON list.
    #[arg(long)]
    pub chat: bool,
    /// What the chat template is given beside the prompt.
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Tokens to generate at most.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 64)]
    pub max_tokens: u64,
    /// 0 takes the likeliest token; above, tokens are drawn.
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Draw from the K likeliest tokens.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that have this share of the chance together.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Draw from tokens that are at least P times as likely as the likeliest.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    pub min_p: f64,
    /// Seed of the draw.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Text that ends the continuation and is cut off; may be given again.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Print the text at the end, not as it is made.
    #[arg(long)]
    pub no_stream: bool,
    /// Folder of the tokenizer [default: beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// What runs the package.
    #[command(flatten)]
    pub backend: BackendArgs,
}

/// What a chat template is given.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    /// Message of the system, before all others.
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Chat template by name, where the model has several [default: `tool_use` for tools, else `default`].
    #[arg(long, value_name = "NAME", requires = "chat")]
    pub chat_template: Option<String>,
    /// Variable of the chat template, its value as JSON or text; may be given again.
    #[arg(long, value_name = "NAME=VALUE", requires = "chat")]
    pub chat_arg: Vec<String>,
}

/// `tokenize`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("given").args(["text", "file"]).required(true))]
pub struct TokenizeArgs {
    /// The package, or the folder of a tokenizer.
    #[arg(value_name = "PKG|DIR")]
    pub source: PathBuf,
    /// A text; may be given again.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// File of texts, one a line as a JSON string or an object with `text`; `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Leave out the tokens that the tokenizer puts around a text.
    #[arg(long)]
    pub no_special_tokens: bool,
    /// Render each text with the chat template first: a message of the user, or messages as a JSON list.
    #[arg(long)]
    pub chat: bool,
    /// What the chat template is given beside the text.
    #[command(flatten)]
    pub template: TemplateArgs,
}

/// `embed`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").args(["sentences", "text", "file"]).required(true).multiple(true))]
pub struct EmbedArgs {
    /// The package.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// Sentences.
    #[arg(value_name = "SENTENCE")]
    pub sentences: Vec<String>,
    /// A sentence; may be given again.
    #[arg(long, short, value_name = "SENTENCE", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// File of sentences, one a line; `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What the file's lines are [default: `jsonl` for a file of that extension, else `text`].
    #[arg(long, value_name = "FORM", value_enum, requires = "file")]
    pub input_format: Option<LineForm>,
    /// Where the embeddings go: X.jsonl or X.safetensors [default: stdout].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Prompt before every sentence that has none of its own [default: the checkpoint's default prompt].
    #[arg(long, allow_hyphen_values = true)]
    pub instruction: Option<String>,
    /// The checkpoint's prompt of this name before every sentence that has none of its own.
    #[arg(long, value_name = "NAME", conflicts_with = "instruction")]
    pub prompt_name: Option<String>,
    /// Scale every embedding to length 1, so that dot products are cosines.
    #[arg(long)]
    pub normalize: bool,
    /// Folder of the tokenizer [default: beside the package].
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// What runs the package.
    #[command(flatten)]
    pub backend: BackendArgs,
}

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineForm {
    /// A sentence.
    Text,
    /// A sentence as a JSON string, or an object with `text`, and perhaps `id`, `instruction` and `prompt_name`.
    Jsonl,
}
