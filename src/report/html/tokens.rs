//! How divergence is spread over the tokens: percentiles, sure and unsure tokens, changed probabilities, noise.

use super::super::Report;
use super::super::figures::{ORDER, Order};
use super::super::numbers::{estimate, significant};
use super::node::{Node, el};
use super::parts::{note, number, row, scroll, to_variant};
use super::variants::percent;
use crate::eval::{results::Bucket, results::Perplexity, results::Spread};

/// The tables that the report has figures for.
pub(super) fn section(report: &Report) -> Option<Node> {
    let parts: Vec<Node> = [spread(report), changes(report), buckets(report), noise(report)]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| el("div").all(parts))
}

fn scored(report: &Report) -> impl Iterator<Item = (usize, &Perplexity)> {
    let all = report.variants.iter().enumerate();
    all.filter_map(|(place, v)| v.measurements.perplexity.as_ref().map(|p| (place, p)))
}

/// `max`, `99.9 %`, …: what the columns of order statistics are called.
fn headings() -> Vec<String> {
    let title = |(key, _): &Order| match key.strip_prefix('p') {
        Some(share) => format!("{} %", share.replace('_', ".")),
        None => (*key).to_owned(),
    };
    ORDER.iter().map(title).collect()
}

fn ordered(spread: &Spread, scale: f64) -> impl Iterator<Item = Node> {
    ORDER.iter().map(move |(_, at)| number(at(spread).map(|value| significant(value * scale, 3))))
}

fn spread(report: &Report) -> Option<Node> {
    let rows: Vec<Node> = scored(report)
        .filter_map(|(place, p)| {
            let spread = p.divergence_spread.as_ref()?;
            let mean = number(Some(estimate(&p.divergence, 1.0)));
            Some(row(to_variant(report, place), [mean]).all(ordered(spread, 1.0)))
        })
        .collect();
    let mut heads = vec!["Variant".to_owned(), "mean".to_owned()];
    heads.extend(headings());
    let caption =
        "Percentiles of the KL divergence from the reference over all scored tokens, nats.";
    let bound = scored(report).find_map(|(_, p)| Some((p.top_k?, p.divergence_bound.clone()?)));
    let bound = bound.map(|(k, bound)| {
        note(format!(
            "The reference is kept as its {k} likeliest tokens and one bin for the rest, which makes the mean divergence \
             smaller than it is by {} nats at most.",
            significant(bound.value, 2)
        ))
    });
    some(rows, "KL divergence", caption, &heads).map(|table| el("div").add(table).all(bound))
}

fn changes(report: &Report) -> Option<Node> {
    let rows: Vec<Node> = scored(report)
        .filter_map(|(place, p)| {
            let change = p.probability_change.as_ref()?;
            let figures = [
                number(Some(estimate(&change.mean, 100.0))),
                number(Some(estimate(&change.rms, 100.0))),
            ];
            Some(row(to_variant(report, place), figures).all(ordered(&change.spread, 100.0)))
        })
        .collect();
    let mut heads = vec!["Variant".to_owned(), "mean".to_owned(), "root mean square".to_owned()];
    heads.extend(headings());
    let caption = "Change of the probability of the token that follows, in percentage points.";
    some(rows, "Change of probability", caption, &heads)
}

fn buckets(report: &Report) -> Option<Node> {
    let mut ranges: Vec<(f64, f64)> = Vec::new();
    for bucket in scored(report).flat_map(|(_, p)| &p.buckets) {
        let range = (bucket.from, bucket.to);
        if !ranges.iter().any(|known| same(*known, range)) {
            ranges.push(range);
        }
    }
    ranges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let rows: Vec<Node> = scored(report)
        .filter(|(_, p)| !p.buckets.is_empty())
        .map(|(place, p)| {
            let cells = ranges.iter().map(|range| {
                let bucket = p.buckets.iter().find(|b| same((b.from, b.to), *range));
                bucket.map_or_else(|| number(None), one)
            });
            row(to_variant(report, place), cells)
        })
        .collect();
    let mut heads = vec!["Variant".to_owned()];
    heads.extend(ranges.iter().map(|(from, to)| {
        // The ends are decimal numbers; what binary fractions add to their hundredfold is not.
        let percent = |end: &f64| (end * 1e8).round() / 1e6;
        format!("{}–{} %", percent(from), percent(to))
    }));
    let caption = "Mean KL divergence where the reference gives its first choice this probability: does a variant change \
                   what the reference is sure of, or what it doubts anyway? Below: tokens with the same first choice.";
    some(rows, "Sure and unsure tokens", caption, &heads)
}

fn one(bucket: &Bucket) -> Node {
    let same = el("small").add(format!("{} same", percent(&bucket.same_top)));
    let n = el("small").add(format!("n = {}", bucket.divergence.n));
    number(Some(estimate(&bucket.divergence, 1.0))).add(same).add(n)
}

fn same(a: (f64, f64), b: (f64, f64)) -> bool {
    a.0.total_cmp(&b.0).is_eq() && a.1.total_cmp(&b.1).is_eq()
}

fn noise(report: &Report) -> Option<Node> {
    let (_, floor) = scored(report).find_map(|(i, p)| Some((i, p.noise_floor.as_ref()?)))?;
    let text = format!(
        "What the reference measures against itself ({}): divergence {} nats, perplexity {}, same first choice {}. Smaller \
         figures than these mean nothing.",
        floor.how,
        estimate(&floor.divergence, 1.0),
        percent(&floor.increase),
        percent(&floor.same_top)
    );
    Some(el("div").add(el("h3").add("Noise floor")).add(note(text)))
}

fn some(rows: Vec<Node>, title: &str, caption: &str, heads: &[String]) -> Option<Node> {
    if rows.is_empty() {
        return None;
    }
    let mut heads = heads.iter();
    let first = heads.next().map(|head| el("th").at("scope", "col").add(head.as_str()));
    let others = heads.map(|head| el("th").at("scope", "col").class("n").add(head.as_str()));
    let table = el("table")
        .add(el("caption").add(caption))
        .add(el("thead").add(el("tr").all(first).all(others)))
        .add(el("tbody").all(rows));
    Some(el("div").add(el("h3").add(title)).add(scroll(title, table)))
}
