//! What makes packages: `setup`, `convert`, `quantize`, `sweep`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use regex::Regex;

use crate::compress;
use crate::convert::{AdapterMode, KvForm, Target};
use crate::coreml::ComputeUnits;

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
