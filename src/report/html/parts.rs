//! What several sections are made of: sections, tables, badges, marks of a status.

use super::super::{Report, Status};
use super::node::{Node, el, px};

/// A section with its heading; its `id` is what the list of contents leads to.
pub(super) fn section(id: &'static str, title: &str) -> Node {
    let heading = format!("{id}-heading");
    let title = el("h2").at("id", heading.clone()).add(title);
    el("section").at("id", id).at("aria-labelledby", heading).add(title)
}

/// A paragraph.
pub(super) fn p(text: impl Into<String>) -> Node {
    el("p").add(text.into())
}

/// A paragraph that explains.
pub(super) fn note(text: impl Into<String>) -> Node {
    p(text).class("note")
}

/// What is unfolded on demand.
pub(super) fn details(summary: impl Into<Node>) -> Node {
    el("details").add(el("summary").add(summary))
}

/// `table` in a box of its own that scrolls sideways where there is no room, also by the keyboard.
pub(super) fn scroll(label: &str, content: Node) -> Node {
    el("div")
        .class("scroll")
        .at("role", "region")
        .at("aria-label", label)
        .at("tabindex", "0")
        .add(content)
}

/// A table with its caption and the headings of its columns, which stand to the right where the numbers of the first row
/// do.
pub(super) fn table(caption: &str, headings: &[&str], rows: Vec<Node>) -> Node {
    let number = |i| rows.first().and_then(|row| row.child(i)).is_some_and(Node::is_number);
    let head = |(i, title): (usize, &&str)| {
        let head = el("th").at("scope", "col");
        if number(i) { head.class("n").add(*title) } else { head.add(*title) }
    };
    let heads: Vec<Node> = headings.iter().enumerate().map(head).collect();
    el("table")
        .add(el("caption").add(caption))
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows))
}

/// A row that a heading begins.
pub(super) fn row(heading: impl Into<Node>, cells: impl IntoIterator<Item = Node>) -> Node {
    el("tr").add(el("th").at("scope", "row").add(heading)).all(cells)
}

/// A cell with a number, or nothing.
pub(super) fn number(text: Option<String>) -> Node {
    match text {
        Some(text) => el("td").class("n").add(text),
        None => el("td").class("n none").add("–"),
    }
}

/// A cell with text.
pub(super) fn cell(content: impl Into<Node>) -> Node {
    el("td").add(content)
}

/// A link to the row of the variant at `place`.
pub(super) fn to_variant(report: &Report, place: usize) -> Node {
    el("a").at("href", format!("#v{place}")).add(report.variants[place].name.as_str())
}

/// The place of the variant of this name.
pub(super) fn place(report: &Report, name: &str) -> Option<usize> {
    report.variants.iter().position(|variant| variant.name == name)
}

/// The variant of this name as a link to its row, where there is one.
pub(super) fn named(report: &Report, name: &str) -> Node {
    place(report, name).map_or_else(|| Node::from(name), |place| to_variant(report, place))
}

/// A status: its shape and its word, so that colour says nothing alone.
pub(super) fn badge(status: Status) -> Node {
    let shape = el("svg")
        .at("viewBox", "-7 -7 14 14")
        .at("aria-hidden", "true")
        .add(mark(status, 0.0, 0.0, 4.6).at("fill", "currentColor"));
    el("span").class(format!("badge {}", status.key())).add(shape).add(status.name())
}

/// The shape that stands for a status around `x`, `y`.
pub(super) fn mark(status: Status, x: f64, y: f64, r: f64) -> Node {
    let path = |points: &[(f64, f64)]| {
        let at = |(dx, dy): &(f64, f64)| format!("{} {}", px(x + dx * r), px(y + dy * r));
        let points: Vec<_> = points.iter().map(at).collect();
        el("path").at("d", format!("M{}Z", points.join("L")))
    };
    match status {
        Status::Pass => el("circle").at("cx", px(x)).at("cy", px(y)).at("r", px(r)),
        Status::Fail => path(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
        Status::Inconclusive => path(&[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)]),
        Status::Invalid => path(&[(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)]),
        Status::NotJudged => path(&[(-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4)]),
        Status::Error => path(&[
            (-1.1, -0.7),
            (-0.7, -1.1),
            (0.0, -0.4),
            (0.7, -1.1),
            (1.1, -0.7),
            (0.4, 0.0),
            (1.1, 0.7),
            (0.7, 1.1),
            (0.0, 0.4),
            (-0.7, 1.1),
            (-1.1, 0.7),
            (-0.4, 0.0),
        ]),
    }
}

/// A drawing that says in words what it shows.
pub(super) fn drawing(id: &str, title: &str, said: &str, size: [f64; 2]) -> Node {
    let (title_id, said_id) = (format!("{id}-title"), format!("{id}-desc"));
    el("svg")
        .at("role", "img")
        .at("aria-labelledby", format!("{title_id} {said_id}"))
        .at("viewBox", format!("0 0 {} {}", px(size[0]), px(size[1])))
        .add(el("title").at("id", title_id).add(title))
        .add(el("desc").at("id", said_id).add(said))
}

/// A straight line.
pub(super) fn line(class: &str, from: [f64; 2], to: [f64; 2]) -> Node {
    el("line")
        .class(class)
        .at("x1", px(from[0]))
        .at("y1", px(from[1]))
        .at("x2", px(to[0]))
        .at("y2", px(to[1]))
}

/// Text in a drawing, with its anchor: `start`, `middle` or `end`.
pub(super) fn label(class: &str, at: [f64; 2], anchor: &str, text: &str) -> Node {
    el("text")
        .class(class)
        .at("x", px(at[0]))
        .at("y", px(at[1]))
        .at("text-anchor", anchor)
        .add(text)
}

/// `text` in at most `most` characters, its middle left out where it has more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_owned();
    }
    let (head, tail) = ((most - 1).div_ceil(2), (most - 1) / 2);
    chars[..head].iter().chain(['…'].iter()).chain(&chars[chars.len() - tail..]).collect()
}
