//! The folder `NAME.tokenizer` beside a package: a finished tokenizer and the settings that text commands read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Session;
use super::job::{Found, Job};
use crate::base::digest;
use crate::base::fs::write_atomic;
use crate::lm::{RECORD, TokenizerRecord};
use crate::pipeline::Failure;
use crate::python::PythonError;
use crate::source::adapter::Adapter;
use crate::source::checkpoint::Checkpoint;
use crate::source::tokenizer;

/// Files of a tokenizer beside its vocabulary, all from the folder that it comes from.
const TOKENIZER_FILES: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// Files of the model; an adapter's go first where they concern generation.
pub(crate) const MODEL_FILES: [&str; 3] =
    ["config.json", "generation_config.json", "sentence_bert_config.json"];

impl Job {
    /// Writes the tokenizer's folder, so that the package can be used with text. What is there already and made from the
    /// same files stays, and Python is not asked.
    pub(crate) fn write_tokenizer(&self, folder: &Path, session: &Session) -> Result<(), Failure> {
        let checkpoint = Checkpoint::open(&self.model.dir)?;
        let model = [self.model.dir.clone(), checkpoint.model_dir().to_owned()];
        let files = self.tokenizer_digests(checkpoint.model_dir(), session)?;
        let known = TokenizerRecord::read(folder).ok().flatten();
        if known.is_none_or(|known| known.files != files) || files.is_empty() {
            fs_err::create_dir_all(folder)?;
            let record = self.finished_tokenizer(&checkpoint, Some(folder), session)?;
            let from = match record.as_ref().and_then(|record| record.adapter) {
                Some(index) => vec![self.lora[index].dir.clone()],
                None => model.to_vec(),
            };
            for name in TOKENIZER_FILES {
                copy(&from, name, folder)?;
            }
            if let Some(record) = record {
                let text = serde_json::to_string_pretty(&TokenizerRecord { files, ..record })
                    .map_err(std::io::Error::from)?;
                write_atomic(&folder.join(RECORD), text.as_bytes())?;
            }
        }
        for name in MODEL_FILES {
            let adapters = self.lora.iter().rev().map(|found: &Found| found.dir.clone());
            let adapters = adapters.filter(|_| name == "generation_config.json");
            copy(&adapters.chain(model.clone()).collect::<Vec<_>>(), name, folder)?;
        }
        self.write_recipe(&checkpoint, folder)
    }

    /// Fails where the tokenizer cannot travel with the package, and gives what a user should know about it.
    pub(crate) fn check_tokenizer(&self, session: &Session) -> Result<Vec<String>, Failure> {
        let checkpoint = Checkpoint::open(&self.model.dir)?;
        let record = self.finished_tokenizer(&checkpoint, None, session)?;
        Ok(record.map(|record| record.warnings).unwrap_or_default())
    }

    /// Asks Python for the finished tokenizer of the model or of its last adapter that has one, written to `out`.
    fn finished_tokenizer(
        &self,
        checkpoint: &Checkpoint,
        out: Option<&Path>,
        session: &Session,
    ) -> Result<Option<TokenizerRecord>, Failure> {
        let model = checkpoint.model_dir();
        let mut folders = self.lora.iter().map(|found| found.dir.as_path()).chain([model]);
        if !folders.any(tokenizer::is_in) {
            return Ok(None);
        }
        let adapters: Vec<&PathBuf> = self.lora.iter().map(|found| &found.dir).collect();
        let request = json!({"op": "tokenizer", "model": model, "adapters": adapters, "out": out});
        let answer = session.python()?.call(&request)?;
        let record: TokenizerRecord = serde_json::from_value(answer)
            .map_err(|e| PythonError::Protocol { message: e.to_string() })?;
        let vocab_size = self.vocabulary(checkpoint)?;
        let mut record = TokenizerRecord { vocab_size: Some(vocab_size), ..record };
        if record.largest_id >= vocab_size {
            record.warnings.push(format!(
                "token `{}` has id {}, outside the model's vocabulary of {vocab_size}; text with such tokens is refused",
                record.largest_token, record.largest_id
            ));
        }
        Ok(Some(record))
    }

    /// Rows of the model's embedding, or of the longer one that an adapter brings.
    fn vocabulary(&self, checkpoint: &Checkpoint) -> Result<u64, Failure> {
        let mut rows = checkpoint.config().vocab_size as u64;
        for found in &self.lora {
            let adapter = Adapter::open(&found.dir)?;
            for (name, entry) in adapter.tensors().iter() {
                let embedding = ["embed_tokens.", "wte.", "word_embeddings."];
                if embedding.iter().any(|part| name.contains(part))
                    && name.ends_with("weight")
                    && !name.contains("lora_")
                {
                    rows = rows.max(entry.shape.first().map_or(0, |&n| n as u64));
                }
            }
        }
        Ok(rows)
    }

    /// SHA-256 of every file that decides what the finished tokenizer is, and the libraries that read them.
    fn tokenizer_digests(
        &self,
        model: &Path,
        session: &Session,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut digests = BTreeMap::new();
        let folders = self.lora.iter().map(|found| found.dir.as_path()).chain([model]);
        for (index, folder) in folders.enumerate() {
            for file in tokenizer::files(folder)? {
                let (sha256, _) = digest::of_file(&folder.join(&file))?;
                digests.insert(format!("{index}/{file}"), sha256);
            }
        }
        if !digests.is_empty() {
            let packages = &session.environment()?.packages;
            for name in ["tokenizers", "transformers"] {
                digests
                    .extend(packages.get(name).map(|version| (name.to_owned(), version.clone())));
            }
        }
        Ok(digests)
    }
}

/// Copies the first file `name` that one of `sources` has; without one, an old copy goes.
fn copy(sources: &[PathBuf], name: &str, folder: &Path) -> Result<(), Failure> {
    let to = folder.join(name);
    match sources.iter().map(|dir| dir.join(name)).find(|path| path.is_file()) {
        Some(source) => write_atomic(&to, &fs_err::read(source)?)?,
        None if to.is_file() => fs_err::remove_file(&to)?,
        None => {}
    }
    Ok(())
}
