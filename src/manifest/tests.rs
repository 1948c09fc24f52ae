//! Manifests of the fixture packages: written, read, checked against packages that were tampered with, compared.

use std::path::{Path, PathBuf};

use semver::Version;

use super::*;
use crate::base::fs::files_below;
use crate::eval::{
    results::Figure, results::KvCache, results::Latency, results::Measurements, results::Perplexity,
};
use crate::gate::{Gates, Limit, Subject};
use crate::package::FileRecord;

/// A copy of a fixture in a folder of its own, as `model.mlpackage`.
fn package(name: &str) -> (tempfile::TempDir, PathBuf) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let root = tempfile::tempdir().unwrap();
    let package = root.path().join("model.mlpackage");
    for path in files_below(&fixture).unwrap() {
        fs_err::create_dir_all(package.join(&path).parent().unwrap()).unwrap();
        fs_err::copy(fixture.join(&path), package.join(&path)).unwrap();
    }
    (root, package)
}

/// Measurements of a run that took `milliseconds` to load and `memory` bytes.
fn measurements(milliseconds: f64, memory: u64) -> Measurements {
    Measurements {
        latency: Some(Latency {
            runtime: "interp".to_owned(),
            load: Figure { value: milliseconds, unit: "ms".to_owned(), n: 1, standard_error: None },
            init: None,
            decode: None,
            encode: None,
            decode_energy: None,
        }),
        kv_cache: Some(KvCache {
            form: "state".to_owned(),
            bytes: 1024,
            capacity: 64,
            peak_resident: 48,
            residency: 0.75,
            evictions: 0,
        }),
        peak_memory: Some(memory),
        ..Measurements::default()
    }
}

fn manifest(package: &Path, measurements: &Measurements) -> Manifest {
    let artifact = Artifact::read(package, 100).unwrap();
    let gates = Gates::default().with("peak_memory", Limit::One(1e12)).unwrap();
    let gates = gates.with("size", Limit::One(1e6)).unwrap();
    let subject = Subject { size_bytes: Some(artifact.size_bytes), ..Subject::of(measurements) };
    let verdicts = gates.judge(&subject, 16);
    assert_eq!(verdicts.len(), 2);
    let target = "iOS18".to_owned();
    let facts = Facts {
        name: "model".to_owned(),
        version: Version::new(0, 1, 0),
        created_by: Tool {
            name: "coremill".to_owned(),
            version: "0.1.0".to_owned(),
            libraries: [("coremltools".to_owned(), "9.0".to_owned())].into(),
        },
        checkpoint: None,
        source: Source {
            name: "tiny".to_owned(),
            repository: Some("somebody/tiny".to_owned()),
            revision: Some("0123abc".to_owned()),
            files: vec![FileRecord {
                path: "model.safetensors".to_owned(),
                size: 7,
                sha256: "ab".to_owned(),
            }],
        },
        adapters: vec![Adapter {
            source: Source { name: "chat".to_owned(), ..Source::default() },
            kind: AdapterKind::Llm2vec,
            mode: AdapterMode::Branches,
            over: AdapterBase::BaseAndLora,
        }],
        recipe: "fp16".to_owned(),
        deployment_target: target,
        kv_cache: Some("state".to_owned()),
        seq_len: Some(64),
        prompt_chunk: Some(64),
        measurements,
        verdicts: &verdicts,
    };
    Manifest::of(package, &artifact, facts).unwrap()
}

#[test]
fn two_runs_write_the_same_bytes() {
    let (_root, a) = package("tiny_multifunction.mlpackage");
    let (_other, b) = package("tiny_multifunction.mlpackage");
    let first = manifest(&a, &measurements(12.0, 1 << 30));
    let second = manifest(&b, &measurements(99.0, 3 << 30));
    assert_eq!(first.to_bytes(), second.to_bytes());
    insta::assert_snapshot!(String::from_utf8(first.to_bytes()).unwrap());
}

#[test]
fn what_is_written_is_read_and_holds() {
    for name in ["tiny.mlpackage", "tiny_multifunction.mlpackage"] {
        let (_root, package) = package(name);
        let mut written = manifest(&package, &measurements(1.0, 1));
        let fixture = crate::package::Package::open(&package).unwrap();
        let spec = fixture.model().specification_version;
        let target = TARGETS.iter().find(|t| t.specification_version == spec).unwrap();
        target.name.clone_into(&mut written.deployment_target);
        written.compatible = compatible(target.name, "0.1.0").unwrap();
        let path = manifest_path(&package);
        assert!(path.ends_with("model.manifest.json"));
        written.write(&path).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), written);
        for path in [&path, &package] {
            assert_eq!(check(path).unwrap(), [], "{name}");
        }
    }
}

#[test]
fn everything_that_was_tampered_with_is_named() {
    type Tamper = fn(&Path, &mut Manifest);
    const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
    let cases: &[(&str, Tamper)] = &[
        ("one byte of the weights", |package, _| {
            let path = package.join(WEIGHTS);
            let mut bytes = fs_err::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs_err::write(path, bytes).unwrap();
        }),
        ("weights cut short", |package, _| {
            let path = package.join(WEIGHTS);
            let bytes = fs_err::read(&path).unwrap();
            fs_err::write(path, &bytes[..bytes.len() - 2]).unwrap();
        }),
        ("weights gone", |package, _| fs_err::remove_file(package.join(WEIGHTS)).unwrap()),
        ("a file too many", |package, _| fs_err::write(package.join("Data/x"), "x").unwrap()),
        ("model damaged", |package, _| {
            fs_err::write(package.join("Data/com.apple.CoreML/model.mlmodel"), "no").unwrap();
        }),
        ("a digest", |_, manifest| manifest.files[1].sha256.replace_range(..4, "0000")),
        ("the size", |_, manifest| manifest.size_bytes += 1),
        ("the tree", |_, manifest| manifest.sha256.replace_range(..4, "0000")),
        ("the target", |_, manifest| manifest.deployment_target = "iOS17".to_owned()),
        ("an unknown target", |_, manifest| manifest.deployment_target = "iOS99".to_owned()),
        ("the range", |_, manifest| {
            manifest.compatible.insert("ios".to_owned(), ">=12".to_owned());
        }),
        ("a function", |_, manifest| {
            let signature = manifest.functions.pop_last().unwrap().1;
            manifest.functions.insert("other".to_owned(), signature);
        }),
        ("an input", |_, manifest| {
            let signature = manifest.functions.values_mut().next().unwrap();
            signature.inputs[0].shape[0] = Some(77);
        }),
    ];
    let mut out = Vec::new();
    for (name, tamper) in cases {
        let (_root, package) = package("tiny_multifunction.mlpackage");
        let mut manifest = manifest(&package, &measurements(1.0, 1));
        tamper(&package, &mut manifest);
        manifest.write(&manifest_path(&package)).unwrap();
        let problems = check(&package).unwrap();
        assert!(!problems.is_empty(), "{name}");
        out.push(format!("{name}:"));
        out.extend(problems.iter().map(|problem| format!("  {problem}")));
    }
    insta::assert_snapshot!(out.join("\n"));
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    let (root, package) = package("tiny.mlpackage");
    let good = String::from_utf8(manifest(&package, &measurements(1.0, 1)).to_bytes()).unwrap();
    let path = manifest_path(&package);
    for (name, text, want) in [
        ("no JSON", "{".to_owned(), "is no manifest: EOF while parsing"),
        ("cut short", good[..good.len() / 2].to_owned(), "is no manifest: EOF while parsing"),
        (
            "no semantic version",
            good.replace(
                "\"version\": \"0.1.0\",\n  \"package",
                "\"version\": \"1.0\",\n  \"package",
            ),
            "unexpected end of input while parsing minor version number at line 4",
        ),
        (
            "a newer form",
            good.replace("\"schema_version\": 1", "\"schema_version\": 2"),
            "has schema version 2, newer than 1",
        ),
        ("a field missing", good.replace("\"recipe\"", "\"ecipe\""), "missing field `recipe`"),
    ] {
        fs_err::write(&path, text).unwrap();
        let error = check(&package).unwrap_err().to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    assert!(check(&root.path().join("absent.manifest.json")).is_err());
}

fn quality(manifest: &mut Manifest) -> &mut Perplexity {
    manifest.quality.perplexity.as_mut().unwrap()
}

#[test]
fn versions_move_by_what_changed() {
    type Edit = fn(&mut Manifest);
    let cases: &[(&str, Edit, Change, &str)] = &[
        ("nothing", |_| {}, Change::None, "1.4.2"),
        ("the version given", |m| m.version = Version::new(9, 9, 9), Change::None, "1.4.2"),
        ("a library", |m| m.created_by.libraries.clear(), Change::Patch, "1.4.3"),
        ("a verdict", |m| m.verdicts.clear(), Change::Patch, "1.4.3"),
        (
            "the weights",
            |m| {
                m.sha256 = "0".to_owned();
                m.files[1].sha256 = "0".to_owned();
            },
            Change::Patch,
            "1.4.3",
        ),
        ("the program", |m| m.sha256 = "0".to_owned(), Change::Patch, "1.4.3"),
        (
            "the weights, measured by nobody",
            |m| {
                m.sha256 = "0".to_owned();
                m.quality = Quality::default();
            },
            Change::Minor,
            "1.5.0",
        ),
        (
            "the perplexity within its error",
            |m| {
                m.sha256 = "0".to_owned();
                quality(m).increase.value += 1e-9;
            },
            Change::Patch,
            "1.4.3",
        ),
        (
            "the perplexity beyond its error",
            |m| {
                m.sha256 = "0".to_owned();
                quality(m).increase.value += 1.0;
            },
            Change::Minor,
            "1.5.0",
        ),
        (
            "the size by half a percent",
            |m| {
                m.sha256 = "0".to_owned();
                m.size_bytes += m.size_bytes / 200;
            },
            Change::Patch,
            "1.4.3",
        ),
        (
            "the size by a tenth",
            |m| {
                m.sha256 = "0".to_owned();
                m.size_bytes += m.size_bytes / 10;
            },
            Change::Minor,
            "1.5.0",
        ),
        ("the target", |m| m.deployment_target = "iOS17".to_owned(), Change::Major, "2.0.0"),
        ("the cache", |m| m.kv_cache = None, Change::Major, "2.0.0"),
        ("the length", |m| m.seq_len = Some(128), Change::Major, "2.0.0"),
        (
            "an input and the weights",
            |m| {
                m.sha256 = "0".to_owned();
                let signature = m.functions.values_mut().next().unwrap();
                signature.inputs[0].dtype = "fp32".to_owned();
                signature.outputs[0].name = "renamed".to_owned();
            },
            Change::Major,
            "2.0.0",
        ),
        ("a function", |m| drop(m.functions.pop_first()), Change::Major, "2.0.0"),
    ];
    let (_root, package) = package("tiny_multifunction.mlpackage");
    let mut old = manifest(&package, &measurements(1.0, 1));
    old.version = Version::new(1, 4, 2);
    let figure = |value| Figure { value, unit: "1".to_owned(), n: 900, standard_error: Some(0.01) };
    old.quality.perplexity = Some(Perplexity {
        increase: figure(0.03),
        divergence: figure(0.2),
        text_sha256: "ab".to_owned(),
        ..Perplexity::default()
    });
    let mut out = Vec::new();
    for (name, edit, change, version) in cases {
        let mut new = old.clone();
        edit(&mut new);
        let step = next_version(&old, &new);
        assert_eq!((step.change, step.version.to_string().as_str()), (*change, *version), "{name}");
        out.push(format!("{name}: {}", step.reasons.join("; ")));
    }
    insta::assert_snapshot!(out.join("\n"));
}

#[test]
fn an_unknown_target_is_refused_with_the_nearest() {
    use crate::base::error::Hint as _;
    let error = ManifestError::Target("ios18".to_owned());
    assert_eq!(error.hint().unwrap(), "did you mean `iOS18`");
    assert_eq!(
        ManifestError::Target("android".to_owned()).hint().unwrap(),
        "known are iOS15, iOS16, iOS17, iOS18"
    );
}
