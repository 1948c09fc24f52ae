//! Reports of made-up runs as JSON against the schema, as tables of several widths, as Markdown.

use super::samples::{origin, report};
use super::*;
use crate::base::testing::assert_fresh;
use crate::sweep::{Identity, Run};

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

#[test]
fn what_no_gate_judged_is_nowhere_said_to_pass() {
    let mut report = report();
    report.variants.truncate(1);
    let variant = report.variants[0].clone().judged_by(Vec::new());
    assert_eq!(variant.status, Status::NotJudged);
    report.variants = vec![variant];
    report.summary = Summary::of(&report.variants);
    assert_eq!((report.summary.pass, report.summary.not_judged), (0, 1));
    assert_eq!(report.summary.best, None);
    let page = html(&report, &[]);
    assert!(!page.contains("Every gate holds"));
    for text in
        [table(&report, 100, false), markdown(&report), page, github(&report), junit(&report)]
    {
        assert!(text.contains("not judged"), "{text}");
        assert!(!text.contains("all gates hold"), "{text}");
    }
    assert!(junit(&report).contains("skipped=\"1\""));
    assert!(csv(&report).contains(",not_judged,"));

    // Older versions wrote `pass` for it.
    let old = json(&report).replace("\"not_judged\"", "\"pass\"");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    fs_err::write(&path, old.replace("\"pass\": 1", "\"x\": 1")).unwrap();
    assert_eq!(read(&path).unwrap().variants[0].status, Status::NotJudged);
}
