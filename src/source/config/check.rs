//! `check`: a configuration held against the table of known keys, with everything that speaks against a conversion.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::keys::{
    ACTIVATION_KEYS, ACTIVATIONS, BOOLEANS, FAMILIES, Family, POSITIVE, Rule, WINDOWS, family,
    is_inert_form,
};
use super::rope;
use crate::base::did_you_mean::did_you_mean;
use crate::base::error::Hint;

/// What the user lets pass, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Keys of `config.json` that are not understood, or `architectures` and `auto_map`.
    pub config_keys: Vec<String>,
    /// Regular expressions of stored tensors that nothing uses.
    pub unused_tensors: Vec<String>,
}

/// A configuration that would be computed otherwise than its author meant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Refusal {
    #[error("architecture `{model_type}`{} of `{file}` is not supported", in_brackets(.classes))]
    Family { file: PathBuf, model_type: String, classes: Vec<String> },
    #[error("`{file}` has {}, which {} not understood", pairs(.keys), if .keys.len() == 1 { "is" } else { "are" })]
    UnknownKeys { file: PathBuf, model_type: String, keys: Vec<(String, String)> },
    #[error("`{key}` in `{file}` is {value}: {about} is not supported")]
    Value { file: PathBuf, key: String, value: String, about: String, wanted: String },
    #[error("`{key}` in `{file}` is {value}, expected {expected}")]
    Type { file: PathBuf, key: String, value: String, expected: &'static str },
    #[error("`architectures` in `{file}` names `{class}`, which is not one of {}", .known.join(", "))]
    Class { file: PathBuf, class: String, known: Vec<String> },
    #[error("`auto_map` in `{file}` asks for custom code: `{auto}` is `{class}`")]
    CustomCode { file: PathBuf, auto: String, class: String },
    #[error(
        "`{first}` and `{second}` in `{file}` contradict each other: {first_value} and {second_value}"
    )]
    Conflict {
        file: PathBuf,
        first: String,
        second: String,
        first_value: String,
        second_value: String,
    },
    #[error("`{key}` in `{file}` has rotary embeddings of type `{kind}`, which are not supported")]
    RopeType { file: PathBuf, key: String, kind: String },
    #[error("`{key}` in `{file}`, of type `{kind}`, {what}")]
    Rope { file: PathBuf, key: String, kind: String, what: String },
    #[error("the weights of `{dir}` are quantized already, by `{method}`")]
    Quantized { dir: PathBuf, method: String, key: String },
}

impl Refusal {
    /// The names to allow for it to pass, if it can.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::UnknownKeys { keys, .. } => keys.iter().map(|(key, _)| key.as_str()).collect(),
            Self::Class { .. } => vec!["architectures"],
            Self::CustomCode { .. } => vec!["auto_map"],
            _ => Vec::new(),
        }
    }

    /// What is left of it when `allowed` passes.
    fn without(&self, allowed: &[String]) -> Option<Self> {
        let is_allowed = |key: &str| allowed.iter().any(|name| name == key);
        match self {
            Self::UnknownKeys { file, model_type, keys } => {
                let keys: Vec<_> =
                    keys.iter().filter(|(key, _)| !is_allowed(key)).cloned().collect();
                let (file, model_type) = (file.clone(), model_type.clone());
                (!keys.is_empty()).then_some(Self::UnknownKeys { file, model_type, keys })
            }
            other if other.keys().iter().any(|key| is_allowed(key)) => None,
            other => Some(other.clone()),
        }
    }
}

impl Hint for Refusal {
    fn hint(&self) -> Option<String> {
        let flags = || {
            let flags: Vec<_> =
                self.keys().iter().map(|key| format!("`--allow-config-key {key}`")).collect();
            flags.join(" ")
        };
        Some(match self {
            Self::Family { .. } => {
                let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
                format!("supported are {}", names.join(", "))
            }
            Self::UnknownKeys { model_type, keys, .. } => {
                let known = family(model_type).into_iter().flat_map(Family::rows);
                let near = match keys.as_slice() {
                    [(key, _)] => did_you_mean(key, known.map(|row| row.name)),
                    _ => None,
                };
                let meant =
                    near.map_or_else(String::new, |near| format!("did you mean `{near}`; "));
                format!("{meant}if nothing that the model computes depends on it, pass {}", flags())
            }
            Self::Value { wanted, .. } if wanted.is_empty() => return None,
            Self::Value { wanted, .. } => format!("supported is {wanted}"),
            Self::Class { .. } => {
                format!("pass {} to convert the model without what that class adds", flags())
            }
            Self::CustomCode { .. } => {
                format!("if the class computes what transformers' own does, pass {}", flags())
            }
            Self::Conflict { first, second, .. } => {
                format!("remove the one of `{first}` and `{second}` that is wrong")
            }
            Self::RopeType { .. } => {
                format!("supported are {}", rope::KINDS.join(", "))
            }
            Self::Rope { .. } | Self::Type { .. } => return None,
            Self::Quantized { key, .. } => format!(
                "take the original checkpoint in f16, bf16 or f32; if the weights here are floats again, remove \
                 `{key}` from config.json"
            ),
        })
    }
}

fn in_brackets(classes: &[String]) -> String {
    if classes.is_empty() { String::new() } else { format!(" ({})", classes.join(", ")) }
}

fn pairs(keys: &[(String, String)]) -> String {
    let shown: Vec<_> = keys.iter().map(|(key, value)| format!("`{key}`: {value}")).collect();
    shown.join(", ")
}

/// What became of the keys of one configuration.
#[derive(Debug, Clone, Default)]
pub struct Review {
    /// What speaks against a conversion.
    pub refusals: Vec<Refusal>,
    /// Keys that the conversion follows, with their values.
    pub honoured: Vec<(String, Value)>,
    /// Keys that do not change what the model computes.
    pub inert: Vec<String>,
    /// Rotary positions, in a family that has them.
    pub rope: Option<rope::Rope>,
}

impl Review {
    /// Fails with the first refusal that `allow` does not lift.
    pub fn check(&self, allow: &Allow) -> Result<(), Refusal> {
        match self.refusals.iter().find_map(|refusal| refusal.without(&allow.config_keys)) {
            None => Ok(()),
            Some(refusal) => Err(refusal),
        }
    }

    /// Names of `allow` that lift a refusal.
    pub fn lifted<'a>(&self, allow: &'a Allow) -> Vec<&'a str> {
        let lifts = |key: &&str| self.refusals.iter().any(|refusal| refusal.keys().contains(key));
        allow.config_keys.iter().map(String::as_str).filter(lifts).collect()
    }
}

/// Holds the configuration `map`, read from `file`, against the table of its family.
///
/// `makes_sentences` says that a list of sentence-transformers modules decides what the model is for, not its class.
pub(super) fn review(file: &Path, map: &Map<String, Value>, makes_sentences: bool) -> Review {
    let mut review = Review::default();
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
    let classes: Vec<String> = match map.get("architectures").and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        None => Vec::new(),
    };
    let Some(family) = family(text("model_type")) else {
        let (file, model_type) = (file.to_owned(), text("model_type").to_owned());
        review.refusals.push(Refusal::Family { file, model_type, classes });
        return review;
    };
    check_quantization(file, map, &mut review);
    check_classes(file, map, family, &classes, makes_sentences, &mut review);
    let mut unknown = Vec::new();
    for (name, value) in map.iter().filter(|(_, value)| !is_nothing(value)) {
        let Some(key) = family.key(name) else {
            if is_inert_form(name) {
                review.inert.push(name.clone());
            } else if !["quantization", "compression_config"].contains(&name.as_str()) {
                unknown.push((name.clone(), shown(value)));
            }
            continue;
        };
        if let Some(expected) = other_type(map, name, value) {
            let (file, key, value) = (file.to_owned(), name.clone(), shown(value));
            review.refusals.push(Refusal::Type { file, key, value, expected });
            continue;
        }
        match key.rule {
            Rule::Honoured => review.honoured.push((name.clone(), value.clone())),
            Rule::Inert => review.inert.push(name.clone()),
            Rule::Equals(wanted) if wanted.iter().any(|wanted| is_equal(value, wanted)) => {
                review.inert.push(name.clone());
            }
            Rule::Equals(wanted) => {
                review.refusals.push(refused(file, key, value, &wanted.join(" or ")));
            }
            Rule::OneKind | Rule::Kinds => match bad_kind(map, family, key.rule, value) {
                None => review.honoured.push((name.clone(), value.clone())),
                Some(wanted) => review.refusals.push(refused(file, key, value, &wanted)),
            },
        }
    }
    if !unknown.is_empty() {
        let model_type = family.name.to_owned();
        let file = file.to_owned();
        review.refusals.push(Refusal::UnknownKeys { file, model_type, keys: unknown });
    }
    check_spellings(file, map, family, &mut review);
    check_attention_layers(file, map, &mut review);
    if family.key("rope_parameters").is_some() {
        match rope::resolve(file, map) {
            Ok(rope) => review.rope = Some(rope),
            Err(refusal) => review.refusals.push(refusal),
        }
    }
    review
}

fn refused(file: &Path, key: &super::keys::Key, value: &Value, wanted: &str) -> Refusal {
    Refusal::Value {
        file: file.to_owned(),
        key: key.name.to_owned(),
        value: shown(value),
        about: key.about.to_owned(),
        wanted: wanted.to_owned(),
    }
}

/// Returns the expected type of the key `name` if `value` has another one.
fn other_type(map: &Map<String, Value>, name: &str, value: &Value) -> Option<&'static str> {
    if POSITIVE.contains(&name) && !value.as_f64().is_some_and(|x| x > 0.0) {
        return Some("a positive number");
    }
    // A window that is switched off may have any value.
    let unused = map.get("use_sliding_window").and_then(Value::as_bool) == Some(false);
    if WINDOWS.contains(&name) && !unused && !value.as_f64().is_some_and(|x| x >= 1.0) {
        return Some("a positive integer");
    }
    if ACTIVATION_KEYS.contains(&name)
        && !value.as_str().is_some_and(|name| ACTIVATIONS.contains(&name))
    {
        return Some("an activation function of transformers, such as `silu` or `gelu`");
    }
    (BOOLEANS.contains(&name) && !value.is_boolean()).then_some("true or false")
}

/// True if a value says nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn is_equal(value: &Value, wanted: &str) -> bool {
    let Ok(wanted) = serde_json::from_str::<Value>(wanted) else { return false };
    *value == wanted || value.as_f64().is_some_and(|x| Some(x) == wanted.as_f64())
}

/// A value as a message shows it.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}

fn check_quantization(file: &Path, map: &Map<String, Value>, review: &mut Review) {
    let dir = file.parent().unwrap_or_else(|| Path::new(".")).to_owned();
    let keys = ["quantization_config", "compression_config", "quantization"];
    for (key, value) in keys.iter().filter_map(|&key| Some((key, map.get(key)?.as_object()?))) {
        if value.is_empty() {
            continue;
        }
        let method = match value.get("quant_method").and_then(Value::as_str) {
            Some(method) => method,
            None if key == "quantization" || value.contains_key("group_size") => "MLX",
            None => key,
        };
        let (method, key) = (method.to_owned(), key.to_owned());
        // `mlx-lm` writes the same under two names.
        if !review.refusals.iter().any(|refusal| matches!(refusal, Refusal::Quantized { .. })) {
            review.refusals.push(Refusal::Quantized { dir: dir.clone(), method, key });
        }
    }
}

fn check_classes(
    file: &Path,
    map: &Map<String, Value>,
    family: &Family,
    classes: &[String],
    makes_sentences: bool,
    review: &mut Review,
) {
    let is_known = |class: &String| family.classes.contains(&class.as_str());
    let decided = !family.is_decoder && makes_sentences;
    if let Some(class) = classes.iter().find(|class| !is_known(class)).filter(|_| !decided) {
        review.refusals.push(Refusal::Class {
            file: file.to_owned(),
            class: class.clone(),
            known: family.classes.iter().map(|&name| name.to_owned()).collect(),
        });
    }
    let custom = map.get("auto_map").and_then(Value::as_object);
    if let Some((auto, class)) = custom.and_then(|map| map.iter().next()) {
        let class = class.as_str().map_or_else(|| class.to_string(), str::to_owned);
        let (file, auto) = (file.to_owned(), auto.clone());
        review.refusals.push(Refusal::CustomCode { file, auto, class });
    }
}

/// The two spellings of one setting that GPT-2 and GPT-Neo know must agree.
fn check_spellings(file: &Path, map: &Map<String, Value>, family: &Family, review: &mut Review) {
    const SAME: [(&str, &str); 8] = [
        ("n_embd", "hidden_size"),
        ("n_head", "num_attention_heads"),
        ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
        ("num_heads", "num_attention_heads"),
        ("num_layers", "num_hidden_layers"),
        ("torch_dtype", "dtype"),
        ("n_inner", "intermediate_size"),
    ];
    for (first, second) in SAME {
        let (Some(a), Some(b)) = (map.get(first), map.get(second)) else { continue };
        let matters = family.key(first).is_some_and(|key| matches!(key.rule, Rule::Honoured));
        if a != b && !a.is_null() && !b.is_null() && matters {
            review.refusals.push(Refusal::Conflict {
                file: file.to_owned(),
                first: first.to_owned(),
                second: second.to_owned(),
                first_value: shown(a),
                second_value: shown(b),
            });
        }
    }
}

/// GPT-Neo states the kinds of its layers twice, once in short.
fn check_attention_layers(file: &Path, map: &Map<String, Value>, review: &mut Review) {
    let (Some(types), Some(layers)) = (
        map.get("attention_types").and_then(Value::as_array),
        map.get("attention_layers").and_then(Value::as_array),
    ) else {
        return;
    };
    let mut expanded = Vec::new();
    for entry in types {
        let kinds = entry.get(0).and_then(Value::as_array);
        let n = entry.get(1).and_then(Value::as_u64);
        let (Some(kinds), Some(n)) = (kinds, n.and_then(|n| usize::try_from(n).ok())) else {
            return;
        };
        if n > 10_000 {
            return;
        }
        for _ in 0..n {
            expanded.extend(kinds.iter().cloned());
        }
    }
    if expanded != *layers {
        review.refusals.push(Refusal::Conflict {
            file: file.to_owned(),
            first: "attention_types".to_owned(),
            second: "attention_layers".to_owned(),
            first_value: shown(&Value::Array(types.clone())),
            second_value: shown(&Value::Array(layers.clone())),
        });
    }
}

/// What `layer_types` should be instead, if it cannot be followed.
fn bad_kind(
    map: &Map<String, Value>,
    family: &Family,
    rule: Rule,
    value: &Value,
) -> Option<String> {
    const FULL: &str = "full_attention";
    const SLIDING: &str = "sliding_attention";
    let kinds: Vec<&str> =
        value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap_or("?")).collect();
    let uses = map.get("use_sliding_window").and_then(Value::as_bool);
    let has_window = match map.get("sliding_window") {
        // Mistral's window is 4096 when the key is absent.
        None => family.name == "mistral",
        Some(Value::Null) => false,
        Some(_) => family.name == "mistral" || uses == Some(true),
    };
    match rule {
        Rule::OneKind => {
            let wanted = if has_window { SLIDING } else { FULL };
            kinds.iter().any(|kind| *kind != wanted).then(|| format!("`{wanted}` in every layer"))
        }
        _ if kinds.iter().any(|kind| ![FULL, SLIDING].contains(kind)) => {
            Some(format!("`{FULL}` or `{SLIDING}`"))
        }
        _ if kinds.contains(&SLIDING) && !has_window => {
            Some(format!("`{FULL}` where `use_sliding_window` is not true"))
        }
        _ => None,
    }
}
