//! What running a variant costs, as bars: times of calls and bytes, one table each.

use super::super::numbers::significant;
use super::super::{Report, Variant};
use super::node::{Node, el, px};
use super::parts::{number, row, to_variant};
use crate::base::fmt;
use crate::eval::{results::Latency, results::Percentiles};

/// One line of a chart: the length of its bar, and up to where a paler one goes on.
struct Bar {
    value: f64,
    to: Option<f64>,
    text: String,
    more: Option<String>,
}

/// A chart: what it shows, and the bar of a variant.
type Chart = (&'static str, &'static str, fn(&Variant) -> Option<Bar>);

const CHARTS: [Chart; 10] = [
    ("Decode step", "Median time of one step; paler up to the 90th percentile.", |v| {
        call(v, |l| l.decode.as_ref())
    }),
    ("Prompt chunk", "Median time of one full chunk; paler up to the 90th percentile.", |v| {
        call(v, |l| l.init.as_ref())
    }),
    ("Embedding", "Median time of one call; paler up to the 90th percentile.", |v| {
        call(v, |l| l.encode.as_ref())
    }),
    ("Load", "Opening the package and planning its functions.", |v| {
        let load = &v.measurements.latency.as_ref()?.load;
        bar(load.value, format!("{} ms", significant(load.value, 3)))
    }),
    (
        "Energy of a decode step",
        "What the processor took on the mean, with whatever else ran.",
        |v| {
            let energy = v.measurements.latency.as_ref()?.decode_energy.as_ref()?;
            bar(energy.value, format!("{} J", significant(energy.value, 3)))
        },
    ),
    ("Peak memory", "Largest resident memory while evaluating, mapped weights included.", |v| {
        bytes(v.measurements.peak_memory?)
    }),
    ("Weights", "Bytes of the weight files.", |v| {
        let mut bar = bytes(v.weight_bytes?)?;
        let parts: Vec<_> =
            v.components.iter().map(|(name, n)| format!("{name} {}", fmt::bytes(*n))).collect();
        bar.more = (!parts.is_empty()).then(|| parts.join(", "));
        Some(bar)
    }),
    (
        "Key/value cache",
        "Bytes of the cache, used or not; positions in use at most and tokens that had to leave.",
        |v| {
            let cache = v.measurements.kv_cache.as_ref()?;
            let mut bar = bytes(cache.bytes)?;
            let left = fmt::several(cache.evictions, "eviction");
            bar.more =
                Some(format!("{} of {} positions, {left}", cache.peak_resident, cache.capacity));
            Some(bar)
        },
    ),
    ("Making", "Time of the conversion or compression.", |v| {
        seconds(v.timings.convert.or(v.timings.compress)?)
    }),
    ("Measuring", "Time of the evaluation.", |v| seconds(v.timings.evaluate?)),
];

/// The charts for which a variant has a figure.
pub(super) fn section(report: &Report) -> Option<Node> {
    let charts: Vec<Node> = CHARTS.iter().filter_map(|chart| drawn(report, chart)).collect();
    let runtimes: Vec<&str> = report
        .variants
        .iter()
        .filter_map(|v| Some(v.measurements.latency.as_ref()?.runtime.as_str()))
        .collect();
    let runtime = runtimes.first().map(|name| {
        el("p")
            .class("note")
            .add("Times were taken on the runtime ")
            .add(el("code").add(*name))
            .add(" of the machine named above; another one has others.")
    });
    (!charts.is_empty()).then(|| el("div").all(runtime).add(el("div").class("grid-2").all(charts)))
}

fn drawn(report: &Report, (title, about, of): &Chart) -> Option<Node> {
    let bars: Vec<_> = report
        .variants
        .iter()
        .enumerate()
        .filter_map(|(place, variant)| Some((place, of(variant)?)))
        .collect();
    let most = bars.iter().map(|(_, bar)| bar.to.unwrap_or(bar.value).max(bar.value));
    let most = most.fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return None;
    }
    let rows = bars.into_iter().map(|(place, bar)| {
        let length = |value: f64| px(value / most * 1000.0);
        let mut svg = el("svg")
            .at("viewBox", "0 0 1000 10")
            .at("preserveAspectRatio", "none")
            .at("aria-hidden", "true");
        if let Some(to) = bar.to {
            svg = svg.add(rect(&length(to)).class("to"));
        }
        svg = svg.add(rect(&length(bar.value)));
        let more = bar.more.map(|more| el("small").add(more));
        row(
            to_variant(report, place),
            [el("td").class("bar").add(svg).all(more), number(Some(bar.text))],
        )
    });
    let table = el("table").class("bars").add(el("caption").add(*about)).add(el("tbody").all(rows));
    Some(el("div").add(el("h3").add(*title)).add(super::parts::scroll(title, table)))
}

fn rect(width: &str) -> Node {
    el("rect").at("x", "0").at("y", "0").at("width", width).at("height", "10")
}

fn call(variant: &Variant, of: fn(&Latency) -> Option<&Percentiles>) -> Option<Bar> {
    let times = of(variant.measurements.latency.as_ref()?)?;
    let value = times.p50.unwrap_or(times.mean);
    let word = if times.p50.is_some() { "" } else { ", mean" };
    let mut bar = bar(value, format!("{} ms{word}", significant(value, 3)))?;
    bar.to = times.p90.filter(|p90| p90.is_finite() && *p90 >= value);
    let tail = times.p90.map(|p90| format!(", 90 % within {} ms", significant(p90, 3)));
    bar.more = Some(format!("n = {}{}", times.n, tail.unwrap_or_default()));
    Some(bar)
}

fn bytes(n: u64) -> Option<Bar> {
    bar(n as f64, fmt::bytes(n))
}

fn seconds(seconds: f64) -> Option<Bar> {
    let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    bar(seconds, fmt::duration(duration))
}

fn bar(value: f64, text: String) -> Option<Bar> {
    (value.is_finite() && value >= 0.0).then_some(Bar { value, to: None, text, more: None })
}
