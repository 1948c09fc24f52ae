//! `EmbeddingConfig`: the way from a text to the tokens of `encode` and those that are pooled, resolved once.
//!
//! A conversion writes it into the tokenizer's folder beside the package as `embedding.json`; whatever embeds later
//! reads that file and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::ModelConfig;
use super::json;
use super::llm2vec::{self, Llm2Vec, Pooling, Template};
use super::sentence::{self, SentenceConfig};
use super::tokenizer::{self, TokenizerFacts};
use crate::base::error::Hint;

/// The file in a tokenizer's folder.
pub const FILE: &str = "embedding.json";

/// What is done with a text before the model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "library")]
pub enum EmbeddingConfig {
    /// As sentence-transformers does it.
    #[serde(rename = "sentence-transformers")]
    Sentence(SentenceEmbedding),
    /// As LLM2Vec does it.
    #[serde(rename = "llm2vec")]
    Llm2Vec(Llm2VecEmbedding),
}

/// sentence-transformers: prompt and text are joined, cut to `max_length` tokens, and pooled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentenceEmbedding {
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt of a text that comes without one.
    pub default_prompt_name: Option<String>,
    /// True if spaces around prompt and text are removed.
    pub strip: bool,
    /// True if text is lower-cased before the tokenizer's own rules.
    pub lower_case: bool,
    /// The most tokens of a text, those around it included; nothing where there is no limit.
    pub max_length: Option<usize>,
    /// True if the tokens of a prompt are pooled.
    pub include_prompt: bool,
    /// The similarity that the embeddings are compared with.
    pub similarity: Option<String>,
}

/// LLM2Vec: the text is cut by words, joined with its instruction, put into a template, and pooled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llm2VecEmbedding {
    /// How the token vectors become one.
    pub pooling_mode: Pooling,
    /// The most tokens of template, instruction and text.
    pub max_length: usize,
    /// The most tokens of the text alone; longer ones lose whole words at their end.
    pub doc_max_length: usize,
    /// True if only the text and what follows it is pooled.
    pub skip_instruction: bool,
    /// What is put around instruction and text.
    pub template: Option<Template>,
    /// What is put behind everything, so that the text ends as texts did in training.
    pub end: Option<String>,
    /// The token that `bos_token` pools.
    pub bos_token_id: Option<u32>,
}

/// Why there is no recipe.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Sentence(#[from] sentence::Error),
    #[error(transparent)]
    Llm2Vec(#[from] llm2vec::Error),
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    #[error("`truncation_side` in `{file}` is {value}, which is not supported for embeddings")]
    Truncation { file: PathBuf, value: String },
    #[error(
        "pooling_mode `bos_token` needs a `bos_token`, and the tokenizer in `{folder}` has none"
    )]
    NoBos { folder: PathBuf },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(e) => e.hint(),
            Self::Sentence(e) => e.hint(),
            Self::Llm2Vec(e) => e.hint(),
            Self::Tokenizer(e) => e.hint(),
            Self::Json(e) => e.hint(),
            Self::Truncation { .. } | Self::NoBos { .. } => None,
        }
    }
}

impl EmbeddingConfig {
    /// The recipe in the tokenizer's folder `folder`; nothing where there is none, as beside older packages.
    pub fn open(folder: &Path) -> Result<Option<Self>, Error> {
        let file = folder.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        Ok(Some(json::read(&file)?))
    }

    /// The recipe of a checkpoint with the LLM2Vec adapters `adapters` and the tokenizer in `folder`.
    ///
    /// `root` is the checkpoint's folder and `model_dir` that of its model.
    pub fn of(
        root: &Path,
        model_dir: &Path,
        config: &ModelConfig,
        adapters: &[PathBuf],
        folder: &Path,
    ) -> Result<Self, Error> {
        let tokenizer = TokenizerSettings::open(&[folder, model_dir])?;
        if adapters.is_empty() {
            let settings = SentenceConfig::open(root)?;
            let limit =
                [tokenizer.model_max_length, config.max_positions].into_iter().flatten().min();
            return Ok(Self::Sentence(SentenceEmbedding {
                max_length: settings.transformer.max_seq_length.or(limit),
                lower_case: settings.transformer.do_lower_case,
                include_prompt: settings.include_prompt(),
                strip: settings.strip,
                prompts: settings.prompts.prompts,
                default_prompt_name: settings.prompts.default_prompt_name,
                similarity: settings.prompts.similarity_fn_name,
            }));
        }
        let settings = Llm2Vec::of(adapters)?;
        let name = llm2vec::trained_as(model_dir, adapters)?;
        let bos = settings.pooling_mode == Pooling::BosToken;
        let bos_token_id = if bos { Some(bos_of(folder, config)?) } else { None };
        Ok(Self::Llm2Vec(Llm2VecEmbedding {
            template: name.as_deref().and_then(Template::of),
            end: settings.end(name.as_deref(), &config.model_type),
            pooling_mode: settings.pooling_mode,
            max_length: settings.max_length,
            doc_max_length: settings.doc_max_length,
            skip_instruction: settings.skip_instruction,
            bos_token_id,
        }))
    }

    /// The file's content.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("plain data are JSON");
        text.push(b'\n');
        text
    }
}

/// What of `tokenizer_config.json` decides which tokens a text keeps.
#[derive(Debug, Default)]
struct TokenizerSettings {
    model_max_length: Option<usize>,
}

/// Lengths from which a limit is none: transformers writes 1e30 where it knows no limit.
const NO_LIMIT: u64 = 1 << 32;

impl TokenizerSettings {
    /// The settings in the first of `folders` that has any.
    fn open(folders: &[&Path]) -> Result<Self, Error> {
        let files = folders.iter().map(|folder| folder.join("tokenizer_config.json"));
        let Some(file) = files.into_iter().find(|file| file.is_file()) else {
            return Ok(Self::default());
        };
        let fields: serde_json::Map<String, Value> = json::read(&file)?;
        match fields.get("truncation_side").and_then(Value::as_str) {
            None | Some("right") => {}
            Some(side) => return Err(Error::Truncation { file, value: format!("`{side}`") }),
        }
        let length = fields.get("model_max_length").and_then(Value::as_u64);
        let length = length.filter(|&n| n < NO_LIMIT).and_then(|n| usize::try_from(n).ok());
        Ok(Self { model_max_length: length })
    }
}

fn bos_of(folder: &Path, config: &ModelConfig) -> Result<u32, Error> {
    let facts = TokenizerFacts::open(folder, config.vocab_size)?;
    let found = facts.roles.get("bos_token").and_then(|&id| u32::try_from(id).ok());
    found.ok_or_else(|| Error::NoBos { folder: folder.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fixture;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs_err::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn recipe(
        files: &[(&str, &str)],
        adapter: Option<&[(&str, &str)]>,
    ) -> Result<EmbeddingConfig, Error> {
        let dir = folder(files);
        fs_err::write(dir.path().join("config.json"), fixture::LLAMA).unwrap();
        let adapter = adapter.map(folder);
        let adapters: Vec<_> = adapter.iter().map(|a| a.path().to_owned()).collect();
        let config = ModelConfig::open(dir.path()).unwrap();
        EmbeddingConfig::of(dir.path(), dir.path(), &config, &adapters, dir.path())
    }

    #[test]
    fn lengths_come_from_the_settings_that_sentence_transformers_looks_at() {
        let modules = (
            "modules.json",
            r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "1", "type": "sentence_transformers.models.Pooling"}]"#,
        );
        let (bert, tokenizer) = ("sentence_bert_config.json", "tokenizer_config.json");
        // The fixture's model has 16 positions.
        let cases: [(&[(&str, &str)], usize); 6] = [
            (&[], 16),
            (&[(tokenizer, r#"{"model_max_length": 9}"#)], 9),
            (&[(tokenizer, r#"{"model_max_length": 1000000000000000019884624838656}"#)], 16),
            (
                &[
                    modules,
                    (tokenizer, r#"{"model_max_length": 9}"#),
                    (bert, r#"{"max_seq_length": 12}"#),
                ],
                12,
            ),
            // Settings of sentence-transformers count only with its modules.
            (&[(tokenizer, r#"{"model_max_length": 9}"#), (bert, r#"{"max_seq_length": 12}"#)], 9),
            (&[modules, (bert, r#"{"tokenizer_args": {"model_max_length": 7}}"#)], 7),
        ];
        for (files, want) in cases {
            let EmbeddingConfig::Sentence(found) = recipe(files, None).unwrap() else { panic!() };
            assert_eq!(found.max_length, Some(want), "{files:?}");
        }
        let left = recipe(&[(tokenizer, r#"{"truncation_side": "left"}"#)], None).unwrap_err();
        assert!(left.to_string().contains("`truncation_side`"), "{left}");
    }

    #[test]
    fn recipes_are_read_as_they_were_written() {
        let dir = folder(&[]);
        assert_eq!(EmbeddingConfig::open(dir.path()).unwrap(), None);
        let adapter = [
            ("llm2vec_config.json", r#"{"pooling_mode": "eos_token", "max_length": 64}"#),
            (
                "adapter_config.json",
                r#"{"base_model_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2"}"#,
            ),
        ];
        for recipe in [recipe(&[], None).unwrap(), recipe(&[], Some(&adapter)).unwrap()] {
            fs_err::write(dir.path().join(FILE), recipe.to_json()).unwrap();
            assert_eq!(EmbeddingConfig::open(dir.path()).unwrap(), Some(recipe));
        }
        let EmbeddingConfig::Llm2Vec(found) = recipe(&[], Some(&adapter)).unwrap() else {
            panic!()
        };
        assert_eq!(found.template.unwrap().before, "[INST] ");
        assert_eq!(found.end.as_deref(), Some(" </s>"));
        assert_eq!((found.max_length, found.doc_max_length), (64, 400));
    }

    #[test]
    fn the_first_token_can_be_pooled_only_where_there_is_one() {
        let adapter = [("llm2vec_config.json", r#"{"pooling_mode": "bos_token"}"#)];
        let tokens =
            r#"{"added_tokens": [{"id": 1, "content": "<s>"}], "model": {"vocab": {"a": 0}}}"#;
        let named = r#"{"bos_token": "<s>"}"#;
        let files = [("tokenizer.json", tokens), ("tokenizer_config.json", named)];
        let EmbeddingConfig::Llm2Vec(found) = recipe(&files, Some(&adapter)).unwrap() else {
            panic!()
        };
        assert_eq!(found.bos_token_id, Some(1));
        let error = recipe(&files[..1], Some(&adapter)).unwrap_err().to_string();
        assert!(error.contains("needs a `bos_token`"), "{error}");
    }
}
