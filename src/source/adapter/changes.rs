//! `ModelChanges`: how adapters change what a model consists of, apart from the values of its weights.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::source::checkpoint::Checkpoint;
use crate::source::names;

/// What a model has become under the adapters so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ModelChanges {
    /// Tokens of a vocabulary that is not the base's.
    pub vocab_size: Option<usize>,
    /// For each layer the one of the base whose weights it has, where layers are replicated.
    pub layers: Option<Vec<usize>>,
    /// Modules, by their names in the model without a head, that have a bias which the base lacks.
    pub biases: BTreeSet<String>,
    /// True if the head is no longer the embedding.
    pub untied: bool,
}

/// The name of `parameter` in the model without a head.
pub(crate) fn parameter_key(checkpoint: &Checkpoint, parameter: &str) -> String {
    names::bare(&checkpoint.config().model_type, parameter).to_owned()
}

/// The embedding and the head of `checkpoint`, by their bare names, if they are one tensor.
pub(crate) fn tied_pair(checkpoint: &Checkpoint) -> Option<[String; 2]> {
    const HEAD: &str = "lm_head.weight";
    let model_type = &checkpoint.config().model_type;
    let tensor = checkpoint.resolve(HEAD)?;
    let embedding = names::tied_to(model_type, HEAD)
        .into_iter()
        .find(|name| checkpoint.stored(name) == Some(tensor) && name.as_str() != HEAD)?;
    Some([names::bare(model_type, &embedding).to_owned(), HEAD.to_owned()])
}

impl ModelChanges {
    /// The stored tensor of the base that fills `parameter` of the changed model.
    pub(crate) fn resolve<'a>(
        &self,
        checkpoint: &'a Checkpoint,
        parameter: &str,
    ) -> Option<&'a str> {
        let name = match (&self.layers, names::layer(parameter)) {
            (Some(layers), Some((at, layer))) => {
                let mut name = parameter.to_owned();
                name.replace_range(at, &layers.get(layer)?.to_string());
                name
            }
            _ => parameter.to_owned(),
        };
        checkpoint.resolve(&name)
    }

    /// The shape of `parameter` of the changed model as it is stored, if the model has it.
    pub(crate) fn shape(&self, checkpoint: &Checkpoint, parameter: &str) -> Option<Vec<usize>> {
        let tensor = self.resolve(checkpoint, parameter)?;
        let entry = checkpoint.tensors().get(tensor).expect("a resolved tensor is stored");
        let mut shape = entry.shape.clone();
        let bare = names::bare(&checkpoint.config().model_type, parameter);
        if let (Some(rows), true) = (self.vocab_size, names::of_vocabulary(bare)) {
            shape[0] = rows;
        }
        Some(shape)
    }

    /// The layers after `ranges` of them are put one after the other; `None` if there are not so many.
    pub(super) fn replicated(
        &self,
        checkpoint: &Checkpoint,
        ranges: &[[usize; 2]],
    ) -> Option<Vec<usize>> {
        let before = match &self.layers {
            Some(layers) => layers.clone(),
            None => (0..checkpoint.config().n_layers).collect(),
        };
        let mut layers = Vec::new();
        for [first, end] in ranges {
            layers.extend_from_slice(before.get(*first..*end)?);
        }
        Some(layers)
    }
}
