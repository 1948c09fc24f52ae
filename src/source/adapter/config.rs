//! `LoraConfig`: `adapter_config.json`, with every setting that changes the arithmetic either read or refused.

use std::path::Path;

use fancy_regex::Regex;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Error;
use super::settings::{self, CONVERT, LOFTQ, MERGE, RANDOM, UNKNOWN_INIT};
use super::targets::Targets;
use crate::source::json;

/// The settings of a LoRA adapter that decide what is merged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "switches of adapter_config.json")]
pub struct LoraConfig {
    /// Rank of a pair, unless `rank_pattern` says otherwise.
    #[serde(default = "eight")]
    pub r: usize,
    /// Numerator of the scale, unless `alpha_pattern` says otherwise.
    #[serde(default = "eight_point_zero")]
    pub lora_alpha: f64,
    /// True if the scale is alpha over the root of the rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// True if weights are stored [in, out].
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// True if outputs have a trained magnitude.
    #[serde(default)]
    pub use_dora: bool,
    /// True if `lora_B` has a bias.
    #[serde(default)]
    pub lora_bias: bool,
    /// True if a tied head follows what the adapter makes of the embedding.
    #[serde(default)]
    pub ensure_weight_tying: bool,
    /// Ranks of modules whose names match.
    #[serde(default, deserialize_with = "or_default")]
    pub rank_pattern: IndexMap<String, usize>,
    /// Alphas of modules whose names match.
    #[serde(default, deserialize_with = "or_default")]
    pub alpha_pattern: IndexMap<String, f64>,
    /// Modules that are brought whole.
    #[serde(default, deserialize_with = "or_default")]
    pub modules_to_save: Vec<String>,
    /// Ranges of the base's layers, put one after the other, that make the layers of the adapted model.
    #[serde(default, deserialize_with = "or_default")]
    pub layer_replication: Vec<[usize; 2]>,
    /// Tokens whose vectors are replaced.
    #[serde(default)]
    pub trainable_token_indices: Option<TokenIndices>,
    /// The base it was trained on, as its author called it.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// What loading does to the base's weights.
    #[serde(skip)]
    pub init: Init,
    /// Which modules have a pair.
    #[serde(skip)]
    pub(super) targets: Targets,
    /// Trained biases of the base: `none`, `all` or `lora_only`.
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    auto_mapping: Option<AutoMapping>,
}

/// What PEFT does to the weight of a module when it adds a pair to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Init {
    /// Nothing.
    #[default]
    Unchanged,
    /// The product of the largest singular values and vectors is taken out.
    Pissa,
    /// The product of the first columns of the QR decomposition is taken out.
    Olora,
}

impl Init {
    /// The name that PEFT knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "true",
            Self::Pissa => "pissa",
            Self::Olora => "olora",
        }
    }
}

/// Tokens whose vectors an adapter replaces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TokenIndices {
    /// Of the embedding of the model's tokens.
    Embedding(Vec<usize>),
    /// Of modules, by the ends of their names.
    Modules(IndexMap<String, Vec<usize>>),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct AutoMapping {
    #[serde(default)]
    base_model_class: Option<String>,
}

/// Initialisations that leave the base as it was.
const HARMLESS_INITS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// Tasks of models with a head other than that of a language model.
const OTHER_TASKS: [&str; 3] = ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"];

impl LoraConfig {
    /// Reads and checks `adapter_config.json`.
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let file = file.to_owned();
        if !file.is_file() {
            return Err(Error::NoConfig { file });
        }
        let bad = |reason: String| Error::BadConfig { file: file.clone(), reason };
        let map: Map<String, Value> = json::read(&file)?;
        if map.contains_key("fine_tune_type") || map.contains_key("lora_parameters") {
            return Err(Error::Mlx { file });
        }
        let peft_type = map.get("peft_type").and_then(Value::as_str).unwrap_or("missing");
        if peft_type != "LORA" {
            let remedy = settings::remedy_for_type(peft_type);
            let peft_type = peft_type.to_owned();
            return Err(Error::PeftType { file: file.clone(), peft_type, remedy });
        }
        let refuse = |setting: &str, value: &Value, remedy| Error::Setting {
            file: file.clone(),
            setting: setting.to_owned(),
            value: value.to_string(),
            remedy,
        };
        if let Some((setting, value, remedy)) = settings::first_refused(&map) {
            return Err(refuse(setting, value, remedy));
        }
        let mut config: Self = json::read(&file)?;
        config.targets = json::read(&file)?;
        let init = map.get("init_lora_weights").unwrap_or(&Value::Null);
        config.init =
            read_init(init).map_err(|remedy| refuse("init_lora_weights", init, remedy))?;
        let text = |value: &str| Value::String(value.to_owned());
        match config.bias.as_deref() {
            None | Some("none" | "all" | "lora_only") => {}
            Some(other) => return Err(refuse("bias", &text(other), MERGE)),
        }
        let other_head = "it belongs to a model with another head than that of a language model; \
             pass an adapter that was trained on the model without a head or for generation";
        if let Some(task) = config.task_type.as_deref().filter(|task| OTHER_TASKS.contains(task)) {
            return Err(refuse("task_type", &text(task), other_head));
        }
        let class = config.auto_mapping.as_ref().and_then(|m| m.base_model_class.as_deref());
        let classifies =
            |class: &&str| class.contains("Classification") || class.contains("Answering");
        if let Some(class) = class.filter(classifies) {
            return Err(refuse("auto_mapping", &text(class), other_head));
        }
        if config.r == 0 || config.rank_pattern.values().any(|r| *r == 0) {
            return Err(bad("a rank is 0".to_owned()));
        }
        for pattern in config.rank_pattern.keys().chain(config.alpha_pattern.keys()) {
            regex(pattern).map_err(|e| bad(format!("pattern `{pattern}`: {e}")))?;
        }
        config.targets.check().map_err(|(name, e)| bad(format!("pattern `{name}`: {e}")))?;
        if !config.layer_replication.is_empty() && config.init != Init::Unchanged {
            let value = map.get("layer_replication").unwrap_or(&Value::Null);
            return Err(refuse("layer_replication", value, CONVERT));
        }
        Ok(config)
    }

    /// The rank of `module`.
    pub fn rank(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// The numerator of the scale of `module`.
    pub fn alpha(&self, module: &str) -> f64 {
        first_match(&self.alpha_pattern, module).unwrap_or(self.lora_alpha)
    }

    /// What the product of `module` is multiplied with.
    pub fn scale(&self, module: &str) -> f64 {
        let rank = self.rank(module) as f64;
        self.alpha(module) / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// True if `parameter` belongs to one of `modules_to_save`, which PEFT finds by the ends of their names.
    pub fn saves(&self, parameter: &str) -> bool {
        let modules = parameter.match_indices('.').map(|(dot, _)| &parameter[..dot]);
        let saved = |module: &str| self.modules_to_save.iter().any(|end| module.ends_with(end));
        modules.into_iter().any(saved)
    }
}

/// What an initialisation does, or what to do where it cannot be known.
fn read_init(value: &Value) -> Result<Init, &'static str> {
    let Value::String(name) = value else { return Ok(Init::Unchanged) };
    let lower = name.to_lowercase();
    match lower.as_str() {
        "true" | "false" => Ok(Init::Unchanged),
        "pissa" => Ok(Init::Pissa),
        "olora" => Ok(Init::Olora),
        harmless if HARMLESS_INITS.contains(&harmless) => Ok(Init::Unchanged),
        "corda" | "lora_ga" => Err(CONVERT),
        "loftq" => Err(LOFTQ),
        random if random.starts_with("pissa_niter_") => Err(RANDOM),
        _ => Err(UNKNOWN_INIT),
    }
}

/// As PEFT matches: the pattern is the end of the name, from a dot or the start on.
fn regex(pattern: &str) -> Result<Regex, Box<fancy_regex::Error>> {
    Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(Box::new)
}

fn first_match<T: Copy>(patterns: &IndexMap<String, T>, module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| is_match(pattern, module)).map(|(_, value)| *value)
}

/// Patterns are mostly plain names, of which there may be one for each module.
fn is_match(pattern: &str, module: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if pattern.chars().all(plain) {
        let Some(start) = module.len().checked_sub(pattern.len()) else { return false };
        let ends =
            module.bytes().skip(start).zip(pattern.bytes()).all(|(m, p)| p == b'.' || m == p);
        return ends && (start == 0 || module.as_bytes()[start - 1] == b'.');
    }
    regex(pattern).expect("checked on opening").is_match(module).unwrap_or(false)
}

/// PEFT writes `null` for an empty collection in some fields.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn eight() -> usize {
    8
}

fn eight_point_zero() -> f64 {
    8.0
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "scales are exact")]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<LoraConfig, Error> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("adapter_config.json");
        fs_err::write(&file, text).unwrap();
        LoraConfig::open(&file)
    }

    #[test]
    fn scales_follow_rank_alpha_and_patterns() {
        let text = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "modules_to_save": null, "init_lora_weights": true,
            "rank_pattern": {"1.mlp.up": 2, "mlp.up": 16, "^(?!.*[01]\\.).*down$": 32},
            "alpha_pattern": {"q_proj|k_proj": 32}"#;
        let plain = open(&format!("{text}}}")).unwrap();
        let rooted = open(&format!(r#"{text}, "use_rslora": true}}"#)).unwrap();
        let cases = [
            ("layers.0.v_proj", 4, 2.0, 4.0),
            ("layers.0.q_proj", 4, 8.0, 16.0),
            ("layers.0.xq_proj", 4, 2.0, 4.0),
            ("layers.0.mlp.up", 16, 0.5, 2.0),
            ("layers.1.mlp.up", 2, 4.0, 8.0 / 2f64.sqrt()),
            ("layers.11.mlp.up", 16, 0.5, 2.0),
            ("mlp.up", 16, 0.5, 2.0),
            ("layers.1.mlp.down", 4, 2.0, 4.0),
            ("layers.2.mlp.down", 32, 0.25, 8.0 / 32f64.sqrt()),
        ];
        for (module, rank, scale, rooted_scale) in cases {
            assert_eq!((plain.rank(module), plain.scale(module)), (rank, scale), "{module}");
            assert_eq!(rooted.scale(module), rooted_scale, "{module}");
        }
    }

    #[test]
    fn what_cannot_be_merged_is_refused_by_name() {
        let cases = [
            (r#""peft_type": "LOHA""#, "is of type LOHA, which is not supported (LORA is)"),
            (r#""r": 8"#, "is of type missing"),
            (r#""fine_tune_type": "lora", "num_layers": 16"#, "is an adapter of MLX"),
            (
                r#""peft_type": "LORA", "init_lora_weights": "pissa_niter_4""#,
                "`init_lora_weights` to \"pissa_niter_4\"",
            ),
            (r#""peft_type": "LORA", "bias": "some""#, "sets `bias` to \"some\""),
            (
                r#""peft_type": "LORA", "layer_replication": [[0, 4]], "init_lora_weights": "pissa""#,
                "sets `layer_replication` to [[0,4]]",
            ),
            (r#""peft_type": "LORA", "task_type": "SEQ_CLS""#, "sets `task_type` to \"SEQ_CLS\""),
            (
                r#""peft_type": "LORA", "auto_mapping": {"base_model_class": "BertForTokenClassification"}"#,
                "sets `auto_mapping` to \"BertForTokenClassification\"",
            ),
            (r#""peft_type": "LORA", "use_shiny": 3"#, "sets `use_shiny` to 3"),
            (r#""peft_type": "LORA", "alora_invocation_tokens": [3]"#, "`alora_invocation_tokens`"),
            (r#""peft_type": "LORA", "r": 0"#, "a rank is 0"),
            (r#""peft_type": "LORA", "r": "x""#, "invalid type: string \"x\", expected usize"),
            (r#""peft_type": "LORA", "rank_pattern": {"(": 3}"#, "pattern `(`: "),
            (r#""peft_type": "LORA", "target_modules": "(""#, "pattern `(`: "),
        ];
        for (text, want) in cases {
            let error = open(&format!("{{{text}}}")).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
        for harmless in [
            r#""lora_bias": false"#,
            r#""layer_replication": null"#,
            r#""init_lora_weights": "eva", "eva_config": {"rho": 2}"#,
            r#""task_type": "CAUSAL_LM", "auto_mapping": {"base_model_class": "LlamaForCausalLM"}"#,
            r#""merge_weights": false, "enable_lora": null"#,
        ] {
            open(&format!(r#"{{"peft_type": "LORA", {harmless}}}"#)).unwrap();
        }
        let inits = [("pissa", Init::Pissa), ("OLoRA", Init::Olora), ("gaussian", Init::Unchanged)];
        for (name, want) in inits {
            let text = format!(r#"{{"peft_type": "LORA", "init_lora_weights": "{name}"}}"#);
            assert_eq!(open(&text).unwrap().init, want);
        }
    }
}
