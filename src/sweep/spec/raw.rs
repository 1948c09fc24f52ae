//! The spec's file as it is written: its tables and keys, each one known.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::either::{TextOrList, TextOrNumber, TextOrTable};
use super::{EngineSpec, EvaluateSpec, OutputSpec};
use crate::base::package_options::{EncodeAdapters, KvCacheForm};
use crate::gate::Gates;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) model: Spanned<Model>,
    #[serde(default)]
    pub(super) variants: Option<Spanned<Variants>>,
    #[serde(default)]
    pub(super) evaluate: Option<Spanned<EvaluateSpec>>,
    #[serde(default)]
    pub(super) gates: Gates,
    #[serde(default)]
    pub(super) budget: Option<Spanned<Budget>>,
    #[serde(default)]
    pub(super) run: Option<Spanned<Run>>,
    pub(super) output: Spanned<OutputSpec>,
}

/// `[model]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) path: Option<PathBuf>,
    pub(super) repository: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) package: Option<PathBuf>,
    pub(super) lora: Option<Vec<TextOrTable<Repository>>>,
    pub(super) llm2vec: Option<Vec<TextOrTable<Repository>>>,
    pub(super) seq_len: Option<Spanned<u64>>,
    pub(super) prompt_chunk: Option<Spanned<u64>>,
    pub(super) kv_cache: Option<KvCacheForm>,
    pub(super) target: Option<Spanned<String>>,
    pub(super) encode_adapters: Option<EncodeAdapters>,
    pub(super) allow_config_keys: Option<Vec<String>>,
    pub(super) allow_unused_tensors: Option<Vec<String>>,
}

/// An adapter on the hub.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Repository {
    pub(super) repository: String,
    pub(super) revision: Option<String>,
}

/// `[variants]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Variants {
    pub(super) recipes: Vec<Spanned<TextOrTable<Named>>>,
    pub(super) grid: Option<Spanned<TextOrList<Spanned<Grid>>>>,
    pub(super) mixes: Vec<Spanned<Mix>>,
}

/// A recipe with a name of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) recipe: String,
}

/// All combinations of bits and sizes of one method.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grid {
    pub(super) method: Method,
    pub(super) bits: Option<Vec<u32>>,
    pub(super) group_sizes: Option<Vec<TextOrNumber>>,
}

/// A method of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Method {
    /// `pal4-g16`: a palette for each group of output channels.
    Palettize,
    /// `int4-b32`: a scale for each block of inputs.
    Linear,
}

/// All combinations of schemes for parts of the model.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mix {
    pub(super) attention: Vec<String>,
    pub(super) mlp: Vec<String>,
    pub(super) embedding: Vec<String>,
    pub(super) head: Vec<String>,
    pub(super) adapter: Vec<String>,
    pub(super) other: Vec<String>,
    /// Components without their own key.
    pub(super) rest: Vec<String>,
}

/// `[budget]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) max_size: Option<Spanned<TextOrNumber>>,
    pub(super) max_bits_per_weight: Option<Spanned<f64>>,
    #[serde(default = "yes")]
    pub(super) probes: bool,
}

/// `[run]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) workers: Option<u64>,
    pub(super) memory: Option<Spanned<TextOrNumber>>,
    pub(super) cores: Option<u64>,
    pub(super) engine: Option<EngineSpec>,
    pub(super) address: Option<String>,
    pub(super) storage: Option<String>,
    pub(super) references: Option<PathBuf>,
}

const fn yes() -> bool {
    true
}
