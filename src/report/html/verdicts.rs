//! What the gates say: variants against gates, and in words what did not pass.

use std::collections::BTreeSet;

use super::super::cells::UNJUDGED;
use super::super::{Report, Status};
use super::node::{Node, el};
use super::parts::{badge, cell, details, named, note, row, scroll, to_variant};
use crate::gate::{Outcome, Verdict};

/// The gates' verdicts and the steps that failed.
pub(super) fn section(report: &Report) -> Option<Node> {
    if report.variants.is_empty() {
        return None;
    }
    let mut out = el("div");
    let remarks = remarks(report);
    out = if remarks.is_empty() {
        out.add(note("Every gate holds for every variant."))
    } else {
        let rows = remarks;
        let heads = ["Variant", "Gate or step", "Outcome", "Why"];
        let table = super::parts::table("What did not pass.", &heads, rows);
        out.add(scroll("What did not pass", table))
    };
    Some(out.add(details("All verdicts").add(scroll("All verdicts", matrix(report)))))
}

fn remarks(report: &Report) -> Vec<Node> {
    let mut rows = Vec::new();
    for (place, variant) in report.variants.iter().enumerate() {
        let name = || to_variant(report, place);
        let failing = variant.verdicts.iter().filter(|v| v.outcome != Outcome::Pass);
        rows.extend(failing.map(|verdict| {
            let gate = el("code").add(verdict.gate.as_str());
            let outcome = badge(verdict.outcome.into());
            row(name(), [cell(gate), cell(outcome), cell(verdict.message.as_str())])
        }));
        if variant.status == Status::NotJudged {
            let gate = el("td").class("none").add("–");
            rows.push(row(name(), [gate, cell(badge(Status::NotJudged)), cell(UNJUDGED)]));
        }
        if let Some(failure) = &variant.failure {
            let times = match failure.attempts {
                0 | 1 => String::new(),
                n => format!(" (tried {n} times)"),
            };
            let hint = failure.hint.as_ref().map(|hint| el("small").add(format!("Hint: {hint}")));
            let why = el("td").add(format!("{}{times}", failure.message)).all(hint);
            let step = cell(el("code").add(failure.stage.as_str()));
            rows.push(row(name(), [step, cell(badge(Status::Error)), why]));
        }
    }
    rows
}

/// Variants against gates.
fn matrix(report: &Report) -> Node {
    let all = || report.variants.iter().flat_map(|v| &v.verdicts);
    let mut seen = BTreeSet::new();
    // In the order in which they were judged.
    let gates: Vec<&str> =
        all().map(|v| v.gate.as_str()).filter(|gate| seen.insert(*gate)).collect();
    let mut heads = vec![el("th").at("scope", "col").add("Variant")];
    heads.extend(gates.iter().map(|gate| el("th").at("scope", "col").add(el("code").add(*gate))));
    let rows = report.variants.iter().map(|variant| {
        let cells = gates.iter().map(|gate| {
            let verdict = variant.verdicts.iter().find(|v| v.gate == *gate);
            verdict.map_or_else(|| el("td").class("none").add("–"), outcome)
        });
        row(named(report, &variant.name), cells)
    });
    el("table")
        .add(el("caption").add("Each gate with the figure that it compared and its threshold."))
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows))
}

fn outcome(verdict: &Verdict) -> Node {
    let threshold = verdict.unit.show(verdict.threshold);
    let figure = verdict.measured.map(|value| verdict.unit.show(value));
    let against = match figure {
        Some(figure) => format!("{figure} against {threshold}"),
        None => format!("against {threshold}"),
    };
    cell(badge(verdict.outcome.into())).add(el("small").add(against))
}
