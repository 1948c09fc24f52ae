//! Shards of one sweep as one report.
//!
//! What the shards rest on must be the same: spec, sources, tool, text and windows, reference. A variant that several hold
//! is kept once if they agree on it: the same bytes, and the same figures but for what rounding on another processor
//! changes in the last digits ([`agree`]). Times and memory are not compared: no two runs share them. A variant that
//! failed in a shard and was measured in another is taken from where it was measured.

mod agree;
mod notes;
mod same;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::{Report, Shard, Status, Summary, Variant};
use crate::base::error::Hint;
use crate::eval::{results::Measurements, results::Paired};
use notes::Notes;

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
                "one of the two machines computes wrongly, or its runs are not of these files; measure again with `--fresh`"
                    .to_owned()
            }
        })
    }
}

/// The one report of `reports`, made by `command`: variants in the order in which they are first met, the baseline
/// first, counted anew.
pub fn merge(reports: &[Named], command: Vec<String>) -> Result<Report, MergeError> {
    let Some((first, rest)) = reports.split_first() else { return Err(MergeError::Nothing) };
    let mut notes = Notes::default();
    for other in rest {
        same::sweep(first, other)?;
    }
    same::reference(reports, &mut notes)?;
    let mut variants: Vec<(&str, Variant)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs: Vec<(&str, &Paired)> = Vec::new();
    let mut places_of_pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (name, report) in reports {
        for variant in &report.variants {
            match places.entry(&variant.name) {
                Entry::Vacant(place) => {
                    place.insert(variants.len());
                    variants.push((name, variant.clone()));
                }
                Entry::Occupied(place) => {
                    let (from, known) = &mut variants[*place.get()];
                    unite(from, known, name, variant, &mut notes)?;
                }
            }
        }
        for pair in &report.paired {
            match places_of_pairs.entry((&pair.a, &pair.b)) {
                Entry::Vacant(place) => {
                    place.insert(pairs.len());
                    pairs.push((name, pair));
                }
                Entry::Occupied(place) => {
                    let (from, known) = pairs[*place.get()];
                    let of = format!("`{}` against `{}`", pair.b, pair.a);
                    match agree::agree(&plain(known), &plain(pair)) {
                        Ok(worst) => notes.differ(from, name, &of, worst),
                        Err(apart) => return Err(conflict(from, name, format!("{of}: {apart}"))),
                    }
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
        notes: notes.told(reports),
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

/// Takes what `variant`, from the report `name`, adds to `known`, from `from`.
fn unite<'a>(
    from: &mut &'a str,
    known: &mut Variant,
    name: &'a str,
    variant: &Variant,
    notes: &mut Notes<'a>,
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
    let [mine, other] = [&known.measurements, &variant.measurements].map(lasting);
    match agree::agree(&mine, &other) {
        Ok(worst) => notes.differ(from, name, &known.name, worst),
        Err(apart) => {
            let what = format!("the figures of `{}`: {apart}", known.name);
            return Err(conflict(from, name, what));
        }
    }
    Ok(())
}

/// What is the same whenever it is measured, and wherever but for rounding.
fn lasting(measurements: &Measurements) -> Value {
    plain(&Measurements { latency: None, peak_memory: None, ..measurements.clone() })
}

/// Plain data as a value, in which what is not finite is nothing.
fn plain(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data is JSON")
}

fn conflict(a: &str, b: &str, what: String) -> MergeError {
    MergeError::Conflict { a: a.to_owned(), b: b.to_owned(), what }
}

#[cfg(test)]
mod tests;
