//! `docs/ops.md`: what coremltools registers beside what the table has, and known differences from Core ML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex::Regex;

use super::{Opset, TABLE};
use crate::base::testing::assert_fresh;

/// What a known difference is, or what is worth knowing, by operation.
const NOTES: &[(&str, &str)] = &[
    (
        "const",
        "read when the program is planned; weights stay memory-mapped in their stored format",
    ),
    ("dequantize", "of a constant: folded when the program is planned"),
    (
        "einsum",
        "any equation of two operands, including repeated labels; Core ML documents `nchw,nwhu->nchu` and \
         `chw,whr->chr`",
    ),
    (
        "gru",
        "`reverse` results are in the order of computation; the reset gate is applied before the matrix product unless \
         `reset_after`; coremltools' tests report that Core ML returns zeros for all but the first sequence of a batch, \
         here all are computed",
    ),
    (
        "lstm",
        "`reverse` results are in the order of computation; `clip` clamps the cell state, without it nothing does; \
         `scaled_tanh` has scale 1",
    ),
    (
        "non_maximum_suppression",
        "if no box reaches the threshold, the box with the highest score is selected anyway, as in coremltools' \
         reference",
    ),
    ("quantize", "rounds half to even; NaN becomes 0"),
    ("random_bernoulli", RANDOM),
    (
        "random_categorical",
        "NaN for a row whose probabilities are all 0; otherwise as `random_bernoulli`",
    ),
    ("random_normal", RANDOM),
    ("random_uniform", RANDOM),
    ("reverse_sequence", "`seq_axis` and `batch_axis` must differ"),
    ("rnn", "`reverse` results are in the order of computation"),
];

const RANDOM: &str = "the same numbers in every run: without a `seed` they are derived from the operation's name; a \
                      seed gives other numbers than Core ML";

const INTRODUCTION: &str = "\
# Operations

Which operations the runtime executes, by coremltools' families. `inspect PKG --program` lists the operations of a package.

Generated from the table in `src/interp/ops/mod.rs` and from coremltools' registry
(`src/interp/goldens/ops.json`) by `UPDATE=1 cargo test ops_md`; do not edit.

coremltools registers a version of an operation with an opset, which is valid until the next opset that changes it. Most
changes add types (fp16, int8, uint16) or allow non-constant parameters. coremill derives types from the values, so one
implementation covers them; only versions with different results are implemented separately. A program that uses an
unsupported operation is rejected before it runs; the error lists each such operation with its count and location.

Each result is rounded to its declared type (not with `--precision f32`); intermediate values inside an operation are not:
products, convolutions and states of recurrent operations are summed in f32, reductions in f64. A device may round
intermediate sums and use another order.
";

/// The registry of coremltools.
#[derive(serde::Deserialize)]
struct Registry {
    coremltools: String,
    ops: BTreeMap<String, Registered>,
}

#[derive(serde::Deserialize)]
struct Registered {
    file: String,
    opsets: Vec<String>,
}

/// Where an operation stands here: its file, for every form.
fn files() -> BTreeMap<(String, usize), String> {
    let line = Regex::new(r#"op\(\s*"(\w+)",(?:\s*\w+,){4}\s*(\w+)::\w+,?\s*\)"#).unwrap();
    let mut found = BTreeMap::new();
    for (_, [name, file]) in line.captures_iter(include_str!("mod.rs")).map(|c| c.extract()) {
        let forms = found.keys().filter(|(n, _): &&(String, usize)| n == name).count();
        found.insert((name.to_owned(), forms), file.to_owned());
    }
    found
}

fn opset(opset: Opset) -> &'static str {
    match opset {
        Opset::IOS15 => "iOS15",
        Opset::IOS16 => "iOS16",
        Opset::IOS17 => "iOS17",
        Opset::IOS18 => "iOS18",
    }
}

fn registry() -> Registry {
    serde_json::from_str(include_str!("../goldens/ops.json")).unwrap()
}

/// Operations of the registry that nothing here runs.
fn missing(registry: &Registry) -> Vec<&str> {
    let runs = |name: &str| name == "const" || TABLE.iter().any(|e| e.name == name);
    registry.ops.keys().map(String::as_str).filter(|name| !runs(name)).collect()
}

fn markdown() -> String {
    let (registry, files) = (registry(), files());
    let missing = missing(&registry);
    let total = registry.ops.len();
    let mut out = INTRODUCTION.to_owned();
    write!(out, "\nOf the {total} public operations that coremltools {} registers for iOS15 to iOS18, {} are supported.",
        registry.coremltools,
        total - missing.len()).unwrap();
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
        write!(out, " Missing: {}.", names.join(", ")).unwrap();
    }
    out.push('\n');
    let mut families: BTreeMap<&str, Vec<(&String, &Registered)>> = BTreeMap::new();
    for (name, registered) in &registry.ops {
        families.entry(&registered.file).or_default().push((name, registered));
    }
    for (family, ops) in families {
        write!(out, "\n## {family}\n\n| operation | opsets in coremltools | opsets here | file | notes |\n|---|---|---|---|---|\n").unwrap();
        for (name, registered) in ops {
            let forms: Vec<_> = TABLE.iter().filter(|e| e.name == *name).collect();
            let ranges = forms.iter().map(|e| match (opset(e.since), opset(e.until)) {
                (since, until) if since == until => since.to_owned(),
                (since, until) => format!("{since}–{until}"),
            });
            let ranges: Vec<String> = ranges.collect();
            let mut places: Vec<&str> = (0..forms.len())
                .filter_map(|i| files.get(&(name.clone(), i)).map(String::as_str))
                .collect();
            places.dedup();
            let (ranges, places) = match name.as_str() {
                "const" => ("iOS15–iOS18".to_owned(), "plan".to_owned()),
                _ if ranges.is_empty() => ("missing".to_owned(), String::new()),
                _ => (ranges.join(", "), places.join(", ")),
            };
            let note = NOTES.iter().find(|(n, _)| n == name).map_or("", |(_, note)| note);
            let registered = registered.opsets.join(", ");
            writeln!(out, "| `{name}` | {registered} | {ranges} | {places} | {note} |").unwrap();
        }
    }
    let more: Vec<_> = TABLE.iter().filter(|e| !registry.ops.contains_key(e.name)).collect();
    out.push_str(
        "\n## Operations that coremltools emits but does not register\n\n| operation | opsets here |\n|---|---|\n",
    );
    for e in more {
        let (since, until) = (opset(e.since), opset(e.until));
        let forms = if since == until { since.to_owned() } else { format!("{since}–{until}") };
        writeln!(out, "| `{}` | {forms} |", e.name).unwrap();
    }
    out
}

#[test]
fn ops_md_is_fresh() {
    assert_fresh("docs/ops.md", &markdown(), "ops_md");
}

#[test]
fn every_public_operation_runs_in_every_opset_that_has_it() {
    let registry = registry();
    assert_eq!(registry.ops.len(), 167);
    assert_eq!(missing(&registry), [""; 0]);
    for (name, registered) in registry.ops.iter().filter(|(name, _)| *name != "const") {
        for at in [Opset::IOS15, Opset::IOS16, Opset::IOS17, Opset::IOS18] {
            let first = &registered.opsets[0];
            if opset(at) >= first.as_str() {
                assert!(super::lookup(name, at).is_some(), "{name} of {}", opset(at));
            }
        }
    }
}

#[test]
fn notes_are_on_operations_that_there_are_in_order() {
    let registry = registry();
    assert!(NOTES.is_sorted_by_key(|(name, _)| name));
    for (name, _) in NOTES {
        assert!(registry.ops.contains_key(*name), "{name}");
    }
    // The regular expression that finds the files misses none.
    let known: usize = files().len();
    assert_eq!(known, TABLE.len());
}
