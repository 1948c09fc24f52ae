//! The report as comma-separated values, by RFC 4180: one line per variant, every figure a column.
//!
//! A figure that is an estimate has three columns: its value, its standard error (`…_se`) and how many observations it
//! rests on (`…_n`). What was not measured is empty; what is no finite number is `NaN`.

use std::collections::BTreeSet;

use super::figures::fields;
use super::{Report, Variant};

/// The report's variants with all their figures.
pub fn csv(report: &Report) -> String {
    let fields = fields(report);
    let gates: BTreeSet<&str> =
        report.variants.iter().flat_map(|v| &v.verdicts).map(|v| v.gate.as_str()).collect();
    let mut head: Vec<String> =
        ["source", "created", "variant", "recipe", "bits", "status", "sha256"]
            .map(str::to_owned)
            .into();
    for field in &fields {
        head.push(field.key.clone());
        if field.estimate {
            head.extend([format!("{}_se", field.key), format!("{}_n", field.key)]);
        }
    }
    head.extend(gates.iter().map(|gate| format!("gate_{gate}")));
    head.push("failure".to_owned());
    let mut out = line(&head);
    for variant in &report.variants {
        let mut cells = vec![
            report.source.name.clone(),
            report.created.clone(),
            variant.name.clone(),
            variant.recipe.clone(),
            variant.bits.to_string(),
            variant.status.name().to_owned(),
            variant.sha256.clone().unwrap_or_default(),
        ];
        for field in &fields {
            let figure = field.of(variant);
            cells.push(figure.as_ref().map(|f| number(f.value)).unwrap_or_default());
            if field.estimate {
                let error = figure.as_ref().and_then(|f| f.standard_error);
                cells.push(error.map(number).unwrap_or_default());
                cells.push(figure.map(|f| f.n.to_string()).unwrap_or_default());
            }
        }
        cells.extend(gates.iter().map(|gate| outcome(variant, gate)));
        let failure = variant.failure.as_ref();
        cells.push(failure.map(|f| format!("{}: {}", f.stage, f.message)).unwrap_or_default());
        out.push_str(&line(&cells));
    }
    out
}

fn outcome(variant: &Variant, gate: &str) -> String {
    let verdict = variant.verdicts.iter().find(|verdict| verdict.gate == gate);
    verdict.map(|verdict| verdict.outcome.name().to_owned()).unwrap_or_default()
}

/// The shortest text that is read back as the same number.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "NaN".to_owned() }
}

fn line(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
    [&cells.join(","), "\r\n"].concat()
}

/// A cell between quotes where it needs them, quotes inside doubled.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\r', '\n']) || cell.trim() != cell {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// The cells of each line, read as RFC 4180 says.
    fn read(text: &str) -> Vec<Vec<String>> {
        let mut lines = vec![vec![String::new()]];
        let mut quoted = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let cells = lines.last_mut().unwrap();
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    cells.last_mut().unwrap().push('"');
                    chars.next();
                }
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                '\r' if !quoted && chars.peek() == Some(&'\n') => {
                    chars.next();
                    lines.push(vec![String::new()]);
                }
                c => cells.last_mut().unwrap().push(c),
            }
        }
        assert_eq!(lines.pop().unwrap(), [""], "the last line ends too");
        lines
    }

    #[test]
    fn every_variant_is_a_line_of_as_many_cells() {
        let report = samples::hostile();
        let lines = read(&csv(&report));
        assert_eq!(lines.len(), 1 + report.variants.len());
        for cells in &lines {
            assert_eq!(cells.len(), lines[0].len());
        }
        let column = |name: &str| lines[0].iter().position(|cell| cell == name).unwrap();
        let first = &report.variants[0];
        assert_eq!(lines[1][column("variant")], first.name, "whatever is in it");
        let divergence = &first.measurements.perplexity.as_ref().unwrap().divergence;
        assert_eq!(lines[1][column("divergence")].parse(), Ok(divergence.value));
        assert_eq!(lines[1][column("divergence_se")].parse().ok(), divergence.standard_error);
        assert_eq!(lines[1][column("divergence_n")], "6120");
        let mut names = lines[0].clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), lines[0].len(), "no name stands twice");
    }

    #[test]
    fn the_text() {
        insta::assert_snapshot!(csv(&samples::report()).replace("\r\n", "\n"));
    }
}
