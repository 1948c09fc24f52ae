//! Whether reports are of one sweep: what must be the same to the letter, and the reference, which each machine computes
//! anew.

use serde_json::{Value, json};

use super::super::Report;
use super::notes::Notes;
use super::{MergeError, Named, agree, conflict, plain};
use crate::eval::{results::Perplexity, results::Similarity};

/// A fact of a sweep: what it is called, its value, and whether a report that measured nothing lacks it.
struct Fact {
    what: String,
    value: String,
    measured: bool,
}

/// Refuses reports that differ in what names a sweep.
pub(super) fn sweep((a, left): &Named, (b, right): &Named) -> Result<(), MergeError> {
    let (ours, theirs) = (facts(left), facts(right));
    let find = |facts: &[Fact], what: &str| {
        facts.iter().find(|fact| fact.what == what).map(|fact| fact.value.clone())
    };
    for Fact { what, measured, .. } in ours.iter().chain(&theirs) {
        let (mine, other) = (find(&ours, what), find(&theirs, what));
        // A shard that measured nothing has no text; it takes nothing from the others.
        let unmeasured = *measured && (mine.is_none() || other.is_none());
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

fn facts(report: &Report) -> Vec<Fact> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let Report { tool, source, spec_sha256, .. } = report;
    let fixed = |what: String, value: String| Fact { what, value, measured: false };
    let mut facts = vec![
        fixed("the spec's SHA-256".to_owned(), text(spec_sha256)),
        fixed("the tool".to_owned(), format!("{} {}", tool.name, tool.version)),
        fixed("the source".to_owned(), source.name.clone()),
        fixed("the source's repository".to_owned(), text(&source.repository)),
        fixed("the source's revision".to_owned(), text(&source.revision)),
    ];
    facts.extend(tool.libraries.iter().map(|(k, v)| fixed(format!("`{k}`"), v.clone())));
    let files = source.files.iter();
    facts.extend(files.map(|(path, sha)| fixed(format!("SHA-256 of `{path}`"), sha.clone())));
    let of_text = report.reference.as_ref().and_then(|r| r.text_sha256.clone());
    let mut measured = |what: &str, value: Option<String>| {
        let fact = |value| Fact { what: what.to_owned(), value, measured: true };
        facts.extend(value.map(fact));
    };
    measured("the text's SHA-256", of_text);
    if let Some(p) = perplexity(report) {
        measured("what the reference is", p.reference_kind.clone());
        measured("the length of a window", Some(p.window.to_string()));
        measured("the stride of windows", Some(p.stride.to_string()));
        measured("the number of windows", Some(p.windows.to_string()));
        measured("K of the reference", p.top_k.map(|k| k.to_string()));
        measured("the reference's noise", p.noise_floor.as_ref().map(|n| n.how.clone()));
    }
    measured("the reference of embeddings", similarity(report).map(|s| s.reference.clone()));
    facts
}

/// What the first variant that was measured says.
fn perplexity(report: &Report) -> Option<&Perplexity> {
    report.variants.iter().find_map(|v| v.measurements.perplexity.as_ref())
}

fn similarity(report: &Report) -> Option<&Similarity> {
    report.variants.iter().find_map(|v| v.measurements.similarity.as_ref())
}

/// Refuses reports whose references are not the same but for rounding.
pub(super) fn reference<'a>(reports: &'a [Named], notes: &mut Notes<'a>) -> Result<(), MergeError> {
    let mut known: Option<(&str, Value)> = None;
    for (name, report) in reports {
        let Some(p) = perplexity(report) else { continue };
        let figures =
            json!({ "perplexity": plain(&p.reference), "noise_floor": plain(&p.noise_floor) });
        match &known {
            None => known = Some((name, figures)),
            Some((from, first)) => match agree::agree(first, &figures) {
                Ok(worst) => notes.differ(from, name, "the reference", worst),
                Err(apart) => {
                    return Err(conflict(from, name, format!("the reference: {apart}")));
                }
            },
        }
    }
    Ok(())
}
