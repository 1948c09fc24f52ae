//! The report as comma-separated values, by RFC 4180: one line per variant, every figure a column.
//!
//! A figure that is an estimate has three columns: its value, its standard error (`…_se`) and how many observations it
//! rests on (`…_n`). What was not measured is empty; what is no finite number is `NaN`.

use std::collections::BTreeSet;

use super::figures::fields;
use super::{Report, Variant};
use crate::gate::Verdict;

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
    head.extend(TEXTS.iter().map(|(name, _)| (*name).to_owned()));
    for gate in &gates {
        head.push(format!("gate_{gate}"));
        head.extend(JUDGED.iter().map(|(name, _)| format!("gate_{gate}_{name}")));
    }
    head.push("failure".to_owned());
    let mut out = line(&head);
    for variant in &report.variants {
        let mut cells = vec![
            report.source.name.clone(),
            report.created.clone(),
            variant.name.clone(),
            variant.recipe.clone(),
            variant.bits.to_string(),
            variant.status.key().to_owned(),
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
        cells.extend(TEXTS.iter().map(|(_, of)| of(variant).unwrap_or_default().to_owned()));
        for gate in &gates {
            let verdict = variant.verdicts.iter().find(|verdict| verdict.gate == *gate);
            cells.push(verdict.map(|v| v.outcome.name().to_owned()).unwrap_or_default());
            let figures = JUDGED.iter().map(|(_, of)| verdict.and_then(of).map(number));
            cells.extend(figures.map(Option::unwrap_or_default));
        }
        let failure = variant.failure.as_ref();
        cells.push(failure.map(|f| format!("{}: {}", f.stage, f.message)).unwrap_or_default());
        out.push_str(&line(&cells));
    }
    out
}

/// What is said of a variant in words: a column each.
type Text = (&'static str, fn(&Variant) -> Option<&str>);

const TEXTS: [Text; 9] = [
    ("reference", |v| v.measurements.perplexity.as_ref()?.reference_kind.as_deref()),
    ("text_sha256", |v| Some(&v.measurements.perplexity.as_ref()?.text_sha256)),
    ("noise", |v| Some(&v.measurements.perplexity.as_ref()?.noise_floor.as_ref()?.how)),
    ("cosine_reference", |v| Some(&v.measurements.similarity.as_ref()?.reference)),
    ("cosine_worst", |v| Some(&v.measurements.similarity.as_ref()?.worst)),
    ("runtime", |v| Some(&v.measurements.latency.as_ref()?.runtime)),
    ("cache_form", |v| Some(&v.measurements.kv_cache.as_ref()?.form)),
    ("package", |v| v.package.as_deref()),
    ("rejected", |v| v.rejected.as_deref()),
];

/// A number of a verdict, beside its outcome.
type Judged = (&'static str, fn(&Verdict) -> Option<f64>);

const JUDGED: [Judged; 5] = [
    ("measured", |v| v.measured),
    ("low", |v| Some(v.interval?[0])),
    ("high", |v| Some(v.interval?[1])),
    ("threshold", |v| Some(v.threshold)),
    ("settled_by", |v| v.settled_by.map(|n| n as f64)),
];

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
        let verdict = &first.verdicts[0];
        let gate = format!("gate_{}", verdict.gate);
        assert_eq!(lines[1][column(&gate)], verdict.outcome.name());
        let threshold = &lines[1][column(&format!("{gate}_threshold"))];
        assert_eq!(threshold.parse(), Ok(verdict.threshold));
        let mut names = lines[0].clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), lines[0].len(), "no name stands twice");
    }

    /// The numbers and words below `value`, each with its place; lists of weights and texts of transcripts left out.
    fn leaves(value: &serde_json::Value, path: &str, out: &mut Vec<(String, String)>) {
        use serde_json::Value;
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let beside =
                        ["tensors", "unit", "message", "gate", "manifest", "hint", "stage"];
                    let told = ["text", "tokens", "reference_text", "reference_tokens", "prompt"];
                    if !beside.contains(&name.as_str()) && !told.contains(&name.as_str()) {
                        leaves(value, &format!("{path}.{name}"), out);
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|value| leaves(value, path, out)),
            Value::Number(n) => {
                out.push((path.to_owned(), number(n.as_f64().unwrap())));
            }
            Value::String(text) => out.push((path.to_owned(), text.clone())),
            Value::Null | Value::Bool(_) => {}
        }
    }

    #[test]
    fn every_figure_of_a_variant_is_in_its_line() {
        let mut report = samples::rich();
        // Numbers that are nowhere else.
        let variant = &mut report.variants[2];
        variant.predicted =
            Some(crate::sweep::Predicted { relative_error: 0.123_4, divergence: Some(0.432_1) });
        variant.rejected = Some("surely no better".to_owned());
        variant.measurements.perplexity.as_mut().unwrap().reference_kind = Some("f32".to_owned());
        for (at, bucket) in
            variant.measurements.perplexity.as_mut().unwrap().buckets.iter_mut().enumerate()
        {
            bucket.median = 0.7771 + at as f64;
            bucket.same_top.standard_error = Some(0.011_1 + at as f64);
        }
        let lines = read(&csv(&report));
        let (column, line) = (|name| lines[0].iter().position(|c| c == name).unwrap(), &lines[3]);
        assert_eq!(line[column("confidence_50_90_median")], "1.7771");
        assert_eq!(line[column("confidence_50_90_same_top_se")], "1.0111");
        assert_eq!(line[column("predicted_divergence")], "0.4321");
        assert_eq!(line[column("transcript_3_margin")], "1.75");
        assert_eq!(line[column("decode_ms_warm_up")], "3");
        let mut all = Vec::new();
        leaves(&serde_json::to_value(&report.variants[2]).unwrap(), "", &mut all);
        assert!(all.len() > 100, "{}", all.len());
        // The ends of a range and the tokens of a prompt are in no cell of their own.
        all.retain(|(place, _)| {
            ![".from", ".to", ".prompt_tokens"].iter().any(|end| place.ends_with(end))
        });
        for (place, value) in all {
            assert!(line.contains(&value), "{place}: {value} is in no column");
        }
    }

    #[test]
    fn the_text() {
        insta::assert_snapshot!(csv(&samples::report()).replace("\r\n", "\n"));
    }
}
