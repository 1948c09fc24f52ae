//! `ModelConfig`: what `config.json` says about a model, in one vocabulary for all families.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::base::error::Hint;

/// The facts of a model that are needed before anything is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Class names, as `transformers` spells them; may be empty.
    pub architectures: Vec<String>,
    /// The family, as `transformers` spells it.
    pub model_type: String,
    /// Positions that the model knows, where it has a limit.
    pub max_positions: Option<usize>,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Ids that end a text; `generation_config.json` goes before `config.json`, as in `generate`.
    pub eos_token_ids: Vec<usize>,
    /// The id that begins a text.
    pub bos_token_id: Option<usize>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("`{dir}` has no `config.json`")]
    Missing { dir: PathBuf },
    #[error("`{file}` is not valid JSON: {reason}")]
    BadJson { file: PathBuf, reason: String },
    #[error("`{file}` lacks `{field}`")]
    MissingField { file: PathBuf, field: &'static str },
    #[error("`{field}` in `{file}` is {value}, not {wanted}")]
    BadField { file: PathBuf, field: &'static str, value: String, wanted: &'static str },
    #[error("the hidden size {hidden_size} of `{file}` does not divide into {n_heads} heads")]
    UnevenHeads { file: PathBuf, hidden_size: usize, n_heads: usize },
    #[error("`{field}` of `{dir}` is {id}, outside the vocabulary of {vocab_size}")]
    TokenOutside { dir: PathBuf, field: &'static str, id: usize, vocab_size: usize },
    #[error("the weights of `{dir}` are quantised already, by `{method}`")]
    Quantised { dir: PathBuf, method: String },
    #[error("sequence length {seq_len} is beyond the {max_positions} positions of `{dir}`")]
    TooLong { dir: PathBuf, seq_len: usize, max_positions: usize },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "pass the folder of a `transformers` checkpoint, or a repository of the hub"
                    .to_owned(),
            ),
            Self::Quantised { .. } => {
                Some("take the original checkpoint in f16, bf16 or f32".to_owned())
            }
            Self::TooLong { max_positions, .. } => {
                Some(format!("pass `--seq-len {max_positions}` or less"))
            }
            _ => None,
        }
    }
}

impl ModelConfig {
    /// Reads `config.json`, and `generation_config.json` where there is one, of the folder `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join("config.json");
        if !file.is_file() {
            return Err(Error::Missing { dir: dir.to_owned() });
        }
        let fields = Fields::open(file)?;
        if let Some(quantised) = fields.map.get("quantization_config").and_then(Value::as_object) {
            let method = quantised.get("quant_method").and_then(Value::as_str).unwrap_or("?");
            return Err(Error::Quantised { dir: dir.to_owned(), method: method.to_owned() });
        }
        let generation = dir.join("generation_config.json");
        let generation = if generation.is_file() { Some(Fields::open(generation)?) } else { None };

        let model_type = fields.text("model_type")?;
        let hidden_size = fields.required("hidden_size", &["hidden_size", "n_embd", "dim"])?;
        let n_heads = fields.required(
            "num_attention_heads",
            &["num_attention_heads", "n_head", "num_heads", "n_heads"],
        )?;
        let head_dim = match fields.number("head_dim", &["head_dim"])? {
            Some(head_dim) => head_dim,
            None if n_heads > 0 && hidden_size % n_heads == 0 => hidden_size / n_heads,
            None => return Err(Error::UnevenHeads { file: fields.file, hidden_size, n_heads }),
        };
        Ok(Self {
            architectures: fields.texts("architectures")?,
            max_positions: fields.number(
                "max_position_embeddings",
                &["max_position_embeddings", "n_positions", "n_ctx"],
            )?,
            vocab_size: fields.required("vocab_size", &["vocab_size"])?,
            hidden_size,
            n_layers: fields.required(
                "num_hidden_layers",
                &["num_hidden_layers", "n_layer", "num_layers", "n_layers"],
            )?,
            n_heads,
            n_kv_heads: fields
                .number("num_key_value_heads", &["num_key_value_heads"])?
                .unwrap_or(n_heads),
            head_dim,
            tie_word_embeddings: fields
                .flag("tie_word_embeddings")?
                .unwrap_or_else(|| !UNTIED_BY_DEFAULT.contains(&model_type.as_str())),
            eos_token_ids: first_known(generation.as_ref(), &fields, |f| f.ids("eos_token_id"))?
                .unwrap_or_default(),
            bos_token_id: first_known(generation.as_ref(), &fields, |f| {
                f.number("bos_token_id", &["bos_token_id"])
            })?,
            model_type,
        })
    }

    /// Fails if an id that begins or ends a text is outside the vocabulary of the model in `dir`.
    ///
    /// Apart from [`open`](Self::open), because tiny models without a tokenizer often keep the ids of a large one.
    pub fn check_special_tokens(&self, dir: &Path) -> Result<(), Error> {
        let bos = self.bos_token_id.iter().map(|id| ("bos_token_id", *id));
        let eos = self.eos_token_ids.iter().map(|id| ("eos_token_id", *id));
        match bos.chain(eos).find(|(_, id)| *id >= self.vocab_size) {
            None => Ok(()),
            Some((field, id)) => {
                let (dir, vocab_size) = (dir.to_owned(), self.vocab_size);
                Err(Error::TokenOutside { dir, field, id, vocab_size })
            }
        }
    }
}

/// Families whose configuration class unties the head when the file does not say.
const UNTIED_BY_DEFAULT: [&str; 6] = ["llama", "mistral", "qwen2", "qwen3", "phi", "phi3"];

fn first_known<T>(
    generation: Option<&Fields>,
    model: &Fields,
    read: impl Fn(&Fields) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if let Some(found) = generation.map(&read).transpose()?.flatten() {
        return Ok(Some(found));
    }
    read(model)
}

/// The top level of a JSON object, with errors that name file and field.
struct Fields {
    file: PathBuf,
    map: Map<String, Value>,
}

impl Fields {
    fn open(file: PathBuf) -> Result<Self, Error> {
        match serde_json::from_slice(&fs_err::read(&file)?) {
            Ok(map) => Ok(Self { file, map }),
            Err(e) => Err(Error::BadJson { file, reason: e.to_string() }),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    fn bad(&self, field: &'static str, value: &Value, wanted: &'static str) -> Error {
        Error::BadField { file: self.file.clone(), field, value: value.to_string(), wanted }
    }

    fn number(&self, field: &'static str, names: &[&str]) -> Result<Option<usize>, Error> {
        let Some(value) = names.iter().find_map(|name| self.get(name)) else { return Ok(None) };
        let number = as_usize(value).ok_or_else(|| self.bad(field, value, "a number of things"))?;
        Ok(Some(number))
    }

    fn required(&self, field: &'static str, names: &[&str]) -> Result<usize, Error> {
        self.number(field, names)?
            .ok_or_else(|| Error::MissingField { file: self.file.clone(), field })
    }

    fn text(&self, field: &'static str) -> Result<String, Error> {
        let Some(value) = self.get(field) else {
            return Err(Error::MissingField { file: self.file.clone(), field });
        };
        value.as_str().map(str::to_owned).ok_or_else(|| self.bad(field, value, "a text"))
    }

    fn texts(&self, field: &'static str) -> Result<Vec<String>, Error> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let texts = value
            .as_array()
            .and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        texts.ok_or_else(|| self.bad(field, value, "a list of texts"))
    }

    fn flag(&self, field: &'static str) -> Result<Option<bool>, Error> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.bad(field, value, "true or false"))
    }

    fn ids(&self, field: &'static str) -> Result<Option<Vec<usize>>, Error> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let ids = match value {
            Value::Array(list) => list.iter().map(as_usize).collect(),
            one => as_usize(one).map(|id| vec![id]),
        };
        ids.map(Some).ok_or_else(|| self.bad(field, value, "a token id or a list of them"))
    }
}

fn as_usize(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(config: &str, generation: Option<&str>) -> Result<ModelConfig, Error> {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("config.json"), config).unwrap();
        if let Some(text) = generation {
            fs_err::write(dir.path().join("generation_config.json"), text).unwrap();
        }
        let config = ModelConfig::open(dir.path())?;
        config.check_special_tokens(dir.path())?;
        Ok(config)
    }

    #[test]
    fn families_speak_one_language() {
        let gpt2 = r#"{"model_type": "gpt2", "n_positions": 1024, "n_ctx": 512, "vocab_size": 50257, "n_embd": 768,
            "n_layer": 12, "n_head": 12, "architectures": ["GPT2LMHeadModel"], "eos_token_id": 50256}"#;
        let got = open(gpt2, None).unwrap();
        assert_eq!(
            (got.max_positions, got.n_layers, got.n_kv_heads, got.head_dim),
            (Some(1024), 12, 12, 64)
        );
        assert_eq!((got.tie_word_embeddings, got.eos_token_ids), (true, vec![50256]));

        let neo = r#"{"model_type": "gpt_neo", "max_position_embeddings": 2048, "vocab_size": 9, "hidden_size": 8,
            "num_layers": 2, "num_heads": 2}"#;
        let got = open(neo, None).unwrap();
        assert_eq!((got.n_layers, got.n_heads, got.head_dim), (2, 2, 4));

        let llama = r#"{"model_type": "llama", "max_position_embeddings": 64, "vocab_size": 99, "hidden_size": 8,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "eos_token_id": 1, "bos_token_id": 0}"#;
        let got = open(llama, Some(r#"{"eos_token_id": [1, 7]}"#)).unwrap();
        assert_eq!((got.n_kv_heads, got.head_dim, got.tie_word_embeddings), (2, 16, false));
        assert_eq!((got.eos_token_ids, got.bos_token_id), (vec![1, 7], Some(0)));
    }

    #[test]
    fn broken_configurations_are_named() {
        let with = |extra: &str| {
            format!(
                r#"{{"vocab_size": 10, "num_hidden_layers": 1, "num_attention_heads": 3, "hidden_size": 9{extra}}}"#
            )
        };
        let cases = [
            ("[]".to_owned(), "is not valid JSON: invalid type: sequence, expected a map"),
            (with(""), "lacks `model_type`"),
            (with(r#", "model_type": 3"#), "`model_type` in `"),
            (
                with(r#", "model_type": "x", "eos_token_id": 10"#),
                "is 10, outside the vocabulary of 10",
            ),
            (
                with(r#", "model_type": "x", "eos_token_id": [-1]"#),
                "is [-1], not a token id or a list of them",
            ),
            (
                with(r#", "model_type": "x", "head_dim": "big""#),
                "is \"big\", not a number of things",
            ),
            (
                with(r#", "model_type": "x", "quantization_config": {"quant_method": "gptq"}"#),
                "are quantised already, by `gptq`",
            ),
            (with(r#", "model_type": "x""#).replace('9', "10"), "size 10 of"),
        ];
        for (config, want) in cases {
            let got = open(&config, None).unwrap_err().to_string();
            assert!(got.contains(want), "{config}\n{got}");
        }
    }
}
