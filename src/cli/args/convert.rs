//! What makes packages: `setup`, `convert`, `quantize`, `sweep`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use regex::Regex;

use crate::compress;
use crate::convert::{AdapterMode, KvForm, Target};
use crate::coreml::ComputeUnits;
use crate::sweep::Shard;

/// `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Also install what the Python tests need.
    #[arg(long)]
    pub dev: bool,
    /// Also install what `sweep --engine ray` needs, on the machine that starts the sweep and on the cluster's nodes.
    #[arg(long, conflicts_with = "dev")]
    pub ray: bool,
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
    /// Accept a key of config.json that is not understood because nothing depends on it; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub allow_config_key: Vec<String>,
    /// Accept stored tensors that nothing uses, by regular expression; may be repeated.
    #[arg(long, value_name = "REGEX")]
    pub allow_unused_tensor: Vec<Regex>,
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
    /// Run the package afterwards, compare it with the source model, time it and judge it by the default gates: a miss is
    /// exit code 1.
    #[arg(long)]
    pub profile_validate: bool,
    /// With `--profile-validate`, also perplexity and divergence on a text: a file, JSON lines with `text`, or `wikitext-2`
    /// or `tinystories` from the hub.
    #[arg(long, value_name = "FILE|NAME", requires = "profile_validate")]
    pub text: Option<String>,
    /// Windows of the text to score.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "text", value_parser = clap::value_parser!(u64).range(1..))]
    pub windows: u64,
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
    /// What to do with which weights, such as `pal4-g16`; several times for several packages, which share what they have in
    /// common (`coremill explain schemes` has the forms).
    #[arg(long, short, value_name = "RECIPE", required = true)]
    pub recipe: Vec<String>,
    /// The package to write; for several recipes the folder, where each becomes `PKG-RECIPE.mlpackage`.
    #[arg(long, short, value_name = "X.mlpackage|DIR")]
    pub output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long)]
    pub force: bool,
    /// The least squared error of palettes to the last digit, and more beginnings for those of vectors.
    #[arg(long)]
    pub exact: bool,
    /// `native` compresses here; `coremltools` runs Apple's passes in Python, for comparison.
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Weights with fewer elements stay as they are.
    #[arg(long, value_name = "N", default_value_t = compress::MIN_ELEMENTS)]
    pub weight_threshold: u64,
    /// Weights whose name this expression finds may stay as they are where they cannot be compressed; may be repeated.
    #[arg(long, value_name = "REGEX")]
    pub allow_skip: Vec<Regex>,
    /// Processors meant: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE; only the CPU takes groups of any size.
    #[arg(long, value_name = "UNITS", default_value_t = ComputeUnits::All)]
    pub compute_units: ComputeUnits,
}

/// `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The sweep's specification; without one the flags below say what it would.
    #[arg(value_name = "SPEC.toml", conflicts_with_all = ["model", "output"])]
    pub spec: Option<PathBuf>,
    /// Print plan, sizes, time and memory expected, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Do everything again, also what a former run finished.
    #[arg(long)]
    pub fresh: bool,
    /// Set a key of the spec otherwise, such as `evaluate.windows=4`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Make this variant alone, and the baseline; may be repeated. No report is written, no budget searched.
    #[arg(long, value_name = "NAME", conflicts_with = "shard")]
    pub only: Vec<String>,
    /// Make one of several equal parts, such as `2/5`; `report merge` joins their reports.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Find the best variant of at most this size, such as `2GB`.
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Find the best variant of at most so many bits per weight.
    #[arg(long, value_name = "BITS")]
    pub max_bits_per_weight: Option<f64>,
    /// Variants that are measured at the same time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub workers: Option<u64>,
    /// Memory for these, such as `8GB`.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Cores for all of it [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub cores: Option<u64>,
    /// Who makes the variants: `local`, this machine, or `ray`, a Ray cluster, each variant a task.
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// The cluster: `HOST:PORT` on one of its nodes, `ray://HOST:PORT` elsewhere [default: the one that runs here].
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Where its nodes exchange files, such as `s3://bucket/sweep` [default: they share the output folder].
    #[arg(long, value_name = "URL")]
    pub storage: Option<String>,
    /// The folder that paths of the spec are relative to [default: the spec's own].
    #[arg(long, value_name = "DIR", requires = "spec", hide = true)]
    pub spec_folder: Option<PathBuf>,
    /// Packages that stay: all, best, pareto or none.
    #[arg(long, value_name = "WHICH")]
    pub keep: Option<String>,
    /// Where the report goes [default: `report.json` in the output folder].
    #[arg(long, value_name = "FILE")]
    pub sweep_report: Option<PathBuf>,
    /// Without a spec: the checkpoint, a folder or a repository of the hub, or a package in fp16.
    #[arg(long, value_name = "DIR|REPO|PKG", help_heading = "Without a spec")]
    pub model: Option<String>,
    /// Revision of the repository: branch, tag or commit.
    #[arg(long, requires = "model", help_heading = "Without a spec")]
    pub revision: Option<String>,
    /// LoRA adapter merged into the weights; may be given again, applied in order.
    #[arg(long, value_name = "DIR|REPO", requires = "model", help_heading = "Without a spec")]
    pub lora_checkpoint: Vec<String>,
    /// LLM2Vec adapter that makes the function `encode`; may be given again, applied in order.
    #[arg(long, value_name = "DIR|REPO", requires = "model", help_heading = "Without a spec")]
    pub llm2vec_checkpoint: Vec<String>,
    /// Positions of the cache, and length of `encode`'s input.
    #[arg(long, value_name = "N", requires = "model", help_heading = "Without a spec")]
    pub seq_len: Option<u64>,
    /// Tokens that one call of `init` takes.
    #[arg(long, value_name = "N", requires = "model", help_heading = "Without a spec")]
    pub prompt_chunk: Option<u64>,
    /// Folder of packages, records and report.
    #[arg(long, short, value_name = "DIR", requires = "model", help_heading = "Without a spec")]
    pub output: Option<PathBuf>,
    /// Bits of palettes, such as `8,6,4`.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        requires = "model",
        help_heading = "Without a spec"
    )]
    pub sweep_wbits: Vec<u32>,
    /// Output channels that share a palette, such as `8,16,32`.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        requires = "model",
        help_heading = "Without a spec"
    )]
    pub sweep_group_sizes: Vec<u32>,
    /// A recipe more; may be repeated. Without bits, sizes and recipes: the default grid.
    #[arg(long, value_name = "RECIPE", requires = "model", help_heading = "Without a spec")]
    pub sweep_recipe: Vec<String>,
    /// Text for perplexity and divergence.
    #[arg(long, value_name = "FILE", requires = "model", help_heading = "Without a spec")]
    pub text: Option<PathBuf>,
    /// Windows of it to score.
    #[arg(long, value_name = "N", requires = "model", help_heading = "Without a spec")]
    pub windows: Option<u64>,
    /// Golden prompts, a JSON list of strings.
    #[arg(long, value_name = "FILE", requires = "model", help_heading = "Without a spec")]
    pub prompts: Option<PathBuf>,
    /// Sentences for the embedding check, a JSON list.
    #[arg(long, value_name = "FILE", requires = "model", help_heading = "Without a spec")]
    pub sentences: Option<PathBuf>,
    /// Calls of each function to time.
    #[arg(long, value_name = "N", requires = "model", help_heading = "Without a spec")]
    pub latency: Option<u64>,
}
