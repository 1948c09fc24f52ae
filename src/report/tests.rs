//! Reports of made-up runs: as JSON against the schema, as tables of several widths, as Markdown.

use std::collections::BTreeMap;

use super::*;
use crate::base::testing::assert_fresh;
use crate::eval::results::{
    Figure, KvCache, Latency, Measurements, Percentiles, Perplexity, Similarity, Transcript,
    Transcripts,
};
use crate::gate::{Gates, Outcome, Subject};
use crate::manifest::{Artifact, Tool};
use crate::package::FileRecord;
use crate::sweep::{self, Built, Entry, Identity, Measured, Run};

fn figure(value: f64, unit: &str, n: u64, standard_error: Option<f64>) -> Figure {
    Figure { value, unit: unit.to_owned(), n, standard_error }
}

fn measurements(increase: f64, error: f64, cosine: f64) -> Measurements {
    let transcript = Transcript {
        prompt: "And the LORD said | unto Moses,".to_owned(),
        prompt_tokens: 8,
        text: "Go in unto Pharaoh".to_owned(),
        tokens: vec![1, 2, 3],
        reference_text: "Go in unto Pharaoh".to_owned(),
        reference_tokens: vec![1, 2, 3],
        first_divergence: None,
        margin: None,
    };
    let percentiles = Percentiles {
        n: 50,
        warm_up: 3,
        p50: Some(4.25),
        p90: Some(5.0),
        p99: None,
        mean: 4.4,
        median_error: Some(0.02),
    };
    Measurements {
        perplexity: Some(Perplexity {
            value: figure(17.0 * (1.0 + increase), "1", 6120, Some(0.31)),
            reference: figure(17.0, "1", 6120, Some(0.3)),
            increase: figure(increase, "1", 6120, Some(error)),
            divergence: figure(increase / 2.0, "nats", 6120, Some(error / 2.0)),
            same_top: figure(0.97, "1", 6120, Some(0.002)),
            window: 256,
            stride: 256,
            windows: 24,
            non_finite: 0,
            text_sha256: "ab".repeat(32),
            ..Perplexity::default()
        }),
        transcripts: Some(Transcripts {
            prompts: vec![transcript],
            equal: 1,
            agreement: figure(1.0, "1", 1, None),
        }),
        similarity: Some(Similarity {
            mean: figure(0.999, "1", 20, Some(0.0001)),
            minimum: figure(cosine, "1", 20, None),
            worst: "The packet was lost on its way through the network.".to_owned(),
            reference: "the LLM2Vec checkpoint on its own base, f32".to_owned(),
            ..Similarity::default()
        }),
        latency: Some(Latency {
            runtime: "interp".to_owned(),
            load: figure(12.5, "ms", 1, None),
            init: None,
            decode: Some(percentiles),
            encode: None,
            decode_energy: None,
        }),
        kv_cache: Some(KvCache {
            form: "state".to_owned(),
            bytes: 393_216,
            capacity: 256,
            peak_resident: 100,
            residency: 100.0 / 256.0,
            evictions: 0,
        }),
        peak_memory: Some(300 << 20),
    }
}

fn entry(name: &str, recipe: &str, bits: u32, size: u64, figures: Option<Measurements>) -> Entry {
    let variant = sweep::Variant { name: name.to_owned(), recipe: recipe.to_owned(), bits };
    let files = vec![
        FileRecord { path: "Manifest.json".to_owned(), size: 617, sha256: "cd".repeat(32) },
        FileRecord {
            path: "Data/com.apple.CoreML/weights/weight.bin".to_owned(),
            size,
            sha256: "ef".repeat(32),
        },
    ];
    let built = Built { artifact: Artifact::from_files(files, 2_760_000), seconds: 1.25 };
    let Some(measurements) = figures else {
        let failure = sweep::Failure {
            variant: name.to_owned(),
            stage: "compress".to_owned(),
            message: "weight `lm_head.weight` of shape [2048, 192] has no groups of 17".to_owned(),
            hint: Some("use a group size that divides 2048".to_owned()),
            attempts: 2,
        };
        return Entry { failure: Some(failure), ..Entry::new(variant) };
    };
    let subject =
        Subject { size_bytes: Some(built.artifact.size_bytes), ..Subject::of(&measurements) };
    let verdicts = Gates::default().judge(&subject, bits);
    Entry {
        status: sweep::Status::Judged(Outcome::of(&verdicts)),
        built: Some(built),
        measured: Some(Measured { measurements, seconds: 8.5 }),
        verdicts,
        kept: true,
        ..Entry::new(variant)
    }
}

/// One variant for each way to end.
fn report() -> Report {
    let mut invalid = measurements(0.02, 0.001, 0.995);
    if let Some(perplexity) = &mut invalid.perplexity {
        perplexity.value.value = f64::NAN;
        perplexity.increase.value = f64::INFINITY;
        perplexity.non_finite = 3;
    }
    let mix = "attention=pal6-g16,mlp=pal4-g16,embedding=int8-c";
    let run = Run {
        identity: Identity {
            sources: BTreeMap::from([("model/config.json".to_owned(), "12".repeat(32))]),
            tools: BTreeMap::from([("coremill".to_owned(), "0.1.0".to_owned())]),
            texts: BTreeMap::new(),
        },
        entries: vec![
            entry("fp16", "fp16", 16, 5_600_000, Some(measurements(0.0001, 0.00005, 0.999_991))),
            entry("pal8-g16", "pal8-g16", 8, 2_900_000, Some(measurements(0.009, 0.001, 0.9991))),
            entry("pal4-g16", "pal4-g16", 4, 1_500_000, Some(measurements(0.21, 0.01, 0.9712))),
            entry("attention-pal6-g16_mlp-pal4-g16", mix, 4, 1_900_000, Some(invalid)),
            entry("pal4-g17", "pal4-g17", 4, 0, None),
        ],
        paired: vec![],
        search: None,
    };
    Report::of(&run, origin())
}

fn origin() -> Origin {
    Origin {
        tool: Tool {
            name: "coremill".to_owned(),
            version: "0.1.0".to_owned(),
            libraries: BTreeMap::from([("coremltools".to_owned(), "9.0".to_owned())]),
        },
        command: vec!["coremill".to_owned(), "sweep".to_owned(), "a.toml".to_owned()],
        environment: BTreeMap::from([("os".to_owned(), "linux".to_owned())]),
        created: 1_800_000_000,
        spec_sha256: Some("34".repeat(32)),
        source: "dictlm".to_owned(),
        repository: None,
        revision: None,
    }
}

#[test]
fn tables_fit_their_terminal() {
    for width in [120, 80, 40] {
        let text = table(&report(), width, false);
        assert!(!text.contains('\x1b'), "no colour unless asked");
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        insta::assert_snapshot!(format!("table_{width}"), text);
    }
    // Nothing is lost where there is room for all, and nothing breaks where there is none.
    assert!(!table(&report(), 200, false).contains("not shown"));
    for width in [0, 1, 10] {
        assert!(table(&report(), width, false).contains("pal8-g16"), "{width}");
    }
}

/// One way to spoil a report.
type Break = fn(&mut serde_json::Value);

#[test]
fn colour_comes_only_when_asked_for() {
    let codes = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for width in [120, 40] {
        let text = table(&report(), width, true);
        assert!(text.contains("\x1b["), "{width}");
        let plain = codes.replace_all(&text, "");
        assert_eq!(plain, table(&report(), width, false), "{width}");
    }
}

#[test]
fn markdown_holds_the_same() {
    insta::assert_snapshot!(markdown(&report()));
}

#[test]
fn json_is_read_back_and_written_the_same() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("report.json");
    let text = json(&report());
    fs_err::write(&path, &text).unwrap();
    let again = read(&path).unwrap();
    assert_eq!(json(&again), text);
    assert_eq!(table(&again, 120, false), table(&report(), 120, false));
    insta::assert_snapshot!(text);
    for (name, broken, want) in [
        ("cut short", text[..100].to_owned(), "is no report: EOF"),
        ("a newer form", text.replacen("_version\": 1", "_version\": 2", 1), "newer than 1"),
    ] {
        fs_err::write(&path, broken).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
}

#[test]
fn reports_hold_to_the_published_schema() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let full: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
    let empty = Report::of(
        &Run { identity: Identity::default(), entries: vec![], paired: vec![], search: None },
        origin(),
    );
    let empty: serde_json::Value = serde_json::from_str(&json(&empty)).unwrap();
    for report in [&full, &empty] {
        let errors: Vec<_> = validator.iter_errors(report).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
    }
    let breaks: &[(&str, Break)] = &[
        ("a status nobody knows", |r| r["variants"][0]["status"] = "good".into()),
        ("a size that is text", |r| r["variants"][0]["size_bytes"] = "5 MB".into()),
        ("a field missing", |r| drop(r.as_object_mut().unwrap().remove("created"))),
        ("an outcome nobody knows", |r| {
            r["variants"][0]["verdicts"][0]["outcome"] = "perhaps".into();
        }),
        ("a figure without n", |r| {
            let figure = &mut r["variants"][0]["measurements"]["perplexity"]["value"];
            figure.as_object_mut().unwrap().remove("n");
        }),
    ];
    for (name, break_it) in breaks {
        let mut broken = full.clone();
        break_it(&mut broken);
        assert!(!validator.is_valid(&broken), "{name}");
    }
}

#[test]
fn the_published_schema_is_fresh() {
    assert_fresh("docs/report.schema.json", &schema(), "published_schema");
}

#[test]
fn the_gravest_status_decides_the_exit_code() {
    use Status::{Error, Fail, Inconclusive, Invalid, Pass};
    for (statuses, want) in [
        (&[][..], 0),
        (&[Pass, Pass], 0),
        (&[Pass, Inconclusive], 3),
        (&[Invalid, Pass], 3),
        (&[Invalid, Error], 4),
        (&[Error, Fail, Invalid], 1),
    ] {
        let mut report = report();
        let first = report.variants[0].clone();
        let with = |&status| Variant { status, ..first.clone() };
        report.variants = statuses.iter().map(with).collect();
        report.summary = Summary::of(&report.variants);
        assert_eq!(report.exit_code(), want, "{statuses:?}");
    }
}
