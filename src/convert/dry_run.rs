//! Runs all checks of a conversion without writing output, so that it refuses everything that the conversion refuses.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::ConvertError;
use super::origin::WeightOrigin;
use super::request::Request;
use super::run;
use super::skeleton::{ModelInfo, Placeholder};
use crate::base::cancel;
use crate::base::package_options::EncodeAdapters;
use crate::base::progress::{Progress, Unit};
use crate::python::Interpreter;
use crate::source::dtype::Float;

/// Result of a dry run.
#[derive(Debug, Clone, Deserialize)]
pub struct DryRun {
    /// Model information.
    pub facts: ModelInfo,
    /// Unused checkpoint tensors that `--allow-unused-tensor` accepts.
    #[serde(default)]
    pub unused: Vec<String>,
    placeholders: Vec<Placeholder>,
}

/// Builds the model without exporting it and reads every weight, adapters merged, without writing.
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
    // The initial products of PiSSA-like adapters are computed into files.
    let scratch =
        if weights.has_initial_products() { Some(run::Scratch::new(request)?) } else { None };
    if let Some(scratch) = &scratch {
        run::compute_initial_products(&mut weights, request, python, scratch.path(), progress)?;
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
            let own = *function == "encode" && request.encode_adapters == EncodeAdapters::Merge;
            if own == placeholder.merged_adapters.is_empty() {
                continue;
            }
            let origin = WeightOrigin::of(placeholder, function, request, &weights)?;
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
