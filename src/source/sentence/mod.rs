//! `SentenceConfig`: what a sentence-transformers checkpoint does around its model, from its own files.
//!
//! Every key of these files is known, or the checkpoint is refused by the key's name: a setting that is passed over
//! would change embeddings without a word.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

mod modules;
mod prompts;
mod settings;
#[cfg(test)]
mod tests;
mod transformer;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use modules::{Module, PoolingMode};
pub use prompts::Prompts;
use settings::Settings;
pub use transformer::TransformerSettings;

use crate::base::error::Hint;
use crate::source::json;

/// The settings of a sentence-transformers checkpoint: its modules and how text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentenceConfig {
    /// The modules after the Transformer, in their order.
    pub modules: Vec<Module>,
    /// Settings of the Transformer module.
    pub transformer: TransformerSettings,
    /// Prompts, and the similarity the embeddings were trained for.
    #[serde(flatten)]
    pub prompts: Prompts,
    /// True if spaces around a text are removed, as sentence-transformers did before version 5.4.
    pub strip: bool,
}

/// What is wrong with these files.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error("`{file}` cannot be read: {reason}")]
    Bad { file: PathBuf, reason: String },
    #[error("`{key}` in `{file}` is {value}, which is not supported")]
    Unsupported { file: PathBuf, key: String, value: String, advice: Option<String> },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { advice, .. } => advice.clone(),
            Self::Io(e) => e.hint(),
            Self::Json(e) => e.hint(),
            Self::Bad { .. } => None,
        }
    }
}

impl SentenceConfig {
    /// Reads the folder `root`. Without a `modules.json` these are the settings that sentence-transformers gives a
    /// plain encoder: the mean of its tokens.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let list = modules::list(root)?;
        let model_dir =
            list.as_ref().map_or_else(|| root.to_owned(), |(first, _)| root.join(first));
        if let Some(file) =
            ["adapter_config.json"].map(|name| model_dir.join(name)).iter().find(|f| f.is_file())
        {
            return Err(Error::Unsupported {
                file: file.clone(),
                key: "peft_type".to_owned(),
                value: "an adapter inside the checkpoint".to_owned(),
                advice: Some("merge the adapter into its base and save the model again".to_owned()),
            });
        }
        let (modules, transformer, prompts) = if let Some((_, modules)) = list {
            (modules, TransformerSettings::open(&model_dir)?, Prompts::open(root)?)
        } else {
            let mean = Module::Pooling { modes: vec![PoolingMode::Mean], include_prompt: true };
            (vec![mean], TransformerSettings::default(), Prompts::default())
        };
        let strip = match &prompts.version {
            Some(version) => older_than(version, (5, 4)),
            None => saved_by(&model_dir)?.is_some_and(|version| older_than(&version, (5, 0))),
        };
        Ok(Self { modules, transformer, prompts, strip })
    }

    /// True if the tokens of a prompt are pooled with those of the text.
    pub fn include_prompt(&self) -> bool {
        let left_out =
            |module: &Module| matches!(module, Module::Pooling { include_prompt: false, .. });
        !self.modules.iter().any(left_out)
    }
}

/// The version of transformers that saved a model, where its configuration says.
fn saved_by(model_dir: &Path) -> Result<Option<String>, Error> {
    let Some(mut settings) = Settings::open(&model_dir.join("config.json"))? else {
        return Ok(None);
    };
    settings.text("transformers_version")
}

/// True if a version such as `5.2.0.dev0` lies before `bound`; one that does not read lies nowhere.
fn older_than(version: &str, bound: (u64, u64)) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < bound,
        _ => false,
    }
}
