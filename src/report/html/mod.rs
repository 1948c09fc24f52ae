//! The report as one page: everything in one file, nothing to fetch, nothing to run.
//!
//! Drawings are SVG in the page, colours are the style's, so that the page follows the reader's light or dark, prints,
//! and is read aloud: what a drawing or a colour says stands in words or a table beside it.

mod bars;
mod front;
mod head;
mod heat;
mod history;
mod labels;
mod node;
mod pairs;
mod parts;
mod scale;
mod tokens;
mod transcripts;
mod variants;
mod verdicts;

use node::{Node, el};

pub(super) use node::escape;

use super::Report;

/// One part of the page: its place in the address, its title, and its content where the report has any.
struct Section {
    id: &'static str,
    title: &'static str,
    content: Option<Node>,
}

/// The page of the newest of `first` and `others`; with others, what became of each variant over time.
pub fn html(first: &Report, others: &[Report]) -> String {
    let mut all: Vec<&Report> = [first].into_iter().chain(others).collect();
    all.sort_by(|a, b| a.created.cmp(&b.created));
    let report = all.last().copied().unwrap_or(first);
    let sections = [
        Section { id: "variants", title: "Variants", content: Some(variants::section(report)) },
        Section { id: "front", title: "Size against divergence", content: front::section(report) },
        Section { id: "verdicts", title: "Gates", content: verdicts::section(report) },
        Section {
            id: "tokens",
            title: "Divergence token by token",
            content: tokens::section(report),
        },
        Section { id: "pairs", title: "Variants two by two", content: pairs::section(report) },
        Section {
            id: "heat",
            title: "Error of the weights, layer by layer",
            content: heat::section(report),
        },
        Section { id: "cost", title: "Time and memory", content: bars::section(report) },
        Section { id: "transcripts", title: "Transcripts", content: transcripts::section(report) },
        Section { id: "history", title: "History", content: history::section(&all) },
        Section { id: "all", title: "Every figure", content: variants::all(report) },
        Section { id: "origin", title: "Origin", content: Some(head::origin(report)) },
    ];
    let shown: Vec<Section> = sections.into_iter().filter(|s| s.content.is_some()).collect();
    let contents = shown.iter().map(|section| {
        el("li").add(el("a").at("href", format!("#{}", section.id)).add(section.title))
    });
    let nav = el("nav").at("aria-label", "Contents").add(el("ul").all(contents));
    let bodies = shown.into_iter().filter_map(|section| {
        Some(parts::section(section.id, section.title).add(section.content?))
    });
    let body = el("body")
        .add(el("a").class("skip").at("href", "#variants").add("Skip to the variants"))
        .add(head::header(report).add(nav))
        .add(el("main").all(bodies))
        .add(head::footer(report));
    let page = el("html").at("lang", "en").add(head::meta(report)).add(body);
    ["<!DOCTYPE html>\n", &page.render()].concat()
}

#[cfg(test)]
mod tests;
