//! `AdapterRecord`: what an adapter does to its base, for people and for the record of an artifact.

use std::path::PathBuf;

use serde::Serialize;

use super::{Adapter, Fit, Init};

/// What an adapter does to its base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdapterRecord {
    /// The folder.
    pub dir: PathBuf,
    /// The base that it names.
    pub base: Option<String>,
    /// Modules with a low-rank pair.
    pub n_pairs: usize,
    /// The ranks that occur.
    pub ranks: Vec<usize>,
    /// Variants of LoRA that it uses: `dora`, `rslora`, `lora_bias`, `pissa`, `olora`.
    pub variants: Vec<&'static str>,
    /// Parameters that it brings whole.
    pub replaced: Vec<String>,
    /// Tokens with vectors of their own.
    pub n_tokens: usize,
    /// Tokens of its vocabulary, where it is not the base's.
    pub vocab_size: Option<usize>,
    /// Layers of the model, where they are not the base's.
    pub n_layers: Option<usize>,
    /// True if its folder has a tokenizer.
    pub tokenizer: bool,
}

impl AdapterRecord {
    /// What `adapter` does where it has been placed as `fit` says.
    pub fn of(adapter: &Adapter, fit: &Fit) -> Self {
        let config = adapter.config();
        let mut ranks: Vec<usize> = fit.branches().iter().map(|branch| branch.rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let variants = [
            (config.use_dora, "dora"),
            (config.use_rslora, "rslora"),
            (config.lora_bias, "lora_bias"),
            (config.init == Init::Pissa, "pissa"),
            (config.init == Init::Olora, "olora"),
        ];
        Self {
            dir: adapter.dir().to_owned(),
            base: config.base_model_name_or_path.clone(),
            n_pairs: fit.branches().len(),
            ranks,
            variants: variants.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect(),
            replaced: adapter.replacements().map(str::to_owned).collect(),
            n_tokens: fit.tokens.iter().map(|rows| rows.indices.len()).sum(),
            vocab_size: fit.changes().vocab_size,
            n_layers: fit.changes().layers.as_ref().map(Vec::len),
            tokenizer: adapter.has_tokenizer(),
        }
    }
}
