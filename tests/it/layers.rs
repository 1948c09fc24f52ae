//! The layers of ARCHITECTURE.md: which modules and crates a module may use, and no import cycles between files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

use crate::support;

/// A top-level module.
struct Layer {
    /// Modules use only modules of lower levels.
    level: u8,
    module: &'static str,
    about: &'static str,
    /// Modules that it uses.
    uses: &'static [&'static str],
}

/// The modules, from the bottom. A new edge is a change to this table.
const LAYERS: &[Layer] = &[
    Layer {
        level: 0,
        module: "base",
        about: "atomic files, digests, hints, progress, cancellation, clock interface, package options",
        uses: &[],
    },
    Layer {
        level: 0,
        module: "proto",
        about: "Core ML's messages as `prost` structs with ordered maps",
        uses: &[],
    },
    Layer {
        level: 1,
        module: "blob",
        about: "`weight.bin`: memory-mapped reading, streaming writing",
        uses: &["base"],
    },
    Layer {
        level: 1,
        module: "quant",
        about: "compression of plain slices: pruning, palettization, linear quantization, packing, error measures",
        uses: &["base"],
    },
    Layer {
        level: 1,
        module: "python",
        about: "embedded Python: environment from a pinned lock, JSON requests and responses",
        uses: &["base"],
    },
    Layer {
        level: 1,
        module: "coreml",
        about: "runs a package on macOS: the framework in `enabled`, and the part that needs no framework",
        uses: &["base"],
    },
    Layer {
        level: 2,
        module: "source",
        about: "checkpoints as streams of named tensors: safetensors and PyTorch files, PEFT adapters, the hub; \
                `source::record` describes how a checkpoint is read",
        uses: &["base"],
    },
    Layer {
        level: 2,
        module: "mil",
        about: "typed ML programs: types, binary and text form, verification, printing",
        uses: &["base", "blob", "proto"],
    },
    Layer {
        level: 3,
        module: "package",
        about: "`.mlpackage` and compiled `.mlmodelc` directories, bundles of several packages",
        uses: &["base", "blob", "mil", "proto"],
    },
    Layer {
        level: 3,
        module: "interp",
        about: "the interpreter: plan, operations, kernels",
        uses: &["base", "blob", "mil"],
    },
    Layer {
        level: 4,
        module: "compress",
        about: "applies `quant` to packages: recipes, selection, rewriting, audit",
        uses: &["base", "blob", "mil", "package", "quant"],
    },
    Layer {
        level: 4,
        module: "convert",
        about: "joins the skeletons that Python exports and writes their weights",
        uses: &["base", "blob", "mil", "package", "proto", "python", "source"],
    },
    Layer {
        level: 4,
        module: "runtime",
        about: "selects and drives the runtime of a package: interpreter or Core ML",
        uses: &["base", "coreml", "interp", "mil"],
    },
    Layer {
        level: 5,
        module: "lm",
        about: "artifact, decoder, tokenizer, chat templates, sampling, generation, embedding",
        uses: &["base", "mil", "package", "proto", "runtime", "source"],
    },
    Layer {
        level: 6,
        module: "eval",
        about: "metrics against a reference: perplexity, divergence, transcripts, embeddings, latency, precision",
        uses: &[
            "base", "compress", "interp", "lm", "mil", "package", "python", "quant", "runtime",
            "source",
        ],
    },
    Layer { level: 7, module: "gate", about: "named conditions on measurements", uses: &["eval"] },
    Layer {
        level: 8,
        module: "manifest",
        about: "the record of an artifact",
        uses: &["base", "eval", "gate", "mil", "package"],
    },
    Layer {
        level: 9,
        module: "sweep",
        about: "specification, plan, resumable run, search within a budget",
        uses: &["base", "eval", "gate", "manifest"],
    },
    Layer {
        level: 10,
        module: "report",
        about: "results as JSON, HTML, tables, CSV, XML; merging and comparison; pure functions",
        uses: &["base", "eval", "gate", "manifest", "sweep"],
    },
    Layer {
        level: 11,
        module: "pipeline",
        about: "workflows: conversion with validation and manifest, references, sweeps on this machine or a cluster",
        uses: &[
            "base", "compress", "convert", "coreml", "eval", "gate", "interp", "lm", "manifest",
            "package", "python", "quant", "report", "runtime", "source", "sweep",
        ],
    },
    Layer {
        level: 12,
        module: "cli",
        about: "arguments, settings from the environment, printing, progress",
        uses: &[
            "base", "compress", "convert", "coreml", "eval", "gate", "interp", "lm", "manifest",
            "mil", "package", "pipeline", "python", "quant", "report", "runtime", "source",
            "sweep",
        ],
    },
];

/// External crates, and the only modules that may name them.
const SOLE_USERS: &[(&str, &[&str])] = &[
    ("block2", &["coreml"]),
    ("clap", &["cli"]),
    ("comfy_table", &["cli", "report"]),
    ("gemm", &["interp"]),
    ("hf_hub", &["source"]),
    ("indicatif", &["cli"]),
    ("libm", &["interp"]),
    ("memmap2", &["blob"]),
    ("minijinja", &["lm"]),
    ("minijinja_contrib", &["lm"]),
    ("objc2", &["coreml"]),
    ("objc2_core_ml", &["coreml"]),
    ("objc2_foundation", &["coreml"]),
    ("owo_colors", &["cli", "report"]),
    ("prost", &["package", "proto"]),
    ("pyo3", &["python"]),
    ("rayon", &["cli", "eval", "interp", "lm", "quant", "source"]),
    ("safetensors", &["cli", "eval", "source"]),
    ("semver", &["cli", "manifest", "pipeline"]),
    ("serde_saphyr", &["package"]),
    ("sha2", &["base"]),
    ("tempfile", &["base", "cli", "convert", "eval", "pipeline", "python"]),
    ("tokenizers", &["lm"]),
    ("toml", &["base", "cli", "gate", "sweep"]),
];

/// Files that may use anything, because they are compiled only for tests.
const TEST_FILES: &[&str] = &["tests.rs", "testing.rs", "fixture.rs", "samples.rs", "docs.rs"];

/// A source file without its tests.
struct Source {
    /// Path relative to `src`.
    path: String,
    /// Module path, `["interp", "ops"]`.
    module: Vec<String>,
    /// All paths that the code names, absolute where they are within this crate (`crate` first).
    paths: BTreeSet<Vec<String>>,
    /// Items that are only passed on: name, and the absolute path it stands for.
    reexports: BTreeMap<String, Vec<String>>,
}

/// Collects the paths of a file.
struct Collector<'a> {
    module: &'a [String],
    /// Inline modules that the visitor is in.
    depth: Vec<String>,
    paths: BTreeSet<Vec<String>>,
    reexports: BTreeMap<String, Vec<String>>,
}

impl Collector<'_> {
    /// The absolute form of a path that is written in this file.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let here: Vec<String> = self.module.iter().chain(&self.depth).cloned().collect();
        match path.first().map(String::as_str) {
            Some("self") => {
                ["crate".to_owned()].into_iter().chain(here).chain(path[1..].to_vec()).collect()
            }
            Some("super") => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let kept = here.len().saturating_sub(ups);
                let base = here[..kept].to_vec();
                ["crate".to_owned()].into_iter().chain(base).chain(path[ups..].to_vec()).collect()
            }
            _ => path.to_vec(),
        }
    }

    fn leaves(tree: &syn::UseTree, before: &[String], out: &mut Vec<(Vec<String>, String)>) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => {
                Self::leaves(&path.tree, &with(path.ident.to_string()), out);
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                out.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
            }
            syn::UseTree::Name(name) => {
                out.push((with(name.ident.to_string()), name.ident.to_string()));
            }
            syn::UseTree::Rename(rename) => {
                out.push((with(rename.ident.to_string()), rename.rename.to_string()));
            }
            syn::UseTree::Glob(_) => out.push((before.to_vec(), "*".to_owned())),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    Self::leaves(tree, before, out);
                }
            }
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() && !is_test(&item.attrs) {
            self.depth.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.depth.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let mut leaves = Vec::new();
        Self::leaves(&item.tree, &[], &mut leaves);
        let passed_on = !matches!(item.vis, syn::Visibility::Inherited);
        for (path, name) in leaves {
            let mut path = self.absolute(&path);
            let mut children = self.module.to_vec();
            // `use child::Item` in the file of a module.
            if !["crate", "std", "core"].contains(&path[0].as_str()) {
                children.insert(0, "crate".to_owned());
                children.extend(path.clone());
                if SOLE_USERS.iter().all(|(known, _)| *known != path[0]) {
                    path = children;
                }
            }
            if passed_on {
                self.reexports.insert(name, path);
            } else {
                self.paths.insert(path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 {
            self.paths.insert(self.absolute(&parts));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_impl(self, item);
        }
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") && !TEST_FILES.contains(&&*name) {
            out.push(path);
        }
    }
}

/// All files of the modules in [`LAYERS`].
fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    for layer in LAYERS {
        files(&src().join(layer.module), &mut all);
    }
    let parsed = all.into_iter().map(|file| {
        let path = file.strip_prefix(src()).unwrap().to_string_lossy().replace('\\', "/");
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<String> = stem.split('/').map(str::to_owned).collect();
        let text = fs_err::read_to_string(&file).unwrap();
        let code = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut found = Collector {
            module: &module,
            depth: Vec::new(),
            paths: BTreeSet::new(),
            reexports: BTreeMap::new(),
        };
        found.visit_file(&code);
        let Collector { paths, reexports, .. } = found;
        Source { path, module, paths, reexports }
    });
    parsed.collect()
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = BTreeSet::new();
    for layer in LAYERS {
        for used in layer.uses {
            let below = LAYERS.iter().find(|other| other.module == *used).unwrap();
            if below.level >= layer.level {
                wrong.insert(format!("the table: `{}` uses `{used}` above it", layer.module));
            }
        }
    }
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let sources = sources();
    for source in &sources {
        let layer = LAYERS.iter().find(|layer| layer.module == source.module[0]).unwrap();
        for path in source.paths.iter().chain(source.reexports.values()) {
            let [first, used, ..] = &path[..] else { continue };
            if first != "crate" || *used == source.module[0] || !is_layer(used) {
                continue;
            }
            found.entry(layer.module).or_default().insert(used.clone());
            if !layer.uses.contains(&used.as_str()) {
                wrong.insert(format!("{}: `{}` uses `{used}`", source.path, layer.module));
            }
        }
    }
    for layer in LAYERS {
        for used in layer.uses {
            if !found.get(layer.module).is_some_and(|all| all.contains(*used)) {
                wrong.insert(format!("the table: `{}` no longer uses `{used}`", layer.module));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn is_layer(name: &str) -> bool {
    LAYERS.iter().any(|layer| layer.module == name)
}

#[test]
fn crates_are_named_only_by_their_modules() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for path in source.paths.iter().chain(source.reexports.values()) {
            let user = SOLE_USERS.iter().find(|(name, _)| *name == path[0]);
            if let Some((name, users)) = user
                && !users.contains(&source.module[0].as_str())
            {
                wrong.insert(format!("{}: `{}` names `{name}`", source.path, source.module[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_is_in_the_table() {
    let lib = fs_err::read_to_string(src().join("lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let listed: BTreeSet<&str> = LAYERS.iter().map(|layer| layer.module).collect();
    assert_eq!(declared, listed);
}

/// The file that defines what an absolute path within this crate names, through re-exports.
fn defining<'a>(
    path: &[String],
    by_module: &BTreeMap<&[String], &'a Source>,
) -> Option<&'a Source> {
    let mut path = path.to_vec();
    // A chain of re-exports is short; the limit ends one that goes round.
    for _ in 0..8 {
        let parts = &path[1..];
        let longest = (1..=parts.len()).rev().find(|n| by_module.contains_key(&parts[..*n]))?;
        let source = by_module[&parts[..longest]];
        let Some(item) = parts.get(longest) else { return Some(source) };
        let Some(target) = source.reexports.get(item) else { return Some(source) };
        let rest = parts[longest + 1..].to_vec();
        path = target.iter().cloned().chain(rest).collect();
        if path[0] != "crate" {
            return Some(source);
        }
    }
    None
}

/// Sets of files of one module that import each other, without re-exports.
fn cycles() -> BTreeSet<Vec<String>> {
    let sources = sources();
    let by_module: BTreeMap<&[String], &Source> =
        sources.iter().map(|source| (&source.module[..], source)).collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in &sources {
        for path in source.paths.iter().filter(|path| path[0] == "crate" && path.len() > 1) {
            if path[1] != source.module[0] {
                continue;
            }
            if let Some(target) = defining(path, &by_module).filter(|t| t.path != source.path) {
                edges.entry(&source.path).or_default().insert(&target.path);
            }
        }
    }
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut left = vec![from.to_owned()];
        while let Some(at) = left.pop() {
            for next in edges.get(at.as_str()).into_iter().flatten() {
                if seen.insert((*next).to_owned()) {
                    left.push((*next).to_owned());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> =
        edges.keys().map(|file| (*file, reach(file))).collect();
    let mut out = BTreeSet::new();
    for (file, all) in &reached {
        let back =
            |other: &&String| reached.get(other.as_str()).is_some_and(|from| from.contains(*file));
        let cycle: Vec<String> = all.iter().filter(back).cloned().collect();
        if !cycle.is_empty() {
            out.insert(cycle);
        }
    }
    out
}

/// The remaining cycles, one per line. The list may only shrink: a cycle that is not listed fails, and so does a line
/// that is no longer a cycle.
const CYCLES: &str = include_str!("cycles.txt");

#[test]
fn no_new_import_cycles() {
    let found: BTreeSet<String> = cycles().into_iter().map(|files| files.join(" ")).collect();
    let listed: BTreeSet<String> = CYCLES.lines().map(str::to_owned).collect();
    let new: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new cycles: {new:#?}\nlines of tests/it/cycles.txt that are no cycles: {gone:#?}"
    );
}

#[test]
fn architecture_md_is_fresh() {
    const BEGIN: &str = "<!-- Generated from tests/it/layers.rs by `UPDATE=1 cargo test architecture_md`; do not edit. -->\n";
    const END: &str = "<!-- End of the generated part. -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = fs_err::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table = String::from("| Layer | Module | Description |\n|---|---|---|\n");
    for layer in LAYERS {
        writeln!(table, "| {} | `{}` | {} |", layer.level, layer.module, layer.about).unwrap();
    }
    let want = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    if support::updates() {
        fs_err::write(&path, &want).unwrap();
    }
    let found = fs_err::read_to_string(&path).unwrap();
    assert!(found == want, "ARCHITECTURE.md is stale: run `UPDATE=1 cargo test architecture_md`");
}

/// Longer files are split.
const MAX_LINES: usize = 800;

#[test]
fn files_are_short() {
    let mut all = Vec::new();
    files(&src(), &mut all);
    for path in all {
        let lines = fs_err::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}
