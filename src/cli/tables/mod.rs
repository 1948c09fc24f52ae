//! Tables for people, as wide as the terminal.

mod diff;
mod weights;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::base::fmt;
use crate::compress::TensorAudit;

pub(crate) use diff::{differences, totals, weight_differences};
pub(crate) use weights::{audit, components};

/// A table without lines, with a header, columns at `right` aligned to the right.
pub(crate) fn plain(header: &[&str], right: &[usize], width: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX))
        .set_header(header);
    for &index in right {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A column of a table with rows of `T`.
struct Column<T> {
    header: &'static str,
    right: bool,
    /// True if cells are words that may stand on several lines, which one column of a table may be.
    wraps: bool,
    cell: Box<dyn Fn(&T) -> String>,
}

/// A column: its header, whether its cells are aligned to the right, the cell of a row.
fn column<T>(
    header: &'static str,
    right: bool,
    cell: impl Fn(&T) -> String + 'static,
) -> Column<T> {
    Column { header, right, wraps: false, cell: Box::new(cell) }
}

/// A column of words that may stand on several lines.
fn words<T>(header: &'static str, cell: impl Fn(&T) -> String + 'static) -> Column<T> {
    Column { wraps: true, ..column(header, false, cell) }
}

/// Words are not put into less.
const NARROWEST: usize = 22;

/// The table of the first of `choices` that is not wider than `width`, or of the last.
fn first_that_fits<T>(choices: Vec<Vec<Column<T>>>, rows: &[T], width: usize) -> String {
    let last = choices.len().saturating_sub(1);
    for (i, columns) in choices.into_iter().enumerate() {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| columns.iter().map(|column| (column.cell)(row)).collect())
            .collect();
        let widest = |(at, column): (usize, &Column<T>)| {
            let cells = cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
            // A space on each side.
            cells.max(column.header.chars().count()) + 2
        };
        let widths: Vec<usize> = columns.iter().enumerate().map(widest).collect();
        let all: usize = widths.iter().sum();
        let wrapping = columns.iter().position(|column| column.wraps);
        let rest = all - wrapping.map_or(0, |at| widths[at]);
        let least = wrapping.map_or(0, |at| widths[at].min(NARROWEST));
        if i < last && rest + least > width {
            continue;
        }
        let header: Vec<&str> = columns.iter().map(|column| column.header).collect();
        let right: Vec<usize> = (0..columns.len()).filter(|&at| columns[at].right).collect();
        let mut table = plain(&header, &right, width);
        table.add_rows(cells);
        if let Some(column) = wrapping.filter(|_| all > width).and_then(|at| table.column_mut(at)) {
            let room = width.saturating_sub(rest).max(least);
            let room = Width::Fixed(u16::try_from(room).unwrap_or(u16::MAX));
            column.set_constraint(ColumnConstraint::UpperBoundary(room));
        }
        return table.to_string();
    }
    String::new()
}

/// Sizes of axes as they are read aloud.
fn shape(sizes: &[u64]) -> String {
    let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
    sizes.join("×")
}

/// The weights of a package that was just written.
pub(crate) fn tensors(tensors: &[TensorAudit], width: usize) -> String {
    let mut table = plain(
        &["weight", "component", "shape", "form", "bytes", "bits", "error"],
        &[4, 5, 6],
        width,
    );
    for t in tensors {
        table.add_row([
            t.name.clone(),
            t.component.clone(),
            shape(&t.shape),
            t.form.clone(),
            fmt::bytes(t.bytes),
            format!("{:.3}", t.bits_per_weight),
            t.relative_error.map_or_else(String::new, |e| format!("{e:.5}")),
        ]);
    }
    table.to_string()
}
