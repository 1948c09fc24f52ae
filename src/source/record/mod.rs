//! `CheckpointRecord`: what a checkpoint is, resolved from all the files that say so.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapter::Adapter;
use super::checkpoint::Checkpoint;
use super::config::{Allow, ModelConfig};
use super::llm2vec::Llm2Vec;
use super::sentence::SentenceConfig;

/// What a checkpoint is: shown by `inspect`, written to the manifest, and what later stages go by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// `config.json`.
    pub config: ConfigRecord,
    /// How texts begin and end.
    pub generation: GenerationRecord,
    /// The tokenizer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerRecord>,
    /// What sentence-transformers does with the model, where the checkpoint is an embedder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentence: Option<SentenceConfig>,
    /// What LLM2Vec does with the model, where its adapters are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm2vec: Option<Llm2Vec>,
    /// The adapters that a conversion is asked to apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<AdapterRecord>,
    /// The stored weights.
    pub tensors: TensorsRecord,
    /// What speaks against a conversion; empty in a manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
    /// What was read otherwise than one might think.
    pub warnings: Vec<String>,
}

/// `config.json`: the facts in one vocabulary, and the keys they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// The facts.
    #[serde(flatten)]
    pub facts: ModelConfig,
    /// Keys that the conversion follows, as they are written.
    pub honoured: BTreeMap<String, Value>,
    /// Keys that do not change what the model computes.
    pub inert: Vec<String>,
    /// Keys that are not understood and were let pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
}

/// The ids of the roles, `generation_config.json` before `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Begins a text.
    pub bos: Option<usize>,
    /// End a text.
    pub eos: Vec<usize>,
    /// Fills a text up.
    pub pad: Option<usize>,
}

/// The tokenizer's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerRecord {
    /// The files that decide what the tokenizer is.
    #[serde(default)]
    pub files: Vec<String>,
    /// Class in `transformers`, where the settings name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// One above the largest id; none where only `transformers` reads the vocabulary (SentencePiece).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_ids: Option<usize>,
    /// Tokens added on top of the vocabulary.
    pub n_added: usize,
    /// Added tokens by their role.
    pub roles: BTreeMap<String, usize>,
    /// Names of the chat templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chat_templates: Vec<String>,
    /// Most tokens of a text, where the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_max_length: Option<u64>,
}

/// The stored weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorsRecord {
    /// Files below the checkpoint's folder.
    pub files: Vec<String>,
    /// Tensors.
    pub count: usize,
    /// Elements of the float tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Tensors of each element type.
    pub dtypes: BTreeMap<String, usize>,
    /// True if the head is the embedding.
    pub tied_head: bool,
    /// Stored tensors that nothing uses, where they were looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<String>,
}

/// An adapter of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterRecord {
    /// The name of its folder.
    pub name: String,
    /// Modules with a low-rank pair.
    pub low_rank: usize,
    /// Parameters that it brings whole.
    pub replaces: Vec<String>,
    /// Its `llm2vec_config.json`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm2vec: Option<Llm2Vec>,
}

impl AdapterRecord {
    /// The record of `adapter`.
    pub fn of(adapter: &Adapter) -> Self {
        let dir = adapter.dir();
        Self {
            name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            low_rank: adapter.low_rank().count(),
            replaces: adapter.replacements().map(str::to_owned).collect(),
            llm2vec: llm2vec(dir),
        }
    }
}

/// The settings of LLM2Vec in `dir`, if it has a file of them that reads.
fn llm2vec(dir: &Path) -> Option<Llm2Vec> {
    dir.join("llm2vec_config.json").is_file().then(|| Llm2Vec::open(dir).ok()).flatten()
}

impl CheckpointRecord {
    /// The record of `checkpoint`, with what `allow` lets pass.
    pub fn of(checkpoint: &Checkpoint, allow: &Allow) -> Self {
        let config = checkpoint.config();
        let review = checkpoint.review();
        let allowed: Vec<String> = review.lifted(allow).into_iter().map(str::to_owned).collect();
        let mut warnings = checkpoint.warnings().to_vec();
        warnings.extend(allowed.iter().map(|key| {
            format!("`{key}` in `config.json` is not understood and was let pass by `--allow-config-key`")
        }));
        for key in allow.config_keys.iter().filter(|key| !allowed.contains(key)) {
            warnings.push(format!(
                "`--allow-config-key {key}` has no effect: no refusal names this key"
            ));
        }
        let refusals = review.refusals.iter().map(ToString::to_string);
        let tensors = checkpoint.tensors();
        let tensors_refused = tensors.check(&config.model_type).err().map(|e| e.to_string());
        let mut dtypes = BTreeMap::new();
        for (_, entry) in tensors.iter() {
            *dtypes.entry(entry.dtype.to_string()).or_default() += 1;
        }
        let files = tensors.files().iter().map(|file| checkpoint.below(file.path()));
        Self {
            config: ConfigRecord {
                facts: config.clone(),
                honoured: review.honoured.iter().cloned().collect(),
                inert: review.inert.clone(),
                allowed,
            },
            generation: GenerationRecord {
                bos: config.bos_token_id,
                eos: config.eos_token_ids.clone(),
                pad: config.pad_token_id,
            },
            tokenizer: checkpoint.tokenizer().ok().map(|facts| TokenizerRecord {
                files: facts.files.clone(),
                class: facts.class.clone(),
                n_ids: facts.n_ids,
                n_added: facts.added.len(),
                roles: facts.roles.clone(),
                chat_templates: facts.chat_templates.clone(),
                model_max_length: facts.model_max_length,
            }),
            sentence: checkpoint.sentence().cloned(),
            llm2vec: llm2vec(checkpoint.dir()),
            adapters: Vec::new(),
            tensors: TensorsRecord {
                files: files.collect(),
                count: tensors.iter().count(),
                parameters: checkpoint.n_parameters(),
                bytes: checkpoint.n_bytes(),
                dtypes,
                tied_head: checkpoint.is_tied(),
                unused: Vec::new(),
            },
            refusals: refusals.chain(tensors_refused).collect(),
            warnings,
        }
    }
}
