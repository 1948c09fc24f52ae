//! Every key of `adapter_config.json`: honoured, without effect on the output, or refused with what to do instead.

use serde_json::{Map, Value};

/// What a key means for a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes the weights, and is read.
    Honoured,
    /// It has no effect on the output of a trained adapter.
    Inert,
    /// An adapter that sets it is refused; the text says what to do.
    Refused(&'static str),
}

use Effect::{Honoured, Inert, Refused};

/// The remedy where PEFT itself can merge.
pub(super) const MERGE: &str = "merge it with PEFT (`PeftModel.from_pretrained(base, adapter).merge_and_unload()`, \
     `save_pretrained`) and convert the merged checkpoint";

/// The remedy where nothing can merge, because the adapter works on part of a text.
pub(super) const RETRAIN: &str = "no merged weights compute it, so convert the base model alone, or train the adapter \
     as plain LoRA";

/// The remedy where the adapter was trained on a base that only the training run knows.
pub(super) const CONVERT: &str = "save it as plain LoRA from the training run \
     (`save_pretrained(..., path_initial_model_for_weight_conversion=...)`) and convert with that adapter";

/// The remedy where PEFT draws the change of the base at random each time it loads the adapter.
pub(super) const RANDOM: &str = "PEFT draws what it takes out of the base at random whenever it loads the adapter, so \
     there is no one result: save it as plain LoRA from the training run \
     (`save_pretrained(..., path_initial_model_for_weight_conversion=...)`)";

/// The remedy for a base that was quantised as the adapter was made.
pub(super) const LOFTQ: &str = "PEFT changes the base for it with `bitsandbytes` and `scipy`: merge it there \
     (`PeftModel.from_pretrained(base, adapter).merge_and_unload()`, `save_pretrained`) and convert the merged checkpoint";

/// The remedy for an initialisation that PEFT does not know.
pub(super) const UNKNOWN_INIT: &str = "PEFT knows no such initialisation: set it to `true` if the base's weights were \
     left as they are";

/// The keys, as PEFT's `LoraConfig` declares them, in alphabetical order.
pub(super) const SETTINGS: [(&str, Effect); 42] = [
    ("alora_invocation_tokens", Refused(RETRAIN)),
    ("alpha_pattern", Honoured),
    ("arrow_config", Refused(RETRAIN)),
    ("auto_mapping", Honoured),
    ("base_model_name_or_path", Inert),
    ("bias", Honoured),
    ("corda_config", Inert),
    ("ensure_weight_tying", Honoured),
    ("eva_config", Inert),
    ("exclude_modules", Honoured),
    ("fan_in_fan_out", Honoured),
    ("inference_mode", Inert),
    ("init_lora_weights", Honoured),
    ("kasa_config", Refused(MERGE)),
    ("layer_replication", Honoured),
    ("layers_pattern", Honoured),
    ("layers_to_transform", Honoured),
    ("loftq_config", Inert),
    ("lora_alpha", Honoured),
    ("lora_bias", Honoured),
    ("lora_dropout", Inert),
    ("lora_ga_config", Inert),
    ("megatron_config", Refused(MERGE)),
    ("megatron_core", Inert),
    ("modules_to_save", Honoured),
    ("monteclora_config", Refused(MERGE)),
    ("peft_type", Honoured),
    ("peft_version", Inert),
    ("qalora_group_size", Inert),
    ("r", Honoured),
    ("rank_pattern", Honoured),
    ("revision", Inert),
    ("runtime_config", Inert),
    ("target_modules", Honoured),
    ("target_parameters", Honoured),
    ("task_type", Honoured),
    ("trainable_token_indices", Honoured),
    ("use_bdlora", Refused(MERGE)),
    ("use_dora", Honoured),
    ("use_qalora", Refused(MERGE)),
    ("use_rslora", Honoured),
    ("velora_config", Refused(MERGE)),
];

/// Types of PEFT adapters, other than LoRA, that PEFT merges into a plain checkpoint.
const MERGEABLE: [&str; 24] = [
    "ADALORA",
    "BOFT",
    "C3A",
    "DELORA",
    "FOURIERFT",
    "GRALORA",
    "HRA",
    "IA3",
    "LN_TUNING",
    "LOHA",
    "LOKR",
    "MISS",
    "OFT",
    "OSF",
    "PSOFT",
    "PVERA",
    "RANDLORA",
    "ROAD",
    "SHIRA",
    "TINYLORA",
    "TRAINABLE_TOKENS",
    "VBLORA",
    "VERA",
    "WAVEFT",
];

/// The first key that is refused, with its value and what to do. A key that nothing here knows counts as refused,
/// unless it is set to nothing.
pub(super) fn first_refused(map: &Map<String, Value>) -> Option<(&str, &Value, &'static str)> {
    map.iter().find_map(|(key, value)| {
        let known = SETTINGS.iter().find(|(name, _)| name == key).map(|(_, effect)| *effect);
        match known {
            Some(Honoured | Inert) => None,
            Some(Refused(remedy)) => is_set(value).then_some((key.as_str(), value, remedy)),
            None => is_set(value).then_some((key.as_str(), value, MERGE)),
        }
    })
}

/// What to do with an adapter of a type other than LoRA.
pub(super) fn remedy_for_type(peft_type: &str) -> &'static str {
    if MERGEABLE.contains(&peft_type) { MERGE } else { RETRAIN }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The table in the documentation is this table.
    #[test]
    fn the_documentation_lists_every_key() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/checkpoints.md");
        let page = fs_err::read_to_string(page).unwrap();
        let (_, section) = page.split_once("### Keys of `adapter_config.json`").unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let mut documented = BTreeMap::new();
        for row in rows {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            for key in cells[1].split(", ") {
                documented.insert(key.trim_matches('`').to_owned(), cells[2].to_owned());
            }
        }
        let known = SETTINGS.iter().map(|(key, effect)| {
            let effect = match effect {
                Honoured => "applied",
                Inert => "ignored",
                Refused(_) => "rejected",
            };
            ((*key).to_owned(), effect.to_owned())
        });
        assert_eq!(documented, known.collect());
    }

    #[test]
    fn a_key_that_is_set_and_not_known_is_refused() {
        let cases = [
            (r#"{"use_dora": true, "lora_dropout": 0.1}"#, None),
            (r#"{"use_shiny": false, "shiny_list": [], "shiny": null}"#, None),
            (r#"{"use_shiny": true}"#, Some("use_shiny")),
            (r#"{"kasa_config": {"beta": 1}}"#, Some("kasa_config")),
            (r#"{"enable_lora": [true, false, true]}"#, Some("enable_lora")),
        ];
        for (text, want) in cases {
            let map: Map<String, Value> = serde_json::from_str(text).unwrap();
            assert_eq!(first_refused(&map).map(|(key, ..)| key), want, "{text}");
        }
    }
}
