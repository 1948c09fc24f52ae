//! Shards of a made-up sweep, merged.

use super::super::samples;
use super::*;

/// The sample with only those variants whose place is in `places`.
fn part(places: &[usize]) -> Report {
    let whole = samples::rich();
    let variants: Vec<_> = places.iter().map(|&i| whole.variants[i].clone()).collect();
    let known = |name: &String| variants.iter().any(|v| v.name == *name);
    let paired = whole.paired.iter().filter(|p| known(&p.a) && known(&p.b)).cloned().collect();
    let summary = Summary::of(&variants);
    Report { variants, paired, summary, ..whole }
}

fn named(reports: Vec<Report>) -> Vec<Named> {
    reports.into_iter().enumerate().map(|(i, r)| (format!("{i}.json"), r)).collect()
}

#[test]
fn shards_make_the_whole() {
    let whole = samples::rich();
    let merged = merge(&named(vec![part(&[0, 1, 3]), part(&[0, 2, 4])]), vec![]).unwrap();
    let mut names: Vec<_> = merged.variants.iter().map(|v| v.name.clone()).collect();
    assert_eq!(names[0], whole.variants[0].name);
    let mut want: Vec<_> = whole.variants.iter().map(|v| v.name.clone()).collect();
    names.sort();
    want.sort();
    assert_eq!(names, want);
    assert_eq!(merged.summary, whole.summary, "counted anew, with the best");
    assert_eq!(merged.reference, whole.reference);
    assert_eq!(merged.shards.len(), 2);
    assert_eq!(merged.shards[0].variants.len(), 3);
    // In other company the same shards give the same.
    let halves = vec![merged, part(&[0])];
    let again = merge(&named(halves), vec![]).unwrap();
    assert_eq!((again.variants.len(), again.shards.len()), (5, 3));
}

#[test]
fn the_baseline_is_first_wherever_it_stands() {
    let merged = merge(&named(vec![part(&[2]), part(&[1, 0])]), vec!["m".to_owned()]).unwrap();
    let names: Vec<_> = merged.variants.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["fp16", "pal4-g16", "pal8-g16"]);
    assert_eq!(merged.command, ["m"]);
}

#[test]
fn machines_that_differ_are_told_apart() {
    let mut other = part(&[1]);
    other.environment.insert("cores".to_owned(), "64".to_owned());
    let merged = merge(&named(vec![part(&[0]), other]), vec![]).unwrap();
    assert_eq!(merged.environment.keys().collect::<Vec<_>>(), ["os"]);
    assert_eq!(merged.shards[1].environment["cores"], "64");
}

/// One way to make a shard of another sweep, or with other results.
type Change = fn(&mut Report);

#[test]
fn what_does_not_belong_together_is_refused_by_name() {
    let cases: [(Change, &str); 9] = [
        (|r| r.spec_sha256 = None, "the spec's SHA-256 is 3434"),
        (|r| r.tool.version = "9".to_owned(), "the tool is coremill 0.1.0 in one and coremill 9"),
        (
            |r| drop(r.tool.libraries.remove("coremltools")),
            "`coremltools` is 9.0 in one and absent",
        ),
        (
            |r| drop(r.source.files.insert("x".to_owned(), "y".to_owned())),
            "`x` is absent in one and y",
        ),
        (
            |r| r.reference.as_mut().unwrap().text_sha256 = Some("z".to_owned()),
            "the text's SHA-256 is abab",
        ),
        (|r| r.variants[0].sha256 = Some("q".to_owned()), "disagree on the SHA-256 of `fp16`"),
        (|r| r.variants[0].recipe = "pal1".to_owned(), "disagree on the recipe of `fp16`"),
        (
            |r| r.variants[0].measurements.perplexity.as_mut().unwrap().value.value = 1.5,
            "disagree on the figures of `fp16`: `perplexity.value.value` is 17.0017 and 1.5",
        ),
        (|r| r.paired[0].n += 1, "disagree on `pal8-g16` against `fp16`"),
    ];
    for (change, want) in cases {
        let mut other = part(&[0, 1]);
        change(&mut other);
        let error = merge(&named(vec![part(&[0, 1]), other]), vec![]).unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
        assert!(error.hint().is_some());
    }
    assert!(merge(&[], vec![]).is_err());
}

#[test]
fn times_may_differ_and_failures_give_way() {
    let mut slow = part(&[0, 1]);
    slow.variants[0].measurements.peak_memory = Some(1);
    slow.variants[0].measurements.latency = None;
    let mut failed = part(&[4]);
    failed.variants[0].name = "pal8-g16".to_owned();
    for reports in [vec![failed.clone(), slow.clone()], vec![slow, failed]] {
        let merged = merge(&named(reports), vec![]).unwrap();
        assert_eq!((merged.variants.len(), merged.summary.error), (2, 0));
    }
    let kept = merge(&named(vec![part(&[0]), part(&[0])]), vec![]).unwrap();
    assert_eq!(kept.variants, part(&[0]).variants);
}

/// The sample as another processor would have measured it: every computed number with other last digits.
fn rounded(report: &Report) -> Report {
    fn change(value: &mut Value) {
        match value {
            Value::Object(fields) => fields.values_mut().for_each(change),
            Value::Array(all) => all.iter_mut().for_each(change),
            Value::Number(n) if n.is_f64() => {
                *value = (n.as_f64().unwrap() * (1.0 + 3e-5)).into();
            }
            _ => {}
        }
    }
    let mut other = report.clone();
    for variant in &mut other.variants {
        let mut value = plain(&variant.measurements);
        change(&mut value);
        variant.measurements = serde_json::from_value(value).unwrap();
    }
    for pair in &mut other.paired {
        let mut value = plain(pair);
        change(&mut value);
        *pair = serde_json::from_value(value).unwrap();
    }
    other
}

#[test]
fn what_another_processor_rounds_otherwise_is_the_same() {
    let (first, other) = (part(&[0, 1]), rounded(&part(&[0, 1, 2])));
    assert_ne!(first.variants[0].measurements, other.variants[0].measurements);
    let merged = merge(&named(vec![first.clone(), other]), vec![]).unwrap();
    assert_eq!(merged.variants[..2], first.variants, "what the first says is kept");
    let [note] = &merged.notes[..] else { panic!("one note: {:?}", merged.notes) };
    for part in ["`0.json` and `1.json`", "less than 0.01 % apart", "kept is what `0.json` says"] {
        assert!(note.contains(part), "{part}: {note}");
    }
    // The note is told wherever the report is drawn, stays when it is merged again, and is not told twice.
    let again = merge(&named(vec![merged.clone(), merged.clone()]), vec![]).unwrap();
    assert_eq!(again.notes, merged.notes);
    assert!(super::super::table(&merged, 200, false).contains("other last"));
    assert!(super::super::markdown(&merged).contains("other last"));
    assert!(super::super::html(&merged, &[]).contains("other last"));
}

/// A figure of the baseline, changed.
type Figured = fn(&mut crate::eval::results::Perplexity);

#[test]
fn tolerance_ends_where_rounding_does() {
    // The noise floor of the sample is 5·10⁻⁵ ± 2.5·10⁻⁶ nats; 41 of 6120 tokens have another first choice.
    let cases: [(Figured, Option<&str>); 11] = [
        (|p| p.noise_floor.as_mut().unwrap().divergence.value = 5.02e-5, None),
        (
            |p| p.noise_floor.as_mut().unwrap().divergence.value = 5.2e-5,
            Some("the reference: `noise_floor.divergence.value` is 0.00005 and 0.000052"),
        ),
        (
            |p| p.noise_floor.as_mut().unwrap().how = "otherwise".to_owned(),
            Some(
                "the reference's noise is activations times 1 ± 2⁻⁹ in one and otherwise in the other",
            ),
        ),
        (|p| p.reference.value = 17.02, None),
        (|p| p.reference.value = 17.2, Some("the reference: `perplexity.value` is 17.0 and 17.2")),
        (|p| p.window = 128, Some("the length of a window is 256 in one and 128 in the other")),
        (|p| p.top_k = Some(64), Some("K of the reference is 256 in one and 64 in the other")),
        (|p| p.same_top.value += 2.0 / 6120.0, None),
        (
            |p| p.same_top.value += 7.0 / 6120.0,
            Some("the figures of `fp16`: `perplexity.same_top.value`"),
        ),
        (|p| p.non_finite = 1, Some("`perplexity.non_finite` is 0 and 1")),
        (|p| p.divergence_spread.as_mut().unwrap().p1 = None, Some("and null")),
    ];
    for (change, want) in cases {
        let mut other = part(&[0, 1]);
        for variant in &mut other.variants {
            change(variant.measurements.perplexity.as_mut().unwrap());
        }
        let merged = merge(&named(vec![part(&[0, 1]), other]), vec![]);
        match (merged, want) {
            (Ok(merged), None) => assert_eq!(merged.notes.len(), 1, "{:?}", merged.notes),
            (Err(error), Some(want)) => {
                assert!(error.to_string().contains(want), "{want}: {error}");
            }
            (merged, want) => panic!("{want:?}: {:?}", merged.map(|m| m.notes)),
        }
    }
}
