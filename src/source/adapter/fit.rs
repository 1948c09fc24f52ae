//! `Fit`: an adapter's parts placed on the parameters of its base.

use super::changes::{ModelChanges, parameter_key, tied_pair};
use super::config::{Init, TokenIndices};
use super::{Adapter, Delta, Error, LowRank, Mismatch};
use crate::source::checkpoint::Checkpoint;
use crate::source::names;

/// Where each part of an adapter goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub(crate) branches: Vec<Branch>,
    pub(crate) whole: Vec<FullReplacement>,
    pub(crate) tokens: Vec<TokenRows>,
    /// The model with this adapter.
    pub(crate) changes: ModelChanges,
    /// True if a head that the base ties to the embedding gets the embedding's module of `modules_to_save`.
    pub(crate) ties_saved: bool,
}

impl Fit {
    /// The low-rank pairs, by module name.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// What the model consists of with this adapter.
    pub fn changes(&self) -> &ModelChanges {
        &self.changes
    }
}

/// A low-rank pair on its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The module, as the adapter calls it.
    pub module: String,
    /// Inputs of the module.
    pub n_inputs: usize,
    /// Outputs of the module.
    pub n_outputs: usize,
    /// Rank of the pair.
    pub rank: usize,
    /// What the product is multiplied with.
    pub scale: f64,
    /// True if the weight is stored [in, out].
    pub in_out: bool,
    /// The pair's tensors in the adapter.
    pub pair: LowRank,
    /// What is taken out of the weight before the product is added.
    pub init: Init,
    /// The weight, by its bare name.
    pub(crate) weight: String,
    /// The bias that the pair's own is added to, by its bare name.
    pub(crate) bias: String,
}

impl Branch {
    /// The weight that the product is added to, by its name in the model without a head.
    pub fn weight(&self) -> &str {
        &self.weight
    }
}

/// A parameter that the adapter brings whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FullReplacement {
    /// The tensor in the adapter.
    pub(crate) key: String,
    /// The parameter's bare name.
    pub(crate) parameter: String,
    /// True if it belongs to `modules_to_save`: then the module is replaced, which unties a tied head. Other
    /// parameters are loaded into the base's, which a tied head shares.
    pub(crate) saved: bool,
}

/// Vectors of single tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenRows {
    /// The tensor in the adapter.
    pub(crate) key: String,
    /// The parameter's bare name.
    pub(crate) parameter: String,
    /// The tokens.
    pub(crate) indices: Vec<usize>,
    /// True if the head gets the same vectors.
    pub(crate) head: bool,
}

pub(super) fn fit(
    adapter: &Adapter,
    checkpoint: &Checkpoint,
    before: &ModelChanges,
) -> Result<Fit, Error> {
    let mut changes = before.clone();
    let ranges = &adapter.config.layer_replication;
    if !ranges.is_empty() {
        let layers = before.replicated(checkpoint, ranges).ok_or_else(|| Error::Layers {
            dir: adapter.dir.clone(),
            ranges: ranges.clone(),
            n_layers: before.layers.as_ref().map_or(checkpoint.config().n_layers, Vec::len),
        })?;
        changes.layers = Some(layers);
    }
    let model_type = &checkpoint.config().model_type;
    let keys = &adapter.keys;
    let listed = keys.base.iter().map(|(parameter, key)| (parameter, key, false));
    let own = keys.whole.iter().map(|(parameter, key)| (parameter, key, true));
    let listed: Vec<_> = listed.chain(own).collect();
    // A vocabulary that the adapter brings along: the first of its embeddings says how large it is.
    for (parameter, key, _) in &listed {
        let brought = &adapter.tensors.get(key).expect("a parsed key is in the file").shape;
        let known = before.shape(checkpoint, parameter);
        if names::of_vocabulary(names::bare(model_type, parameter))
            && let (Some(rows), Some(shape)) = (brought.first(), known)
            && shape.first() != Some(rows)
        {
            changes.vocab_size = Some(*rows);
            break;
        }
    }

    let mut mismatches = Vec::new();
    let mut placed = Placed { adapter, checkpoint, changes, mismatches: &mut mismatches };
    let whole = placed.whole(&listed);
    let tokens = placed.tokens()?;
    let branches = placed.branches()?;
    placed.complete(before, &whole);
    let changes = placed.changes;
    let n_mismatches = mismatches.len();
    match mismatches.into_iter().next() {
        None => Ok(Fit {
            branches,
            whole,
            tokens,
            changes,
            ties_saved: adapter.config.ensure_weight_tying,
        }),
        Some(first) => Err(Error::DoesNotFit {
            dir: adapter.dir.clone(),
            base: checkpoint.dir().to_owned(),
            n_mismatches,
            n_tensors: keys.low_rank.len() + keys.tokens.len() + listed.len(),
            first: Box::new(first),
        }),
    }
}

/// An adapter on its base, as far as it has been placed.
struct Placed<'a> {
    adapter: &'a Adapter,
    checkpoint: &'a Checkpoint,
    changes: ModelChanges,
    mismatches: &'a mut Vec<Mismatch>,
}

impl Placed<'_> {
    fn shape_of_key(&self, key: &str) -> Vec<usize> {
        self.adapter.tensors.get(key).expect("a parsed key is in the file").shape.clone()
    }

    /// Parameters that are brought whole. The head comes last, as PEFT loads it last.
    fn whole(&mut self, listed: &[(&String, &String, bool)]) -> Vec<FullReplacement> {
        let mut out = Vec::new();
        for (parameter, key, own) in listed {
            let brought = self.shape_of_key(key);
            match self.changes.shape(self.checkpoint, parameter) {
                None => self.mismatches.push(Mismatch::Absent { parameter: (*parameter).clone() }),
                Some(base) if base == brought => out.push(FullReplacement {
                    key: (*key).clone(),
                    parameter: parameter_key(self.checkpoint, parameter),
                    saved: *own && self.adapter.config.saves(parameter),
                }),
                Some(base) => self.mismatches.push(Mismatch::Shape {
                    parameter: (*parameter).clone(),
                    adapter: brought,
                    base,
                }),
            }
        }
        out.sort_by_key(|whole| whole.parameter == "lm_head.weight");
        out
    }

    fn tokens(&mut self) -> Result<Vec<TokenRows>, Error> {
        let config = &self.adapter.config;
        let pair =
            tied_pair(self.checkpoint).filter(|_| self.checkpoint.config().tie_word_embeddings);
        let mut out = Vec::new();
        for (module, key) in &self.adapter.keys.tokens {
            let weight = format!("{module}.weight");
            let parameter = parameter_key(self.checkpoint, &weight);
            let indices = match &config.trainable_token_indices {
                Some(TokenIndices::Embedding(indices)) if names::is_embedding(module) => {
                    Some(indices)
                }
                Some(TokenIndices::Modules(modules)) => modules
                    .iter()
                    .find(|(end, _)| module.ends_with(*end))
                    .map(|(_, indices)| indices),
                _ => None,
            };
            let Some(indices) = indices else {
                let (dir, tensor) = (self.adapter.dir.clone(), key.clone());
                return Err(Error::Ignored { dir, tensor, setting: "trainable_token_indices" });
            };
            let Some(base) = self.changes.shape(self.checkpoint, &weight) else {
                self.mismatches.push(Mismatch::Absent { parameter: weight });
                continue;
            };
            let wanted = vec![indices.len(), base.iter().skip(1).product()];
            let brought = self.shape_of_key(key);
            if brought != wanted {
                let parameter = format!("{module}.token_adapter.trainable_tokens_delta");
                self.mismatches.push(Mismatch::Shape { parameter, adapter: brought, base: wanted });
                continue;
            }
            if let Some(token) = indices.iter().copied().max().filter(|token| *token >= base[0]) {
                self.mismatches.push(Mismatch::Token { parameter: weight, token, rows: base[0] });
                continue;
            }
            let is_source = pair.as_ref().is_some_and(|[embedding, _]| *embedding == parameter);
            let head = is_source && (config.ensure_weight_tying || !self.token_mismatch(indices));
            out.push(TokenRows { key: key.clone(), parameter, indices: indices.clone(), head });
        }
        if let Some(module) = self.missing_tokens() {
            let dir = self.adapter.dir.clone();
            return Err(Error::Missing { dir, module, setting: "trainable_token_indices" });
        }
        Ok(out)
    }

    /// True if the head has tokens of its own beside those of the embedding.
    fn token_mismatch(&self, indices: &[usize]) -> bool {
        match &self.adapter.config.trainable_token_indices {
            Some(TokenIndices::Modules(modules)) => {
                modules.iter().any(|(end, own)| "lm_head".ends_with(end.as_str()) && own != indices)
            }
            _ => false,
        }
    }

    /// A module of `trainable_token_indices` whose vectors are not in the file.
    fn missing_tokens(&self) -> Option<String> {
        let found = &self.adapter.keys.tokens;
        match self.adapter.config.trainable_token_indices.as_ref()? {
            TokenIndices::Embedding(_) => found.is_empty().then(|| "embedding".to_owned()),
            TokenIndices::Modules(modules) => {
                let shared = |indices: &Vec<usize>| {
                    // A head that is tied to an embedding with the same tokens is not saved apart.
                    self.checkpoint.config().tie_word_embeddings
                        && modules.values().filter(|other| *other == indices).count() > 1
                };
                let missing = |(end, indices): &(&String, &Vec<usize>)| {
                    let has_vectors = found.keys().any(|module| module.ends_with(end.as_str()));
                    !(has_vectors || "lm_head".ends_with(end.as_str()) && shared(indices))
                };
                modules.iter().find(missing).map(|(end, _)| end.clone())
            }
        }
    }

    fn branches(&mut self) -> Result<Vec<Branch>, Error> {
        let config = &self.adapter.config;
        let mut out = Vec::new();
        for (module, pair) in &self.adapter.keys.low_rank {
            let is_parameter = config.targets.is_parameter(module);
            // PEFT gives an embedding a pair of another name, and ignores one that is named as a linear layer's.
            let misnamed = names::is_embedding(module) && !pair.embedding && !is_parameter;
            let ignored = config.targets.contains(module) == Some(false) && !self.follows(module);
            if ignored || misnamed {
                let (dir, tensor) = (self.adapter.dir.clone(), pair.a.clone());
                return Err(Error::Ignored { dir, tensor, setting: "target_modules" });
            }
            match (&pair.bias, config.lora_bias) {
                (Some(bias), false) => {
                    let (dir, tensor) = (self.adapter.dir.clone(), bias.clone());
                    return Err(Error::Ignored { dir, tensor, setting: "lora_bias" });
                }
                (None, true) => {
                    let (dir, module) = (self.adapter.dir.clone(), module.clone());
                    return Err(Error::Missing { dir, module, setting: "lora_bias" });
                }
                _ => {}
            }
            match self.branch(module, pair, is_parameter) {
                Ok(branch) => {
                    if pair.bias.is_some()
                        && self
                            .changes
                            .resolve(self.checkpoint, &format!("{module}.bias"))
                            .is_none()
                    {
                        let key = branch.bias.strip_suffix(".bias").unwrap_or(&branch.bias);
                        self.changes.biases.insert(key.to_owned());
                    }
                    out.push(branch);
                }
                Err(mismatch) => self.mismatches.push(mismatch),
            }
        }
        Ok(out)
    }

    /// True if `module` is a tied head whose pair PEFT makes of the embedding's, whatever `target_modules` names.
    fn follows(&self, module: &str) -> bool {
        self.adapter.config.ensure_weight_tying
            && module == "lm_head"
            && tied_pair(self.checkpoint).is_some()
    }

    fn branch(&self, module: &str, pair: &LowRank, is_parameter: bool) -> Result<Branch, Mismatch> {
        let config = &self.adapter.config;
        let (a, b) = (self.shape_of_key(&pair.a), self.shape_of_key(&pair.b));
        let rank = config.rank(module);
        let (n_inputs, n_outputs) = match (a.as_slice(), b.as_slice()) {
            ([r, n_inputs], [n_outputs, s]) if *r == rank && *s == rank => (*n_inputs, *n_outputs),
            _ => return Err(Mismatch::Rank { module: module.to_owned(), a, b, rank }),
        };
        let parameter = format!("{module}.weight");
        let Some(base) = self.changes.shape(self.checkpoint, &parameter) else {
            return Err(Mismatch::Absent { parameter });
        };
        // PEFT goes by the class of the base's layer and overrides `fan_in_fan_out` with it.
        let conv1d = names::stored_in_out(&self.checkpoint.config().model_type, &parameter)
            .unwrap_or(config.fan_in_fan_out);
        let in_out = !is_parameter && (pair.embedding || conv1d);
        let wanted = if in_out { vec![n_inputs, n_outputs] } else { vec![n_outputs, n_inputs] };
        if base != wanted {
            return Err(Mismatch::Shape { parameter, adapter: wanted, base });
        }
        if let Some(magnitude) = &pair.magnitude {
            let found: usize = self.shape_of_key(magnitude).iter().product();
            if found != n_outputs {
                let module = module.to_owned();
                return Err(Mismatch::Magnitude { module, found, outputs: n_outputs });
            }
        }
        Ok(Branch {
            module: module.to_owned(),
            n_inputs,
            n_outputs,
            rank,
            scale: config.scale(module),
            in_out,
            pair: pair.clone(),
            // PEFT gives embeddings the plain initialisation whatever is set.
            init: if pair.embedding { Init::Unchanged } else { config.init },
            weight: parameter_key(self.checkpoint, &parameter),
            bias: parameter_key(self.checkpoint, &format!("{module}.bias")),
        })
    }

    /// Everything that the configuration speaks of must be in the file, as PEFT would not load it, or leave modules
    /// as it initialised them.
    fn complete(&mut self, before: &ModelChanges, whole: &[FullReplacement]) {
        if self.changes.vocab_size != before.vocab_size {
            self.check_vocabulary(whole);
        }
        let config = &self.adapter.config;
        let (explicit, saves) = (config.targets.is_explicit(), !config.modules_to_save.is_empty());
        if !explicit && !saves {
            return;
        }
        // PEFT's names have the prefix of the model with a head or not, as the adapter was trained.
        let model_type = &self.checkpoint.config().model_type;
        let prefix =
            names::base_model_prefix(model_type).filter(|_| !self.adapter.is_bare(model_type));
        for parameter in self.every_parameter() {
            let is_head = parameter.starts_with("lm_head.");
            if prefix.is_none() && (is_head || parameter.starts_with("cls.")) {
                continue;
            }
            let name = match prefix {
                Some(prefix) if !is_head => format!("{prefix}.{parameter}"),
                _ => parameter.clone(),
            };
            if saves
                && config.saves(&name)
                && !whole.iter().any(|w| w.saved && w.parameter == parameter)
                && !(config.ensure_weight_tying && is_head)
            {
                self.mismatches.push(Mismatch::NotSaved { parameter: name });
                continue;
            }
            let Some(module) = name.strip_suffix(".weight") else { continue };
            if explicit
                && self.changes.shape(self.checkpoint, &parameter).is_some_and(|s| s.len() == 2)
                && config.targets.contains(module) == Some(true)
                && !self.adapter.keys.low_rank.contains_key(module)
            {
                self.mismatches.push(Mismatch::NoPair { module: module.to_owned() });
            }
        }
    }

    /// The parameters of the changed model, by their bare names.
    fn every_parameter(&self) -> Vec<String> {
        let model_type = &self.checkpoint.config().model_type;
        let stored = self.checkpoint.tensors().iter();
        let names: Vec<String> =
            stored.map(|(name, _)| names::modern(names::bare(model_type, name))).collect();
        let mut out: Vec<String> = match &self.changes.layers {
            None => names,
            Some(layers) => {
                let replicate = |name: &String| match names::layer(name) {
                    None => vec![name.clone()],
                    Some((at, layer)) => {
                        let copies = layers.iter().enumerate().filter(|(_, of)| **of == layer);
                        copies
                            .map(|(i, _)| {
                                let mut name = name.clone();
                                name.replace_range(at.clone(), &i.to_string());
                                name
                            })
                            .collect()
                    }
                };
                names.iter().flat_map(replicate).collect()
            }
        };
        if tied_pair(self.checkpoint).is_some() && !out.iter().any(|name| name == "lm_head.weight")
        {
            out.push("lm_head.weight".to_owned());
        }
        out
    }

    /// With a vocabulary of another size, embedding and head must both come in that size.
    fn check_vocabulary(&mut self, whole: &[FullReplacement]) {
        let tied = tied_pair(self.checkpoint);
        let rows = self.changes.vocab_size.unwrap_or_default();
        let mut wanted: Vec<String> =
            self.every_parameter().into_iter().filter(|name| names::of_vocabulary(name)).collect();
        wanted.dedup();
        for parameter in wanted {
            let mut sources = vec![parameter.as_str()];
            if let Some(pair) = tied.as_ref().filter(|pair| pair.contains(&parameter)) {
                // What is loaded into the base reaches both; a module of its own reaches the head only on request.
                sources = pair.iter().map(String::as_str).collect();
            }
            let reaches = |w: &&FullReplacement| {
                w.parameter == parameter
                    || (sources.contains(&w.parameter.as_str())
                        && (!w.saved || self.adapter.config.ensure_weight_tying))
            };
            if !whole.iter().any(|w| reaches(&w)) {
                self.mismatches.push(Mismatch::Vocabulary { parameter, rows });
            }
        }
    }
}

pub(super) fn changes_nothing(
    adapter: &Adapter,
    checkpoint: &Checkpoint,
    fit: &Fit,
) -> Result<bool, Error> {
    let Fit { branches, whole, tokens, changes, .. } = fit;
    if changes.layers.is_some() || changes.vocab_size.is_some() {
        return Ok(false);
    }
    let is_zero = |key: &str| -> Result<bool, Error> {
        Ok(adapter.tensors.read_f32(key)?.iter().all(|x| *x == 0.0))
    };
    for branch in branches {
        if branch.pair.magnitude.is_some()
            || branch.init != Init::Unchanged
            || !Delta::read(adapter, branch)?.is_zero()
        {
            return Ok(false);
        }
        if let Some(bias) = &branch.pair.bias
            && !is_zero(bias)?
        {
            return Ok(false);
        }
    }
    for FullReplacement { key, parameter, .. } in whole {
        let stored = changes.resolve(checkpoint, parameter).expect("a fitted parameter is stored");
        if adapter.tensors.read_f32(key)? != checkpoint.tensors().read_f32(stored)? {
            return Ok(false);
        }
    }
    for TokenRows { key, parameter, indices, .. } in tokens {
        let stored = changes.resolve(checkpoint, parameter).expect("a fitted parameter is stored");
        let vectors = adapter.tensors.read_f32(key)?;
        let width = vectors.len() / indices.len().max(1);
        let mut row = vec![0.0; width];
        for (token, vector) in indices.iter().zip(vectors.chunks(width.max(1))) {
            checkpoint.tensors().read_block(stored, &(*token..token + 1), &(0..width), &mut row)?;
            if row != vector {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
