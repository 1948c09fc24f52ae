//! `rope`: rotary positions, from `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::as_usize;
use super::check::{Refusal, shown};

/// Rotary positions as they are computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// `default`, `linear`, `dynamic`, `yarn`, `longrope` or `llama3`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The base.
    pub theta: f64,
    /// Everything else that the type reads.
    pub parameters: BTreeMap<String, Value>,
    /// Positions that it reaches, where these are not `max_position_embeddings`: more with `yarn`; fewer with `longrope`,
    /// whose frequencies are others beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<usize>,
}

impl Rope {
    /// True if the frequencies depend on the length of the prompt beyond the last position.
    pub fn is_dynamic(&self) -> bool {
        ["dynamic", "longrope"].contains(&self.kind.as_str())
    }
}

/// The types that are computed.
pub(super) const KINDS: [&str; 6] = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"];

/// For each type the keys it needs and those it may have.
const READ: [(&str, &[&str], &[&str]); 6] = [
    ("default", &[], &[]),
    ("linear", &["factor"], &[]),
    ("dynamic", &["factor"], &[]),
    (
        "yarn",
        &["factor"],
        &[
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ],
    ),
    (
        "longrope",
        &["short_factor", "long_factor"],
        &["original_max_position_embeddings", "factor", "attention_factor"],
    ),
    (
        "llama3",
        &["factor", "low_freq_factor", "high_freq_factor"],
        &["original_max_position_embeddings"],
    ),
];

/// Key of the length before scaling, beside or within the rotary settings.
const ORIGINAL: &str = "original_max_position_embeddings";

/// The base when no key states one, in every family with rotary positions.
const THETA: f64 = 10_000.0;

/// The rotary positions that the configuration `map` of `file` describes, as transformers 5 reads it.
pub(super) fn resolve(file: &Path, map: &Map<String, Value>) -> Result<Rope, Refusal> {
    let stated = |key: &'static str| {
        let settings = map.get(key)?.as_object()?;
        (!settings.is_empty()).then_some((key, settings))
    };
    let (key, settings) = match (stated("rope_scaling"), stated("rope_parameters")) {
        (Some((_, old)), Some((_, new))) if plain(old, map) != plain(new, map) => {
            return Err(conflict(
                file,
                ("rope_scaling", &Value::Object(old.clone())),
                ("rope_parameters", &Value::Object(new.clone())),
            ));
        }
        (Some(old), _) => old,
        (None, Some(new)) => new,
        (None, None) => ("rope_theta", &Map::new()),
    };
    if let Some((layers, _)) = settings.iter().find(|(_, value)| value.is_object()) {
        return Err(Refusal::Rope {
            file: file.to_owned(),
            key: key.to_owned(),
            kind: kind(settings),
            what: format!("has settings of its own for `{layers}` layers, which is not supported"),
        });
    }
    if let (Some(a), Some(b)) = (settings.get("type"), settings.get("rope_type"))
        && a != b
    {
        return Err(conflict(file, ("type", a), ("rope_type", b)));
    }
    let kind = kind(settings);
    let Some((_, needed, allowed)) = READ.iter().find(|(name, _, _)| *name == kind) else {
        return Err(Refusal::RopeType { file: file.to_owned(), key: key.to_owned(), kind });
    };
    let wrong = |what: String| Refusal::Rope {
        file: file.to_owned(),
        key: key.to_owned(),
        kind: kind.clone(),
        what,
    };
    let theta = theta(file, map, settings)?;
    let mut parameters = BTreeMap::new();
    for (name, value) in settings.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "type" | "rope_type" | "rope_theta" => {}
            "partial_rotary_factor" if value.as_f64() == Some(1.0) => {}
            name if needed.contains(&name) || allowed.contains(&name) => {
                let is_list = ["short_factor", "long_factor"].contains(&name);
                let fits = if is_list {
                    value.is_array()
                } else {
                    value.is_number() || value.is_boolean()
                };
                if name == "factor" && !value.as_f64().is_some_and(|factor| factor > 0.0) {
                    return Err(wrong(format!(
                        "has {} as `factor`, not a positive number",
                        shown(value)
                    )));
                }
                if !fits {
                    let wanted = if is_list { "a list" } else { "a number" };
                    return Err(wrong(format!("has {} as `{name}`, not {wanted}", shown(value))));
                }
                parameters.insert(name.to_owned(), value.clone());
            }
            // Written by tools of the time; it says what the default says.
            "original_max_position_embeddings"
                if value.as_f64() == map.get("max_position_embeddings").and_then(Value::as_f64) => {
            }
            name => {
                return Err(wrong(format!(
                    "has `{name}`: {}, which it does not use",
                    shown(value)
                )));
            }
        }
    }
    // The place of transformers' own longrope configurations.
    if let Some(beside) = map.get(ORIGINAL).filter(|value| !value.is_null()) {
        match (kind.as_str(), parameters.get(ORIGINAL)) {
            ("yarn" | "longrope" | "llama3", Some(within)) if number(within) != number(beside) => {
                let within = ("original_max_position_embeddings of the rotary settings", within);
                return Err(conflict(file, (ORIGINAL, beside), within));
            }
            ("longrope", None) => {
                parameters.insert(ORIGINAL.to_owned(), beside.clone());
            }
            ("yarn" | "llama3", None) => {
                return Err(wrong(format!(
                    "lacks `{ORIGINAL}`, which is beside it: transformers 4 ignores it there, transformers 5 reads it"
                )));
            }
            _ => {}
        }
    }
    if let Some(name) = needed.iter().find(|name| !parameters.contains_key(**name)) {
        return Err(wrong(format!("lacks `{name}`")));
    }
    let reach = match kind.as_str() {
        "yarn" => reach(map, &parameters),
        "longrope" => parameters.get("original_max_position_embeddings").and_then(as_usize),
        _ => None,
    };
    Ok(Rope { kind, theta, parameters, reach })
}

fn kind(settings: &Map<String, Value>) -> String {
    let stated = settings.get("rope_type").or_else(|| settings.get("type"));
    stated.and_then(Value::as_str).unwrap_or("default").to_owned()
}

/// Settings in the spelling of transformers 5, to compare two of them.
fn plain(settings: &Map<String, Value>, map: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut plain: BTreeMap<String, Value> =
        settings.iter().map(|(key, value)| (key.clone(), number(value))).collect();
    plain.remove("type");
    plain.insert("rope_type".to_owned(), Value::String(kind(settings)));
    let theta = map.get("rope_theta").filter(|value| !value.is_null());
    let theta = theta.map_or_else(|| Value::from(THETA), number);
    plain.entry("rope_theta".to_owned()).or_insert(theta);
    plain.retain(|_, value| !value.is_null());
    plain
}

fn number(value: &Value) -> Value {
    value.as_f64().map_or_else(|| value.clone(), Value::from)
}

/// The base: in the settings or beside them, and not two different ones.
fn theta(
    file: &Path,
    map: &Map<String, Value>,
    settings: &Map<String, Value>,
) -> Result<f64, Refusal> {
    let beside = map.get("rope_theta").filter(|value| !value.is_null());
    let within = settings.get("rope_theta").filter(|value| !value.is_null());
    if let (Some(beside), Some(within)) = (beside, within)
        && beside.as_f64() != within.as_f64()
    {
        let within = ("rope_theta of the rotary settings", within);
        return Err(conflict(file, ("rope_theta", beside), within));
    }
    let Some(value) = within.or(beside) else { return Ok(THETA) };
    value.as_f64().filter(|theta| *theta > 0.0).ok_or_else(|| Refusal::Type {
        file: file.to_owned(),
        key: "rope_theta".to_owned(),
        value: shown(value),
        expected: "a positive number",
    })
}

/// The positions that `yarn` stretches the original length to.
fn reach(map: &Map<String, Value>, parameters: &BTreeMap<String, Value>) -> Option<usize> {
    let original = parameters
        .get("original_max_position_embeddings")
        .or_else(|| map.get("max_position_embeddings"))
        .and_then(as_usize)?;
    let factor = parameters.get("factor")?.as_f64()?;
    // A product of a length and a small factor: whole steps of the factor in 1/64 are exact enough for a limit.
    let sixty_fourths = as_usize(&Value::from((factor * 64.0).floor()))?;
    Some(original.checked_mul(sixty_fourths)? / 64)
}

fn conflict(file: &Path, first: (&str, &Value), second: (&str, &Value)) -> Refusal {
    Refusal::Conflict {
        file: file.to_owned(),
        first: first.0.to_owned(),
        second: second.0.to_owned(),
        first_value: shown(first.1),
        second_value: shown(second.1),
    }
}
