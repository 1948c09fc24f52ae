//! The table of the variants, and the table of every figure.

use super::super::figures::fields;
use super::super::numbers::{NOT_FINITE, estimate, significant};
use super::super::{Report, Variant};
use super::node::{Node, el};
use super::parts::{badge, details, note, number, scroll, to_variant};
use crate::base::fmt;
use crate::eval::results::Figure;

/// A column: its heading and what stands in its cells.
type Column = (&'static str, fn(&Variant) -> Option<Cell>);

/// A number, and a second line below it.
struct Cell(String, Option<String>);

const COLUMNS: [Column; 11] = [
    ("Size", |v| Some(Cell(fmt::bytes(v.size_bytes?), None))),
    ("Bits per weight", |v| Some(Cell(format!("{:.2}", v.bits_per_weight?), None))),
    ("Perplexity increase", |v| {
        let perplexity = v.measurements.perplexity.as_ref()?;
        let value = format!("to {}", estimate(&perplexity.value, 1.0));
        Some(Cell(percent(&perplexity.increase), Some(value)))
    }),
    ("KL divergence, nats", |v| {
        let perplexity = v.measurements.perplexity.as_ref()?;
        Some(Cell(estimate(&perplexity.divergence, 1.0), None))
    }),
    ("Same first choice", |v| {
        Some(Cell(percent(&v.measurements.perplexity.as_ref()?.same_top), None))
    }),
    ("Cosine", |v| {
        let similarity = v.measurements.similarity.as_ref()?;
        let least = format!("least {}", significant(similarity.minimum.value, 5));
        Some(Cell(significant(similarity.mean.value, 5), Some(least)))
    }),
    ("Neighbours kept", |v| {
        let neighbours = v.measurements.similarity.as_ref()?.neighbours.as_ref()?;
        let rank = format!("rank correlation {}", significant(neighbours.spearman.value, 4));
        Some(Cell(percent(&neighbours.recall), Some(rank)))
    }),
    ("Transcripts equal", |v| {
        let transcripts = v.measurements.transcripts.as_ref()?;
        Some(Cell(format!("{} of {}", transcripts.equal, transcripts.prompts.len()), None))
    }),
    ("Decode, median", |v| {
        let median = v.measurements.latency.as_ref()?.decode.as_ref()?.p50?;
        Some(Cell(format!("{} ms", significant(median, 3)), None))
    }),
    ("Peak memory", |v| Some(Cell(fmt::bytes(v.measurements.peak_memory?), None))),
    ("Made in", |v| {
        let made = v.timings.convert.or(v.timings.compress)?;
        let measured = v.timings.evaluate.map(|s| format!("measured in {}", seconds(s)));
        Some(Cell(seconds(made), measured))
    }),
];

/// The variants, a row each.
pub(super) fn section(report: &Report) -> Node {
    if report.variants.is_empty() {
        return note("The run made no variants.");
    }
    let has = |column: &&Column| report.variants.iter().any(|v| (column.1)(v).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(has).collect();
    let mut heads = vec![
        el("th").at("scope", "col").class("name").add("Variant"),
        el("th").at("scope", "col").add("Gates"),
    ];
    heads.extend(columns.iter().map(|c| el("th").at("scope", "col").class("n").add(c.0)));
    let largest = report.variants.iter().filter_map(|v| v.size_bytes).max();
    let rows = report.variants.iter().enumerate().map(|(place, variant)| {
        let recipe =
            (variant.recipe != variant.name).then(|| el("small").add(variant.recipe.as_str()));
        let name = el("th").at("scope", "row").add(variant.name.as_str()).all(recipe);
        let cells = columns.iter().map(|column| match (column.1)(variant) {
            Some(Cell(text, more)) => {
                let share =
                    (column.0 == "Size").then(|| share(variant.size_bytes, largest)).flatten();
                let more = more.or(share).map(|more| el("small").add(more));
                el("td").class("n").add(text).all(more)
            }
            None => number(None),
        });
        let status = el("td").add(badge(variant.status));
        el("tr").at("id", format!("v{place}")).add(name).add(status).all(cells)
    });
    let table = el("table")
        .add(el("caption").add("Each variant with its figures; ± is a 95 % interval."))
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows));
    scroll("Variants", table)
}

/// Every figure of every variant, for those who look for one.
pub(super) fn all(report: &Report) -> Option<Node> {
    let mut rows = Vec::new();
    for field in fields(report) {
        let figures: Vec<_> = report.variants.iter().map(|v| field.of(v)).collect();
        let Some(first) = figures.iter().flatten().next() else { continue };
        let unit = if first.unit == "1" { String::new() } else { format!(", {}", first.unit) };
        let name = el("code").add(field.key.as_str());
        let name = el("th").at("scope", "row").add(name).add(unit);
        let cells = figures.iter().map(|figure| number(figure.as_ref().map(plain)));
        rows.push(el("tr").add(name).all(cells));
    }
    if rows.is_empty() {
        return None;
    }
    let names: Vec<_> = (0..report.variants.len())
        .map(|place| el("th").at("scope", "col").class("n").add(to_variant(report, place)))
        .collect();
    let heads = el("tr").add(el("th").at("scope", "col").add("Figure")).all(names);
    let table = el("table")
        .add(el("caption").add("The names are those of the columns of `report csv`."))
        .add(el("thead").add(heads))
        .add(el("tbody").all(rows));
    Some(details("Show all figures").add(scroll("Every figure", table)))
}

/// A figure in its own unit, whole numbers whole.
fn plain(figure: &Figure) -> String {
    let whole = figure.value.fract() == 0.0 && figure.value.abs() < 1e15;
    match figure.standard_error {
        Some(_) => format!("{} (n = {})", estimate(figure, 1.0), figure.n),
        None if whole => grouped(figure.value),
        None => significant(figure.value, 5),
    }
}

/// `6 656 507`, with thin spaces that do not break.
fn grouped(value: f64) -> String {
    let digits = format!("{}", value.abs());
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    format!("{}{}", if value < 0.0 { "−" } else { "" }, groups.join("\u{202f}"))
}

/// An estimate of a share in percent.
pub(super) fn percent(figure: &Figure) -> String {
    let text = estimate(figure, 100.0);
    if text == NOT_FINITE { text } else { format!("{text} %") }
}

fn share(size: Option<u64>, largest: Option<u64>) -> Option<String> {
    let (size, largest) = (size?, largest.filter(|n| *n > 0)?);
    (size < largest).then(|| format!("{} %", significant(size as f64 / largest as f64 * 100.0, 3)))
}

fn seconds(seconds: f64) -> String {
    let duration = std::time::Duration::try_from_secs_f64(seconds);
    duration.map_or_else(|_| significant(seconds, 3), fmt::duration)
}
