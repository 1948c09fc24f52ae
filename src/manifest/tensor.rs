//! One weight of an artifact: how it is stored, and how far it is from its original.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One weight, as the writer of the package found it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorError {
    /// The weight's name.
    pub name: String,
    /// The part of the model, as recipes call it: `attention`, `mlp`, `embedding`.
    pub component: String,
    /// The layer that its name speaks of, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u64>,
    /// The scheme, or the type of a dense weight, in words.
    pub form: String,
    /// Elements of the dense weight.
    pub elements: u64,
    /// Bytes that it takes in the file, with what aligns its parts.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Eight times the bytes of its data over the elements.
    pub bits_per_weight: f64,
    /// Root of the squared error over the root of the squared weights: 0 where nothing was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
}

/// What stands before a layer's number in the names of weights.
const MARKS: [&str; 5] = ["layers", "layer", "blocks", "block", "h"];

/// The layer that the name of a weight speaks of: the first number after a word such as `layers`.
pub fn layer_of(name: &str) -> Option<u64> {
    let words: Vec<&str> = name.split(['.', '_', '/']).collect();
    let numbered = |pair: &&[&str]| {
        MARKS.contains(&pair[0]) && pair[1].bytes().next().is_some_and(|b| b.is_ascii_digit())
    };
    words.windows(2).find(numbered).and_then(|pair| pair[1].parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_from_names() {
        for (name, want) in [
            ("model.layers.12.self_attn.q_proj.weight", Some(12)),
            ("model_model_layers_3_up_weight", Some(3)),
            ("encoder_layer_0_output_dense_weight", Some(0)),
            ("transformer.h.7.attn.c_attn.weight", Some(7)),
            ("model_layers_0_self_attn_q_proj_lora_A_1_weight", Some(0)),
            ("model_layer_norm_3_weight", None),
            ("lm_head.weight", None),
            ("op_12_to_fp16", None),
            ("layers.99999999999999999999.weight", None),
            ("layers", None),
            ("", None),
        ] {
            assert_eq!(layer_of(name), want, "{name}");
        }
    }
}
