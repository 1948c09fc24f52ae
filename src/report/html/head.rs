//! The head of the page: what was swept, what came of it; and its end: where all of it comes from.

use super::super::numbers::{signed, significant};
use super::super::{Report, Status, Variant};
use super::node::{Node, el};
use super::parts::{badge, details, note, p, to_variant};
use crate::base::fmt;

/// The browser's part of the page.
pub(super) fn meta(report: &Report) -> Node {
    el("head")
        .add(el("meta").at("charset", "utf-8"))
        .add(el("meta").at("name", "viewport").at("content", "width=device-width, initial-scale=1"))
        .add(el("meta").at("name", "color-scheme").at("content", "light dark"))
        .add(el("title").add(format!("{}: sweep report", report.source.name)))
        .add(el("style").add(Node::Style(include_str!("style.css"))))
}

/// Heading and summary.
pub(super) fn header(report: &Report) -> Node {
    let mut lead = vec![moment(&report.created), tool(report)];
    let environment = &report.environment;
    let machine: Vec<_> = environment.iter().map(|(key, value)| described(key, value)).collect();
    if !machine.is_empty() {
        lead.push(machine.join(", "));
    }
    el("header")
        .add(el("h1").add(report.source.name.as_str()))
        .add(p(lead.join(" · ")).class("lead"))
        .add(counts(report))
        .add(facts(report))
        .add(p(ON_PAPER).class("note paper"))
}

/// What only paper has to be told.
const ON_PAPER: &str = "Parts that are folded in the browser are not printed; unfold them first. Every figure of every \
                        variant is in the output of report csv.";

/// How many variants ended how.
fn counts(report: &Report) -> Node {
    let s = &report.summary;
    let all = [
        (s.pass, Status::Pass),
        (s.fail, Status::Fail),
        (s.inconclusive, Status::Inconclusive),
        (s.invalid, Status::Invalid),
        (s.not_judged, Status::NotJudged),
        (s.error, Status::Error),
    ];
    let some = all.into_iter().filter(|(n, _)| *n > 0);
    let item = |(n, status)| el("li").add(format!("{n} ")).add(badge(status));
    el("ul").class("counts").at("aria-label", "Variants by status").all(some.map(item))
}

/// The summary: which variant to take and what it costs.
fn facts(report: &Report) -> Node {
    let list = el("dl").class("facts");
    let best = report.summary.best.as_ref();
    let place = best.and_then(|best| super::parts::place(report, best));
    let best = place.map(|place| &report.variants[place]);
    let baseline = report.variants.iter().find(|v| v.recipe == crate::sweep::BASELINE);
    let smallest = place.map_or_else(|| Node::from("none"), |place| to_variant(report, place));
    let recipe = best.filter(|v| v.recipe != v.name).map(|v| v.recipe.clone());
    let title =
        if report.search.is_some() { "Best within the budget" } else { "Smallest that passes" };
    let list = list.add(fact(title, smallest, recipe));
    let list = match best.and_then(|v| v.size_bytes) {
        Some(size) => {
            let of = baseline.and_then(|v| v.size_bytes).filter(|of| *of > 0);
            let share = of.map(|of| {
                let share = significant(size as f64 / of as f64 * 100.0, 3);
                format!("{share} % of {}", fmt::bytes(of))
            });
            list.add(fact("Its size", fmt::bytes(size).into(), share))
        }
        None => list,
    };
    let list = match best.and_then(increase) {
        Some((value, error)) => list.add(fact("Its perplexity", value.into(), error)),
        None => list,
    };
    let Some(reference) = &report.reference else { return list };
    let Some(perplexity) = &reference.perplexity else { return list };
    let title = format!("Reference, {}", reference.kind());
    let tokens = format!("perplexity over {} tokens", fmt::count(perplexity.n));
    list.add(fact(&title, significant(perplexity.value, 4).into(), Some(tokens)))
}

/// `+0.41 %`, and the interval around it.
fn increase(variant: &Variant) -> Option<(String, Option<String>)> {
    let increase = &variant.measurements.perplexity.as_ref()?.increase;
    if !increase.value.is_finite() {
        return None;
    }
    let value = format!("{} %", signed(increase.value * 100.0, 3));
    let half = increase.half_width().filter(|half| half.is_finite());
    let around =
        half.map(|half| format!("± {} % against the reference", significant(half * 100.0, 2)));
    Some((value, around))
}

fn fact(name: &str, value: Node, more: Option<String>) -> Node {
    let value = el("dd").add(value).all(more.map(|more| el("small").add(more)));
    el("div").add(el("dt").add(name)).add(value)
}

/// Where the report comes from: command, tool, machine, digests.
pub(super) fn origin(report: &Report) -> Node {
    let code = |text: &str| el("code").add(text);
    let mut lines = vec![
        ("Command", code(&report.command.join(" "))),
        ("Made", moment(&report.created).into()),
        ("Tool", tool(report).into()),
    ];
    let source = &report.source;
    lines.extend(source.repository.as_deref().map(|r| ("Repository", code(r))));
    lines.extend(source.revision.as_deref().map(|r| ("Revision", code(r))));
    lines.extend(report.spec_sha256.as_deref().map(|sha| ("Spec, SHA-256", code(sha))));
    let reference = report.reference.as_ref();
    let text = reference.and_then(|r| r.text_sha256.as_deref());
    lines.extend(text.map(|sha| ("Text, SHA-256", code(sha))));
    let embeddings = reference.and_then(|r| r.embeddings.as_deref());
    lines.extend(embeddings.map(|e| ("Embeddings against", Node::from(e))));
    let scored = report.variants.iter().find_map(|v| v.measurements.perplexity.as_ref());
    lines.extend(scored.map(|p| {
        let text = format!(
            "{} windows of {} tokens, {} apart; {} tokens scored",
            p.windows, p.window, p.stride, p.value.n
        );
        ("Scored", text.into())
    }));
    let mut out = el("div").add(list(lines)).all(report.notes.iter().map(note));
    let sets = [
        ("Machine", &report.environment),
        ("Libraries", &report.tool.libraries),
        ("Source files, SHA-256", &source.files),
    ];
    for (title, set) in sets {
        if !set.is_empty() {
            let lines = set.iter().map(|(key, value)| (key.as_str(), code(value))).collect();
            out = out.add(details(title).class("brief").add(list(lines)));
        }
    }
    if !report.shards.is_empty() {
        let shards = report.shards.iter().map(|shard| {
            let machine: Vec<_> =
                shard.environment.iter().map(|(key, value)| described(key, value)).collect();
            el("li")
                .add(format!("{}, {}: ", moment(&shard.created), machine.join(", ")))
                .add(shard.variants.join(", "))
                .add(". ")
                .add(code(&shard.command.join(" ")))
        });
        out = out.add(details("Shards that were merged").add(el("ul").all(shards)));
    }
    out
}

/// The end of the page.
pub(super) fn footer(report: &Report) -> Node {
    el("footer").add(p(format!(
        "± is 1.96 standard errors: a 95 % interval. Nothing is rounded before it is judged. Made by {}.",
        tool(report)
    )))
}

fn list(lines: Vec<(&str, Node)>) -> Node {
    let lines =
        lines.into_iter().flat_map(|(name, value)| [el("dt").add(name), el("dd").add(value)]);
    el("dl").class("plain").all(lines)
}

fn tool(report: &Report) -> String {
    format!("{} {}", report.tool.name, report.tool.version)
}

/// `2026-11-21 09:10 UTC` of a moment by RFC 3339; anything else stays as it is.
pub(super) fn moment(created: &str) -> String {
    match (created.get(..10), created.get(10..11), created.get(11..16)) {
        (Some(day), Some("T"), Some(time)) if created.ends_with('Z') => format!("{day} {time} UTC"),
        _ => created.to_owned(),
    }
}

fn described(key: &str, value: &str) -> String {
    match key {
        "os" | "arch" | "processor" => value.to_owned(),
        _ => format!("{value} {key}"),
    }
}
