//! PEFT adapters: LoRA, rsLoRA and DoRA, with the whole tensors that an adapter may bring along.

mod config;
mod error;
mod fit;
mod keys;
mod low_rank;

use std::path::{Path, PathBuf};

pub use config::LoraConfig;
pub use error::{Error, Misfit};
pub(crate) use fit::slot;
pub use fit::{Branch, Fit};
pub use keys::LowRank;
pub(crate) use low_rank::Delta;

use keys::Keys;

use super::checkpoint::{Checkpoint, FileDigest};
use super::safetensors::Tensors;
use crate::base::digest;

const CONFIG: &str = "adapter_config.json";
const STEM: &str = "adapter_model";

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
        let config = LoraConfig::open(&dir.join(CONFIG))?;
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
        self.keys.whole.keys().map(String::as_str)
    }

    /// Whether it is nothing but low-rank pairs of linear layers, so that it can stay a branch beside the weights.
    pub fn is_plain(&self) -> bool {
        let plain = |pair: &LowRank| !pair.embedding && pair.magnitude.is_none();
        self.keys.whole.is_empty() && self.keys.low_rank.values().all(plain)
    }

    /// Places every tensor of the adapter on the checkpoint, or says which does not fit.
    pub fn fits(&self, checkpoint: &Checkpoint) -> Result<Fit, Error> {
        fit::fit(self, checkpoint)
    }

    /// Whether merging leaves every weight as it was: all products are zero and what is brought whole is there
    /// already. Reads the adapter's `lora_B`, or more if these are zero.
    pub fn changes_nothing(&self, checkpoint: &Checkpoint) -> Result<bool, Error> {
        fit::changes_nothing(self, checkpoint)
    }

    /// [`fits`](Self::fits), and an error for an adapter that changes nothing.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<Fit, Error> {
        let fit = self.fits(checkpoint)?;
        if self.changes_nothing(checkpoint)? {
            return Err(Error::ChangesNothing { dir: self.dir.clone() });
        }
        Ok(fit)
    }

    /// Name, size and SHA-256 of its files.
    pub fn digests(&self) -> std::io::Result<std::collections::BTreeMap<String, FileDigest>> {
        let mut out = std::collections::BTreeMap::new();
        let weights = self.tensors.files().iter().map(|file| file.path().to_owned());
        let beside = [CONFIG, "llm2vec_config.json"].map(|name| self.dir.join(name));
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
