//! `--engine coremltools`: Apple's own passes over a package, for comparison with ours.
//!
//! The recipe is worked out here, weight by weight, and every weight is named to coremltools; so components and
//! expressions mean what they mean to our engine. What coremltools leaves is told by looking at what it wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use crate::base::error::Blame;
use crate::base::fmt;
use crate::base::fs::Staging;
use crate::base::progress::Unit;
use crate::cli::failure::Failure;
use crate::compress::{self, CompressError, Compressed, Options, Recipe};
use crate::manifest::Artifact;
use crate::mil::edit;
use crate::package::{DraftError, Package};
use crate::quant::Search;

/// What is told of a weight that a recipe matches.
struct Target {
    /// The constant in the program.
    constant: String,
    /// The weight, as recipes call it.
    weight: String,
    scheme: String,
}

/// What coremltools did with the weights, by the names of their constants.
#[derive(Deserialize)]
struct Report {
    compressed: Vec<Done>,
    skipped: Vec<Skipped>,
    /// How long the passes took, without Python's start and the reading and writing of packages.
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
    /// Whether it has too few elements for coremltools, whose threshold is another than ours.
    small: bool,
}

impl Skipped {
    fn fact(&self) -> String {
        let Self { weight, step, reason, .. } = self;
        format!("coremltools does not {step} weight `{weight}`: {reason}")
    }
}

/// What coremltools puts behind the name of a constant.
const ENDS: [&str; 4] = ["_quantized", "_palettized", "_palettized_pcs", "_sparsified"];

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
    let mut audit = compress::audit(&package)?;
    for tensor in &mut audit.tensors {
        let of = |target: &&Target| {
            let end = tensor.name.strip_prefix(&target.constant);
            end.is_some_and(|end| ENDS.contains(&end))
        };
        if let Some(target) = targets.iter().find(of) {
            tensor.name.clone_from(&target.weight);
        }
    }
    let files = Artifact::read(output, audit.elements)?.files;
    let scheme = |weight: &str| {
        let target = targets.iter().find(|target| target.weight == weight);
        target.map(|target| target.scheme.clone()).unwrap_or_default()
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
    if weights.is_empty() {
        return Err(CompressError::NoWeights.into());
    }
    let named: Vec<_> = weights.iter().map(|w| (w.name.as_str(), w.component)).collect();
    if let Some(selector) = recipe.idle_rule(&named) {
        let selector = selector.to_string();
        return Err(CompressError::Idle { selector, weights: weights.len() }.into());
    }
    let mut found = Vec::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        let at = op.const_value().and_then(|value| value.as_blob());
        let weight = at.and_then(|at| weights.iter().find(|weight| weight.at == *at));
        let scheme =
            weight.and_then(|w| Some((w, recipe.scheme_for(&w.name, w.component)?.to_string())));
        if let Some((weight, scheme)) = scheme.filter(|(_, scheme)| scheme != "fp16") {
            let constant = op.name().to_owned();
            found.push(Target { constant, weight: weight.name.clone(), scheme });
        }
    });
    Ok(found)
}

/// The request's rules: one per scheme. coremltools keeps its own threshold unless another than ours is asked for.
fn rules(targets: &[Target], least: u64) -> Result<Vec<Value>, Failure> {
    let mut by_scheme: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for target in targets {
        by_scheme.entry(&target.scheme).or_default().push(&target.constant);
    }
    by_scheme
        .into_iter()
        .map(|(scheme, constants)| {
            let mut steps = steps(scheme).map_err(|fact| {
                Failure::input(format!("coremltools has no scheme `{scheme}`: {fact}"))
                    .hint("leave `--engine coremltools` out")
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
        code: Blame::Environment.exit_code(),
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

/// coremltools' passes for a scheme, as the request `quantize_reference` takes them; or why there are none.
fn steps(scheme: &str) -> Result<Vec<Value>, String> {
    scheme.split('+').map(step).collect()
}

fn step(word: &str) -> Result<Value, String> {
    let mut pieces = word.split('-');
    let kind = pieces.next().unwrap_or_default();
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
    if kind == "lut8" {
        return step("int8-t");
    } else if let Some(share) = kind.strip_prefix("sparse") {
        set("kind", json!("prune"));
        match share.split_once(':') {
            Some((n, m)) => set("n_m_ratio", json!([number(n)?, number(m)?])),
            // Of thousandths, so that a third of a percent is the same number here and there.
            None => set("target_sparsity", json!((decimal(share)? * 1000.0).round() / 100_000.0)),
        }
        for piece in pieces {
            match piece.split_at_checked(1) {
                Some(("b", size)) => set("block_size", number(size)?),
                Some(("a", axis)) => set("dim", number(axis)?),
                _ => return Err(format!("`{piece}` is no option of its pruning")),
            }
        }
    } else if let Some(threshold) = kind.strip_prefix("below") {
        set("kind", json!("prune"));
        set("threshold", json!(decimal(threshold)?));
    } else if let "int4" | "uint4" | "int8" | "uint8" = kind {
        set("kind", json!("linear"));
        set("dtype", json!(kind));
        set("mode", json!(if kind.starts_with('i') { "linear_symmetric" } else { "linear" }));
        for piece in pieces {
            match (piece, piece.split_at_checked(1)) {
                ("t", _) => set("granularity", json!("per_tensor")),
                ("c", _) => set("granularity", json!("per_channel")),
                ("sym", _) => set("mode", json!("linear_symmetric")),
                ("asym", _) => set("mode", json!("linear")),
                ("ls", _) => return Err("it rounds to the largest value only".to_owned()),
                (_, Some(("b", sizes))) => {
                    set("granularity", json!("per_block"));
                    let sizes = sizes.split('x').map(number).collect::<Result<Vec<_>, _>>()?;
                    let one = if let [one] = &sizes[..] { Some(one.clone()) } else { None };
                    set("block_size", one.unwrap_or(Value::Array(sizes)));
                }
                _ => return Err(format!("`{piece}` is no option of its quantization")),
            }
        }
    } else {
        let modes = [("pal", "kmeans"), ("uniform", "uniform"), ("unique", "unique")];
        let (bits, mode) = modes
            .iter()
            .find_map(|(word, mode)| Some((kind.strip_prefix(word)?, mode)))
            .ok_or_else(|| format!("`{kind}` is none of its kinds"))?;
        set("kind", json!("palettize"));
        set("mode", json!(mode));
        if !bits.is_empty() {
            set("nbits", number(bits)?);
        }
        for piece in pieces {
            match (piece, piece.split_at_checked(1)) {
                ("t", _) => set("granularity", json!("per_tensor")),
                ("s", _) => set("enable_per_channel_scale", json!(true)),
                (_, Some(("g", size))) => {
                    set("granularity", json!("per_grouped_channel"));
                    set("group_size", number(size)?);
                }
                (_, Some(("a", axis))) => set("channel_axis", number(axis)?),
                (_, Some(("v", size))) => set("cluster_dim", number(size)?),
                _ => return Err(format!("`{piece}` is no option of its palettes")),
            }
        }
    }
    Ok(Value::Object(map))
}

fn number(digits: &str) -> Result<Value, String> {
    digits.parse::<u64>().map(Value::from).map_err(|_| format!("`{digits}` is no number"))
}

fn decimal(digits: &str) -> Result<f64, String> {
    digits.parse().map_err(|_| format!("`{digits}` is no number"))
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
            for (scheme, entry) in schemes.as_object().unwrap() {
                let steps = steps(scheme).map(Value::Array);
                assert_eq!(steps.as_ref(), Ok(&entry["steps"]), "{package} {scheme}");
                n += 1;
            }
        }
        assert!(n > 80, "{n}");
    }

    #[test]
    fn what_coremltools_does_not_have() {
        let cases = [
            ("int4-b32-ls", "it rounds to the largest value only"),
            ("int4-b32-x", "`x` is no option of its quantization"),
            ("fp8-c", "`fp8` is none of its kinds"),
            ("pal4-t-q", "`q` is no option of its palettes"),
            ("sparse50-c", "`c` is no option of its pruning"),
            ("sparsehalf", "`half` is no number"),
            ("pal4-g", "`` is no number"),
        ];
        for (scheme, fact) in cases {
            assert_eq!(steps(scheme), Err(fact.to_owned()), "{scheme}");
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
