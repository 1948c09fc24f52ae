//! `Keys`: the tensor names of an adapter file, sorted into low-rank pairs, token vectors and whole parameters.
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
    /// The bias of `lora_B`: shape `[out]`.
    pub bias: Option<String>,
    /// DoRA's magnitude: one value for each output.
    pub magnitude: Option<String>,
    /// True if the module is an embedding, so that the weight is [in, out].
    pub embedding: bool,
}

/// What an adapter file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// Pairs by module.
    pub(super) low_rank: BTreeMap<String, LowRank>,
    /// Names in the file of token vectors, by module.
    pub(super) tokens: BTreeMap<String, String>,
    /// Names in the file by the parameter they replace: the adapted model's own.
    pub(super) whole: BTreeMap<String, String>,
    /// The same for parameters of the base below a module that PEFT has wrapped.
    pub(super) base: BTreeMap<String, String>,
}

/// What PEFT puts before every name.
const PREFIX: &str = "base_model.model.";

/// The ends of names, longest first, and what they are.
const PARTS: [(&str, Part); 9] = [
    (".token_adapter.trainable_tokens_delta", Part::Tokens),
    (".token_adapter.trainable_tokens_original", Part::Nothing),
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_A.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_B.bias", Part::Bias),
    (".lora_embedding_A", Part::EmbeddingA),
    (".lora_embedding_B", Part::EmbeddingB),
];

/// What PEFT puts between a wrapped module and the parameter of the base that it wraps.
const WRAPPERS: [&str; 3] = [".token_adapter.", ".base_layer.", ".original_module."];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    A,
    B,
    Bias,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
    Tokens,
    /// What PEFT saves and does not load.
    Nothing,
}

#[derive(Default)]
struct Found {
    a: Option<String>,
    b: Option<String>,
    bias: Option<String>,
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
                keys.enter_whole(name, key);
                continue;
            };
            let slot = match part {
                Part::Nothing => continue,
                Part::Tokens => {
                    keys.tokens.insert(module.to_owned(), key.to_owned());
                    continue;
                }
                _ => found.entry(module.to_owned()).or_default(),
            };
            slot.embedding |= matches!(part, Part::EmbeddingA | Part::EmbeddingB);
            let place = match part {
                Part::A | Part::EmbeddingA => &mut slot.a,
                Part::B | Part::EmbeddingB => &mut slot.b,
                Part::Bias => &mut slot.bias,
                Part::Magnitude | Part::Tokens | Part::Nothing => &mut slot.magnitude,
            };
            *place = Some(key.to_owned());
        }
        for (module, Found { a, b, bias, magnitude, embedding }) in found {
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
                (None, None) if bias.is_some() => return Err(half("lora_B.bias", "lora_A")),
                (None, None) => return Err(half("lora_magnitude_vector", "lora_A")),
            };
            keys.low_rank.insert(module, LowRank { a, b, bias, magnitude, embedding });
        }
        if keys == Self::default() {
            return Err(Error::Empty { dir: dir.to_owned() });
        }
        Ok(keys)
    }

    /// A layer that PEFT has wrapped keeps the base's parameters below it, beside those of its own.
    fn enter_whole(&mut self, name: &str, key: &str) {
        let wrapped = WRAPPERS.iter().any(|wrapper| name.contains(wrapper));
        let mut parameter = name.to_owned();
        for wrapper in WRAPPERS {
            parameter = parameter.replace(wrapper, ".");
        }
        if wrapped {
            self.base.insert(parameter, key.to_owned());
        } else if name.contains(".modules_to_save.") {
            // A copy of what stands under the module's own name, which is the one that PEFT loads.
            let parameter = parameter.replace(".modules_to_save.", ".");
            self.whole.entry(parameter).or_insert_with(|| key.to_owned());
        } else {
            self.whole.insert(parameter, key.to_owned());
        }
    }
}
