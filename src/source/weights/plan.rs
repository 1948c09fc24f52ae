//! `MergePlan`: what a parameter is made of under a list of adapters, each module changed only where PEFT changes it.

use super::{Error, Weights};
use crate::source::adapter::{self, Branch, Fit, FullReplacement, Init, ModelChanges, TokenRows};

/// What a parameter is made of: two with the same plan have the same elements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergePlan {
    /// Where the elements come from.
    pub(super) source: Source,
    /// The shape, as it is stored.
    pub(super) shape: Vec<usize>,
    /// What is done to them, in order.
    pub(super) steps: Vec<PlanStep>,
}

/// Where the elements of a parameter come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A tensor of the checkpoint.
    Checkpoint(String),
    /// A tensor of an adapter.
    Adapter(usize, String),
    /// Nowhere: a bias that the base lacks.
    Zeros,
}

/// One step, by the index of the adapter and that of its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PlanStep {
    /// The product that the adapter's initialisation puts into its pair is taken out.
    SubtractInitial(usize, usize),
    /// The vectors of tokens are replaced.
    Rows(usize, usize),
    /// The product of a pair is added, and the result scaled where it has a magnitude.
    Pair(usize, usize),
    /// The bias of a pair is added.
    Bias(usize, usize),
}

impl Weights {
    /// What the adapters of the list, in that order, make of the model.
    pub fn changes(&self, adapters: &[usize]) -> Result<ModelChanges, Error> {
        let mut changes = match adapters.last() {
            Some(last) => self.fit(*last)?.changes().clone(),
            None => ModelChanges::default(),
        };
        changes.untied = match adapter::tied_pair(&self.checkpoint) {
            Some([embedding, head]) => {
                self.plan(&embedding, adapters)? != self.plan(&head, adapters)?
            }
            // A head that is stored beside the embedding it should be.
            None => {
                self.checkpoint.config().tie_word_embeddings
                    && self.checkpoint.resolve("lm_head.weight").is_some()
            }
        };
        Ok(changes)
    }

    /// Follows a parameter through the adapters.
    ///
    /// What an adapter loads into a parameter of the base, and what its initialisation takes out, reaches the other
    /// module of a tied pair as long as the two are one; what it puts in a module's place or beside it does not.
    pub(super) fn plan(&self, parameter: &str, adapters: &[usize]) -> Result<MergePlan, Error> {
        let key = adapter::parameter_key(&self.checkpoint, parameter);
        let tied = adapter::tied_pair(&self.checkpoint).filter(|pair| pair.contains(&key));
        let group = tied.map_or_else(|| vec![key.clone()], |pair| pair.to_vec());
        let at = group.iter().position(|name| *name == key).expect("a group has its parameter");
        let mut plans = Vec::new();
        for name in &group {
            plans.push(self.base_plan(name, parameter, adapters)?);
        }
        for index in adapters {
            let (adapter, fit) = self.fitted(*index)?;
            let Fit { branches, whole, tokens, ties_saved, .. } = fit;
            let one = plans.len() == 2 && plans[0] == plans[1];
            let mut on_base = |name: &str, change: &dyn Fn(&mut MergePlan)| {
                let is_member = group.iter().any(|member| member == name);
                for (member, plan) in group.iter().zip(&mut plans) {
                    if member == name || (one && is_member) {
                        change(plan);
                    }
                }
            };
            for (i, Branch { init, weight, .. }) in branches.iter().enumerate() {
                if *init != Init::Unchanged {
                    on_base(weight, &|plan| plan.steps.push(PlanStep::SubtractInitial(*index, i)));
                }
            }
            let shape = |key: &str| {
                adapter.tensors().get(key).expect("a fitted tensor is in the file").shape.clone()
            };
            let replacement = |key: &str| MergePlan {
                source: Source::Adapter(*index, key.to_owned()),
                shape: shape(key),
                steps: Vec::new(),
            };
            for FullReplacement { key, parameter, saved } in whole {
                if !saved {
                    on_base(parameter, &|plan| *plan = replacement(key));
                }
            }
            for (member, plan) in group.iter().zip(&mut plans) {
                let follows =
                    |name: &str| group.len() == 2 && name == group[0] && *member == group[1];
                for FullReplacement { key, parameter, saved } in whole {
                    if *saved && (parameter == member || (*ties_saved && follows(parameter))) {
                        *plan = replacement(key);
                    }
                }
                for (i, TokenRows { parameter, head, .. }) in tokens.iter().enumerate() {
                    if parameter == member || (*head && follows(parameter)) {
                        plan.steps.push(PlanStep::Rows(*index, i));
                    }
                }
                for (i, branch) in branches.iter().enumerate() {
                    if branch.weight == *member {
                        plan.steps.push(PlanStep::Pair(*index, i));
                    } else if branch.bias == *member && branch.pair.bias.is_some() {
                        plan.steps.push(PlanStep::Bias(*index, i));
                    }
                }
            }
        }
        Ok(plans.swap_remove(at))
    }

    /// A parameter before any adapter: the base's, or zeros for a bias that only the adapters have.
    fn base_plan(
        &self,
        name: &str,
        parameter: &str,
        adapters: &[usize],
    ) -> Result<MergePlan, Error> {
        let changes = match adapters.last() {
            Some(last) => self.fit(*last)?.changes().clone(),
            None => ModelChanges::default(),
        };
        if let Some(tensor) = changes.resolve(&self.checkpoint, name) {
            let entry = self.checkpoint.tensors().get(tensor).expect("a resolved tensor is stored");
            let (source, shape) = (Source::Checkpoint(tensor.to_owned()), entry.shape.clone());
            return Ok(MergePlan { source, shape, steps: Vec::new() });
        }
        for index in adapters {
            let mut branches = self.fit(*index)?.branches().iter();
            if let Some(branch) = branches.find(|b| b.bias == name && b.pair.bias.is_some()) {
                let shape = vec![branch.n_outputs];
                return Ok(MergePlan { source: Source::Zeros, shape, steps: Vec::new() });
            }
        }
        let dir = self.checkpoint.dir().to_owned();
        Err(Error::NoTensor { dir, parameter: parameter.to_owned() })
    }
}
