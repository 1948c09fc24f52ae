//! Where a placeholder's elements come from, once the request's adapters are known.

use std::io;

use super::ConvertError;
use super::request::{AdapterMode, Request};
use super::table::{FactorName, Placeholder};
use crate::source::checkpoint::Checkpoint;
use crate::source::dtype::Float;
use crate::source::weights::{AdapterPour, Identity, Part, Pour, Weights};

/// A weight of the checkpoint with adapters merged, or a factor of an adapter.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A tensor of the checkpoint.
    Weight {
        /// Its name.
        tensor: String,
        /// Whether rows and columns are exchanged.
        transpose: bool,
        /// The adapters merged into it.
        adapters: Vec<usize>,
        /// What it is made of.
        identity: Identity,
    },
    /// A low-rank factor.
    Factor {
        /// The adapter.
        adapter: usize,
        /// The module it adapts.
        module: String,
        /// Which factor.
        part: Part,
        /// Whether it takes the adapter out of weights that have it merged.
        negate: bool,
    },
}

/// Two placeholders with the same key have the same elements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// What a tensor is made of, and whether it is transposed.
    Weight(Identity, bool),
    /// Adapter, module, factor and sign.
    Factor(usize, String, Part, bool),
}

impl Origin {
    /// The origin of `placeholder` in `function`.
    ///
    /// Chat adapters are merged into every weight but those of an `encode` that has weights of its own, which are the
    /// base's with its own adapters: what LLM2Vec trained. Where `encode` shares weights, branches past its own
    /// adapters take the chat adapters out again. The first adapters of `weights` are the chat adapters.
    pub(super) fn of(
        placeholder: &Placeholder,
        function: &str,
        request: &Request,
        weights: &Weights,
    ) -> Result<Self, ConvertError> {
        let chat = request.lora.len();
        if let Some(factor) = &placeholder.adapter {
            let part = match factor.part {
                FactorName::A => Part::A,
                FactorName::B => Part::B,
            };
            let own = request.llm2vec.len();
            let negate = factor.index >= own;
            let adapter = if negate { factor.index - own } else { chat + factor.index };
            return Ok(Self::Factor { adapter, module: factor.module.clone(), part, negate });
        }
        let own_weights = function == "encode"
            && !request.llm2vec.is_empty()
            && request.encode_adapters == AdapterMode::Merge;
        let adapters: Vec<usize> = if own_weights {
            (chat..chat + request.llm2vec.len()).collect()
        } else {
            (0..chat).collect()
        };
        let tensor = qualified(weights.checkpoint(), placeholder);
        let transpose = placeholder.transpose;
        // The element type does not enter the identity.
        let pour = Pour { tensor: &tensor, transpose, adapters: &adapters, out: Float::F16 };
        let shape: Vec<u64> = weights.shape(&pour)?.into_iter().map(|n| n as u64).collect();
        if shape != placeholder.shape {
            return Err(ConvertError::PlaceholderShape {
                tensor,
                drawn: placeholder.shape.clone(),
                stored: shape,
            });
        }
        let identity = weights.identity(&pour)?;
        Ok(Self::Weight { tensor, transpose, adapters, identity })
    }

    /// What tells equal elements.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Weight { transpose, identity, .. } => Key::Weight(identity.clone(), *transpose),
            Self::Factor { adapter, module, part, negate } => {
                Key::Factor(*adapter, module.clone(), *part, *negate)
            }
        }
    }

    /// Hands the elements to `sink` as little-endian bytes of type `out`.
    pub(super) fn stream(
        &self,
        weights: &Weights,
        out: Float,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ConvertError> {
        match self {
            Self::Weight { tensor, transpose, adapters, .. } => {
                weights.stream(&Pour { tensor, transpose: *transpose, adapters, out }, sink)?;
            }
            Self::Factor { adapter, module, part, negate } => {
                let pour =
                    AdapterPour { adapter: *adapter, module, part: *part, negate: *negate, out };
                weights.adapter_part(&pour, sink)?;
            }
        }
        Ok(())
    }
}

/// The name of a parameter, or of its tensor where it belongs to a module beside the transformer, which keeps its own
/// in a folder.
fn qualified(checkpoint: &Checkpoint, placeholder: &Placeholder) -> String {
    let transformer = checkpoint.modules().first().map_or("", |module| &module.path);
    if placeholder.folder == transformer {
        placeholder.parameter.clone()
    } else {
        format!("{}/{}", placeholder.folder, placeholder.tensor)
    }
}
