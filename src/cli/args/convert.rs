//! Arguments of `setup`, `convert`, `quantize` and `sweep`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use regex::Regex;

use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::compress;
use crate::convert::DEFAULT_PROMPT_CHUNK;
use crate::coreml::ComputeUnits;
use crate::sweep::Shard;

/// Arguments of `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Also install the dependencies of the Python tests.
    #[arg(long)]
    pub dev: bool,
    /// Also install the dependencies of `sweep --engine ray`. Required on the machine that starts the sweep and on all nodes.
    #[arg(long, conflicts_with = "dev")]
    pub ray: bool,
    /// Print the path of the environment's Python interpreter.
    #[arg(long)]
    pub print_python: bool,
}

/// Source model.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Checkpoint: a directory or a Hugging Face repository.
    #[arg(long, value_name = "DIR|REPO")]
    pub model: String,
    /// Revision of the repository: branch, tag or commit.
    #[arg(long)]
    pub revision: Option<String>,
    /// Access token for gated or private repositories [env: HF_TOKEN].
    #[arg(long, hide_env_values = true)]
    pub hf_token: Option<String>,
    /// LoRA adapter to merge into the weights. Repeatable; applied in order.
    #[arg(long, value_name = "DIR|REPO")]
    pub lora_checkpoint: Vec<String>,
    /// LLM2Vec adapter; adds the function `encode`. Repeatable; applied in order.
    #[arg(long, value_name = "DIR|REPO")]
    pub llm2vec_checkpoint: Vec<String>,
    /// Accept an unknown key of config.json that does not affect the computation. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub allow_config_key: Vec<String>,
    /// Accept unused checkpoint tensors whose names match. Repeatable.
    #[arg(long, value_name = "REGEX")]
    pub allow_unused_tensor: Vec<Regex>,
}

/// Interface of a package.
#[derive(Debug, Args)]
pub struct InterfaceArgs {
    /// Number of KV cache positions; input length of `encode`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seq_len: u64,
    /// Tokens per call of `init` (prefill chunk).
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PROMPT_CHUNK, value_parser = clap::value_parser!(u64).range(1..))]
    pub prompt_chunk: u64,
    /// KV cache form: `state` (Core ML state, iOS18) or `io` (model inputs and outputs).
    #[arg(long, value_name = "FORM", default_value_t)]
    pub kv_cache: KvCacheForm,
    /// Storage of LLM2Vec adapters: `branches` (low-rank branches on shared weights) or `merge` (separate weights).
    #[arg(long, value_name = "MODE", default_value_t)]
    pub encode_adapters: EncodeAdapters,
    /// Minimum deployment target: iOS16, iOS17 or iOS18.
    #[arg(long, value_name = "TARGET", default_value_t)]
    pub minimum_deployment_target: Target,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct ConvertArgs {
    /// Source model.
    #[command(flatten)]
    pub source: ModelArgs,
    /// Interface of the package.
    #[command(flatten)]
    pub interface: InterfaceArgs,
    /// Target compute units: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE.
    #[arg(long, value_name = "UNITS", default_value_t = ComputeUnits::All)]
    pub compute_units: ComputeUnits,
    /// Output package.
    #[arg(long, short, value_name = "X.mlpackage", value_parser = package_path)]
    pub output: PathBuf,
    /// Overwrite an existing output.
    #[arg(long)]
    pub force: bool,
    /// Semantic version of the artifact, recorded in the manifest.
    #[arg(long, default_value = "0.1.0")]
    pub artifact_version: semver::Version,
    /// Directory for intermediate files [default: the output's directory].
    #[arg(long, value_name = "DIR")]
    pub tmp: Option<PathBuf>,
    /// Remove intermediate files at the end.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub clean_tmp: bool,
    /// Palettization bits per weight [default: no compression, fp16].
    #[arg(long, value_name = "BITS", conflicts_with = "recipe")]
    pub wbits: Option<u8>,
    /// Palettization granularity: one lookup table per tensor or per group of output channels.
    #[arg(long, value_name = "KIND", default_value = "grouped_channel", requires = "wbits")]
    pub palett_granularity: PaletteGranularity,
    /// Output channels per lookup table.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "wbits")]
    pub palett_group_size: u64,
    /// Bits of single components, such as `attention=6,mlp=4`.
    #[arg(long, value_name = "LIST", conflicts_with = "recipe")]
    pub mixed_precision: Option<String>,
    /// Compression recipe, such as `pal4-g16` or `attention=pal6-g16,mlp=pal4-g16`.
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// `native` exports the graph in Python and writes the weights in Rust; `coremltools` converts everything in Python.
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// After the conversion, compare the package with the source model, measure latency and apply the default gates. Exits
    /// with 1 if a gate fails.
    #[arg(long)]
    pub profile_validate: bool,
    /// Text for perplexity and divergence in `--profile-validate`: a file, JSON lines with `text`, or `wikitext-2` or
    /// `tinystories` from the hub.
    #[arg(long, value_name = "FILE|NAME", requires = "profile_validate")]
    pub text: Option<String>,
    /// Number of text windows to evaluate.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "text", value_parser = clap::value_parser!(u64).range(1..))]
    pub windows: u64,
    /// Check the input and print the expected size, memory and time, without converting.
    #[arg(long)]
    pub dry_run: bool,
}

/// Parses a package path.
fn package_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|extension| extension == "mlpackage") {
        Ok(path)
    } else {
        Err("a package's name ends in `.mlpackage`".to_owned())
    }
}

/// Palettization granularities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum PaletteGranularity {
    /// One lookup table per tensor.
    #[value(alias = "tensor")]
    PerTensor,
    /// One lookup table per group of output channels.
    #[value(alias = "grouped_channel", alias = "channel")]
    PerGroupedChannel,
}

/// Conversion engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// This program.
    Native,
    /// coremltools in the embedded Python.
    Coremltools,
}

/// Arguments of `quantize`.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// Package to compress.
    #[arg(value_name = "PKG")]
    pub package: PathBuf,
    /// Compression recipe, such as `pal4-g16` (`coremill explain schemes` lists the schemes). Repeatable; common work is
    /// shared.
    #[arg(long, short, value_name = "RECIPE", required = true)]
    pub recipe: Vec<String>,
    /// Output package; a directory if several recipes are given, with one `PKG-RECIPE.mlpackage` each.
    #[arg(long, short, value_name = "X.mlpackage|DIR")]
    pub output: PathBuf,
    /// Overwrite an existing output.
    #[arg(long)]
    pub force: bool,
    /// Exact k-means for scalar palettes; more restarts for vector palettes.
    #[arg(long)]
    pub exact: bool,
    /// `native`, or `coremltools` for Apple's compression passes in Python.
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Minimum number of elements; smaller weights are not compressed.
    #[arg(long, value_name = "N", default_value_t = compress::MIN_ELEMENTS)]
    pub weight_threshold: u64,
    /// Leave weights with matching names uncompressed if the recipe cannot be applied to them. Repeatable.
    #[arg(long, value_name = "REGEX")]
    pub allow_skip: Vec<Regex>,
    /// Target compute units: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE. Only CPU_ONLY supports all group sizes.
    #[arg(long, value_name = "UNITS", default_value_t = ComputeUnits::All)]
    pub compute_units: ComputeUnits,
}

/// Options that a specification replaces.
const REPLACED_BY_SPEC: [&str; 13] = [
    "model",
    "revision",
    "hf_token",
    "lora_checkpoint",
    "llm2vec_checkpoint",
    "allow_config_key",
    "allow_unused_tensor",
    "seq_len",
    "prompt_chunk",
    "kv_cache",
    "encode_adapters",
    "minimum_deployment_target",
    "output",
];

/// Heading of the options that replace a specification.
const WITHOUT_SPEC: &str = "Options without a specification";

/// Arguments of `sweep`.
#[derive(Debug, Args)]
#[command(mut_arg("model", |arg| arg.required(false)), mut_arg("seq_len", |arg| arg.required(false)))]
pub struct SweepArgs {
    /// Sweep specification. Without one, use `--model` and the options below.
    #[arg(value_name = "SPEC.toml", conflicts_with_all = REPLACED_BY_SPEC)]
    pub spec: Option<PathBuf>,
    /// Print the variants with expected sizes, time and memory, without running them.
    #[arg(long)]
    pub dry_run: bool,
    /// Ignore the results of earlier runs.
    #[arg(long)]
    pub fresh: bool,
    /// Override a key of the specification, such as `evaluate.windows=4`. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Run only this variant and the baseline, without a report and without a budget search. Repeatable.
    #[arg(long, value_name = "NAME", conflicts_with = "shard")]
    pub only: Vec<String>,
    /// Run one of N shards, such as `2/5`. `report merge` combines their reports.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Search for the best variant within this package size, such as `2GB`.
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Search for the best variant within this number of bits per weight.
    #[arg(long, value_name = "BITS")]
    pub max_bits_per_weight: Option<f64>,
    /// Number of variants to evaluate in parallel.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub workers: Option<u64>,
    /// Memory limit for parallel variants, such as `8GB`.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Number of threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub cores: Option<u64>,
    /// Execution engine: `local`, or `ray` for one task per variant on a Ray cluster.
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Ray address: `HOST:PORT` on a node of the cluster, `ray://HOST:PORT` elsewhere [default: the local cluster].
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// URL for file exchange between nodes, such as `s3://bucket/sweep` [default: the output directory, shared by all nodes].
    #[arg(long, value_name = "URL")]
    pub storage: Option<String>,
    /// Directory that relative paths of the specification refer to [default: its own directory].
    #[arg(long, value_name = "DIR", requires = "spec", hide = true)]
    pub spec_folder: Option<PathBuf>,
    /// Packages to keep: `all`, `best`, `pareto`, `passing` or `none`.
    #[arg(long, value_name = "WHICH")]
    pub keep: Option<String>,
    /// Path of the report [default: `report.json` in the output directory].
    #[arg(long, value_name = "FILE")]
    pub sweep_report: Option<PathBuf>,
    /// Source model; `--model` also accepts an fp16 package.
    #[command(flatten, next_help_heading = WITHOUT_SPEC)]
    pub source: Option<ModelArgs>,
    /// Interface of the package.
    #[command(flatten, next_help_heading = WITHOUT_SPEC)]
    pub interface: Option<InterfaceArgs>,
    /// Output directory for packages, results and report.
    #[arg(long, short, value_name = "DIR", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub output: Option<PathBuf>,
    /// Palettization bits, such as `8,6,4`.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "spec",
        help_heading = WITHOUT_SPEC
    )]
    pub sweep_wbits: Vec<u32>,
    /// Output channels per lookup table, such as `8,16,32`.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "spec",
        help_heading = WITHOUT_SPEC
    )]
    pub sweep_group_sizes: Vec<u32>,
    /// Additional recipe. Repeatable. Without bits, group sizes and recipes, the default grid is used.
    #[arg(long, value_name = "RECIPE", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub sweep_recipe: Vec<String>,
    /// Text for perplexity and divergence.
    #[arg(long, value_name = "FILE", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub text: Option<PathBuf>,
    /// Number of text windows to evaluate.
    #[arg(long, value_name = "N", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub windows: Option<u64>,
    /// Golden prompts: a JSON list of strings.
    #[arg(long, value_name = "FILE", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub prompts: Option<PathBuf>,
    /// Sentences for the embedding comparison: a JSON list of strings.
    #[arg(long, value_name = "FILE", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub sentences: Option<PathBuf>,
    /// Number of timed calls per function.
    #[arg(long, value_name = "N", conflicts_with = "spec", help_heading = WITHOUT_SPEC)]
    pub latency: Option<u64>,
}
