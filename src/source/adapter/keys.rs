//! `Keys`: the tensor names of an adapter file, sorted into low-rank pairs and whole parameters.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;

use super::Error;
use crate::source::safetensors::Tensors;

/// The tensors of one module's low-rank pair, by their names in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowRank {
    /// `lora_A`: [rank, in].
    pub a: String,
    /// `lora_B`: [out, rank].
    pub b: String,
    /// DoRA's magnitude: one value for each output.
    pub magnitude: Option<String>,
    /// Whether the module is an embedding, so that the weight is [in, out].
    pub embedding: bool,
}

/// What an adapter file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// Pairs by module.
    pub(super) low_rank: BTreeMap<String, LowRank>,
    /// Names in the file by the parameter they replace.
    pub(super) whole: BTreeMap<String, String>,
}

/// What PEFT puts before every name.
const PREFIX: &str = "base_model.model.";

/// The ends of names, longest first, and what they are.
const PARTS: [(&str, Part); 6] = [
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_A.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_embedding_A", Part::EmbeddingA),
    (".lora_embedding_B", Part::EmbeddingB),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
}

#[derive(Default)]
struct Found {
    a: Option<String>,
    b: Option<String>,
    magnitude: Option<String>,
    embedding: bool,
}

impl Keys {
    pub(super) fn parse(dir: &Path, tensors: &Tensors) -> Result<Self, Error> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let mut keys = Self::default();
        for (key, _) in tensors.iter() {
            let name = key.strip_prefix(PREFIX).unwrap_or(key);
            let part = PARTS.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)));
            let Some((module, part)) = part else {
                if name.split('.').any(|part| part.starts_with("lora_")) {
                    let (dir, tensor) = (dir.to_owned(), key.to_owned());
                    return Err(Error::UnknownTensor { dir, tensor });
                }
                // A layer that PEFT has wrapped keeps its own weight and bias in `base_layer`.
                let parameter = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".");
                keys.whole.insert(parameter, key.to_owned());
                continue;
            };
            let slot = found.entry(module.to_owned()).or_default();
            slot.embedding |= matches!(part, Part::EmbeddingA | Part::EmbeddingB);
            let place = match part {
                Part::A | Part::EmbeddingA => &mut slot.a,
                Part::B | Part::EmbeddingB => &mut slot.b,
                Part::Magnitude => &mut slot.magnitude,
            };
            *place = Some(key.to_owned());
        }
        for (module, Found { a, b, magnitude, embedding }) in found {
            let half = |has, lacks| Error::HalfPair {
                dir: dir.to_owned(),
                module: module.clone(),
                has,
                lacks,
            };
            let (a, b) = match (a, b) {
                (Some(a), Some(b)) => (a, b),
                (Some(_), None) => return Err(half("lora_A", "lora_B")),
                (None, Some(_)) => return Err(half("lora_B", "lora_A")),
                (None, None) => return Err(half("lora_magnitude_vector", "lora_A")),
            };
            if embedding && let Some(tensor) = magnitude {
                // PEFT norms embeddings along the other side; no checkpoint is known to use it.
                return Err(Error::UnknownTensor { dir: dir.to_owned(), tensor });
            }
            keys.low_rank.insert(module, LowRank { a, b, magnitude, embedding });
        }
        if keys == Self::default() {
            return Err(Error::Empty { dir: dir.to_owned() });
        }
        Ok(keys)
    }
}
