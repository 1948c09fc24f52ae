//! What can be typed, as `clap` sees it; commands get it parsed, settings come from elsewhere.

#![expect(clippy::doc_markdown, reason = "the texts are help on a terminal")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::convert::{AdapterMode, KvForm, Target};
use crate::coreml::ComputeUnits;
use crate::eval::runtime::BackendChain;

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
    Sweep(SweepArgs),
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
    /// Embed sentences.
    Embed(EmbedArgs),
    /// List what a package holds.
    Inspect(InspectArgs),
    /// Work with manifests.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Draw a report again.
    Report(ReportArgs),
    /// Explain a gate.
    Explain(ExplainArgs),
}

/// `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Also install what the Python tests need.
    #[arg(long)]
    pub dev: bool,
    /// Print the environment's interpreter on stdout.
    #[arg(long)]
    pub print_python: bool,
}

/// Where a model comes from.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Checkpoint: a folder, or a repository of the hub.
    #[arg(long, value_name = "DIR|REPO")]
    pub model: String,
    /// Revision of the repository: branch, tag or commit.
    #[arg(long)]
    pub revision: Option<String>,
    /// Token for repositories that ask for one [env: HF_TOKEN].
    #[arg(long, hide_env_values = true)]
    pub hf_token: Option<String>,
    /// LoRA adapter merged into the weights; may be given again, applied in order.
    #[arg(long, value_name = "DIR|REPO")]
    pub lora_checkpoint: Vec<String>,
    /// LLM2Vec adapter that makes the function `encode`; may be given again, applied in order.
    #[arg(long, value_name = "DIR|REPO")]
    pub llm2vec_checkpoint: Vec<String>,
}

/// The shape of a package.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Positions of the cache, and length of `encode`'s input.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seq_len: u64,
    /// Tokens that one call of `init` takes.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub prompt_chunk: u64,
    /// How the key/value cache travels: `state` or `io`.
    #[arg(long, value_name = "FORM", default_value_t = KvForm::State)]
    pub kv_cache: KvForm,
    /// Encode adapters beside the shared weights (`branches`) or in weights of their own (`merge`).
    #[arg(long, value_name = "MODE", default_value_t = AdapterMode::Branches)]
    pub encode_adapters: AdapterMode,
    /// Oldest system to run on: iOS16, iOS17 or iOS18.
    #[arg(long, value_name = "TARGET", default_value_t = Target::IOS18)]
    pub minimum_deployment_target: Target,
    /// Processors meant: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE.
    #[arg(long, value_name = "UNITS", default_value_t = ComputeUnits::All)]
    pub compute_units: ComputeUnits,
}

/// `convert`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct ConvertArgs {
    /// Where the model comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The shape of the package.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// The package to write.
    #[arg(long, short, value_name = "X.mlpackage", value_parser = package_path)]
    pub output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long)]
    pub force: bool,
    /// Version of the artifact, as semver.
    #[arg(long, default_value = "0.1.0")]
    pub artifact_version: semver::Version,
    /// Folder for intermediate files [default: beside the output].
    #[arg(long, value_name = "DIR")]
    pub tmp: Option<PathBuf>,
    /// Remove intermediate files at the end.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub clean_tmp: bool,
    /// Bits per weight of palettization; without it the package stays fp16.
    #[arg(long, value_name = "BITS", conflicts_with = "recipe")]
    pub wbits: Option<u8>,
    /// One palette per `tensor` or per group of output `channel`s.
    #[arg(long, value_name = "KIND", default_value = "grouped_channel", requires = "wbits")]
    pub palett_granularity: PaletteGranularity,
    /// Output channels that share a palette.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "wbits")]
    pub palett_group_size: u64,
    /// Other bits for single components: `attention=6,mlp=4`.
    #[arg(long, value_name = "LIST", conflicts_with = "recipe")]
    pub mixed_precision: Option<String>,
    /// Compression recipe, such as `pal4-g16` or `attention=pal6-g16,mlp=pal4-g16`.
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// `native` pours weights into a skeleton; `coremltools` converts the whole model in Python.
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Run the package afterwards, compare it with the source model and time it; a miss is exit code 1.
    #[arg(long)]
    pub profile_validate: bool,
    /// Print expected size, memory and time, and stop.
    #[arg(long)]
    pub dry_run: bool,
}

/// The place of a package, which Core ML knows by its extension.
fn package_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|extension| extension == "mlpackage") {
        Ok(path)
    } else {
        Err("a package's name ends in `.mlpackage`".to_owned())
    }
}

/// What shares a palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum PaletteGranularity {
    /// The whole tensor.
    #[value(alias = "tensor")]
    PerTensor,
    /// A group of output channels.
    #[value(alias = "grouped_channel", alias = "channel")]
    PerGroupedChannel,
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// This program.
    Native,
    /// coremltools, through the embedded Python.
    Coremltools,
}

/// `quantize`.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// The package to compress.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// What to do with which weights, such as `pal4-g16`.
    #[arg(long, short, value_name = "RECIPE")]
    pub recipe: String,
    /// The package to write.
    #[arg(long, short, value_name = "X.mlpackage", value_parser = package_path)]
    pub output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long)]
    pub force: bool,
    /// Exact k-means instead of the quick search.
    #[arg(long)]
    pub exact: bool,
}

/// `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The sweep's specification.
    #[arg(value_name = "SPEC.toml")]
    pub spec: PathBuf,
    /// Print the plan and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Do everything again, also what a former run finished.
    #[arg(long)]
    pub fresh: bool,
}

/// What is measured, and against what.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// The source checkpoint, whose f32 results are the reference.
    #[arg(long, value_name = "DIR")]
    pub reference: Option<PathBuf>,
    /// LoRA adapters that the package has merged.
    #[arg(long, value_name = "DIR")]
    pub lora_checkpoint: Vec<PathBuf>,
    /// LLM2Vec adapters of `encode`.
    #[arg(long, value_name = "DIR")]
    pub llm2vec_checkpoint: Vec<PathBuf>,
    /// Text for perplexity and divergence.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Tokens in a window of the text [default: the package's sequence length].
    #[arg(long, value_name = "N")]
    pub window: Option<u64>,
    /// Windows to score.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub windows: u64,
    /// Golden prompts, a JSON list of strings.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
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

/// What runs packages.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// What runs the package: `auto`, `coreml`, `interp`, or a list in order of preference [default: `backend` of
    /// config.toml, else auto].
    #[arg(long, value_name = "LIST")]
    pub backend: Option<BackendChain>,
    /// What Core ML may compute on: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE [default: `compute_units` of config.toml,
    /// else ALL].
    #[arg(long, value_name = "UNITS")]
    pub compute_units: Option<ComputeUnits>,
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

/// What judges a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// A reference, on the first runtime that can be used.
    By(BackendChain),
    /// Two runtimes, each the other.
    Both,
}

fn judged(text: &str) -> Result<Judged, String> {
    if text == "both" { Ok(Judged::Both) } else { text.parse().map(Judged::By) }
}

/// `gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// The report of a sweep or an evaluation.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// A gate's threshold, such as `cosine=0.99`; may be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    pub gate: Vec<String>,
}

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

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The package.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// Print the program as text, long constants cut short.
    #[arg(long)]
    pub program: bool,
    /// Print the program whole, in the form of a compiled model's `model.mil`.
    #[arg(long, conflicts_with = "program")]
    pub mil: bool,
    /// On a Mac, show what Core ML would compute each operation on, and why not on the Neural Engine.
    #[arg(long, conflicts_with_all = ["program", "mil"])]
    pub compute_plan: bool,
    /// The function that `--compute-plan` shows [default: all].
    #[arg(long, short, value_name = "NAME", requires = "compute_plan")]
    pub function: Option<String>,
    /// What Core ML may compute on: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE [default: `compute_units` of config.toml,
    /// else ALL].
    #[arg(long, value_name = "UNITS", requires = "compute_plan")]
    pub compute_units: Option<ComputeUnits>,
}

/// `manifest`.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Check everything that a manifest states against its package.
    Check {
        /// The manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
    /// Print a manifest.
    Show {
        /// The manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The form to draw.
    #[arg(value_enum)]
    pub form: ReportForm,
    /// The report.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// A table for terminals.
    Table,
    /// Markdown.
    Markdown,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The gate; without it, all are listed.
    #[arg(value_name = "GATE")]
    pub gate: Option<String>,
}
