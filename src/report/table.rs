//! The report as a table for a terminal of any width.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};

use super::cells::{Column, NONE, columns, legend, remarks, summary};
use super::{Report, Status};

/// Columns that a table must have room for; with fewer, each variant gets lines of its own.
const FEWEST: usize = 4;

/// The report as text of at most `width` columns, names longer than that aside; with escape codes only if `color`.
///
/// Where there is no room for all figures the least important give way, and the foot names them.
pub fn table(report: &Report, width: usize, color: bool) -> String {
    let mut shown = columns(report);
    let mut hidden: Vec<&Column> = Vec::new();
    while natural_width(&shown) > width && shown.len() > FEWEST {
        let last = shown.iter().enumerate().max_by_key(|(_, (column, _))| column.rank);
        let at = last.map_or(0, |(i, _)| i);
        hidden.push(shown.remove(at).0);
    }
    let body = if natural_width(&shown) > width {
        hidden.clear();
        list(report, width, color)
    } else {
        grid(report, &shown, color)
    };
    let mut foot = remarks(report);
    foot.push(summary(report));
    foot.extend(legend(report));
    if !hidden.is_empty() {
        hidden.sort_by_key(|column| column.rank);
        let names: Vec<_> = hidden.iter().map(|column| column.title).collect();
        foot.push(format!("not shown at this width: {}", names.join(", ")));
    }
    let foot: Vec<_> = foot.iter().map(|line| wrap(line, width)).collect();
    format!("{}\n{}\n", body.trim_end(), foot.join("\n"))
}

fn grid(report: &Report, shown: &[(&Column, Vec<Option<String>>)], color: bool) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.style_mut().row_separator = comfy_table::LineStyle::none();
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(shown.iter().map(|(column, _)| aligned(column, column.title)));
    for (row, variant) in report.variants.iter().enumerate() {
        table.add_row(shown.iter().map(|(column, cells)| {
            let cell = aligned(column, cells[row].as_deref().unwrap_or(NONE));
            if column.title == "status" { cell.fg(paint(variant.status)) } else { cell }
        }));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Each variant on lines of its own: its name and status, then a figure on each line.
fn list(report: &Report, width: usize, color: bool) -> String {
    let columns = columns(report);
    let mut out = Vec::new();
    for (row, variant) in report.variants.iter().enumerate() {
        let status = variant.status.name();
        let status = if color { painted(status, variant.status) } else { status.to_owned() };
        out.push(format!("{}: {status}", variant.name));
        for (column, cells) in &columns {
            if let (2.., Some(text)) = (column.rank, &cells[row]) {
                let gap = width.saturating_sub(2 + column.title.len() + text.chars().count());
                let gap = ".".repeat(gap.saturating_sub(2));
                out.push(format!("  {} {gap} {text}", column.title));
            }
        }
    }
    out.join("\n")
}

fn aligned(column: &Column, text: &str) -> Cell {
    let side = if column.number { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(text).set_alignment(side)
}

fn paint(status: Status) -> Color {
    match status {
        Status::Pass => Color::Green,
        Status::Fail | Status::Error => Color::Red,
        Status::Inconclusive | Status::Invalid | Status::NotJudged => Color::Yellow,
    }
}

fn painted(text: &str, status: Status) -> String {
    use owo_colors::OwoColorize as _;
    match paint(status) {
        Color::Green => text.green().to_string(),
        Color::Red => text.red().to_string(),
        _ => text.yellow().to_string(),
    }
}

/// Columns that the table takes as it is: each cell with a space on both sides.
fn natural_width(shown: &[(&Column, Vec<Option<String>>)]) -> usize {
    let width = |text: &str| text.chars().count();
    let widest = |(column, cells): &(&Column, Vec<Option<String>>)| {
        let cells = cells.iter().map(|cell| width(cell.as_deref().unwrap_or(NONE)));
        cells.max().unwrap_or(0).max(width(column.title)) + 2
    };
    shown.iter().map(widest).sum::<usize>() + shown.len().saturating_sub(1)
}

/// `text` in lines of at most `width` columns, broken between words; lines after the first are indented.
fn wrap(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.trim().is_empty() && longer > width {
            lines.push(std::mem::replace(&mut line, "  ".to_owned()));
        }
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}
