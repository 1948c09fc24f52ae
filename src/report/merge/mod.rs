//! Shards of one sweep as one report.
//!
//! What the shards rest on must be the same: spec, sources, tool, text. A variant that several hold is kept once if they
//! agree on it: the same bytes and the same figures, times and memory aside, which no two runs share. One that failed in
//! a shard and was measured in another is taken from where it was measured.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Report, Shard, Status, Summary, Variant};
use crate::base::error::Hint;
use crate::eval::results::{Measurements, Paired};

/// A report with the name it is called by in errors.
pub type Named = (String, Report);

/// Why reports do not make one.
#[derive(Debug, Error)]
pub enum MergeError {
    /// There is none.
    #[error("there is no report to merge")]
    Nothing,
    /// They are not of one sweep.
    #[error(
        "`{a}` and `{b}` are not of one sweep: {what} is {left} in one and {right} in the other"
    )]
    Differ {
        /// One report.
        a: String,
        /// Another one.
        b: String,
        /// What differs.
        what: String,
        /// What it is in `a`.
        left: String,
        /// What it is in `b`.
        right: String,
    },
    /// Two of them hold the same variant with different results.
    #[error("`{a}` and `{b}` disagree on {what}")]
    Conflict {
        /// One report.
        a: String,
        /// Another one.
        b: String,
        /// What they disagree on, with both values.
        what: String,
    },
}

impl Hint for MergeError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Nothing => "name the reports of the shards".to_owned(),
            Self::Differ { .. } => {
                "merge shards of one spec, made by one version from the same files".to_owned()
            }
            Self::Conflict { .. } => {
                "run the shards on machines of one kind, or merge only one of the two".to_owned()
            }
        })
    }
}

/// The one report of `reports`, made by `command`: variants in the order in which they are first met, the baseline
/// first, counted anew.
pub fn merge(reports: &[Named], command: Vec<String>) -> Result<Report, MergeError> {
    let Some((first, rest)) = reports.split_first() else { return Err(MergeError::Nothing) };
    for other in rest {
        same_sweep(first, other)?;
    }
    let mut variants: Vec<(&str, Variant)> = Vec::new();
    let mut pairs: Vec<(&str, &Paired)> = Vec::new();
    for (name, report) in reports {
        for variant in &report.variants {
            match variants.iter_mut().find(|(_, known)| known.name == variant.name) {
                None => variants.push((name, variant.clone())),
                Some((from, known)) => unite(from, known, name, variant)?,
            }
        }
        for pair in &report.paired {
            let known = pairs.iter().find(|(_, known)| (&known.a, &known.b) == (&pair.a, &pair.b));
            match known {
                None => pairs.push((name, pair)),
                Some((_, known)) if *known == pair => {}
                Some((from, _)) => {
                    let what = format!("`{}` against `{}`", pair.b, pair.a);
                    return Err(conflict(from, name, what));
                }
            }
        }
    }
    let mut variants: Vec<Variant> = variants.into_iter().map(|(_, variant)| variant).collect();
    variants.sort_by_key(|variant| variant.recipe != crate::sweep::BASELINE);
    let newest = reports.iter().map(|(_, report)| &report.created).max();
    let reference = reports.iter().find_map(|(_, report)| report.reference.clone());
    Ok(Report {
        command,
        environment: common(reports),
        created: newest.cloned().unwrap_or_default(),
        reference,
        paired: pairs.into_iter().map(|(_, pair)| pair.clone()).collect(),
        summary: Summary::of(&variants),
        shards: reports.iter().flat_map(|(_, report)| shards(report)).collect(),
        variants,
        ..first.1.clone()
    })
}

/// The shards that `report` is made of: itself, or those it was merged from.
fn shards(report: &Report) -> Vec<Shard> {
    if !report.shards.is_empty() {
        return report.shards.clone();
    }
    vec![Shard {
        command: report.command.clone(),
        environment: report.environment.clone(),
        created: report.created.clone(),
        variants: report.variants.iter().map(|variant| variant.name.clone()).collect(),
    }]
}

/// What the machines have in common; what differs stands with each shard.
fn common(reports: &[Named]) -> BTreeMap<String, String> {
    let mut out = reports.first().map(|(_, report)| report.environment.clone()).unwrap_or_default();
    out.retain(|key, value| {
        reports.iter().all(|(_, report)| report.environment.get(key) == Some(value))
    });
    out
}

fn same_sweep((a, left): &Named, (b, right): &Named) -> Result<(), MergeError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let of = |report: &Report| {
        let Report { tool, source, spec_sha256, reference, .. } = report;
        let reference = reference.as_ref();
        let mut facts = vec![
            ("the spec's SHA-256".to_owned(), text(spec_sha256)),
            ("the tool".to_owned(), format!("{} {}", tool.name, tool.version)),
            ("the source".to_owned(), source.name.clone()),
            ("the source's repository".to_owned(), text(&source.repository)),
            ("the source's revision".to_owned(), text(&source.revision)),
        ];
        facts.extend(tool.libraries.iter().map(|(k, v)| (format!("`{k}`"), v.clone())));
        facts.extend(source.files.iter().map(|(k, v)| (format!("SHA-256 of `{k}`"), v.clone())));
        let of_text = reference.and_then(|r| r.text_sha256.clone());
        facts.extend(of_text.map(|sha| (TEXT.to_owned(), sha)));
        facts
    };
    let (ours, theirs) = (of(left), of(right));
    let find = |facts: &[(String, String)], what: &str| {
        facts.iter().find(|(name, _)| name == what).map(|(_, value)| value.clone())
    };
    let both = ours.iter().chain(theirs.iter().filter(|(name, _)| find(&ours, name).is_none()));
    for (what, _) in both {
        let (mine, other) = (find(&ours, what), find(&theirs, what));
        // A shard that measured nothing has no text; it takes nothing from the others.
        let unmeasured = what == TEXT && (mine.is_none() || other.is_none());
        if mine != other && !unmeasured {
            let word = |value: Option<String>| value.unwrap_or_else(|| "absent".to_owned());
            return Err(MergeError::Differ {
                a: a.clone(),
                b: b.clone(),
                what: what.clone(),
                left: word(mine),
                right: word(other),
            });
        }
    }
    Ok(())
}

/// The text that was scored, among the facts of a sweep.
const TEXT: &str = "the text's SHA-256";

/// Takes what `variant`, from the report `name`, adds to `known`, from `from`.
fn unite<'a>(
    from: &mut &'a str,
    known: &mut Variant,
    name: &'a str,
    variant: &Variant,
) -> Result<(), MergeError> {
    match (known.status == Status::Error, variant.status == Status::Error) {
        (_, true) => return Ok(()),
        (true, false) => {
            *known = variant.clone();
            *from = name;
            return Ok(());
        }
        (false, false) => {}
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let facts = |v: &Variant| [("recipe", v.recipe.clone()), ("SHA-256", text(&v.sha256))];
    for ((what, mine), (_, other)) in facts(known).into_iter().zip(facts(variant)) {
        if mine != other {
            let what = format!("the {what} of `{}`: {mine} and {other}", known.name);
            return Err(conflict(from, name, what));
        }
    }
    if lasting(&known.measurements) != lasting(&variant.measurements) {
        let what = format!("the figures of `{}`{}", known.name, example(known, variant));
        return Err(conflict(from, name, what));
    }
    Ok(())
}

/// The first figure on which two results of a variant differ, with both values.
fn example(a: &Variant, b: &Variant) -> String {
    let value = |v: &Variant| v.measurements.perplexity.as_ref().map(|p| p.value.value);
    match (value(a), value(b)) {
        (Some(a), Some(b)) if a.to_bits() != b.to_bits() => format!(": perplexity {a} and {b}"),
        _ => String::new(),
    }
}

/// What is the same whenever and wherever it is measured, as text, in which what is not finite equals itself.
fn lasting(measurements: &Measurements) -> String {
    let lasting = Measurements { latency: None, peak_memory: None, ..measurements.clone() };
    serde_json::to_string(&lasting).expect("plain data is JSON")
}

fn conflict(a: &str, b: &str, what: String) -> MergeError {
    MergeError::Conflict { a: a.to_owned(), b: b.to_owned(), what }
}

#[cfg(test)]
mod tests {
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
            (
                |r| r.tool.version = "9".to_owned(),
                "the tool is coremill 0.1.0 in one and coremill 9",
            ),
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
                "disagree on the figures of `fp16`: perplexity 17.",
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
}
