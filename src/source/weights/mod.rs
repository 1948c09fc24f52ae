//! `Weights`: a checkpoint with its adapters, poured tensor by tensor as bytes of the output.

mod block;
mod error;
mod plan;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use block::{BLOCK, STRIP, Step, Weight, encode, strips, transposed};
pub use error::Error;
use plan::{MergePlan, PlanStep, Source};

use super::adapter::{self, Adapter, Branch, Delta, Fit, Init, ModelChanges};
use super::checkpoint::Checkpoint;
use super::dtype::Float;
use crate::base::cancel;
use crate::base::index::unravel;

/// A checkpoint and the adapters that may be merged into it.
#[derive(Debug)]
pub struct Weights {
    checkpoint: Checkpoint,
    adapters: Vec<(Adapter, Fit)>,
    /// Files with the factors that initialisations take out, by adapter and pair.
    initial_products: BTreeMap<(usize, usize), PathBuf>,
}

/// A weight as it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct WeightRequest<'a> {
    /// The parameter, by its name in the model or by that of its stored tensor.
    pub tensor: &'a str,
    /// Whether to request a matrix with rows and columns exchanged.
    pub transpose: bool,
    /// Adapters to merge, in this order.
    pub adapters: &'a [usize],
    /// Element type of the output.
    pub out: Float,
}

/// One factor of an adapter's low-rank pair, as it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct FactorRequest<'a> {
    /// The adapter.
    pub adapter: usize,
    /// The module, with or without the base model's prefix.
    pub module: &'a str,
    /// Which factor.
    pub factor: Factor,
    /// True if `lora_B` gets the opposite sign: such a branch takes a merged adapter out again.
    pub negate: bool,
    /// Element type of the output.
    pub out: Float,
}

/// A factor of a low-rank pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Factor {
    /// `lora_A`, [rank, in], as it is stored.
    A,
    /// `lora_B`, [out, rank], multiplied with the scale.
    B,
}

/// What a poured weight is made of: two requests with the same value request the same elements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(MergePlan);

/// What takes the bytes.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Weights {
    /// Joins a checkpoint and its adapters; each must fit what those before it in its chain have made of the base.
    /// The first `n_chat` adapters are one chain, the others another.
    pub fn new(
        checkpoint: Checkpoint,
        adapters: Vec<Adapter>,
        n_chat: usize,
    ) -> Result<Self, Error> {
        let mut fitted = Vec::new();
        let mut before = ModelChanges::default();
        for (i, adapter) in adapters.into_iter().enumerate() {
            if i == n_chat {
                before = ModelChanges::default();
            }
            let fit = adapter.check(&checkpoint, &before)?;
            before = fit.changes().clone();
            fitted.push((adapter, fit));
        }
        Ok(Self { checkpoint, adapters: fitted, initial_products: BTreeMap::new() })
    }

    /// The pairs of an adapter, by their indices, whose initialisation takes something out of a weight that the
    /// adapter does not replace; `before` are the adapters that come before it.
    pub fn pairs_to_initialize(&self, index: usize, before: &[usize]) -> Result<Vec<usize>, Error> {
        let adapters: Vec<usize> = before.iter().copied().chain([index]).collect();
        let mut out = Vec::new();
        for (i, branch) in self.fit(index)?.branches().iter().enumerate() {
            if branch.init != Init::Unchanged
                && self
                    .plan(&branch.weight, &adapters)?
                    .steps
                    .contains(&PlanStep::SubtractInitial(index, i))
            {
                out.push(i);
            }
        }
        Ok(out)
    }

    /// True if an adapter's initialisation takes something out of the base.
    pub fn has_initial_products(&self) -> bool {
        self.adapters.iter().any(|(adapter, _)| adapter.config().init != Init::Unchanged)
    }

    /// Writes what a request pours as the tensor `weight` of a safetensors file, in f32.
    pub fn save(&self, request: &WeightRequest<'_>, file: &Path) -> Result<(), Error> {
        let shape = self.shape(request)?;
        let n_bytes = shape.iter().product::<usize>() * Float::F32.size();
        let header = serde_json::json!({
            "weight": { "dtype": "F32", "shape": shape, "data_offsets": [0, n_bytes] }
        });
        let sink_error = |error| Error::Sink { tensor: request.tensor.to_owned(), error };
        let header = header.to_string();
        let mut out = io::BufWriter::new(fs_err::File::create(file).map_err(sink_error)?);
        let prefix = (header.len() as u64).to_le_bytes();
        out.write_all(&prefix)
            .and_then(|()| out.write_all(header.as_bytes()))
            .map_err(sink_error)?;
        self.stream(&WeightRequest { out: Float::F32, ..*request }, &mut |bytes| {
            out.write_all(bytes)
        })?;
        out.flush().map_err(sink_error)
    }

    /// Says where the factors lie that the initialisation of a pair takes out of its weight: a safetensors file with
    /// `left` [rows, rank] and `right` [rank, columns], without the scale.
    pub fn set_initial_product(&mut self, adapter: usize, pair: usize, file: &Path) {
        self.initial_products.insert((adapter, pair), file.to_owned());
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
    pub fn shape(&self, request: &WeightRequest<'_>) -> Result<Vec<usize>, Error> {
        let mut shape = self.plan_of(request)?.shape;
        if request.transpose {
            shape.reverse();
        }
        Ok(shape)
    }

    /// What a request pours, so that equal weights are poured once.
    pub fn identity(&self, request: &WeightRequest<'_>) -> Result<Identity, Error> {
        Ok(Identity(self.plan_of(request)?))
    }

    /// Pours a weight as little-endian bytes, block by block; all arithmetic is f32, rounded once at the end.
    pub fn stream(&self, request: &WeightRequest<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        let plan = self.plan_of(request)?;
        let weight = self.prepare(&plan)?;
        let (n_rows, n_columns) = weight.size();
        if n_rows == 0 || n_columns == 0 {
            return Ok(());
        }
        let mut values = Vec::new();
        let mut bytes = Vec::new();
        // FullReplacement rows as long as the output runs along them, strips of whole columns when it runs down.
        let (along, across, in_hand) =
            if request.transpose { (n_columns, n_rows, STRIP) } else { (n_rows, n_columns, BLOCK) };
        for strip in strips(along, (in_hand / across).max(1)) {
            cancel::check()?;
            let (rows, columns) =
                if request.transpose { (0..n_rows, strip) } else { (strip, 0..n_columns) };
            values.resize(rows.len() * columns.len(), 0.0);
            weight.block(&rows, &columns, &mut values)?;
            let turned =
                if request.transpose { transposed(&values, columns.len()) } else { Vec::new() };
            let ordered = if request.transpose { &turned } else { &values };
            bytes.resize(ordered.len() * request.out.size(), 0);
            encode(request.out, ordered, &mut bytes).map_err(|at| {
                let (row, column) = if request.transpose {
                    (at % n_rows, columns.start + at / n_rows)
                } else {
                    (rows.start + at / n_columns, at % n_columns)
                };
                let index = unravel(row * n_columns + column, &plan.shape);
                Error::bad_value(request.tensor, index, ordered[at])
            })?;
            sink(&bytes)
                .map_err(|error| Error::Sink { tensor: request.tensor.to_owned(), error })?;
        }
        Ok(())
    }

    /// The shape of an adapter's factor.
    pub fn factor_shape(&self, request: &FactorRequest<'_>) -> Result<[usize; 2], Error> {
        let (_, branch) = self.branch(request)?;
        Ok(match request.factor {
            Factor::A => [branch.rank, branch.n_inputs],
            Factor::B => [branch.n_outputs, branch.rank],
        })
    }

    /// Pours a factor of an adapter; `lora_B` has the scale in it.
    pub fn stream_factor(
        &self,
        request: &FactorRequest<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Error> {
        let (adapter, branch) = self.branch(request)?;
        let (tensor, scale) = match request.factor {
            Factor::A => (&branch.pair.a, 1.0),
            Factor::B if request.negate => (&branch.pair.b, -branch.scale as f32),
            Factor::B => (&branch.pair.b, branch.scale as f32),
        };
        let mut values = adapter.tensors().read_f32(tensor)?;
        for x in &mut values {
            *x *= scale;
        }
        let [_, n_columns] = self.factor_shape(request)?;
        let mut bytes = vec![0; values.len() * request.out.size()];
        encode(request.out, &values, &mut bytes).map_err(|at| {
            Error::bad_value(tensor, vec![at / n_columns, at % n_columns], values[at])
        })?;
        sink(&bytes).map_err(|error| Error::Sink { tensor: tensor.clone(), error })
    }

    fn fitted(&self, index: usize) -> Result<&(Adapter, Fit), Error> {
        let n_adapters = self.adapters.len();
        self.adapters.get(index).ok_or(Error::NoAdapter { index, n_adapters })
    }

    fn branch(&self, request: &FactorRequest<'_>) -> Result<(&Adapter, &Branch), Error> {
        let (adapter, fit) = self.fitted(request.adapter)?;
        let weight = format!("{}.weight", request.module);
        let weight = adapter::parameter_key(&self.checkpoint, &weight);
        let branch = fit.branches.iter().find(|b| b.weight == weight && !b.pair.embedding);
        let branch = branch.ok_or_else(|| Error::NoModule {
            dir: adapter.dir().to_owned(),
            module: request.module.to_owned(),
        })?;
        Ok((adapter, branch))
    }

    fn plan_of(&self, request: &WeightRequest<'_>) -> Result<MergePlan, Error> {
        let plan = self.plan(request.tensor, request.adapters)?;
        if request.transpose && plan.shape.len() != 2 {
            let (tensor, shape) = (request.tensor.to_owned(), plan.shape);
            return Err(Error::NotAMatrix { tensor, shape });
        }
        Ok(plan)
    }

    fn prepare(&self, plan: &MergePlan) -> Result<Weight<'_>, Error> {
        let stored = match &plan.source {
            Source::Checkpoint(tensor) => Some((self.checkpoint.tensors(), tensor.clone())),
            Source::Adapter(index, key) => Some((self.adapter(*index)?.tensors(), key.clone())),
            Source::Zeros => None,
        };
        let mut weight = Weight { stored, shape: plan.shape.clone(), steps: Vec::new() };
        for step in &plan.steps {
            match *step {
                PlanStep::SubtractInitial(index, i) => {
                    let (adapter, fit) = self.fitted(index)?;
                    let branch = &fit.branches[i];
                    let file = self.initial_products.get(&(index, i)).ok_or_else(|| {
                        Error::NotPrepared {
                            dir: adapter.dir().to_owned(),
                            module: branch.module.clone(),
                            init: branch.init.name(),
                        }
                    })?;
                    weight.steps.push(Step::Add(Delta::read_initial(file, branch)?));
                }
                PlanStep::Rows(index, i) => {
                    let (adapter, fit) = self.fitted(index)?;
                    let rows = &fit.tokens[i];
                    let vectors = adapter.tensors().read_f32(&rows.key)?;
                    let width = vectors.len() / rows.indices.len().max(1);
                    let vectors = vectors.chunks(width.max(1)).map(<[f32]>::to_vec);
                    weight
                        .steps
                        .push(Step::Rows(rows.indices.iter().copied().zip(vectors).collect()));
                }
                PlanStep::Pair(index, i) => {
                    let (adapter, fit) = self.fitted(index)?;
                    let branch = &fit.branches[i];
                    weight.steps.push(Step::Add(Delta::read(adapter, branch)?));
                    if let Some(magnitude) = &branch.pair.magnitude {
                        let magnitudes = adapter.tensors().read_f32(magnitude)?;
                        let norms = weight.output_norms(branch.in_out)?;
                        let factors = magnitudes
                            .iter()
                            .zip(norms)
                            .map(|(m, n)| (f64::from(*m) / n.sqrt()) as f32);
                        weight.steps.push(Step::Scale(factors.collect(), branch.in_out));
                    }
                }
                PlanStep::Bias(index, i) => {
                    let (adapter, fit) = self.fitted(index)?;
                    let branch = &fit.branches[i];
                    let key = branch.pair.bias.as_ref().expect("a plan adds only what is there");
                    let scale = branch.scale as f32;
                    let bias = adapter.tensors().read_f32(key)?;
                    weight.steps.push(Step::Bias(bias.into_iter().map(|x| x * scale).collect()));
                }
            }
        }
        Ok(weight)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same weight must be the same to the bit")]
mod tests;
