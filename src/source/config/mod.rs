//! `ModelConfig`: what `config.json` says about a model, in one vocabulary for all families.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

mod check;
#[cfg(test)]
mod docs;
pub mod keys;
mod rope;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use check::{Allow, Refusal, Review};
pub use rope::Rope;

use super::json;
use crate::base::error::{ErrorKind, Hint};

/// The facts of a model that are needed before anything is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// True if the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Ids that end a text; `generation_config.json` goes before `config.json`, as in `generate`.
    pub eos_token_ids: Vec<usize>,
    /// The id that begins a text.
    pub bos_token_id: Option<usize>,
    /// The id that fills a text up.
    pub pad_token_id: Option<usize>,
    /// Rotary positions, in a family that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope: Option<Rope>,
}

/// A configuration with everything that was found on the way.
#[derive(Debug, Clone)]
pub struct Read {
    /// The facts.
    pub config: ModelConfig,
    /// What became of each key.
    pub review: Review,
    /// What was read otherwise than it is written.
    pub warnings: Vec<String>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("`{dir}` has no `config.json`{}", other_kind(*.beside))]
    Missing { dir: PathBuf, beside: Option<&'static str> },
    #[error("`{file}` lacks `{field}`")]
    MissingField { file: PathBuf, field: &'static str },
    #[error("`{field}` in `{file}` is {value}, not {wanted}")]
    BadField { file: PathBuf, field: &'static str, value: String, wanted: &'static str },
    #[error("the hidden size {hidden_size} of `{file}` does not divide into {n_heads} heads")]
    UnevenHeads { file: PathBuf, hidden_size: usize, n_heads: usize },
    #[error("`{field}` of `{dir}` is {id}, outside the vocabulary of {vocab_size}")]
    TokenOutside { dir: PathBuf, field: &'static str, id: usize, vocab_size: usize },
    #[error("sequence length {seq_len} is beyond the {max_positions} positions of `{dir}`{}", depends(*.dynamic))]
    TooLong { dir: PathBuf, seq_len: usize, max_positions: usize, fits: usize, dynamic: bool },
}

fn depends(dynamic: bool) -> &'static str {
    if dynamic {
        ", beyond which its rotary embeddings depend on the length of the prompt"
    } else {
        ""
    }
}

fn other_kind(other: Option<&'static str>) -> String {
    other.map_or_else(String::new, |name| format!(", but {name}"))
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Json(e) => e.hint(),
            Self::Refused(e) => e.hint(),
            Self::Missing { .. } => Some(
                "pass the folder of a `transformers` checkpoint, or a repository of the hub"
                    .to_owned(),
            ),
            Self::TooLong { max_positions, fits, .. } if max_positions == fits => {
                Some(format!("pass `--seq-len {fits}` or less"))
            }
            Self::TooLong { fits, .. } => Some(format!("pass `--seq-len {fits}`")),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Json(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

/// Files that tell what a folder without `config.json` is.
const TELLING: [(&str, &str); 5] = [
    ("adapter_config.json", "an `adapter_config.json`: it is an adapter"),
    ("params.json", "a `params.json`: it is in Meta's or Mistral's own format"),
    ("model_index.json", "a `model_index.json`: it is a diffusion pipeline"),
    ("Manifest.json", "a `Manifest.json`: it is a Core ML package"),
    ("open_clip_config.json", "an `open_clip_config.json`: it is an OpenCLIP model"),
];

impl ModelConfig {
    /// Reads `config.json`, and `generation_config.json` where there is one, of the folder `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(read(dir, false)?.config)
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

/// Reads the configuration of the folder `dir` and holds it against the table of known keys.
///
/// `makes_sentences` says that the folder is the transformer of a sentence-transformers model.
pub fn read(dir: &Path, makes_sentences: bool) -> Result<Read, Error> {
    let file = dir.join("config.json");
    if !file.is_file() {
        let beside = TELLING.iter().find(|(name, _)| dir.join(name).is_file());
        let (dir, beside) = (dir.to_owned(), beside.map(|(_, what)| *what));
        return Err(Error::Missing { dir, beside });
    }
    let fields = Fields::open(file)?;
    let review = check::review(&fields.file, &fields.map, makes_sentences);
    let generation = dir.join("generation_config.json");
    let generation = if generation.is_file() { Some(Fields::open(generation)?) } else { None };
    let mut warnings = generation.as_ref().map(unapplied).unwrap_or_default();
    match facts(&fields, generation.as_ref(), &review, &mut warnings) {
        Ok(config) => Ok(Read { config, review, warnings }),
        // Of an unknown family it does not matter what its file lacks.
        Err(error) => match review.refusals.into_iter().next() {
            Some(refusal @ Refusal::Family { .. })
                if fields.get("model_type").is_some_and(Value::is_string) =>
            {
                Err(refusal.into())
            }
            _ => Err(error),
        },
    }
}

fn facts(
    fields: &Fields,
    generation: Option<&Fields>,
    review: &Review,
    warnings: &mut Vec<String>,
) -> Result<ModelConfig, Error> {
    let model_type = fields.text("model_type")?;
    let defaults = Defaults::of(&model_type);
    let hidden_size = fields.required("hidden_size", &["hidden_size", "n_embd", "dim"])?;
    let n_heads = fields.required(
        "num_attention_heads",
        &["num_attention_heads", "n_head", "num_heads", "n_heads"],
    )?;
    let head_dim = match fields.number("head_dim", &["head_dim"])?.or(defaults.head_dim) {
        Some(head_dim) => head_dim,
        None if n_heads > 0 && hidden_size % n_heads == 0 => hidden_size / n_heads,
        None => {
            let file = fields.file.clone();
            return Err(Error::UnevenHeads { file, hidden_size, n_heads });
        }
    };
    let vocab_size = fields.required("vocab_size", &["vocab_size"])?;
    let rope = review.rope.clone();
    let stated = fields
        .number("max_position_embeddings", &["max_position_embeddings", "n_positions"])?
        .or(defaults.max_positions);
    let reach = rope.as_ref().and_then(|rope| rope.reach);
    let is_dynamic = rope.as_ref().is_some_and(Rope::is_dynamic);
    let n_kv_heads = fields.number("num_key_value_heads", &["num_key_value_heads"])?;
    // As the configuration class: a key that is absent has a default, a key that is null has none.
    let absent = |key: &str| !fields.map.contains_key(key);
    let default = |id: Option<usize>| id.filter(|id| *id < vocab_size);
    let mut eos = first_known(generation, fields, |f| f.ids("eos_token_id", warnings))?;
    if eos.is_none() && generation.is_none() && absent("eos_token_id") {
        eos = default(defaults.eos).map(|id| vec![id]);
    }
    let mut bos = first_known(generation, fields, |f| f.ids("bos_token_id", warnings))?;
    if bos.is_none() && generation.is_none() && absent("bos_token_id") {
        bos = default(defaults.bos).map(|id| vec![id]);
    }
    let bos_token_id = match bos.as_deref() {
        None | Some([]) => None,
        Some([id]) => Some(*id),
        Some(_) => {
            let value = fields.get("bos_token_id").cloned().unwrap_or_default();
            return Err(fields.bad("bos_token_id", &value, "one token id"));
        }
    };
    let pad = first_known(generation, fields, |f| f.ids("pad_token_id", &mut Vec::new()))?;
    Ok(ModelConfig {
        architectures: fields.texts("architectures")?,
        max_positions: stated.map(|stated| match (reach, is_dynamic) {
            (None, _) => stated,
            (Some(reach), true) => reach.min(stated),
            (Some(reach), false) => reach.max(stated),
        }),
        vocab_size,
        hidden_size,
        n_layers: fields.required(
            "num_hidden_layers",
            &["num_hidden_layers", "n_layer", "num_layers", "n_layers"],
        )?,
        n_heads,
        n_kv_heads: match n_kv_heads {
            None if absent("num_key_value_heads") => defaults.n_kv_heads.unwrap_or(n_heads),
            stated => stated.unwrap_or(n_heads),
        },
        head_dim,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(!defaults.untied),
        eos_token_ids: eos.unwrap_or_default(),
        bos_token_id,
        pad_token_id: pad.and_then(|ids| ids.first().copied()),
        rope,
        model_type,
    })
}

/// What the configuration class of a family holds when a key is absent.
#[derive(Default)]
struct Defaults {
    untied: bool,
    head_dim: Option<usize>,
    n_kv_heads: Option<usize>,
    max_positions: Option<usize>,
    bos: Option<usize>,
    eos: Option<usize>,
}

impl Defaults {
    fn of(model_type: &str) -> Self {
        let untied = Self { untied: true, ..Self::default() };
        match model_type {
            "llama" => Self { max_positions: Some(2048), bos: Some(1), eos: Some(2), ..untied },
            "mistral" => Self {
                n_kv_heads: Some(8),
                max_positions: Some(131_072),
                bos: Some(1),
                eos: Some(2),
                ..untied
            },
            "qwen2" => Self { n_kv_heads: Some(32), max_positions: Some(32_768), ..untied },
            "qwen3" => Self {
                head_dim: Some(128),
                n_kv_heads: Some(32),
                max_positions: Some(32_768),
                ..untied
            },
            "phi" | "phi3" => untied,
            "gpt2" => Self {
                max_positions: Some(1024),
                bos: Some(50_256),
                eos: Some(50_256),
                ..Self::default()
            },
            "gpt_neo" => Self {
                max_positions: Some(2048),
                bos: Some(50_256),
                eos: Some(50_256),
                ..Self::default()
            },
            "bert" => Self { max_positions: Some(512), ..Self::default() },
            _ => Self::default(),
        }
    }
}

/// Settings of `generation_config.json` that change what transformers' `generate` writes, and that nothing here applies:
/// the key, and the value that changes nothing.
const UNAPPLIED: [(&str, f64); 6] = [
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("guidance_scale", 1.0),
];

/// The same for settings that are lists or tokens: any value changes something.
const UNAPPLIED_LISTS: [&str; 7] = [
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "forced_decoder_ids",
    "sequence_bias",
];

fn unapplied(generation: &Fields) -> Vec<String> {
    let numbers = UNAPPLIED.iter().filter_map(|(key, neutral)| {
        let value = generation.get(key)?;
        (value.as_f64() != Some(*neutral)).then_some((*key, value))
    });
    let lists = UNAPPLIED_LISTS.iter().filter_map(|key| {
        let value = generation.get(key)?;
        value.as_array().is_none_or(|list| !list.is_empty()).then_some((*key, value))
    });
    let file = generation.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    numbers
        .chain(lists)
        .map(|(key, value)| {
            let value = check::shown(value);
            format!("`{key}` in `{file}` is {value}, which `generate` does not apply")
        })
        .collect()
}

fn first_known<T>(
    generation: Option<&Fields>,
    model: &Fields,
    mut read: impl FnMut(&Fields) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if let Some(found) = generation.map(&mut read).transpose()?.flatten() {
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
        let map = json::read(&file)?;
        Ok(Self { file, map })
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

    /// Token ids: one, or a list. An id of −1 is none, with a warning.
    fn ids(
        &self,
        field: &'static str,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<usize>>, Error> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let list = match value {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut ids = Vec::new();
        for one in list {
            if one.as_f64() == Some(-1.0) {
                let file = self.file.file_name().unwrap_or_default().to_string_lossy();
                warnings.push(format!("`{field}` in `{file}` is −1, which is read as none"));
            } else {
                let wanted = "a token id or a list of them";
                ids.push(as_usize(one).ok_or_else(|| self.bad(field, value, wanted))?);
            }
        }
        Ok(Some(ids))
    }
}

/// A count, also one written as 256.0.
fn as_usize(value: &Value) -> Option<usize> {
    if let Some(n) = value.as_u64() {
        return usize::try_from(n).ok();
    }
    let x = value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x))?;
    format!("{x:.0}").parse().ok()
}
