//! `dry_run`: everything that a conversion does up to the first byte of its output, so that it refuses what that refuses.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::ConvertError;
use super::origin::Origin;
use super::request::{AdapterMode, Request};
use super::run;
use super::table::{Facts, Placeholder};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};
use crate::python::Interpreter;
use crate::source::dtype::Float;

/// What a conversion would be made of.
#[derive(Debug, Clone, Deserialize)]
pub struct DryRun {
    /// The model as Python sees it.
    pub facts: Facts,
    /// Stored tensors that nothing uses and that were let pass.
    #[serde(default)]
    pub unused: Vec<String>,
    placeholders: Vec<Placeholder>,
}

/// Builds the model without its graph and reads every weight, adapters merged, without writing it.
pub fn dry_run(
    request: &Request,
    python: &Interpreter,
    progress: &dyn Progress,
) -> Result<DryRun, ConvertError> {
    run::check(request)?;
    let mut weights = run::open(request)?;
    progress.begin("check model", None, Unit::Items);
    let answer = python.call(&run::skeleton_fields(request, &weights, "plan", None)?)?;
    let plan: DryRun = serde_json::from_value(answer)?;
    progress.end();
    // Adapters whose initialisation changes the base need a place for what PEFT computes.
    let scratch = if weights.is_initialised() { Some(run::Scratch::new(request)?) } else { None };
    if let Some(scratch) = &scratch {
        run::take_out(&mut weights, request, python, scratch.path(), progress)?;
    }

    let mut functions = vec!["decode"];
    if !request.llm2vec.is_empty() {
        functions.push("encode");
    }
    let mut origins = Vec::new();
    let mut known = BTreeSet::new();
    for placeholder in &plan.placeholders {
        for function in &functions {
            // Only `encode` has weights with its own adapters merged, and then no others.
            let own = *function == "encode" && request.encode_adapters == AdapterMode::Merge;
            if own == placeholder.merged_adapters.is_empty() {
                continue;
            }
            let origin = Origin::of(placeholder, function, request, &weights)?;
            if known.insert(origin.key()) {
                origins.push((origin, placeholder.shape.iter().product::<u64>() * 2));
            }
        }
    }
    let total = origins.iter().map(|(_, bytes)| bytes).sum();
    progress.begin("read weights", Some(total), Unit::Bytes);
    for (origin, _) in &origins {
        cancel::check()?;
        origin.stream(&weights, Float::F16, &mut |bytes| {
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
    }
    progress.end();
    Ok(plan)
}
