//! `Weights`: a checkpoint with its adapters, poured tensor by tensor as bytes of the output.

mod block;
mod error;

use std::io;

use block::{BLOCK, STRIP, Step, Weight, encode, strips, transposed};
pub use error::Error;

use super::adapter::{self, Adapter, Branch, Delta, Fit};
use super::checkpoint::Checkpoint;
use super::dtype::Float;
use crate::base::cancel;
use crate::base::index::unravel;

/// A checkpoint and the adapters that may be merged into it.
#[derive(Debug)]
pub struct Weights {
    checkpoint: Checkpoint,
    adapters: Vec<(Adapter, Fit)>,
}

/// A weight as it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Pour<'a> {
    /// The parameter, by the name of its module or of its stored tensor.
    pub tensor: &'a str,
    /// Whether to pour a matrix with rows and columns exchanged.
    pub transpose: bool,
    /// Adapters to merge, in this order.
    pub adapters: &'a [usize],
    /// Element type of the output.
    pub out: Float,
}

/// One factor of an adapter's low-rank pair, as it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct AdapterPour<'a> {
    /// The adapter.
    pub adapter: usize,
    /// The module, with or without the base model's prefix.
    pub module: &'a str,
    /// Which factor.
    pub part: Part,
    /// Whether `lora_B` gets the opposite sign: such a branch takes a merged adapter out again.
    pub negate: bool,
    /// Element type of the output.
    pub out: Float,
}

/// A factor of a low-rank pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `lora_A`, [rank, in], as it is stored.
    A,
    /// `lora_B`, [out, rank], multiplied with the scale.
    B,
}

/// What a poured weight is made of: two requests with the same value pour the same elements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The adapter that brings the weight whole, if one does.
    brought_by: Option<usize>,
    /// The stored tensor.
    tensor: String,
    /// Adapters and modules whose products are added.
    added: Vec<(usize, String)>,
}

/// What takes the bytes.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Weights {
    /// Joins a checkpoint and its adapters; each must fit.
    pub fn new(checkpoint: Checkpoint, adapters: Vec<Adapter>) -> Result<Self, Error> {
        let mut fitted = Vec::new();
        for adapter in adapters {
            let fit = adapter.fits(&checkpoint)?;
            fitted.push((adapter, fit));
        }
        Ok(Self { checkpoint, adapters: fitted })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The adapter with that index.
    pub fn adapter(&self, index: usize) -> Result<&Adapter, Error> {
        Ok(&self.fitted(index)?.0)
    }

    /// Where the parts of the adapter with that index go.
    pub fn fit(&self, index: usize) -> Result<&Fit, Error> {
        Ok(&self.fitted(index)?.1)
    }

    /// The shape that a request pours.
    pub fn shape(&self, pour: &Pour<'_>) -> Result<Vec<usize>, Error> {
        let mut shape = self.recipe(pour)?.shape;
        if pour.transpose {
            shape.reverse();
        }
        Ok(shape)
    }

    /// What a request pours, so that equal weights are poured once.
    pub fn identity(&self, pour: &Pour<'_>) -> Result<Identity, Error> {
        let Recipe { brought_by, tensor, branches, .. } = self.recipe(pour)?;
        let added =
            branches.iter().map(|(index, branch)| (*index, branch.module.clone())).collect();
        Ok(Identity { brought_by, tensor, added })
    }

    /// Pours a weight as little-endian bytes, block by block; all arithmetic is f32, rounded once at the end.
    pub fn stream(&self, pour: &Pour<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        let recipe = self.recipe(pour)?;
        let weight = self.prepare(&recipe)?;
        let (n_rows, n_columns) = weight.size();
        if n_rows == 0 || n_columns == 0 {
            return Ok(());
        }
        let mut values = Vec::new();
        let mut bytes = Vec::new();
        // Whole rows as long as the output runs along them, strips of whole columns when it runs down.
        let (along, across, in_hand) =
            if pour.transpose { (n_columns, n_rows, STRIP) } else { (n_rows, n_columns, BLOCK) };
        for strip in strips(along, (in_hand / across).max(1)) {
            cancel::check()?;
            let (rows, columns) =
                if pour.transpose { (0..n_rows, strip) } else { (strip, 0..n_columns) };
            values.resize(rows.len() * columns.len(), 0.0);
            weight.block(&rows, &columns, &mut values)?;
            let turned =
                if pour.transpose { transposed(&values, columns.len()) } else { Vec::new() };
            let ordered = if pour.transpose { &turned } else { &values };
            bytes.resize(ordered.len() * pour.out.size(), 0);
            encode(pour.out, ordered, &mut bytes).map_err(|at| {
                let (row, column) = if pour.transpose {
                    (at % n_rows, columns.start + at / n_rows)
                } else {
                    (rows.start + at / n_columns, at % n_columns)
                };
                let index = unravel(row * n_columns + column, &recipe.shape);
                Error::bad_value(pour.tensor, index, ordered[at])
            })?;
            sink(&bytes).map_err(|error| Error::Sink { tensor: pour.tensor.to_owned(), error })?;
        }
        Ok(())
    }

    /// The shape of an adapter's factor.
    pub fn adapter_part_shape(&self, pour: &AdapterPour<'_>) -> Result<[usize; 2], Error> {
        let (_, branch) = self.branch(pour)?;
        Ok(match pour.part {
            Part::A => [branch.rank, branch.n_inputs],
            Part::B => [branch.n_outputs, branch.rank],
        })
    }

    /// Pours a factor of an adapter; `lora_B` has the scale in it.
    pub fn adapter_part(&self, pour: &AdapterPour<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        let (adapter, branch) = self.branch(pour)?;
        let (tensor, scale) = match pour.part {
            Part::A => (&branch.pair.a, 1.0),
            Part::B if pour.negate => (&branch.pair.b, -branch.scale as f32),
            Part::B => (&branch.pair.b, branch.scale as f32),
        };
        let mut values = adapter.tensors().read_f32(tensor)?;
        for x in &mut values {
            *x *= scale;
        }
        let [_, n_columns] = self.adapter_part_shape(pour)?;
        let mut bytes = vec![0; values.len() * pour.out.size()];
        encode(pour.out, &values, &mut bytes).map_err(|at| {
            Error::bad_value(tensor, vec![at / n_columns, at % n_columns], values[at])
        })?;
        sink(&bytes).map_err(|error| Error::Sink { tensor: tensor.clone(), error })
    }

    fn fitted(&self, index: usize) -> Result<&(Adapter, Fit), Error> {
        let n_adapters = self.adapters.len();
        self.adapters.get(index).ok_or(Error::NoAdapter { index, n_adapters })
    }

    fn branch(&self, pour: &AdapterPour<'_>) -> Result<(&Adapter, &Branch), Error> {
        let (adapter, fit) = self.fitted(pour.adapter)?;
        let slot = adapter::slot(&self.checkpoint, &format!("{}.weight", pour.module));
        let branch = fit.branches.iter().find(|b| b.slot == slot && !b.pair.embedding);
        let branch = branch.ok_or_else(|| Error::NoModule {
            dir: adapter.dir().to_owned(),
            module: pour.module.to_owned(),
        })?;
        Ok((adapter, branch))
    }

    /// Follows a request through the adapters, in order, as PEFT merges one after the other: a parameter brought
    /// whole takes the place of what was merged before it, and unties a tied head.
    fn recipe(&self, pour: &Pour<'_>) -> Result<Recipe<'_>, Error> {
        let Some(tensor) = self.checkpoint.resolve(pour.tensor) else {
            let dir = self.checkpoint.dir().to_owned();
            return Err(Error::NoTensor { dir, parameter: pour.tensor.to_owned() });
        };
        let shape = self.checkpoint.tensors().get(tensor).expect("a resolved tensor is stored");
        let shape = shape.shape.clone();
        if pour.transpose && shape.len() != 2 {
            return Err(Error::NotAMatrix { tensor: pour.tensor.to_owned(), shape });
        }
        let slot = adapter::slot(&self.checkpoint, pour.tensor);
        let mut recipe =
            Recipe { brought_by: None, tensor: tensor.to_owned(), shape, branches: Vec::new() };
        // The base's tensor, as long as this parameter is the same as others that share it.
        let mut shared = Some(tensor);
        for (n_before, index) in pour.adapters.iter().enumerate() {
            let so_far = &pour.adapters[..=n_before];
            let (_, fit) = self.fitted(*index)?;
            for whole in &fit.whole {
                let shares = !whole.saved
                    && shared == Some(whole.tensor.as_str())
                    && !self.is_saved(&whole.slot, so_far);
                if whole.slot == slot || shares {
                    recipe.brought_by = Some(*index);
                    recipe.tensor.clone_from(&whole.key);
                    recipe.branches.clear();
                    shared = shared.filter(|_| !whole.saved);
                }
            }
            for branch in &fit.branches {
                let shares =
                    shared == Some(branch.tensor.as_str()) && !self.is_saved(&branch.slot, so_far);
                if branch.slot == slot || shares {
                    recipe.branches.push((*index, branch));
                }
            }
        }
        Ok(recipe)
    }

    /// Whether one of the adapters brings the module of `slot` whole.
    fn is_saved(&self, slot: &str, adapters: &[usize]) -> bool {
        let saves = |(_, fit): &(Adapter, Fit)| fit.whole.iter().any(|w| w.saved && w.slot == slot);
        adapters.iter().any(|index| self.adapters.get(*index).is_some_and(saves))
    }

    fn prepare(&self, recipe: &Recipe<'_>) -> Result<Weight<'_>, Error> {
        let tensors = match recipe.brought_by {
            Some(index) => self.fitted(index)?.0.tensors(),
            None => self.checkpoint.tensors(),
        };
        let mut weight = Weight { tensors, tensor: recipe.tensor.clone(), steps: Vec::new() };
        for (index, branch) in &recipe.branches {
            let adapter = self.adapter(*index)?;
            let delta = Delta::read(adapter, branch)?;
            weight.steps.push(Step::Add(delta));
            if let Some(magnitude) = &branch.pair.magnitude {
                let magnitudes = adapter.tensors().read_f32(magnitude)?;
                let norms = weight.output_norms(branch.in_out)?;
                let factors =
                    magnitudes.iter().zip(norms).map(|(m, n)| (f64::from(*m) / n.sqrt()) as f32);
                weight.steps.push(Step::Scale(factors.collect(), branch.in_out));
            }
        }
        Ok(weight)
    }
}

/// Which tensor a request starts from and what is added to it.
struct Recipe<'a> {
    brought_by: Option<usize>,
    tensor: String,
    shape: Vec<usize>,
    branches: Vec<(usize, &'a Branch)>,
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same weight must be the same to the bit")]
mod tests;
