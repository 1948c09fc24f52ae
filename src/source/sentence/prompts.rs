//! `Prompts`: `config_sentence_transformers.json`, what is put before a text and what the embeddings are for.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::settings::Settings;

/// What the model as a whole is set to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompts {
    /// Prompts by name; an empty one puts nothing before the text.
    pub prompts: BTreeMap<String, String>,
    /// The prompt of a text that comes without one.
    pub default_prompt_name: Option<String>,
    /// The similarity that the embeddings are compared with.
    pub similarity_fn_name: Option<String>,
    /// Number of elements that are kept of an embedding.
    pub truncate_dim: Option<usize>,
    /// The version of sentence-transformers that saved the checkpoint.
    pub version: Option<String>,
}

/// Names that sentence-transformers gives every model, with empty prompts where the checkpoint has none.
const EVERY_MODEL: [&str; 2] = ["query", "document"];

impl Prompts {
    /// Reads the file in `root`.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let file = root.join("config_sentence_transformers.json");
        let Some(mut settings) = Settings::open(&file)? else {
            return Ok(Self::named(BTreeMap::new()));
        };
        let mut prompts = BTreeMap::new();
        if let Some(value) = settings.take("prompts") {
            let given: BTreeMap<String, Option<String>> = serde_json::from_value(value.clone())
                .map_err(|_| Error::Bad {
                    file,
                    reason: format!("`prompts` is {value}, not texts by name"),
                })?;
            prompts.extend(given.into_iter().map(|(name, text)| (name, text.unwrap_or_default())));
        }
        let mut found = Self::named(prompts);
        found.default_prompt_name = settings.text("default_prompt_name")?;
        if let Some(name) =
            found.default_prompt_name.as_ref().filter(|name| !found.prompts.contains_key(*name))
        {
            let known: Vec<_> = found.prompts.keys().map(|name| format!("`{name}`")).collect();
            let advice = format!("`prompts` has {}", known.join(", "));
            return Err(settings.unsupported("default_prompt_name", &json!(name), Some(advice)));
        }
        found.similarity_fn_name = settings.text("similarity_fn_name")?;
        found.truncate_dim = settings.count("truncate_dim")?;
        if let Some(Value::Object(mut versions)) = settings.take("__version__") {
            let version = versions.remove("sentence_transformers");
            found.version = version.and_then(|version| Some(version.as_str()?.to_owned()));
        }
        let kind = settings.take("model_type");
        if let Some(kind) = kind.filter(|kind| *kind != "SentenceTransformer") {
            let advice = "supported is SentenceTransformer".to_owned();
            return Err(settings.unsupported("model_type", &kind, Some(advice)));
        }
        // Which versions may load the checkpoint says nothing about its values.
        drop(settings.take("requirements"));
        settings.end()?;
        Ok(found)
    }

    fn named(mut prompts: BTreeMap<String, String>) -> Self {
        for name in EVERY_MODEL {
            prompts.entry(name.to_owned()).or_default();
        }
        Self { prompts, ..Self::default() }
    }
}
