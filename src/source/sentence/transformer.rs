//! `TransformerSettings`: `sentence_bert_config.json`, what sentence-transformers does before the model.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::settings::Settings;

/// What the Transformer module does to a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformerSettings {
    /// The most tokens that the model is given, where the settings say.
    pub max_seq_length: Option<usize>,
    /// True if text is lower-cased before the tokenizer's own rules.
    pub do_lower_case: bool,
}

/// The file's names; the first that is there and says something counts.
const FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Arguments for loading the model that leave its values as they are.
const INERT_MODEL: [&str; 12] = [
    "add_pooling_layer",
    "attn_implementation",
    "cache_dir",
    "device_map",
    "dtype",
    "local_files_only",
    "low_cpu_mem_usage",
    "revision",
    "token",
    "torch_dtype",
    "trust_remote_code",
    "use_safetensors",
];

/// Arguments for loading the tokenizer that leave the tokens of a single text as they are.
const INERT_TOKENIZER: [&str; 7] = [
    "cache_dir",
    "local_files_only",
    "padding_side",
    "revision",
    "token",
    "trust_remote_code",
    "use_fast",
];

/// Arguments for loading the configuration that leave it as it is.
const INERT_CONFIG: [&str; 6] =
    ["cache_dir", "local_files_only", "revision", "token", "trust_remote_code", "use_cache"];

impl TransformerSettings {
    /// Reads the settings beside the model in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        for name in FILES {
            let Some(settings) = Settings::open(&dir.join(name))? else { continue };
            return Self::read(settings);
        }
        Ok(Self::default())
    }

    fn read(mut settings: Settings) -> Result<Self, Error> {
        let mut max_seq_length = settings.count("max_seq_length")?;
        let do_lower_case = settings.flag("do_lower_case")?.unwrap_or(false);
        for key in ["model_args", "model_kwargs"] {
            inert(&mut settings, key, &INERT_MODEL)?;
        }
        for key in ["config_args", "config_kwargs"] {
            inert(&mut settings, key, &INERT_CONFIG)?;
        }
        for key in ["tokenizer_args", "processor_kwargs"] {
            let Some(mut arguments) = settings.object(key)? else { continue };
            if let Some(length) = arguments.count("model_max_length")? {
                if max_seq_length.is_some_and(|other| other != length) {
                    let advice = "it contradicts `max_seq_length`: keep one of the two";
                    let value = Value::from(length);
                    return Err(settings.unsupported(
                        &format!("{key}.model_max_length"),
                        &value,
                        Some(advice.to_owned()),
                    ));
                }
                max_seq_length = Some(length);
            }
            for name in INERT_TOKENIZER {
                drop(arguments.take(name));
            }
            arguments.end()?;
        }
        expect(&mut settings, "transformer_task", &json!("feature-extraction"))?;
        expect(&mut settings, "module_output_name", &json!("token_embeddings"))?;
        let text =
            json!({"text": {"method": "forward", "method_output_name": "last_hidden_state"}});
        expect(&mut settings, "modality_config", &text)?;
        // Packing a batch without padding gives each text the same values.
        drop(settings.take("unpad_inputs"));
        let advice = "it changes how text becomes tokens";
        for key in [
            "processing_kwargs",
            "query_expansion",
            "query_length",
            "document_length",
            "tokenizer_name_or_path",
        ] {
            settings.refuse(key, advice)?;
        }
        settings.end()?;
        Ok(Self { max_seq_length, do_lower_case })
    }
}

/// Takes the object `key`, all of whose own keys must be among `known`.
fn inert(settings: &mut Settings, key: &str, known: &[&str]) -> Result<(), Error> {
    let Some(mut arguments) = settings.object(key)? else { return Ok(()) };
    for name in known {
        drop(arguments.take(name));
    }
    arguments.end()
}

/// Takes `key`, whose value must be `wanted` where there is one.
fn expect(settings: &mut Settings, key: &str, wanted: &Value) -> Result<(), Error> {
    match settings.take(key) {
        Some(value) if value != *wanted => {
            Err(settings.unsupported(key, &value, Some(format!("supported is {wanted}"))))
        }
        _ => Ok(()),
    }
}
