//! The Python exporter's response: model information and the source of each placeholder.

use serde::{Deserialize, Serialize};

/// Response to a `skeleton` request.
#[derive(Debug, Clone, Deserialize)]
pub struct SkeletonInfo {
    /// Information from the model configuration.
    pub facts: ModelInfo,
    /// The functions exported, each as a package with the one function `main`.
    pub functions: Vec<ExportedFunction>,
    /// Sources of the placeholders.
    pub placeholders: Vec<Placeholder>,
    /// Unused checkpoint tensors that `--allow-unused-tensor` accepts.
    #[serde(default)]
    pub unused: Vec<String>,
}

/// Model information for later stages and the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Class name from the configuration, such as `Qwen3ForCausalLM`.
    pub architecture: String,
    /// The configuration's `model_type`.
    pub model_type: String,
    /// `decoder` or `encoder`.
    pub kind: String,
    /// Number of layers.
    pub layers: u64,
    /// Hidden size.
    pub hidden: u64,
    /// Number of attention heads.
    pub heads: u64,
    /// Number of key/value heads.
    pub kv_heads: u64,
    /// Head dimension.
    pub head_dim: u64,
    /// Vocabulary size.
    pub vocab: u64,
    /// Maximum number of positions.
    pub max_position_embeddings: u64,
    /// True if the language-model head shares the embedding matrix.
    pub tied_head: bool,
    /// Size of the sliding attention window, if any.
    pub sliding_window: Option<u64>,
    /// Token ids of `bos`, `eos` and `pad`.
    pub special_tokens: std::collections::BTreeMap<String, Vec<u32>>,
}

/// One exported skeleton.
#[derive(Debug, Clone, Deserialize)]
pub struct ExportedFunction {
    /// Function name in the joined package.
    pub name: String,
}

/// The source of one placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Placeholder {
    /// Id encoded in its blob offset.
    pub id: u64,
    /// Parameter name in the model; empty for a LoRA factor.
    #[serde(default)]
    pub parameter: String,
    /// Tensor name in the checkpoint or adapter; empty for a bias that only adapters have.
    #[serde(default)]
    pub tensor: String,
    /// Subfolder of the checkpoint that holds the tensor; empty for the root.
    #[serde(default)]
    pub folder: String,
    /// Shape in the program.
    pub shape: Vec<u64>,
    /// True if the checkpoint stores the transposed matrix.
    #[serde(default)]
    pub transpose: bool,
    /// LoRA factor of an adapter that is kept as a branch.
    pub adapter: Option<AdapterPart>,
    /// Indices of the encode adapters merged into this copy of the weight.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub merged_adapters: Vec<usize>,
}

/// Factor names of PEFT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum FactorName {
    /// [rank, in].
    #[serde(rename = "lora_A")]
    A,
    /// [out, rank].
    #[serde(rename = "lora_B")]
    B,
}

/// A LoRA factor of an encode adapter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AdapterPart {
    /// Index among the encode adapters.
    pub index: usize,
    /// Factor; the scale is multiplied into `lora_B`.
    pub part: FactorName,
    /// Name of the adapted module.
    pub module: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
