//! Output of `inspect` for weights, with sums per component.

use super::{Column, column, first_that_fits, shape, words};
use crate::base::fmt;
use crate::compress::{Audit, ComponentAudit, Parts, TensorAudit};

/// A part of a weight by name.
type Part = (&'static str, fn(&Parts) -> u64);

const PARTS: [Part; 5] = [
    ("codes", |parts| parts.codes),
    ("tables", |parts| parts.tables),
    ("scales", |parts| parts.scales),
    ("offsets", |parts| parts.offsets),
    ("mask", |parts| parts.mask),
];

/// The parts that some weight has.
fn present(audit: &Audit) -> impl Iterator<Item = Part> {
    PARTS.into_iter().filter(|part| (part.1)(&audit.parts) > 0)
}

fn size(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { fmt::bytes(bytes) }
}

/// The weights of a package, with their errors where these are known: by parts, or what there is room for.
pub(crate) fn audit(audit: &Audit, width: usize) -> String {
    type Columns = Vec<Column<TensorAudit>>;
    let measured = audit.tensors.iter().any(|t| t.relative_error.is_some());
    let name = || column("weight", false, |t: &TensorAudit| t.name.clone());
    let form = || words("form", |t: &TensorAudit| t.form.clone());
    let bits = || column("bits", true, |t: &TensorAudit| format!("{:.3}", t.bits_per_weight));
    let bytes = || column("bytes", true, |t: &TensorAudit| fmt::bytes(t.bytes));
    let padding = || column("alignment", true, |t: &TensorAudit| fmt::bytes(t.parts.alignment));
    let start = || {
        vec![
            name(),
            column("component", false, |t: &TensorAudit| t.component.clone()),
            column("shape", false, |t: &TensorAudit| shape(&t.shape)),
            form(),
        ]
    };
    let error = || {
        let cell =
            |t: &TensorAudit| t.relative_error.map_or_else(String::new, |e| format!("{e:.5}"));
        column("error", true, cell)
    };
    let errors = |columns: &mut Columns| {
        if measured {
            columns.push(error());
            columns.push(column("PSNR", true, |t: &TensorAudit| {
                t.psnr_db.map_or_else(String::new, |db| format!("{db:.1} dB"))
            }));
            columns.push(column("max", true, |t: &TensorAudit| {
                t.max_error.map_or_else(String::new, |e| format!("{e:.3e}"))
            }));
        }
    };
    let mut by_parts = start();
    by_parts.extend(
        present(audit).map(|(header, part)| {
            column(header, true, move |t: &TensorAudit| size(part(&t.parts)))
        }),
    );
    by_parts.extend([padding(), bits()]);
    errors(&mut by_parts);
    let mut by_bytes = start();
    by_bytes.extend([bytes(), padding(), bits()]);
    errors(&mut by_bytes);
    let mut short = vec![name(), form(), bytes(), bits()];
    errors(&mut short);
    let [mut shorter, mut least] = [vec![name(), form(), bits()], vec![name(), bits()]];
    for columns in [&mut shorter, &mut least] {
        columns.extend(measured.then(error));
    }
    let choices = vec![by_parts, by_bytes, short, shorter, least];
    first_that_fits(choices, &audit.tensors, width)
}

/// The sums of each part of the model, and those of all where there are several.
pub(crate) fn components(audit: &Audit, width: usize) -> String {
    type Row = ComponentAudit;
    let mut rows: Vec<Row> = audit.components.clone();
    if rows.len() != 1 {
        rows.push(audit.all());
    }
    let name = || column("component", false, |c: &Row| c.component.clone());
    let weights = || column("weights", true, |c: &Row| c.weights.to_string());
    let elements = || column("elements", true, |c: &Row| fmt::count(c.elements));
    let bytes = || column("bytes", true, |c: &Row| fmt::bytes(c.bytes));
    let padding = || column("alignment", true, |c: &Row| fmt::bytes(c.parts.alignment));
    let bits = || column("bits", true, |c: &Row| format!("{:.3}", c.bits_per_weight));
    let aligned =
        || column("with alignment", true, |c: &Row| format!("{:.3}", c.bits_with_alignment));
    let mut by_parts = vec![name(), weights(), elements()];
    by_parts.extend(
        present(audit)
            .map(|(header, part)| column(header, true, move |c: &Row| size(part(&c.parts)))),
    );
    by_parts.extend([padding(), bits(), aligned()]);
    let by_bytes = vec![name(), weights(), elements(), bytes(), padding(), bits(), aligned()];
    let short = vec![name(), bytes(), bits(), aligned()];
    first_that_fits(vec![by_parts, by_bytes, short, vec![name(), bytes(), bits()]], &rows, width)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::base::progress::Silent;
    use crate::compress::{self, Options, Recipe};
    use crate::package::Package;

    #[test]
    fn what_there_is_room_for() {
        let dense = "tests/fixtures/compression/dense_ios18.mlpackage";
        let dense = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dense)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("c.mlpackage");
        let recipe: Recipe = "/linear/=pal4-g16,/blank/=sparse50+int4-c-asym".parse().unwrap();
        let made = compress::run(&dense, &recipe, &out, &Options::default(), &Silent).unwrap();
        let mut found = compress::audit(&Package::open(&out).unwrap()).unwrap();
        let mut shown = String::new();
        for width in [200, 100, 80, 60, 36] {
            let (each, sums) = (audit(&found, width), components(&found, width));
            writeln!(shown, "{width} columns\n{each}\n\n{sums}\n").unwrap();
        }
        found.tensors.clone_from(&made.tensors);
        for width in [200, 80, 40] {
            writeln!(shown, "{width} columns, measured\n{}\n", audit(&found, width)).unwrap();
        }
        insta::assert_snapshot!(shown);
    }
}
