//! The source of a placeholder's elements: a checkpoint tensor with merged adapters, or a LoRA factor.

use std::io;

use super::ConvertError;
use super::request::Request;
use super::skeleton::{FactorName, Placeholder};
use crate::base::package_options::EncodeAdapters;
use crate::source::checkpoint::Checkpoint;
use crate::source::dtype::Float;
use crate::source::weights::{Factor, FactorRequest, Identity, WeightRequest, Weights};

/// A checkpoint weight with its merged adapters, or a LoRA factor.
#[derive(Debug, Clone)]
pub(super) enum WeightOrigin {
    /// A tensor of the checkpoint.
    Weight {
        /// Name of the tensor.
        tensor: String,
        /// Transposes the matrix.
        transpose: bool,
        /// Indices of the adapters merged into it.
        adapters: Vec<usize>,
        /// Merge plan; equal plans give equal elements.
        identity: Identity,
    },
    /// A low-rank factor.
    Factor {
        /// Index of the adapter.
        adapter: usize,
        /// Module that it adapts.
        module: String,
        /// `lora_A` or `lora_B`.
        factor: Factor,
        /// Negates the factor, which subtracts an adapter that is merged into the weight.
        negate: bool,
    },
}

/// Deduplication key: placeholders with equal keys have equal elements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Merge plan and transposition.
    Weight(Identity, bool),
    /// Adapter, module, factor and sign.
    Factor(usize, String, Factor, bool),
}

impl WeightOrigin {
    /// The origin of `placeholder` in `function`.
    ///
    /// Chat adapters are merged into every weight, except where `encode` has separate weights: those are the base
    /// weights with only the LLM2Vec adapters. If `encode` shares weights, additional branches subtract the chat
    /// adapters. The first adapters of `weights` are the chat adapters.
    pub(super) fn of(
        placeholder: &Placeholder,
        function: &str,
        request: &Request,
        weights: &Weights,
    ) -> Result<Self, ConvertError> {
        let chat = request.lora.len();
        if let Some(branch) = &placeholder.adapter {
            let factor = match branch.part {
                FactorName::A => Factor::A,
                FactorName::B => Factor::B,
            };
            let own = request.llm2vec.len();
            let negate = branch.index >= own;
            let adapter = if negate { branch.index - own } else { chat + branch.index };
            return Ok(Self::Factor { adapter, module: branch.module.clone(), factor, negate });
        }
        let own_weights = function == "encode"
            && !request.llm2vec.is_empty()
            && request.encode_adapters == EncodeAdapters::Merge;
        let adapters: Vec<usize> = if own_weights {
            (chat..chat + request.llm2vec.len()).collect()
        } else {
            (0..chat).collect()
        };
        let tensor = qualified(weights.checkpoint(), placeholder);
        let transpose = placeholder.transpose;
        // The element type is not part of the identity.
        let wanted =
            WeightRequest { tensor: &tensor, transpose, adapters: &adapters, out: Float::F16 };
        let shape: Vec<u64> = weights.shape(&wanted)?.into_iter().map(|n| n as u64).collect();
        if shape != placeholder.shape {
            return Err(ConvertError::PlaceholderShape {
                tensor,
                exported: placeholder.shape.clone(),
                stored: shape,
            });
        }
        let identity = weights.identity(&wanted)?;
        Ok(Self::Weight { tensor, transpose, adapters, identity })
    }

    /// Returns the deduplication key.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Weight { transpose, identity, .. } => Key::Weight(identity.clone(), *transpose),
            Self::Factor { adapter, module, factor, negate } => {
                Key::Factor(*adapter, module.clone(), *factor, *negate)
            }
        }
    }

    /// Writes the elements to `sink` as little-endian values of type `out`.
    pub(super) fn stream(
        &self,
        weights: &Weights,
        out: Float,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ConvertError> {
        match self {
            Self::Weight { tensor, transpose, adapters, .. } => {
                weights.stream(
                    &WeightRequest { tensor, transpose: *transpose, adapters, out },
                    sink,
                )?;
            }
            Self::Factor { adapter, module, factor, negate } => {
                let wanted = FactorRequest {
                    adapter: *adapter,
                    module,
                    factor: *factor,
                    negate: *negate,
                    out,
                };
                weights.stream_factor(&wanted, sink)?;
            }
        }
        Ok(())
    }
}

/// Returns the parameter name, or `FOLDER/TENSOR` for a sentence-transformers module with its own weight file.
fn qualified(checkpoint: &Checkpoint, placeholder: &Placeholder) -> String {
    let transformer = checkpoint.modules().first().map_or("", |module| &module.path);
    if placeholder.folder == transformer {
        placeholder.parameter.clone()
    } else {
        format!("{}/{}", placeholder.folder, placeholder.tensor)
    }
}
