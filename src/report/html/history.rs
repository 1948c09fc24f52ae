//! What became of each variant from report to report: small lines with their intervals, and the figures in a table.

use super::super::numbers::{estimate, signed, significant};
use super::super::{Report, Variant};
use super::head::moment;
use super::node::{Node, el, px};
use super::parts::{details, note, number, row, scroll};
use super::scale::Scale;
use super::variants::percent;
use crate::base::fmt;
use crate::eval::results::Figure;

/// A figure that is followed: its title, how it is taken, how it is written.
struct Followed {
    title: &'static str,
    of: fn(&Variant) -> Option<Figure>,
    text: fn(&Figure) -> String,
    /// The last less the first, in words.
    moved: fn(f64, f64) -> String,
}

const FOLLOWED: [Followed; 3] = [
    Followed {
        title: "Size",
        of: |v| v.size_bytes.map(|n| Figure { value: n as f64, ..Figure::default() }),
        text: |figure| fmt::bytes(figure.value as u64),
        moved: |first, last| match (last - first) / first * 100.0 {
            0.0 => "unchanged".to_owned(),
            share if share.is_finite() => format!("{} %", signed(share, 3)),
            _ => String::new(),
        },
    },
    Followed {
        title: "Increase of perplexity",
        of: |v| Some(v.measurements.perplexity.as_ref()?.increase.clone()),
        text: percent,
        moved: |first, last| format!("{} points", signed((last - first) * 100.0, 2)),
    },
    Followed {
        title: "KL divergence, nats",
        of: |v| Some(v.measurements.perplexity.as_ref()?.divergence.clone()),
        text: |figure| estimate(figure, 1.0),
        moved: |first, last| format!("{} nats", signed(last - first, 2)),
    },
];

/// The history over `reports`, the oldest first; nothing where there is but one.
pub(super) fn section(reports: &[&Report]) -> Option<Node> {
    if reports.len() < 2 {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    // The newest report's order, then what it no longer holds.
    for name in reports.iter().rev().flat_map(|r| &r.variants).map(|v| v.name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let rows = names.iter().map(|name| row(*name, FOLLOWED.iter().map(|f| line(reports, name, f))));
    let mut heads = vec![el("th").at("scope", "col").add("Variant")];
    heads.extend(FOLLOWED.iter().map(|f| el("th").at("scope", "col").add(f.title)));
    let table = el("table")
        .add(el("caption").add("Each line runs over the reports by date, the shade is the 95 % interval; each has a scale of its own."))
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows));
    let first = reports.first().map(|r| moment(&r.created)).unwrap_or_default();
    let last = reports.last().map(|r| moment(&r.created)).unwrap_or_default();
    let about = note(format!("{} reports, {first} to {last}.", reports.len()));
    let body = el("div").add(about).all(warning(reports)).add(scroll("History", table));
    Some(body.add(details("The figures, report by report").add(figures(reports, &names))))
}

/// What makes the reports hard to compare.
fn warning(reports: &[&Report]) -> Option<Node> {
    let differ = |of: fn(&Report) -> Option<String>| {
        reports.windows(2).any(|pair| of(pair[0]) != of(pair[1]))
    };
    let mut what = Vec::new();
    if differ(|r| Some(r.source.name.clone())) {
        what.push("sources");
    }
    if differ(|r| Some(serde_json::to_string(&r.source.files).unwrap_or_default())) {
        what.push("files of the source");
    }
    if differ(|r| r.reference.as_ref().and_then(|r| r.text_sha256.clone())) {
        what.push("texts");
    }
    if differ(|r| Some(r.tool.version.clone())) {
        what.push("versions of the tool");
    }
    let text = format!("The reports have different {}.", what.join(", "));
    (!what.is_empty()).then(|| note(text))
}

fn found<'a>(report: &'a Report, name: &str) -> Option<&'a Variant> {
    report.variants.iter().find(|variant| variant.name == name)
}

/// A cell with the line of one figure of one variant.
fn line(reports: &[&Report], name: &str, followed: &Followed) -> Node {
    let figures: Vec<Option<Figure>> = reports
        .iter()
        .map(|r| found(r, name).and_then(followed.of).filter(|f| f.value.is_finite()))
        .collect();
    let known: Vec<&Figure> = figures.iter().flatten().collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return number(None) };
    let text = (followed.text)(last);
    let cell = el("td");
    if known.len() < 2 {
        return cell.add(text);
    }
    let moved = (followed.moved)(first.value, last.value);
    let drawn = spark(&figures, &format!("{name}, {}: {moved}", followed.title));
    cell.add(drawn).add(text).add(el("small").add(moved))
}

fn spark(figures: &[Option<Figure>], title: &str) -> Node {
    const W: f64 = 144.0;
    const H: f64 = 42.0;
    let x = |i: usize| 5.0 + i as f64 / (figures.len() - 1).max(1) as f64 * (W - 10.0);
    let band = |figure: &Figure| figure.interval().unwrap_or([figure.value; 2]);
    let ends: Vec<f64> = figures.iter().flatten().flat_map(band).collect();
    let y = Scale::linear(&ends, false, [H - 4.0, 4.0]);
    let known: Vec<(usize, &Figure)> =
        figures.iter().enumerate().filter_map(|(i, f)| Some((i, f.as_ref()?))).collect();
    let point = |i: usize, value: f64| format!("{},{}", px(x(i)), px(y.at(value)));
    let upper = known.iter().map(|(i, f)| point(*i, band(f)[1]));
    let lower = known.iter().rev().map(|(i, f)| point(*i, band(f)[0]));
    let shade: Vec<_> = upper.chain(lower).collect();
    let line: Vec<_> = known.iter().map(|(i, f)| point(*i, f.value)).collect();
    let dots = known
        .iter()
        .map(|(i, f)| el("circle").at("cx", px(x(*i))).at("cy", px(y.at(f.value))).at("r", "2.2"));
    el("svg")
        .class("spark")
        .at("role", "img")
        .at("viewBox", format!("0 0 {W} {H}"))
        .at("aria-label", title)
        .add(el("title").add(title))
        .add(el("path").at("d", format!("M{}Z", shade.join("L"))))
        .add(el("polyline").at("points", line.join(" ")))
        .all(dots)
}

/// A row per variant and figure, a column per report.
fn figures(reports: &[&Report], names: &[&str]) -> Node {
    let mut heads =
        vec![el("th").at("scope", "col").add("Variant"), el("th").at("scope", "col").add("Figure")];
    heads.extend(reports.iter().map(|r| {
        let tool = el("small").add(format!("{} {}", r.tool.name, r.tool.version));
        el("th").at("scope", "col").class("n").add(moment(&r.created)).add(tool)
    }));
    let rows = names.iter().flat_map(|name| {
        FOLLOWED.iter().map(move |followed| {
            let cells = reports.iter().map(|report| {
                let figure = found(report, name).and_then(followed.of);
                number(figure.map(|figure| {
                    if figure.value.is_finite() {
                        (followed.text)(&figure)
                    } else {
                        significant(figure.value, 1)
                    }
                }))
            });
            row(*name, [el("td").add(followed.title)]).all(cells)
        })
    });
    let table = el("table")
        .add(el("caption").add("Figures of each report."))
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows));
    scroll("Figures of each report", table)
}
