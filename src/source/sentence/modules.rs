//! `Module`: the entries of `modules.json` with their settings, those that follow the Transformer.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::settings::Settings;
use crate::source::json as json_file;

/// A step from token vectors to an embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "module", rename_all = "snake_case")]
pub enum Module {
    /// Token vectors to one vector: the results of all modes side by side.
    Pooling {
        /// The modes.
        modes: Vec<PoolingMode>,
        /// True if the tokens of a prompt take part.
        include_prompt: bool,
    },
    /// A linear layer and an activation.
    Dense {
        /// The folder of its tensors.
        folder: String,
        /// Elements taken.
        in_features: usize,
        /// Elements given.
        out_features: usize,
        /// The activation's class.
        activation: String,
        /// True if the input is added to the result.
        residual: bool,
        /// True if it works on token vectors, before pooling.
        on_tokens: bool,
    },
    /// A layer norm.
    LayerNorm {
        /// The folder of its tensors.
        folder: String,
        /// Elements taken and given.
        dimension: usize,
    },
    /// Nothing outside training.
    Dropout,
    /// Division by the vector's length.
    Normalize {
        /// True if it works on token vectors, before pooling.
        on_tokens: bool,
    },
}

impl Module {
    /// The class, as sentence-transformers names it, with what tells it from others of its kind.
    pub fn describe(&self) -> String {
        match self {
            Self::Pooling { modes, include_prompt } => {
                let modes: Vec<_> = modes.iter().map(|mode| mode.name()).collect();
                let left_out = if *include_prompt { "" } else { ", prompt left out" };
                format!("Pooling ({}{left_out})", modes.join(" + "))
            }
            Self::Dense { in_features, out_features, activation, residual, .. } => {
                let added = if *residual { ", residual" } else { "" };
                format!("Dense ({in_features} to {out_features}, {activation}{added})")
            }
            Self::LayerNorm { .. } => "LayerNorm".to_owned(),
            Self::Dropout => "Dropout".to_owned(),
            Self::Normalize { .. } => "Normalize".to_owned(),
        }
    }
}

impl PoolingMode {
    /// The mode as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::MeanSqrt => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::LastToken => "lasttoken",
        }
    }
}

/// How token vectors become one, as sentence-transformers names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolingMode {
    /// The first token.
    Cls,
    /// The largest of each element.
    Max,
    /// The mean.
    Mean,
    /// The sum, divided by the root of the number of tokens.
    #[serde(rename = "mean_sqrt_len_tokens")]
    MeanSqrt,
    /// The mean with weights that grow with the position.
    WeightedMean,
    /// The last token.
    LastToken,
}

/// Pooling's older settings, one flag for each mode, in the order in which the results are joined.
const FLAGS: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::Cls),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrt),
    ("pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", PoolingMode::LastToken),
];

/// Activations that can be drawn, by the name of their class in `torch.nn`.
const ACTIVATIONS: [&str; 10] = [
    "Identity",
    "Tanh",
    "GELU",
    "ReLU",
    "Sigmoid",
    "SiLU",
    "LeakyReLU",
    "ELU",
    "ReLU6",
    "Softplus",
];

const TOKENS: &str = "token_embeddings";
const SENTENCE: &str = "sentence_embedding";

/// The folder of the Transformer and the modules after it; nothing where there is no `modules.json`.
pub(super) fn list(root: &Path) -> Result<Option<(String, Vec<Module>)>, Error> {
    let file = root.join("modules.json");
    if !file.is_file() {
        return Ok(None);
    }
    let bad = |reason: String| Error::Bad { file: file.clone(), reason };
    let entries: Vec<serde_json::Map<String, Value>> = json_file::read(&file)?;
    let mut first = None;
    let mut modules = Vec::new();
    let mut names = Vec::new();
    for (place, entry) in entries.into_iter().enumerate() {
        let mut entry = Settings::of(&file, entry);
        drop(entry.take("idx"));
        let name = entry.text("name")?.unwrap_or_else(|| place.to_string());
        let folder = entry.text("path")?.unwrap_or_default();
        let class =
            entry.text("type")?.ok_or_else(|| bad(format!("module {place} has no `type`")))?;
        let kwargs = entry.take("kwargs").filter(|kwargs| *kwargs != json!([]));
        if let Some(kwargs) = kwargs {
            return Err(entry.unsupported("kwargs", &kwargs, None));
        }
        if names.contains(&name) {
            return Err(bad(format!("two modules have the name `{name}`")));
        }
        names.push(name);
        let plain = |part| matches!(part, Component::Normal(_));
        if !Path::new(&folder).components().all(plain) {
            return Err(bad(format!("module path `{folder}` leaves the checkpoint")));
        }
        let kind = class_name(&class);
        if first.is_none() {
            if kind != Some("Transformer") {
                let advice =
                    "the first module must be sentence-transformers' Transformer".to_owned();
                return Err(entry.unsupported("type", &json!(class), Some(advice)));
            }
            first = Some(folder);
        } else {
            let module = match kind {
                Some("Pooling") => pooling(root, &folder)?,
                Some("Dense") => dense(root, &folder)?,
                Some("LayerNorm") => layer_norm(root, &folder)?,
                Some("Dropout") => dropout(root, &folder)?,
                Some("Normalize") => normalize(root, &folder)?,
                _ => {
                    let advice = "supported are Transformer, Pooling, Dense, LayerNorm, Dropout and Normalize";
                    return Err(entry.unsupported("type", &json!(class), Some(advice.to_owned())));
                }
            };
            modules.push(module);
        }
        entry.end()?;
    }
    let first = first.ok_or_else(|| bad("it names no module".to_owned()))?;
    if !modules.iter().any(|module| matches!(module, Module::Pooling { .. })) {
        return Err(bad("it has no Pooling".to_owned()));
    }
    Ok(Some((first, modules)))
}

/// The name of a class of sentence-transformers itself, before version 5.4 or since; nothing for other code.
fn class_name(path: &str) -> Option<&str> {
    let below = path.strip_prefix("sentence_transformers.")?;
    let places = ["models.", "base.modules.", "sentence_transformer.modules."];
    let below = places.iter().find_map(|place| below.strip_prefix(place))?;
    let mut parts = below.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) | (Some(_), Some(name), None) => Some(name),
        _ => None,
    }
}

/// The settings of the module in `folder`; none where it has no file.
fn open(root: &Path, folder: &str) -> Result<Settings, Error> {
    let file = root.join(folder).join("config.json");
    let found = if folder.is_empty() { None } else { Settings::open(&file)? };
    Ok(found.unwrap_or_else(|| Settings::of(&file, serde_json::Map::new())))
}

fn pooling(root: &Path, folder: &str) -> Result<Module, Error> {
    let mut settings = open(root, folder)?;
    let mode = settings.take("pooling_mode");
    let mut flagged = Vec::new();
    for (key, mode) in FLAGS {
        flagged.extend(settings.flag(key)?.filter(|on| *on).map(|_| mode));
    }
    let modes = match mode {
        None if flagged.is_empty() => vec![PoolingMode::Mean],
        None => flagged,
        Some(value) => {
            let list = if value.is_array() { value.clone() } else { json!([value]) };
            match serde_json::from_value::<Vec<PoolingMode>>(list) {
                Ok(modes) if !modes.is_empty() => modes,
                _ => return Err(settings.unsupported("pooling_mode", &value, None)),
            }
        }
    };
    let include_prompt = settings.flag("include_prompt")?.unwrap_or(true);
    for key in ["word_embedding_dimension", "embedding_dimension"] {
        drop(settings.take(key));
    }
    settings.end()?;
    Ok(Module::Pooling { modes, include_prompt })
}

fn dense(root: &Path, folder: &str) -> Result<Module, Error> {
    let mut settings = open(root, folder)?;
    let activation = settings.text("activation_function")?;
    let activation = activation.unwrap_or_else(|| "torch.nn.modules.activation.Tanh".to_owned());
    let name = activation.rsplit('.').next().unwrap_or_default();
    if !activation.starts_with("torch.nn.") || !ACTIVATIONS.contains(&name) {
        let advice = format!("supported are {} of torch.nn", ACTIVATIONS.join(", "));
        return Err(settings.unsupported("activation_function", &json!(activation), Some(advice)));
    }
    let on_tokens = ports(&mut settings)?;
    let missing = |key: &str| Error::Bad {
        file: root.join(folder).join("config.json"),
        reason: format!("`{key}` is missing"),
    };
    let in_features = settings.count("in_features")?.ok_or_else(|| missing("in_features"))?;
    let out_features = settings.count("out_features")?.ok_or_else(|| missing("out_features"))?;
    settings.flag("bias")?;
    let residual = settings.flag("use_residual")?.unwrap_or(false);
    settings.end()?;
    let (folder, activation) = (folder.to_owned(), name.to_owned());
    Ok(Module::Dense { folder, in_features, out_features, activation, residual, on_tokens })
}

fn layer_norm(root: &Path, folder: &str) -> Result<Module, Error> {
    let mut settings = open(root, folder)?;
    let dimension = settings.count("dimension")?.ok_or_else(|| Error::Bad {
        file: settings.file().to_owned(),
        reason: "`dimension` is missing".to_owned(),
    })?;
    settings.end()?;
    Ok(Module::LayerNorm { folder: folder.to_owned(), dimension })
}

fn dropout(root: &Path, folder: &str) -> Result<Module, Error> {
    let mut settings = open(root, folder)?;
    drop(settings.take("dropout"));
    settings.end()?;
    Ok(Module::Dropout)
}

fn normalize(root: &Path, folder: &str) -> Result<Module, Error> {
    let mut settings = open(root, folder)?;
    let on_tokens = ports(&mut settings)?;
    settings.end()?;
    Ok(Module::Normalize { on_tokens })
}

/// True if a module works on token vectors; it must write what it reads.
fn ports(settings: &mut Settings) -> Result<bool, Error> {
    let source = settings.text("module_input_name")?.unwrap_or_else(|| SENTENCE.to_owned());
    let target = settings.text("module_output_name")?.unwrap_or_else(|| source.clone());
    if source != SENTENCE && source != TOKENS {
        return Err(settings.unsupported("module_input_name", &json!(source), None));
    }
    if target != source {
        return Err(settings.unsupported("module_output_name", &json!(target), None));
    }
    Ok(source == TOKENS)
}
