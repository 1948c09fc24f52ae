//! The table of gates, and what every gate is made of.

use super::limit::{Limit, Unit};
use super::{
    Verdict, cosine, cosine_regression, decode_latency, divergence, divergence_regression,
    energy_regression, interval, logits, memory_regression, part_size, peak_memory,
    perplexity_increase, perplexity_regression, size, size_regression, speed_regression,
    tokens_per_second, transcripts,
};
use crate::eval::results::Measurements;

/// All gates, in the order in which they are judged and shown.
pub static TABLE: &[&Gate] = &[
    &perplexity_increase::GATE,
    &divergence::GATE,
    &transcripts::GATE,
    &logits::GATE,
    &cosine::GATE,
    &size::GATE,
    &part_size::GATE,
    &decode_latency::GATE,
    &tokens_per_second::GATE,
    &peak_memory::GATE,
    &perplexity_regression::GATE,
    &divergence_regression::GATE,
    &cosine_regression::GATE,
    &size_regression::GATE,
    &speed_regression::GATE,
    &memory_regression::GATE,
    &energy_regression::GATE,
];

/// A named condition on one figure of an artifact.
#[derive(Debug)]
pub struct Gate {
    /// Its name in specs, reports and on the command line.
    pub name: &'static str,
    /// One line without a full stop.
    pub summary: &'static str,
    /// The unit of its threshold.
    pub unit: Unit,
    /// On which side of the threshold the figure must be.
    pub side: Side,
    /// The threshold where none is given.
    pub default: fn() -> Limit,
    /// Whether two runs over the same artifact give the same figure; times and memory do not.
    pub reproducible: bool,
    /// Whether it compares with an older report, and so is judged only where there is one.
    pub regression: bool,
    /// What it measures, why, and what to do about a miss, in Markdown.
    pub docs: &'static str,
    /// The verdict on an artifact; nothing when the figure is missing.
    pub(super) verdict: fn(&Gate, &Subject<'_>, f64) -> Option<Verdict>,
}

/// On which side of its threshold a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Below, not equal.
    Below,
    /// At most equal.
    AtMost,
    /// At least equal.
    AtLeast,
}

/// What gates look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The figures of the artifact.
    pub measurements: &'a Measurements,
    /// Bytes of all its files.
    pub size_bytes: Option<u64>,
    /// Bytes of the largest of them.
    pub largest_file: Option<u64>,
    /// The same artifact as an earlier run found it.
    pub baseline: Option<Baseline<'a>>,
}

/// What an earlier run found.
#[derive(Debug, Clone, Copy)]
pub struct Baseline<'a> {
    /// Its figures.
    pub measurements: &'a Measurements,
    /// Bytes of all its files.
    pub size_bytes: Option<u64>,
    /// Whether it ran on a machine like this one, so that times and memory can be compared.
    pub same_machine: bool,
}

impl<'a> Subject<'a> {
    /// An artifact of which nothing is known but its figures.
    pub fn of(measurements: &'a Measurements) -> Self {
        Self { measurements, size_bytes: None, largest_file: None, baseline: None }
    }
}

impl Side {
    /// Whether `value` is on this side of `threshold`; never true of NaN.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
            Self::AtLeast => value >= threshold,
        }
    }

    /// `<`, `≤` or `≥`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "≤",
            Self::AtLeast => "≥",
        }
    }
}

impl Gate {
    /// Judges `subject` against `threshold`; a figure that is missing is invalid.
    pub fn judge(&self, subject: &Subject<'_>, threshold: f64) -> Verdict {
        (self.verdict)(self, subject, threshold).unwrap_or_else(|| {
            let message = format!("`{}` is asked for but was not measured", self.name);
            interval::invalid(self, threshold, &message)
        })
    }

    /// Whether the figure that this gate looks at is there.
    pub fn measured(&self, subject: &Subject<'_>) -> bool {
        // Any threshold will do: whether there is a verdict depends on the figure alone.
        (self.verdict)(self, subject, 0.0).is_some()
    }
}

/// The gate of this name.
pub fn find(name: &str) -> Option<&'static Gate> {
    TABLE.iter().copied().find(|gate| gate.name == name)
}

/// The documentation of the gate of this name.
pub fn explain(name: &str) -> Option<String> {
    find(name).map(section)
}

/// `docs/gates.md`: the documentation of every gate.
pub fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n| gate | passes if | default |\n|---|---|---|\n");
    for gate in TABLE {
        let default = (gate.default)().show(gate.unit);
        out.push_str(
            &["| [`", gate.name, "`](#", gate.name, ") | ", gate.summary, " | ", &default, " |\n"]
                .concat(),
        );
    }
    for gate in TABLE {
        out.push('\n');
        out.push_str(&section(gate));
    }
    out
}

const INTRODUCTION: &str = "\
# Gates

Generated from `src/gate/` by `UPDATE=1 cargo test gates_md`; do not edit.

A gate is a threshold on one figure of an artifact. A failed gate fails the command (exit code 1):

    coremill gate report.json --gate cosine=0.99
    coremill verify X.mlpackage --reference CHECKPOINT --text eval.txt --gate \"perplexity_increase=3 %\"

Thresholds are set in the `[gates]` table of a sweep spec or with `--gate NAME=VALUE`: a number, or a number with its unit
(`\"3 %\"`, `\"2 GB\"`). In a spec also: a table by bit width (`{ 16 = 0.005, 8 = 0.01, 4 = 0.03 }`: each threshold applies from its bit
width up to the next, the lowest also below), `true` for the default, or `false` for none. A gate that is set explicitly is invalid
if its figure was not measured; a default gate is then skipped.

Figures are not rounded before they are compared. An estimate is compared as an interval of 1.96 standard errors on each side:

| outcome | condition |
|---|---|
| **pass** | the whole interval is on the right side of the threshold |
| **fail** | the whole interval is on the wrong side |
| **inconclusive** | the interval contains the threshold; the message gives the number of observations that would make it conclusive |
| **invalid** | the figure is missing or not finite |

The exit code is 1 if a gate failed, else 3 if one is inconclusive or invalid, else 0. A variant without any verdict is **not
judged**, which is not a pass: `gate`, `verify` and `convert --profile-validate` exit with 3 then, and a sweep prints a warning.

`gate REPORT --baseline OLD` also judges the gates whose names end in `_regression`, which compare each variant with the
variant of the same name in an older report. They are enabled by default with a baseline and never without.
";

fn section(gate: &Gate) -> String {
    let Gate { name, summary, unit, docs, .. } = gate;
    let default = (gate.default)().show(*unit);
    format!(
        "## `{name}`\n\nPasses if {summary}. Unit: {}. Default: {default}.\n\n{}\n",
        unit.words(),
        docs.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::assert_fresh;

    #[test]
    fn gates_md_is_fresh() {
        assert_fresh("docs/gates.md", &markdown(), "gates_md");
    }

    #[test]
    fn every_gate_explains_itself_under_a_name_of_its_own() {
        let mut names: Vec<_> = TABLE.iter().map(|gate| gate.name).collect();
        assert_eq!(names, super::super::KEYS, "`KEYS` names what the table holds, in its order");
        for gate in TABLE {
            let text = explain(gate.name).unwrap();
            assert!(text.contains(gate.docs.trim()) && gate.docs.len() > 100, "{}", gate.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        assert_eq!(explain("no_such_gate"), None);
    }
}
