//! The layers of ARCHITECTURE.md: a module uses only what the table allows, and a crate only where it belongs.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

/// Module, and the modules it may use. A new edge is a change to this table.
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("proto", &[]),
    ("blob", &["base"]),
    ("quant", &["base"]),
    ("source", &["base", "blob"]),
    ("python", &["base"]),
    ("mil", &["base", "blob", "proto"]),
    ("package", &["base", "blob", "mil", "proto"]),
    ("interp", &["base", "blob", "mil"]),
    ("coreml", &["base"]),
    ("compress", &["base", "blob", "mil", "package", "quant"]),
    ("convert", &["base", "blob", "mil", "package", "proto", "python", "source"]),
    ("runtime", &["base", "coreml", "interp", "mil", "package"]),
    ("lm", &["base", "interp", "mil", "package", "proto", "python", "quant", "runtime", "source"]),
    (
        "eval",
        &[
            "base", "compress", "coreml", "interp", "lm", "mil", "package", "proto", "python",
            "quant", "runtime", "source",
        ],
    ),
    ("gate", &["base", "eval"]),
    ("manifest", &["base", "eval", "gate", "mil", "package"]),
    ("sweep", &["base", "eval", "gate", "manifest"]),
    ("report", &["base", "eval", "gate", "manifest", "sweep"]),
    (
        "pipeline",
        &[
            "base", "compress", "convert", "coreml", "eval", "gate", "interp", "manifest", "mil",
            "package", "python", "quant", "report", "source", "sweep",
        ],
    ),
    (
        "cli",
        &[
            "base", "compress", "convert", "coreml", "eval", "gate", "interp", "manifest", "mil",
            "package", "pipeline", "python", "quant", "report", "source", "sweep",
        ],
    ),
];

/// External crate, and the only modules that may name it.
const SOLE_USERS: &[(&str, &[&str])] = &[
    ("block2", &["coreml"]),
    ("clap", &["cli"]),
    ("comfy_table", &["cli", "report"]),
    ("gemm", &["interp"]),
    ("hf_hub", &["source"]),
    ("indicatif", &["cli"]),
    ("libm", &["interp"]),
    ("memmap2", &["blob"]),
    ("objc2", &["coreml"]),
    ("objc2_core_ml", &["coreml"]),
    ("objc2_foundation", &["coreml"]),
    ("minijinja", &["eval"]),
    ("minijinja_contrib", &["eval"]),
    ("owo_colors", &["cli", "report"]),
    ("prost", &["package", "proto"]),
    ("pyo3", &["python"]),
    ("rayon", &["cli", "eval", "interp", "quant", "source"]),
    ("safetensors", &["cli", "eval", "source"]),
    ("semver", &["cli", "manifest", "pipeline"]),
    ("serde_saphyr", &["package"]),
    ("sha2", &["base"]),
    ("tempfile", &["base", "cli", "convert", "eval", "pipeline", "python"]),
    ("tokenizers", &["eval"]),
    ("toml", &["base", "cli", "gate", "sweep"]),
];

fn sources() -> Vec<(String, String, String)> {
    fn walk(dir: &Path, module: &str, out: &mut Vec<(String, String, String)>) {
        for entry in fs_err::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            // Tests may use anything.
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if matches!(
                name.as_str(),
                "tests" | "tests.rs" | "testing.rs" | "fixture.rs" | "samples.rs"
            ) {
                continue;
            }
            if path.is_dir() {
                walk(&path, module, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs_err::read_to_string(&path).unwrap();
                // What stands after the tests begin may use anything.
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let code = code
                    .lines()
                    .filter(|l| !l.trim_start().starts_with("//"))
                    .collect::<Vec<_>>()
                    .join("\n");
                out.push((module.to_owned(), path.display().to_string(), code));
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = Vec::new();
    for (module, _) in EDGES {
        walk(&src.join(module), module, &mut out);
    }
    out
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let edge = Regex::new(r"crate::([a-z_]+)").unwrap();
    let mut wrong = BTreeSet::new();
    for (module, path, code) in sources() {
        let allowed = EDGES.iter().find(|line| line.0 == module).unwrap().1;
        for found in edge.captures_iter(&code) {
            let used = found.get(1).unwrap().as_str();
            if used != module && !allowed.contains(&used) {
                wrong.insert(format!("{path}: `{module}` uses `{used}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn crates_are_used_only_where_they_belong() {
    let named = |name: &str| Regex::new(&format!(r"(?m)(^|[^a-z_:]){name}::")).unwrap();
    let table: Vec<_> = SOLE_USERS.iter().map(|(name, users)| (name, named(name), users)).collect();
    let mut wrong = BTreeSet::new();
    for (module, path, code) in sources() {
        for (name, named, users) in &table {
            if named.is_match(&code) && !users.contains(&module.as_str()) {
                wrong.insert(format!("{path}: `{module}` names `{name}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_stands_in_the_table() {
    let lib =
        fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let listed: BTreeSet<&str> = EDGES.iter().map(|line| line.0).collect();
    assert_eq!(declared, listed);
}

/// Files past this length have outgrown their idea.
const MAX_LINES: usize = 800;

#[test]
fn no_file_outgrows_its_idea() {
    for (_, path, _) in sources() {
        let lines = fs_err::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{path} has {lines} lines");
    }
}
