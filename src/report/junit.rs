//! The report as the XML of `JUnit`, which CI systems show: a test suite per report, a test case per variant and gate.
//!
//! A gate that fails is a `failure`; one whose measurement is worthless, and a step that failed, an `error`; one that is
//! inconclusive is `skipped`, since the format knows no other word for a test that said nothing; and so is a variant that no
//! gate judged.

use super::cells::UNJUDGED;
use super::html::escape;
use super::{Report, Variant};
use crate::gate::Outcome;

/// One line of a suite.
struct Case<'a> {
    variant: &'a Variant,
    name: &'a str,
    /// The element that says how it ended, its type and its message; none for a pass.
    end: Option<(&'static str, &'a str, String)>,
}

/// The report as a document of one test suite.
pub fn junit(report: &Report) -> String {
    let cases: Vec<Case<'_>> = report.variants.iter().flat_map(cases).collect();
    let count = |element: &str| {
        cases.iter().filter(|case| case.end.as_ref().is_some_and(|end| end.0 == element)).count()
    };
    let counts = attributes(&[
        ("tests", &cases.len().to_string()),
        ("failures", &count("failure").to_string()),
        ("errors", &count("error").to_string()),
        ("skipped", &count("skipped").to_string()),
    ]);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.extend(["<testsuites name=\"", &escaped(&report.tool.name), "\"", &counts, ">\n"]);
    let about = attributes(&[("name", &report.source.name), ("timestamp", &report.created)]);
    out.extend(["  <testsuite", &about, &counts, ">\n    <properties>\n"]);
    let version = format!("{} {}", report.tool.name, report.tool.version);
    let mut properties = vec![("tool", version.as_str())];
    properties.extend(report.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    properties.extend(report.spec_sha256.as_deref().map(|sha| ("spec_sha256", sha)));
    for (name, value) in properties {
        let about = attributes(&[("name", name), ("value", value)]);
        out.extend(["      <property", &about, "/>\n"]);
    }
    out.push_str("    </properties>\n");
    for case in &cases {
        let class = format!("{}.{}", report.source.name, case.variant.name);
        let seconds = case.variant.timings.evaluate.unwrap_or(0.0);
        // The time belongs to the variant; given to each of its cases it would be counted over and over.
        let first = case.variant.verdicts.first().is_none_or(|v| v.gate == case.name);
        let time = format!("{:.3}", if first { seconds } else { 0.0 });
        let about = attributes(&[("classname", &class), ("name", case.name), ("time", &time)]);
        out.extend(["    <testcase", &about]);
        match &case.end {
            None => out.push_str("/>\n"),
            Some((element, kind, message)) => {
                let said = attributes(&[("message", message), ("type", kind)]);
                // `skipped` has no type.
                let said =
                    if *element == "skipped" { attributes(&[("message", message)]) } else { said };
                out.extend([">\n      <", element, &said, "/>\n    </testcase>\n"]);
            }
        }
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn cases(variant: &Variant) -> Vec<Case<'_>> {
    let mut out: Vec<_> = variant
        .verdicts
        .iter()
        .map(|verdict| {
            let element = match verdict.outcome {
                Outcome::Pass => None,
                Outcome::Fail => Some("failure"),
                Outcome::Invalid => Some("error"),
                Outcome::Inconclusive => Some("skipped"),
            };
            let word = verdict.outcome.name();
            let end =
                element.map(|element| (element, word, format!("{word}: {}", verdict.message)));
            Case { variant, name: &verdict.gate, end }
        })
        .collect();
    if let Some(failure) = &variant.failure {
        let hint = failure.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        let end = Some(("error", failure.stage.as_str(), format!("{}{hint}", failure.message)));
        out.push(Case { variant, name: &failure.stage, end });
    }
    if out.is_empty() {
        let end = Some(("skipped", "not judged", UNJUDGED.to_owned()));
        out.push(Case { variant, name: "gates", end });
    }
    out
}

fn attributes(pairs: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| [" ", name, "=\"", &escaped(value), "\""].concat();
    pairs.iter().map(one).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    // A line end in an attribute would be read back as a space.
    for (i, part) in text.split('\n').enumerate() {
        if i > 0 {
            out.push_str("&#10;");
        }
        escape(part, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{samples, xml};
    use super::*;

    #[test]
    fn the_text() {
        insta::assert_snapshot!(junit(&samples::report()));
    }

    #[test]
    fn hostile_text_stays_text() {
        let report = samples::hostile();
        let parsed = xml::parse(&junit(&report)).unwrap();
        let name = &report.variants[0].name;
        // What XML cannot hold is replaced.
        let shown = format!("{}.{name}", report.source.name).replace('\u{7}', "\u{fffd}");
        let found = parsed.iter().any(|e| e.attribute("classname") == Some(&shown));
        assert!(found, "{shown}");
        assert!(parsed.iter().all(|e| e.name != "script"));
    }
}
