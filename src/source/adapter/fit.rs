//! `Fit`: an adapter's parts placed on the tensors of its base.

use super::{Adapter, Delta, Error, LowRank, Misfit};
use crate::source::checkpoint::Checkpoint;
use crate::source::names;

/// Where each part of an adapter goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub(crate) branches: Vec<Branch>,
    pub(crate) whole: Vec<Whole>,
}

impl Fit {
    /// The low-rank pairs, by module name.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }
}

/// A low-rank pair on its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The module, as the adapter calls it.
    pub module: String,
    /// The stored tensor that the product is added to.
    pub tensor: String,
    /// Inputs of the module.
    pub n_inputs: usize,
    /// Outputs of the module.
    pub n_outputs: usize,
    /// Rank of the pair.
    pub rank: usize,
    /// What the product is multiplied with.
    pub scale: f64,
    /// Whether the weight is stored [in, out].
    pub in_out: bool,
    /// The pair's tensors in the adapter.
    pub pair: LowRank,
    /// The module's own parameter, which a tied head shares with the embedding only until one is replaced.
    pub(crate) slot: String,
}

/// A parameter that the adapter brings whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Whole {
    /// The tensor in the adapter.
    pub(crate) key: String,
    /// The stored tensor that it replaces.
    pub(crate) tensor: String,
    /// The parameter's own name.
    pub(crate) slot: String,
    /// Whether it belongs to `modules_to_save`: then the whole module is replaced, which unties a tied head. Other
    /// parameters are loaded into the base's, which a tied head shares.
    pub(crate) saved: bool,
}

/// The name under which replacements of `parameter` are kept: its stored tensor, or its bare name if it is tied.
pub(crate) fn slot(checkpoint: &Checkpoint, parameter: &str) -> String {
    if let Some(stored) = checkpoint.stored(parameter) {
        return stored.to_owned();
    }
    let prefix = names::base_model_prefix(&checkpoint.config().model_type);
    let bare = prefix.and_then(|prefix| parameter.strip_prefix(prefix)?.strip_prefix('.'));
    bare.unwrap_or(parameter).to_owned()
}

pub(super) fn fit(adapter: &Adapter, checkpoint: &Checkpoint) -> Result<Fit, Error> {
    let mut misfits = Vec::new();
    let mut fit = Fit { branches: Vec::new(), whole: Vec::new() };
    for (module, pair) in adapter.low_rank() {
        match branch(adapter, checkpoint, module, pair) {
            Ok(branch) => fit.branches.push(branch),
            Err(misfit) => misfits.push(misfit),
        }
    }
    for (parameter, key) in &adapter.keys.whole {
        let brought = adapter.tensors.get(key).expect("a parsed key is in the file");
        let Some(tensor) = checkpoint.resolve(parameter) else {
            misfits.push(Misfit::Absent { parameter: parameter.clone() });
            continue;
        };
        let base = checkpoint.tensors().get(tensor).expect("a resolved tensor is stored");
        if base.shape == brought.shape {
            fit.whole.push(Whole {
                key: key.clone(),
                tensor: tensor.to_owned(),
                slot: slot(checkpoint, parameter),
                saved: adapter.config.saves(parameter),
            });
        } else {
            misfits.push(Misfit::Shape {
                parameter: parameter.clone(),
                adapter: brought.shape.clone(),
                base: base.shape.clone(),
            });
        }
    }
    let n_misfits = misfits.len();
    match misfits.into_iter().next() {
        None => Ok(fit),
        Some(first) => Err(Error::DoesNotFit {
            dir: adapter.dir.clone(),
            base: checkpoint.dir().to_owned(),
            n_misfits,
            n_tensors: adapter.keys.low_rank.len() + adapter.keys.whole.len(),
            first: Box::new(first),
        }),
    }
}

fn branch(
    adapter: &Adapter,
    checkpoint: &Checkpoint,
    module: &str,
    pair: &LowRank,
) -> Result<Branch, Misfit> {
    let shape =
        |key: &str| adapter.tensors.get(key).expect("a parsed key is in the file").shape.clone();
    let (a, b) = (shape(&pair.a), shape(&pair.b));
    let rank = adapter.config.rank(module);
    let (n_inputs, n_outputs) = match (a.as_slice(), b.as_slice()) {
        ([r, n_inputs], [n_outputs, s]) if *r == rank && *s == rank => (*n_inputs, *n_outputs),
        _ => return Err(Misfit::Rank { module: module.to_owned(), a, b, rank }),
    };
    let parameter = format!("{module}.weight");
    let Some(tensor) = checkpoint.resolve(&parameter) else {
        return Err(Misfit::Absent { parameter });
    };
    // PEFT goes by the class of the base's layer and overrides `fan_in_fan_out` with it.
    let conv1d = names::stored_in_out(&checkpoint.config().model_type, &parameter)
        .unwrap_or(adapter.config.fan_in_fan_out);
    let in_out = pair.embedding || conv1d;
    let wanted = if in_out { vec![n_inputs, n_outputs] } else { vec![n_outputs, n_inputs] };
    let base = checkpoint.tensors().get(tensor).expect("a resolved tensor is stored");
    if base.shape != wanted {
        return Err(Misfit::Shape { parameter, adapter: wanted, base: base.shape.clone() });
    }
    if let Some(magnitude) = &pair.magnitude {
        let found: usize = shape(magnitude).iter().product();
        if found != n_outputs {
            let module = module.to_owned();
            return Err(Misfit::Magnitude { module, found, outputs: n_outputs });
        }
    }
    Ok(Branch {
        module: module.to_owned(),
        tensor: tensor.to_owned(),
        n_inputs,
        n_outputs,
        rank,
        scale: adapter.config.scale(module),
        in_out,
        pair: pair.clone(),
        slot: slot(checkpoint, &parameter),
    })
}

pub(super) fn changes_nothing(adapter: &Adapter, checkpoint: &Checkpoint) -> Result<bool, Error> {
    let Fit { branches, whole } = fit(adapter, checkpoint)?;
    for branch in branches {
        if branch.pair.magnitude.is_some() || !Delta::read(adapter, &branch)?.is_zero() {
            return Ok(false);
        }
    }
    for Whole { key, tensor, .. } in whole {
        if adapter.tensors.read_f32(&key)? != checkpoint.tensors().read_f32(&tensor)? {
            return Ok(false);
        }
    }
    Ok(true)
}
