//! The variants two by two on the tokens that both scored: differences with their intervals.

use super::super::Report;
use super::super::numbers::significant;
use super::node::{Node, el};
use super::parts::{details, named, note, number, row, scroll, table};
use crate::eval::results::Interval;

/// Pairs that are shown at once; more are unfolded.
const SHOWN: usize = 12;

/// The differences of all pairs.
pub(super) fn section(report: &Report) -> Option<Node> {
    let first = report.paired.first()?;
    let rows: Vec<Node> = report
        .paired
        .iter()
        .map(|pair| {
            let both =
                el("span").add(named(report, &pair.b)).add(" less ").add(named(report, &pair.a));
            let settled = verdict(&pair.divergence);
            row(
                both,
                [
                    number(Some(shown(&pair.divergence, 1.0))),
                    el("td").add(settled),
                    number(Some(shown(&pair.log_perplexity, 1.0))),
                    number(Some(format!("{} %", shown(&pair.same_top, 100.0)))),
                ],
            )
        })
        .collect();
    let about = format!(
        "Both variants of a pair scored the same {} tokens, so what both find hard falls out of the difference. The \
         intervals hold 95 % of a block bootstrap over {} windows.",
        first.n, first.windows
    );
    let heads =
        ["Pair", "KL divergence, nats", "Settled", "ln perplexity ratio", "Same first choice"];
    let many = rows.len() > SHOWN;
    let count = rows.len();
    let table =
        scroll("Variants two by two", table("Differences with 95 % intervals.", &heads, rows));
    let body = if many { details(format!("Show {count} pairs")).add(table) } else { table };
    let class = if many { "folded" } else { "open" };
    Some(el("div").class(class).add(note(about)).add(body))
}

/// Whether an interval leaves the sign of a difference open.
fn verdict(interval: &Interval) -> &'static str {
    if interval.low > 0.0 {
        "diverges more"
    } else if interval.high < 0.0 {
        "diverges less"
    } else {
        "cannot be told apart"
    }
}

/// `+0.0041 [0.0021, 0.0061]`.
fn shown(interval: &Interval, scale: f64) -> String {
    let text = |value: f64| significant(value * scale, 3);
    let sign = if interval.value > 0.0 { "+" } else { "" };
    format!("{sign}{} [{}, {}]", text(interval.value), text(interval.low), text(interval.high))
}
