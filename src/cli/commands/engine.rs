//! `--engine coremltools`: Apple's own passes over a package, for comparison with ours.
//!
//! The recipe is worked out here, weight by weight, and every weight is named to coremltools; so components and
//! expressions mean what they mean to our engine. What coremltools leaves is told by looking at what it wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use crate::base::error::Blame;
use crate::base::fmt;
use crate::base::fs::Staging;
use crate::base::progress::Unit;
use crate::compress::{self, Compressed, Options, Recipe};
use crate::manifest::Artifact;
use crate::mil::edit;
use crate::package::{DraftError, Package};
use crate::pipeline::Failure;
use crate::quant::scheme::{
    Fit, Linear, Mode, Palettize, PerChannelScale, Prune, ScaleGranularity, ScaleSearch,
    TableGranularity,
};
use crate::quant::{Code, Scheme, Search};

/// What is told of a weight that a recipe matches.
struct Target {
    /// The constant in the program.
    constant: String,
    /// The weight, as recipes call it.
    weight: String,
    scheme: Scheme,
}

/// What coremltools did with the weights, by the names of their constants.
#[derive(Deserialize)]
struct Report {
    compressed: Vec<Done>,
    skipped: Vec<Skipped>,
    /// Duration of the passes, without Python's start and the reading and writing of packages.
    seconds: f64,
}

#[derive(Deserialize)]
struct Done {
    weight: String,
    /// The part of the values that pruning left out.
    zeros: Option<f64>,
}

#[derive(Deserialize)]
struct Skipped {
    weight: String,
    /// The kind of the first pass that left it.
    step: String,
    reason: String,
    /// True if it has too few elements for coremltools, whose threshold is another than ours.
    small: bool,
}

impl Skipped {
    fn fact(&self) -> String {
        let Self { weight, step, reason, .. } = self;
        format!("coremltools does not {step} weight `{weight}`: {reason}")
    }
}

/// Compresses `package` by each recipe into a package at its path, as [`compress::run_all`] does, by coremltools.
pub(super) fn run_all(
    package: &Package,
    outputs: &[(&Recipe, &Path)],
    options: &Options,
    context: &Context,
) -> Result<Vec<Compressed>, Failure> {
    let from = package.path();
    if options.search == Search::Exact {
        return Err(Failure::input("`--exact` is for the native engine")
            .hint("coremltools chooses its own k-means"));
    }
    let functions: Vec<&str> = package.program().functions.keys().map(String::as_str).collect();
    if functions.len() != 1 {
        let fact = format!(
            "coremltools compresses packages with one function, and `{}` has {}: {}",
            from.display(),
            functions.len(),
            functions.join(", ")
        );
        return Err(Failure::input(fact)
            .hint("take a package with one function, or leave `--engine coremltools` out"));
    }
    if !from.join("Manifest.json").is_file() {
        let fact = format!("coremltools reads packages only, and `{}` is none", from.display());
        return Err(Failure::input(fact).hint("take the `.mlpackage` that it was compiled from"));
    }
    // All that can be refused is refused before Python starts.
    let mut jobs = Vec::new();
    for (recipe, output) in outputs {
        let targets = targets(package, recipe, options.weight_threshold)?;
        let rules = rules(&targets, options.weight_threshold)?;
        if output.exists() && !options.replace {
            return Err(DraftError::Exists { path: output.to_path_buf() }.into());
        }
        jobs.push((*output, targets, rules));
    }
    jobs.iter()
        .map(|(output, targets, rules)| one(from, output, targets, rules, options, context))
        .collect()
}

/// One package, which appears whole or not at all.
fn one(
    from: &Path,
    output: &Path,
    targets: &[Target],
    rules: &[Value],
    options: &Options,
    context: &Context,
) -> Result<Compressed, Failure> {
    let staging = Staging::begin(output)?;
    let written = staging.path().join("written.mlpackage");
    context.progress.begin("compress in Python", None, Unit::Items);
    let answer = context.python()?.call(&json!({
        "op": "quantize_reference",
        "package": from,
        "out": written,
        "rules": rules,
    }))?;
    context.progress.end();
    let report = read(answer, targets)?;
    refuse(&report, &options.may_skip)?;
    for entry in fs_err::read_dir(&written)? {
        let entry = entry?;
        fs_err::rename(entry.path(), staging.path().join(entry.file_name()))?;
    }
    fs_err::remove_dir(&written)?;
    staging.commit(options.replace)?;

    if let Some(warning) = dense(&report) {
        context.printer.warn(&warning);
    }
    let took = fmt::duration(Duration::from_secs_f64(report.seconds));
    context
        .printer
        .note(&format!("coremltools compressed {} weights in {took}", report.compressed.len()));
    let package = Package::open(output)?;
    let audit = compress::audit(&package)?;
    let files = Artifact::read(output, audit.elements)?.files;
    let scheme = |weight: &str| {
        let target = targets.iter().find(|target| target.weight == weight);
        target.map(|target| target.scheme.to_string()).unwrap_or_default()
    };
    let skipped = report.skipped.into_iter().map(|left| compress::Skipped {
        scheme: scheme(&left.weight),
        reason: left.fact(),
        name: left.weight,
    });
    Ok(Compressed {
        model: package.model().clone(),
        files,
        tensors: audit.tensors,
        skipped: skipped.collect(),
    })
}

/// The weights that `recipe` compresses, each by all the constants that hold it.
fn targets(package: &Package, recipe: &Recipe, least: u64) -> Result<Vec<Target>, Failure> {
    let weights = compress::weights(package.program(), least);
    let matched = compress::matched(&weights, recipe)?;
    let mut found = Vec::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        let at = op.const_value().and_then(|value| value.as_blob());
        let weight = at.and_then(|at| matched.iter().find(|(weight, _)| weight.at == *at));
        found.extend(weight.map(|(weight, scheme)| Target {
            constant: op.name().to_owned(),
            weight: weight.name.clone(),
            scheme: *scheme,
        }));
    });
    Ok(found)
}

/// The request's rules: one per scheme. coremltools keeps its own threshold unless another than ours is asked for.
fn rules(targets: &[Target], least: u64) -> Result<Vec<Value>, Failure> {
    let mut by_scheme: BTreeMap<Scheme, Vec<&str>> = BTreeMap::new();
    for target in targets {
        by_scheme.entry(target.scheme).or_default().push(&target.constant);
    }
    by_scheme
        .into_iter()
        .map(|(scheme, constants)| {
            let mut steps = steps(scheme).map_err(|why| {
                let fact = format!("coremltools has no scheme `{scheme}`: {why}");
                Failure::input(fact).hint("leave `--engine coremltools` out")
            })?;
            if least != compress::MIN_ELEMENTS {
                // What it compresses has more elements than that.
                for step in &mut steps {
                    step["weight_threshold"] = json!(least.max(1) - 1);
                }
            }
            Ok(json!({ "scheme": steps, "weights": constants }))
        })
        .collect()
}

/// Python's answer, weights called as in recipes.
fn read(answer: Value, targets: &[Target]) -> Result<Report, Failure> {
    let mut report: Report = serde_json::from_value(answer).map_err(|error| Failure {
        message: format!("Python's answer cannot be read: {error}"),
        hint: None,
        kind: Blame::Environment,
    })?;
    let names = report.compressed.iter_mut().map(|done| &mut done.weight);
    for name in names.chain(report.skipped.iter_mut().map(|skipped| &mut skipped.weight)) {
        if let Some(target) = targets.iter().find(|target| target.constant == *name) {
            name.clone_from(&target.weight);
        }
    }
    Ok(report)
}

/// A weight that the recipe matches and that coremltools leaves is an error, as it is for our engine; but for those that
/// are too small for it and those that may stay.
fn refuse(report: &Report, may_skip: &[Regex]) -> Result<(), Failure> {
    let may = |skipped: &Skipped| may_skip.iter().any(|regex| regex.is_match(&skipped.weight));
    let left: Vec<&Skipped> = report.skipped.iter().filter(|s| !s.small && !may(s)).collect();
    let Some(first) = left.first() else { return Ok(()) };
    let others: Vec<String> = left[1..].iter().map(|s| format!("`{}`", s.weight)).collect();
    let others = match others.len() {
        0 => String::new(),
        n => format!("; and {n} more: {}", others.join(", ")),
    };
    let weight = &first.weight;
    Err(Failure::input(format!("{}{others}", first.fact())).hint(format!(
        "a rule for this weight alone is `/{weight}/=SCHEME`, with `fp16` it is left as it is"
    )))
}

/// What is to be said where pruning left a weight dense.
fn dense(report: &Report) -> Option<String> {
    // Values that were zero before are left out of a sparse weight too.
    let few = |done: &&Done| done.zeros.is_some_and(|zeros| zeros < 0.02);
    let left: Vec<_> = report.compressed.iter().filter(few).map(|done| &done.weight).collect();
    let first = left.first()?;
    Some(format!(
        "coremltools pruned next to nothing of {} weights, `{first}` the first: of more than 65520 fp16 values its \
         percentile is NaN",
        left.len()
    ))
}

/// coremltools' passes for a scheme, as the request `quantize_reference` takes them; what is its default is left to it.
/// The error says what it does instead.
fn steps(scheme: Scheme) -> Result<Vec<Value>, &'static str> {
    let mut steps: Vec<Value> = scheme.prune.map(pruning).into_iter().collect();
    match scheme.code {
        Code::Float => {}
        Code::Linear(linear) => steps.push(linear_quantization(linear)?),
        Code::Palettize(palettize) => {
            steps.push(palettization(palettize)?);
            if palettize.lut8 {
                steps.push(int8_tables());
            }
        }
    }
    Ok(steps)
}

fn pruning(prune: Prune) -> Value {
    let mut step = json!({ "kind": "prune" });
    match prune {
        Prune::Magnitude { sparsity, block } => {
            step["target_sparsity"] = json!(sparsity.get());
            if let Some((size, axis)) = block {
                step["block_size"] = json!(size);
                if axis != 0 {
                    step["dim"] = json!(axis);
                }
            }
        }
        Prune::NofM { n, m, axis } => {
            step["n_m_ratio"] = json!([n, m]);
            if axis != 1 {
                step["dim"] = json!(axis);
            }
        }
        // In the decimals that recipes have.
        Prune::Below(threshold) => {
            let decimals: f64 = threshold.get().to_string().parse().expect("it is a number");
            step["threshold"] = json!(decimals);
        }
    }
    step
}

fn linear_quantization(linear: Linear) -> Result<Value, &'static str> {
    if linear.search == ScaleSearch::LeastSquares {
        return Err("it rounds to the largest value only");
    }
    let mode = match linear.mode {
        Mode::Symmetric => "linear_symmetric",
        Mode::Asymmetric => "linear",
    };
    let mut step = json!({ "kind": "linear", "dtype": linear.dtype.name(), "mode": mode });
    let (granularity, block) = match linear.granularity {
        ScaleGranularity::PerTensor => ("per_tensor", None),
        ScaleGranularity::PerChannel => ("per_channel", None),
        ScaleGranularity::PerBlock(size) => ("per_block", Some(json!(size))),
        ScaleGranularity::PerShape(sizes) => ("per_block", Some(json!(sizes.get()))),
    };
    step["granularity"] = json!(granularity);
    if let Some(block) = block {
        step["block_size"] = block;
    }
    Ok(step)
}

fn int8_tables() -> Value {
    json!({ "kind": "linear", "dtype": "int8", "mode": "linear_symmetric", "granularity": "per_tensor" })
}

fn palettization(palettize: Palettize) -> Result<Value, &'static str> {
    let mut step = json!({ "kind": "palettize" });
    let (mode, bits) = match palettize.fit {
        Fit::Kmeans(bits) => ("kmeans", Some(bits)),
        Fit::Uniform(bits) => ("uniform", Some(bits)),
        Fit::Unique => ("unique", None),
    };
    step["mode"] = json!(mode);
    if let Some(bits) = bits {
        step["nbits"] = json!(bits.get());
    }
    match palettize.granularity {
        TableGranularity::PerTensor => step["granularity"] = json!("per_tensor"),
        TableGranularity::PerGroupedChannel(size) => {
            step["granularity"] = json!("per_grouped_channel");
            step["group_size"] = json!(size);
        }
    }
    if let Some(axis) = palettize.channel_axis {
        step["channel_axis"] = json!(axis);
    }
    if palettize.cluster_dim > 1 {
        step["cluster_dim"] = json!(palettize.cluster_dim);
    }
    match palettize.per_channel_scale {
        None => {}
        Some(PerChannelScale::Outputs) => return Err("its scales are those of inputs, `-si`"),
        Some(PerChannelScale::Inputs) => step["enable_per_channel_scale"] = json!(true),
    }
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What coremltools was told when its answers were written down.
    const KNOWN: &str = include_str!("../../../tests/fixtures/compression/coremltools.json");

    #[test]
    fn the_passes_of_every_scheme() {
        let known: Value = serde_json::from_str(KNOWN).unwrap();
        let mut n = 0;
        for (package, schemes) in known["packages"].as_object().unwrap() {
            for (text, entry) in schemes.as_object().unwrap() {
                // What is none of our schemes, and the one that says a default in words.
                let scheme = text.parse::<Scheme>().ok();
                let Some(scheme) = scheme.filter(|scheme| scheme.to_string() == *text) else {
                    continue;
                };
                let steps = steps(scheme).map(Value::Array);
                assert_eq!(steps.as_ref(), Ok(&entry["steps"]), "{package} {text}");
                n += 1;
            }
        }
        assert!(n > 120, "{n}");
        for none in ["int4-b32-ls", "pal4-g16-s"] {
            assert!(steps(none.parse().unwrap()).is_err(), "{none}");
        }
    }

    #[test]
    fn pruning_that_does_nothing_is_said() {
        let done = |weight: &str, zeros| Done { weight: weight.to_owned(), zeros };
        let check = |compressed, want: Option<&str>| {
            assert_eq!(
                dense(&Report { compressed, skipped: vec![], seconds: 1.0 }).as_deref(),
                want
            );
        };
        check(vec![done("a", None), done("b", Some(0.5))], None);
        check(
            vec![done("a", Some(0.5)), done("b", Some(0.001)), done("c", Some(0.0))],
            Some(
                "coremltools pruned next to nothing of 2 weights, `b` the first: of more than 65520 fp16 values its \
                 percentile is NaN",
            ),
        );
    }

    #[test]
    fn a_weight_that_is_left_fails_the_run_unless_it_is_small() {
        let skipped = |weight: &str, small| Skipped {
            weight: weight.to_owned(),
            step: "palettize".to_owned(),
            reason: "24 channels do not divide".to_owned(),
            small,
        };
        let check = |skipped: Vec<Skipped>, want: Option<&str>| {
            let may_skip = [Regex::new("^free").unwrap()];
            let refused = refuse(&Report { compressed: vec![], skipped, seconds: 1.0 }, &may_skip);
            assert_eq!(refused.err().map(|failure| failure.message).as_deref(), want);
        };
        check(vec![], None);
        check(vec![skipped("a", true), skipped("freed", false)], None);
        check(
            vec![skipped("a", true), skipped("b", false)],
            Some("coremltools does not palettize weight `b`: 24 channels do not divide"),
        );
        check(
            vec![skipped("b", false), skipped("c", false), skipped("d", false)],
            Some(
                "coremltools does not palettize weight `b`: 24 channels do not divide; and 2 more: `c`, `d`",
            ),
        );
    }
}
