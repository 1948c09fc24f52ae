//! `LoraConfig`: `adapter_config.json`, with every setting that changes the arithmetic either read or refused.

use std::path::Path;

use indexmap::IndexMap;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Error;

/// The settings of a LoRA adapter that decide what is merged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LoraConfig {
    /// Rank of a pair, unless `rank_pattern` says otherwise.
    #[serde(default = "eight")]
    pub r: usize,
    /// Numerator of the scale, unless `alpha_pattern` says otherwise.
    #[serde(default = "eight_point_zero")]
    pub lora_alpha: f64,
    /// Whether the scale is alpha over the root of the rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// Whether weights are stored [in, out].
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// Whether outputs have a trained magnitude.
    #[serde(default)]
    pub use_dora: bool,
    /// Ranks of modules whose names match.
    #[serde(default, deserialize_with = "or_default")]
    pub rank_pattern: IndexMap<String, usize>,
    /// Alphas of modules whose names match.
    #[serde(default, deserialize_with = "or_default")]
    pub alpha_pattern: IndexMap<String, f64>,
    /// Modules that are brought whole.
    #[serde(default, deserialize_with = "or_default")]
    pub modules_to_save: Vec<String>,
    /// The base it was trained on, as its author called it.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// Whether the base's biases are to be merged as if trained: `none`, `all` or `lora_only`.
    #[serde(default)]
    bias: Option<String>,
}

/// Settings under which the weights would be other than `W + scale B A`, if they are set to anything.
const REFUSED: [&str; 13] = [
    "alora_invocation_tokens",
    "arrow_config",
    "ensure_weight_tying",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

/// Initialisations that leave the base as it was; the others subtract what they put into the pair.
const HARMLESS_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl LoraConfig {
    /// Reads and checks `adapter_config.json`.
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let file = file.to_owned();
        if !file.is_file() {
            return Err(Error::NoConfig { file });
        }
        let text = fs_err::read(&file)?;
        let bad = |reason: String| Error::BadConfig { file: file.clone(), reason };
        let map: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        let peft_type = map.get("peft_type").and_then(Value::as_str).unwrap_or("missing");
        if peft_type != "LORA" {
            return Err(Error::PeftType { file: file.clone(), peft_type: peft_type.to_owned() });
        }
        let refuse = |setting, value: &Value| Error::Setting {
            file: file.clone(),
            setting,
            value: value.to_string(),
        };
        for setting in REFUSED {
            if let Some(value) = map.get(setting).filter(|v| is_set(v)) {
                return Err(refuse(setting, value));
            }
        }
        match map.get("init_lora_weights") {
            Some(Value::String(init)) if !HARMLESS_INITS.contains(&init.as_str()) => {
                return Err(refuse("init_lora_weights", &Value::String(init.clone())));
            }
            _ => {}
        }
        let config: Self = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        match config.bias.as_deref() {
            None | Some("none" | "all" | "lora_only") => {}
            Some(other) => return Err(refuse("bias", &Value::String(other.to_owned()))),
        }
        if config.r == 0 || config.rank_pattern.values().any(|r| *r == 0) {
            return Err(bad("a rank is 0".to_owned()));
        }
        for pattern in config.rank_pattern.keys().chain(config.alpha_pattern.keys()) {
            regex(pattern).map_err(|e| bad(format!("pattern `{pattern}`: {e}")))?;
        }
        Ok(config)
    }

    /// The rank of `module`.
    pub fn rank(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// What the product of `module` is multiplied with.
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = first_match(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        let rank = self.rank(module) as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Whether `parameter` belongs to one of `modules_to_save`, which PEFT finds by the ends of their names.
    pub fn saves(&self, parameter: &str) -> bool {
        let modules = parameter.match_indices('.').map(|(dot, _)| &parameter[..dot]);
        let saved = |module: &str| self.modules_to_save.iter().any(|end| module.ends_with(end));
        modules.into_iter().any(saved)
    }
}

/// As PEFT matches: the pattern is the end of the name, from a dot or the start on.
fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
}

fn first_match<T: Copy>(patterns: &IndexMap<String, T>, module: &str) -> Option<T> {
    let matches = |pattern: &str| regex(pattern).expect("checked on opening").is_match(module);
    patterns.iter().find(|(pattern, _)| matches(pattern)).map(|(_, value)| *value)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
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
            "rank_pattern": {"1.mlp.up": 2, "mlp.up": 16}, "alpha_pattern": {"q_proj|k_proj": 32}"#;
        let plain = open(&format!("{text}}}")).unwrap();
        let rooted = open(&format!(r#"{text}, "use_rslora": true}}"#)).unwrap();
        let cases = [
            ("layers.0.v_proj", 4, 2.0, 4.0),
            ("layers.0.q_proj", 4, 8.0, 16.0),
            ("layers.0.xq_proj", 4, 2.0, 4.0),
            ("layers.0.mlp.up", 16, 0.5, 2.0),
            ("layers.1.mlp.up", 2, 4.0, 8.0 / 2f64.sqrt()),
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
            (
                r#""peft_type": "LORA", "init_lora_weights": "pissa_niter_4""#,
                "`init_lora_weights` to \"pissa_niter_4\"",
            ),
            (r#""peft_type": "LORA", "bias": "some""#, "sets `bias` to \"some\""),
            (
                r#""peft_type": "LORA", "layer_replication": [[0, 4]]"#,
                "sets `layer_replication` to [[0,4]]",
            ),
            (r#""peft_type": "LORA", "lora_bias": true"#, "sets `lora_bias` to true"),
            (r#""peft_type": "LORA", "r": 0"#, "a rank is 0"),
            (r#""peft_type": "LORA", "r": "x""#, "invalid type: string \"x\", expected usize"),
            (r#""peft_type": "LORA", "rank_pattern": {"(": 3}"#, "pattern `(`: regex parse error"),
        ];
        for (text, want) in cases {
            let error = open(&format!("{{{text}}}")).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
        for harmless in [
            r#""lora_bias": false"#,
            r#""layer_replication": null"#,
            r#""init_lora_weights": "eva""#,
        ] {
            open(&format!(r#"{{"peft_type": "LORA", {harmless}}}"#)).unwrap();
        }
    }
}
