//! What Python says of the skeletons it drew: facts of the model and where each placeholder's weight comes from.

use serde::{Deserialize, Serialize};

/// Python's answer to a `skeleton` request.
#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    /// The model as its configuration describes it.
    pub facts: Facts,
    /// The functions drawn, each as a package with the one function `main`.
    pub functions: Vec<Drawn>,
    /// Where the placeholders' values come from.
    pub placeholders: Vec<Placeholder>,
    /// Stored tensors that nothing uses and that were let pass.
    #[serde(default)]
    pub unused: Vec<String>,
}

/// Facts of the model that later stages need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The class that the configuration names, such as `Qwen3ForCausalLM`.
    pub architecture: String,
    /// The configuration's `model_type`.
    pub model_type: String,
    /// `decoder` or `encoder`.
    pub kind: String,
    /// Layers.
    pub layers: u64,
    /// Width of the hidden states.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Positions that the model was made for.
    pub max_position_embeddings: u64,
    /// Whether the head is the embedding.
    pub tied_head: bool,
    /// Width of the attention window, where one is used.
    pub sliding_window: Option<u64>,
    /// Ids of the `bos`, `eos` and `pad` tokens.
    pub special_tokens: std::collections::BTreeMap<String, Vec<u32>>,
}

/// One skeleton on disk.
#[derive(Debug, Clone, Deserialize)]
pub struct Drawn {
    /// The function's name in the joined package.
    pub name: String,
}

/// Where the weight of one placeholder comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Placeholder {
    /// The id that its blob offset carries.
    pub id: u64,
    /// The parameter's name in the model; empty for a factor of an adapter.
    #[serde(default)]
    pub parameter: String,
    /// The tensor's name in the checkpoint, or in the adapter; empty for a bias that only adapters have.
    #[serde(default)]
    pub tensor: String,
    /// The folder of the checkpoint that it lies in; empty for the checkpoint itself.
    #[serde(default)]
    pub folder: String,
    /// Shape in the program.
    pub shape: Vec<u64>,
    /// Whether the checkpoint stores the matrix the other way round.
    #[serde(default)]
    pub transpose: bool,
    /// The low-rank factor of an adapter that stays a branch.
    pub adapter: Option<AdapterPart>,
    /// Encode adapters folded into this copy of the weight.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub merged_adapters: Vec<usize>,
}

/// The factors as peft names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum FactorName {
    /// [rank, in].
    #[serde(rename = "lora_A")]
    A,
    /// [out, rank].
    #[serde(rename = "lora_B")]
    B,
}

/// One low-rank factor of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AdapterPart {
    /// Which of the encode adapters.
    pub index: usize,
    /// Which factor; the scale goes into `lora_B`.
    pub part: FactorName,
    /// The module that is adapted.
    pub module: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
