//! Tables for people, as wide as the terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::base::fmt;
use crate::compress::TensorAudit;

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

/// The weights of a package.
pub(crate) fn tensors(tensors: &[TensorAudit], width: usize) -> String {
    let mut table = plain(
        &["weight", "component", "shape", "form", "bytes", "bits", "error"],
        &[4, 5, 6],
        width,
    );
    for t in tensors {
        let shape: Vec<_> = t.shape.iter().map(ToString::to_string).collect();
        table.add_row([
            t.name.clone(),
            t.component.clone(),
            shape.join("×"),
            t.form.clone(),
            fmt::bytes(t.bytes),
            format!("{:.3}", t.bits_per_weight),
            t.relative_error.map_or_else(String::new, |e| format!("{e:.5}")),
        ]);
    }
    table.to_string()
}
