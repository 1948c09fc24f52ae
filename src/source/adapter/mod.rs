//! PEFT adapters: LoRA, rsLoRA and DoRA, with the whole tensors that an adapter may bring along.

mod changes;
mod config;
mod error;
mod fit;
mod keys;
mod low_rank;
mod record;
mod settings;
mod targets;

use std::path::{Path, PathBuf};

pub use changes::ModelChanges;
pub(crate) use changes::{parameter_key, tied_pair};
pub use config::{Init, LoraConfig, TokenIndices};
pub use error::{Error, Mismatch};
pub use fit::{Branch, Fit};
pub(crate) use fit::{FullReplacement, TokenRows};
pub use keys::LowRank;
pub(crate) use low_rank::Delta;
pub use record::AdapterRecord;

use keys::Keys;

use super::checkpoint::{Checkpoint, FileDigest};
use super::names;
use super::safetensors::Tensors;
use crate::base::digest;

const CONFIG: &str = "adapter_config.json";
const STEM: &str = "adapter_model";

/// Files of a tokenizer, of which a folder with a tokenizer has one.
const TOKENIZERS: [&str; 5] =
    ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt"];
/// Ends of the files that hold weights.
const FORMATS: [&str; 2] = ["safetensors", "bin"];
const MLX: &str = "adapters.safetensors";

/// An open adapter. No weight has been read.
#[derive(Debug)]
pub struct Adapter {
    dir: PathBuf,
    config: LoraConfig,
    tensors: Tensors,
    keys: Keys,
}

impl Adapter {
    /// Opens the folder `dir`; what cannot be merged exactly is refused by name.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let config_file = dir.join(CONFIG);
        let has_weights = || FORMATS.iter().any(|end| dir.join(format!("{STEM}.{end}")).is_file());
        if dir.join(MLX).is_file() && !has_weights() {
            return Err(Error::Mlx { file: dir.join(MLX) });
        }
        let config = LoraConfig::open(&config_file)?;
        let tensors = Tensors::open_any(dir, STEM, STEM).map_err(|error| match error {
            crate::source::safetensors::Error::NoWeights { dir, .. } => Error::NoWeights { dir },
            other => other.into(),
        })?;
        let keys = Keys::parse(dir, &tensors)?;
        Ok(Self { dir: dir.to_owned(), config, tensors, keys })
    }

    /// The folder it was opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `adapter_config.json` says.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The stored tensors.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The modules that have a low-rank pair, by name.
    pub fn low_rank(&self) -> impl Iterator<Item = (&str, &LowRank)> {
        self.keys.low_rank.iter().map(|(module, pair)| (module.as_str(), pair))
    }

    /// The parameters that the adapter brings whole, by name: `modules_to_save`, biases, resized embeddings.
    pub fn replacements(&self) -> impl Iterator<Item = &str> {
        self.keys.whole.keys().chain(self.keys.base.keys()).map(String::as_str)
    }

    /// The modules whose tokens have vectors of their own, by name.
    pub fn token_modules(&self) -> impl Iterator<Item = &str> {
        self.keys.tokens.keys().map(String::as_str)
    }

    /// True if the folder has a tokenizer, which then is the one that the adapter was trained with.
    pub fn has_tokenizer(&self) -> bool {
        TOKENIZERS.iter().any(|name| self.dir.join(name).is_file())
    }

    /// True if it is nothing but low-rank pairs of linear layers, so that it can stay a branch beside the weights.
    pub fn is_plain(&self) -> bool {
        let plain =
            |pair: &LowRank| !pair.embedding && pair.magnitude.is_none() && pair.bias.is_none();
        self.not_plain().is_none() && self.keys.low_rank.values().all(plain)
    }

    /// What keeps it from being a branch beside the weights, apart from its pairs.
    fn not_plain(&self) -> Option<&str> {
        let others = self.keys.whole.values().chain(self.keys.base.values());
        if let Some(key) = others.chain(self.keys.tokens.values()).next() {
            return Some(key);
        }
        if !self.config.layer_replication.is_empty() {
            return Some("layer_replication");
        }
        (self.config.init != Init::Unchanged).then_some("init_lora_weights")
    }

    /// Fails, with the tensor or the setting that is the reason, if it cannot be a branch beside the weights.
    pub fn check_branches(&self) -> Result<(), Error> {
        let mut pairs = self.keys.low_rank.values();
        let other = pairs.find_map(|pair| {
            let embedding = pair.embedding.then_some(&pair.a);
            pair.magnitude.as_ref().or(pair.bias.as_ref()).or(embedding).map(String::as_str)
        });
        match self.not_plain().or(other) {
            None => Ok(()),
            Some(what) => Err(Error::NotABranch { dir: self.dir.clone(), what: what.to_owned() }),
        }
    }

    /// True if it was trained on the model without a head, whose names lack the prefix that `model_type` puts before.
    fn is_bare(&self, model_type: &str) -> bool {
        let Some(prefix) = names::base_model_prefix(model_type) else { return false };
        let within =
            |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        let pairs = self.keys.low_rank.keys().map(String::as_str);
        let mut names = pairs.chain(self.replacements()).chain(self.token_modules());
        !names.any(|name| within(name) || name.starts_with("lm_head"))
    }

    /// Places every tensor of the adapter on the checkpoint, or says which does not fit.
    pub fn fits(&self, checkpoint: &Checkpoint) -> Result<Fit, Error> {
        self.fits_after(checkpoint, &ModelChanges::default())
    }

    /// The same on what other adapters have made of the checkpoint.
    pub fn fits_after(&self, checkpoint: &Checkpoint, before: &ModelChanges) -> Result<Fit, Error> {
        fit::fit(self, checkpoint, before)
    }

    /// True if merging leaves every weight as it was: all products are zero and what is brought whole is there
    /// already. Reads the adapter's `lora_B`, or more if these are zero.
    pub fn changes_nothing(&self, checkpoint: &Checkpoint, fit: &Fit) -> Result<bool, Error> {
        fit::changes_nothing(self, checkpoint, fit)
    }

    /// [`fits_after`](Self::fits_after), and an error for an adapter that changes nothing.
    pub fn check(&self, checkpoint: &Checkpoint, before: &ModelChanges) -> Result<Fit, Error> {
        let fit = self.fits_after(checkpoint, before)?;
        if self.changes_nothing(checkpoint, &fit)? {
            return Err(Error::ChangesNothing { dir: self.dir.clone() });
        }
        Ok(fit)
    }

    /// Name, size and SHA-256 of its files.
    pub fn digests(&self) -> std::io::Result<std::collections::BTreeMap<String, FileDigest>> {
        let mut out = std::collections::BTreeMap::new();
        let weights = self.tensors.files().iter().map(|file| file.path().to_owned());
        let beside = [CONFIG, "llm2vec_config.json"].iter().chain(&TOKENIZERS);
        let beside = beside.map(|name| self.dir.join(name));
        for path in weights.chain(beside.into_iter().filter(|path| path.is_file())) {
            let (sha256, size) = digest::of_file(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            out.insert(name, FileDigest { size, sha256 });
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests;
