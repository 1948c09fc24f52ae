//! The columns that tables show: their headings and what stands in each cell.

use super::numbers::{STANDARD_ERRORS, fixed, spread};
use super::{Report, Status, Variant};
use crate::base::fmt;

/// One column of a table.
pub(super) struct Column {
    /// Its heading.
    pub(super) title: &'static str,
    /// Whether it holds numbers, which stand to the right.
    pub(super) number: bool,
    /// What gives way first where there is no room: the largest.
    pub(super) rank: u8,
    cell: fn(&Variant) -> Option<String>,
}

/// What stands where there is no figure.
pub(super) const NONE: &str = "-";

const COLUMNS: &[Column] = &[
    Column { title: "variant", number: false, rank: 0, cell: |v| Some(v.name.clone()) },
    Column { title: "status", number: false, rank: 1, cell: |v| Some(v.status.name().to_owned()) },
    Column { title: "size", number: true, rank: 2, cell: |v| v.size_bytes.map(fmt::bytes) },
    Column {
        title: "bits/weight",
        number: true,
        rank: 5,
        cell: |v| v.bits_per_weight.map(|bits| format!("{bits:.2}")),
    },
    Column {
        title: "perplexity",
        number: true,
        rank: 6,
        cell: |v| Some(fixed(v.measurements.perplexity.as_ref()?.value.value, 3)),
    },
    Column {
        title: "increase",
        number: true,
        rank: 3,
        cell: |v| {
            let increase = &v.measurements.perplexity.as_ref()?.increase;
            let text = spread(increase, 100.0, 2);
            Some(if increase.value.is_finite() { format!("{text} %") } else { text })
        },
    },
    Column {
        title: "divergence",
        number: true,
        rank: 7,
        cell: |v| Some(spread(&v.measurements.perplexity.as_ref()?.divergence, 1.0, 4)),
    },
    Column {
        title: "cosine",
        number: true,
        rank: 4,
        cell: |v| Some(fixed(v.measurements.similarity.as_ref()?.minimum.value, 5)),
    },
    Column {
        title: "transcripts",
        number: true,
        rank: 8,
        cell: |v| {
            let transcripts = v.measurements.transcripts.as_ref()?;
            Some(format!("{}/{}", transcripts.equal, transcripts.prompts.len()))
        },
    },
    Column {
        title: "decode",
        number: true,
        rank: 9,
        cell: |v| {
            let median = v.measurements.latency.as_ref()?.decode.as_ref()?.p50?;
            Some(format!("{median:.2} ms"))
        },
    },
];

/// What is said of a variant without verdicts.
pub(super) const UNJUDGED: &str = "not judged: no gate looks at what was measured";

/// The columns for which a variant of the report has a figure, with their cells.
pub(super) fn columns(report: &Report) -> Vec<(&'static Column, Vec<Option<String>>)> {
    let cells = |column: &'static Column| -> Vec<_> {
        report.variants.iter().map(|variant| (column.cell)(variant)).collect()
    };
    let all = COLUMNS.iter().map(|column| (column, cells(column)));
    all.filter(|(_, cells)| cells.iter().any(Option::is_some)).collect()
}

/// What is to be said of each variant that did not pass, and of the report, one text each.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let mut out = Vec::new();
    for variant in &report.variants {
        let name = &variant.name;
        for verdict in &variant.verdicts {
            if verdict.outcome != crate::gate::Outcome::Pass {
                let (outcome, gate) = (verdict.outcome.name(), &verdict.gate);
                out.push(format!("{outcome}: {name}, {gate}: {}", verdict.message));
            }
        }
        if variant.status == Status::NotJudged {
            out.push(format!("{name}, {UNJUDGED}"));
        }
        if let Some(failure) = &variant.failure {
            let hint = failure.hint.as_ref().map(|h| format!("; hint: {h}")).unwrap_or_default();
            out.push(format!("error: {name}, {}: {}{hint}", failure.stage, failure.message));
        }
    }
    out.extend(report.notes.iter().map(|text| format!("note: {text}")));
    out
}

/// The counts in one line.
pub(super) fn summary(report: &Report) -> String {
    let s = &report.summary;
    let counts = [
        (s.pass, "pass"),
        (s.fail, "fail"),
        (s.inconclusive, "inconclusive"),
        (s.invalid, "invalid"),
        (s.not_judged, "not judged"),
        (s.error, "error"),
    ];
    let some = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
    let noun = if s.variants == 1 { "variant" } else { "variants" };
    let mut line = format!("{} {noun}: {}", s.variants, some.collect::<Vec<_>>().join(", "));
    if let Some(best) = &s.best {
        line = format!("{line}; {}: {best}", best_is(report));
    }
    line
}

/// What makes a variant the best of its report.
pub(super) fn best_is(report: &Report) -> &'static str {
    if report.search.is_some() { "best within the budget" } else { "smallest that passes" }
}

/// What `±`, `perplexity` and `increase` mean, for the foot of a table.
pub(super) fn legend(report: &Report) -> Option<String> {
    let reference = report.reference.as_ref()?;
    let perplexity = reference.perplexity.as_ref()?;
    Some(format!(
        "reference: {}, perplexity {}, {} tokens; ± is {STANDARD_ERRORS} standard errors",
        reference.kind(),
        fixed(perplexity.value, 3),
        perplexity.n
    ))
}
