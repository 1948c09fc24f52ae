//! Size against divergence as a drawing, the Pareto front in it, and the same in a table.

use super::super::numbers::{STANDARD_ERRORS, estimate};
use super::super::pareto::{Front, Point};
use super::super::{Report, Status};
use super::labels::{Label, placed};
use super::node::{Node, el, px};
use super::parts::{
    cell, details, drawing, label, line, mark, note, number, row, scroll, table, to_variant,
};
use super::scale::Scale;
use crate::base::fmt;

/// The drawing, in its own units.
const SIZE: [f64; 2] = [960.0, 470.0];
/// Its plane: left, right, top, bottom.
const PLANE: [f64; 4] = [62.0, 946.0, 14.0, 424.0];
/// Half the width of a mark.
const R: f64 = 5.0;
/// How much larger than the smallest the largest divergence must be for a logarithmic axis.
const WIDE: f64 = 20.0;

/// The drawing with its table, where at least one variant has a size and a divergence.
pub(super) fn section(report: &Report) -> Option<Node> {
    let front = Front::of(report);
    if front.points.is_empty() {
        return None;
    }
    let rule = if front.paired > 0 && front.unpaired == 0 {
        "A variant is dominated only if another one is at most as large and the paired 95 % interval of the difference of \
         their divergences lies wholly above 0."
            .to_owned()
    } else if front.paired > 0 {
        format!(
            "A variant is dominated only if another one is at most as large and the paired 95 % interval of the difference \
             of their divergences lies wholly above 0; {} of {} pairs were not scored together, and there their own \
             intervals must lie apart, which takes a larger difference.",
            front.unpaired,
            front.unpaired + front.paired
        )
    } else {
        "The report holds no paired comparison of these variants, so a variant counts as dominated only where another one \
         is at most as large and their own 95 % intervals lie apart: a stricter test than a paired one."
            .to_owned()
    };
    let (svg, beyond) = plot(report, &front);
    let caption = el("figcaption").add(el("p").add(rule)).all(beyond.map(|text| el("p").add(text)));
    let figure = el("figure")
        .add(legend(report, &front))
        .add(scroll("Size against divergence, drawing", svg))
        .add(caption);
    Some(el("div").add(figure).add(details("The same as a table").add(listed(report, &front))))
}

/// The shapes that occur, and what full and hollow ones say.
fn legend(report: &Report, front: &Front) -> Node {
    let shape =
        |node: Node| el("svg").at("viewBox", "-8 -8 16 16").at("aria-hidden", "true").add(node);
    let all =
        [Status::Pass, Status::Fail, Status::Inconclusive, Status::Invalid, Status::NotJudged];
    let occur = all
        .into_iter()
        .filter(|status| front.points.iter().any(|p| report.variants[p.variant].status == *status));
    let statuses = occur.map(|status| {
        let drawn = mark(status, 0.0, 0.0, R).class("on");
        el("li").add(shape(el("g").class(status.key()).add(drawn))).add(status.name())
    });
    let full = mark(Status::Pass, 0.0, 0.0, R).class("on");
    let hollow = mark(Status::Pass, 0.0, 0.0, R).class("off");
    el("ul")
        .class("legend")
        .all(statuses)
        .add(el("li").add(shape(full)).add("full: on the front"))
        .add(el("li").add(shape(hollow)).add("hollow: dominated"))
}

/// The drawing, and what is to be said of intervals that leave it.
fn plot(report: &Report, front: &Front) -> (Node, Option<String>) {
    let [left, right, top, bottom] = PLANE;
    let (unit, name) = unit(front.points.iter().map(|p| p.size_bytes).max().unwrap_or(0));
    let sizes: Vec<f64> = front.points.iter().map(|p| p.size_bytes as f64 / unit).collect();
    let x = Scale::linear(&sizes, false, [left, right]);
    let values: Vec<f64> = front.points.iter().map(|p| p.divergence.value).collect();
    let positive = || values.iter().copied().filter(|v| *v > 0.0);
    let [low, high] = [positive().fold(f64::INFINITY, f64::min), positive().fold(0.0, f64::max)];
    let log = high > low * WIDE;
    let y = if log {
        // The upper ends of intervals count; lower ends near 0 would stretch the axis without end.
        let upper = front.points.iter().filter_map(|p| p.divergence.interval()).map(|i| i[1]);
        Scale::log(&values.iter().copied().chain(upper).collect::<Vec<_>>(), [bottom, top])
    } else {
        let ends = front.points.iter().filter_map(|p| p.divergence.interval()).flatten();
        Scale::linear(&values.iter().copied().chain(ends).collect::<Vec<_>>(), true, [bottom, top])
    };
    let names: Vec<_> = front.members().map(|p| report.variants[p.variant].name.as_str()).collect();
    let said = format!(
        "{} variants; on the front, from the smallest: {}. The table below holds the figures.",
        front.points.len(),
        names.join(", ")
    );
    let mut svg =
        drawing("front-drawing", "KL divergence from the reference against size", &said, SIZE);
    for (value, text) in y.ticks() {
        let at = y.at(value);
        svg = svg.add(line("grid", [left, at], [right, at]));
        svg = svg.add(label("tick", [left - 8.0, at + 4.0], "end", &text));
    }
    for (value, text) in x.ticks() {
        let at = x.at(value);
        svg = svg.add(line("grid", [at, top], [at, bottom]));
        svg = svg.add(label("tick", [at, bottom + 18.0], "middle", &text));
    }
    svg = svg.add(line("base", [left, bottom], [right, bottom]));
    svg = svg.add(label("axis", [right, bottom + 38.0], "end", &format!("size, {name}")));
    let turned = format!("rotate(-90 15 {})", px(top));
    let title = if log { "KL divergence, nats (logarithmic)" } else { "KL divergence, nats" };
    svg = svg.add(label("axis", [15.0, top], "end", title).at("transform", turned));
    let at = |point: &Point| [x.at(point.size_bytes as f64 / unit), y.at(point.divergence.value)];
    svg = svg.all(descent(front).map(|points| {
        let points: Vec<_> = points.into_iter().map(at).collect();
        el("polyline").class("front").at("points", stairs(&points))
    }));
    let mut beyond = 0;
    for point in &front.points {
        let [px_, py] = at(point);
        let variant = &report.variants[point.variant];
        let title = format!(
            "{}: {}, {} nats",
            variant.name,
            fmt::bytes(point.size_bytes),
            estimate(&point.divergence, 1.0)
        );
        let mut group = el("g").class(variant.status.key()).add(el("title").add(title));
        if let Some([low, high]) = point.divergence.interval() {
            let (from, to) = (y.at(low), y.at(high));
            group = group.add(line("whisker", [px_, from], [px_, to]));
            group = group.add(line("whisker", [px_ - 3.5, to], [px_ + 3.5, to]));
            if y.holds(low) {
                group = group.add(line("whisker", [px_ - 3.5, from], [px_ + 3.5, from]));
            } else {
                beyond += 1;
            }
        }
        let class = if point.dominated_by.is_none() { "on" } else { "off" };
        svg = svg.add(group.add(mark(variant.status, px_, py, R).class(class)));
    }
    let wanted: Vec<Label> = front
        .points
        .iter()
        .map(|point| Label {
            at: at(point),
            text: report.variants[point.variant].name.clone(),
            needed: point.dominated_by.is_none(),
        })
        .collect();
    for (label_, place) in wanted.iter().zip(placed(&wanted, [left, right, top, bottom], R)) {
        if let Some(place) = place {
            svg = svg.all(place.leader.map(|end| line("leader", label_.at, end)));
            let class = if label_.needed { "halo" } else { "halo dim" };
            svg = svg.add(label(class, place.at, place.anchor, &place.text));
        }
    }
    let beyond = (beyond > 0).then(|| {
        format!("{} reach below the axis, to 0 or beyond.", fmt::several(beyond, "interval"))
    });
    (svg, beyond)
}

/// The points of the front at each of which the divergence is less than at all smaller ones; none for a lone point.
fn descent(front: &Front) -> Option<Vec<&Point>> {
    let mut points: Vec<&Point> = Vec::new();
    for point in front.members() {
        if points.last().is_none_or(|last| point.divergence.value < last.divergence.value) {
            points.push(point);
        }
    }
    (points.len() > 1).then_some(points)
}

/// A descent in steps: a size between two artifacts gets no more than the smaller one.
fn stairs(points: &[[f64; 2]]) -> String {
    let mut out = Vec::new();
    for pair in points.windows(2) {
        let [[x, y], [next, _]] = [pair[0], pair[1]];
        out.push(format!("{},{} {},{}", px(x), px(y), px(next), px(y)));
    }
    out.extend(points.last().map(|[x, y]| format!("{},{}", px(*x), px(*y))));
    out.join(" ")
}

/// The unit that suits `largest` bytes.
fn unit(largest: u64) -> (f64, &'static str) {
    const UNITS: [(u32, &str); 4] = [(30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "bytes")];
    let fits = UNITS.iter().find(|(power, _)| largest >> power >= 1);
    fits.map_or((1.0, "bytes"), |(power, name)| (2f64.powi(*power as i32), *name))
}

fn listed(report: &Report, front: &Front) -> Node {
    let rows = front
        .points
        .iter()
        .map(|point| {
            let by = match point.dominated_by {
                None => cell("on the front"),
                Some(by) => cell("dominated by ").add(to_variant(report, by)),
            };
            row(
                to_variant(report, point.variant),
                [
                    number(Some(fmt::bytes(point.size_bytes))),
                    number(Some(estimate(&point.divergence, 1.0))),
                    by,
                ],
            )
        })
        .collect();
    let caption = format!("From the smallest; ± is {STANDARD_ERRORS} standard errors.");
    let heads = ["Variant", "Size", "KL divergence, nats", "Front"];
    let out = el("div").add(scroll("The front as a table", table(&caption, &heads, rows)));
    let left_out = report.variants.len() - front.points.len();
    let missing = (left_out > 0).then(|| {
        let text = fmt::several(left_out as u64, "variant");
        note(format!("{text} without a size or a finite divergence left out."))
    });
    out.all(missing)
}
