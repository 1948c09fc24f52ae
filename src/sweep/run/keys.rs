//! Cache keys of results: all inputs that can change them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::RunError;
use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::eval::TOP_K;
use crate::sweep::spec::{EvaluateSpec, Spec};
use crate::sweep::store::Key;
use crate::sweep::texts::Sentence;
use crate::sweep::{Identity, Variant};

/// Inputs that determine the bytes of a package.
#[derive(Serialize)]
struct BuildParts<'a> {
    sources: &'a BTreeMap<String, String>,
    tools: &'a BTreeMap<String, String>,
    recipe: &'a str,
    seq_len: Option<u64>,
    prompt_chunk: Option<u64>,
    kv_cache: KvCacheForm,
    target: Target,
    encode_adapters: EncodeAdapters,
    // Absent when empty, so that keys of specs without them stay.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allow_config_keys: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allow_unused_tensors: &'a [String],
}

/// Raised when figures change their meaning.
const FIGURES: u32 = 2;

/// Inputs that determine the figures of a package.
#[derive(Serialize)]
struct MeasureParts<'a> {
    figures: u32,
    identity: &'a Identity,
    artifact: &'a str,
    evaluation: &'a Evaluation,
}

/// The evaluation of a spec; the texts are in the identity, as digests: where a file stands does not matter.
#[derive(Serialize)]
pub(super) struct Evaluation {
    window: Option<u64>,
    stride: Option<u64>,
    windows: Option<u64>,
    top_k: u64,
    noise_floor: bool,
    prompts: Vec<Sentence>,
    max_new_tokens: Option<u64>,
    sentences: Vec<Sentence>,
    instruction: Option<String>,
    latency: Option<u64>,
}

impl Evaluation {
    pub(super) fn of(spec: &Spec) -> Result<Self, RunError> {
        let seq_len = spec.model.seq_len;
        let evaluate = &spec.evaluate;
        let EvaluateSpec { windows, noise_floor, max_new_tokens, latency, .. } = *evaluate;
        Ok(Self {
            window: evaluate.window.or(seq_len),
            stride: evaluate.stride.or(evaluate.window).or(seq_len),
            windows,
            top_k: evaluate.top_k.unwrap_or(TOP_K as u64),
            noise_floor,
            prompts: evaluate.prompts.read()?,
            max_new_tokens,
            sentences: evaluate.sentences.read()?,
            instruction: evaluate.instruction.clone(),
            latency,
        })
    }
}

/// The key of the package of `variant`.
pub(super) fn of_package(spec: &Spec, identity: &Identity, variant: &Variant) -> Key {
    let model = &spec.model;
    Key::of(&BuildParts {
        sources: &identity.sources,
        tools: &identity.tools,
        recipe: &variant.recipe,
        seq_len: model.seq_len,
        prompt_chunk: model.prompt_chunk,
        kv_cache: model.kv_cache,
        target: model.target,
        encode_adapters: model.encode_adapters,
        allow_config_keys: &model.allow_config_keys,
        allow_unused_tensors: &model.allow_unused_tensors,
    })
}

/// The key of the figures of the package whose tree has the digest `artifact`.
pub(super) fn of_figures(identity: &Identity, artifact: &str, evaluation: &Evaluation) -> Key {
    Key::of(&MeasureParts { figures: FIGURES, identity, artifact, evaluation })
}
