//! Output of `inspect --diff`: equal values once, different values as left and right.

use super::{Column, column, first_that_fits, shape, words};
use crate::base::fmt;
use crate::compress::{ComponentAudit, Diff, Difference, TensorAudit, Totals, WeightDifference};

fn change(left: Option<String>, right: Option<String>) -> String {
    let shown = |side: Option<String>| side.unwrap_or_else(|| "–".to_owned());
    if left == right { shown(left) } else { format!("{} → {}", shown(left), shown(right)) }
}

/// Differences in the model and its functions.
pub(crate) fn differences(diff: &Diff, width: usize) -> String {
    type Row = Difference;
    let columns = vec![
        column("function", false, |d: &Row| d.function.clone().unwrap_or_default()),
        column("difference", false, |d: &Row| d.what.clone()),
        words("left → right", |d: &Row| change(d.left.clone(), d.right.clone())),
    ];
    first_that_fits(vec![columns], &diff.model, width)
}

/// The weights that differ.
pub(crate) fn weight_differences(diff: &Diff, width: usize) -> String {
    type Row = WeightDifference;
    type Cell = fn(&TensorAudit) -> String;
    fn both(header: &'static str, right: bool, cell: Cell) -> Column<Row> {
        column(header, right, move |d: &Row| {
            change(d.left.as_ref().map(cell), d.right.as_ref().map(cell))
        })
    }
    let name = || column("weight", false, |d: &Row| d.name.clone());
    let what = || column("difference", false, |d: &Row| d.what.name().to_owned());
    let form = || Column { wraps: true, ..both("form", false, |t| t.form.clone()) };
    let bytes = || both("bytes", true, |t| fmt::bytes(t.bytes));
    let bits = || both("bits", true, |t| format!("{:.3}", t.bits_per_weight));
    let shape = both("shape", false, |t| shape(&t.shape));
    let full = vec![name(), what(), shape, form(), bytes(), bits()];
    let middle = vec![name(), what(), form(), bits()];
    first_that_fits(vec![full, middle, vec![name(), what(), form()]], &diff.weights, width)
}

/// The sums of each part of the model, and those of all.
pub(crate) fn totals(diff: &Diff, width: usize) -> String {
    type Row = Totals;
    type Cell = fn(&ComponentAudit) -> String;
    fn both(header: &'static str, cell: Cell) -> Column<Row> {
        column(header, true, move |t: &Row| change(Some(cell(&t.left)), Some(cell(&t.right))))
    }
    let mut rows = diff.components.clone();
    if rows.len() != 1 {
        rows.push(diff.all.clone());
    }
    let name = || column("component", false, |t: &Row| t.component.clone());
    let bytes = || both("bytes", |c| fmt::bytes(c.bytes));
    let bits = || both("bits", |c| format!("{:.3}", c.bits_per_weight));
    let weights = both("weights", |c| c.weights.to_string());
    let elements = both("elements", |c| fmt::count(c.elements));
    let full = vec![name(), weights, elements, bytes(), bits()];
    first_that_fits(vec![full, vec![name(), bytes(), bits()]], &rows, width)
}
