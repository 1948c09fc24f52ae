//! `cosine_regression`: by how much the smallest cosine fell below that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "cosine_regression",
    summary: "the smallest cosine has not fallen by more than this",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.001),
    reproducible: true,
    regression: true,
    docs: "\
The smallest cosine of the variant with the same name in the baseline report minus the smallest cosine now. Both are minima
of fixed lists, not estimates, and compared without an interval. The figure is meaningless if the sentences differ.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let new = subject.measurements.similarity.as_ref()?.minimum.value;
    let old = subject.baseline?.measurements.similarity.as_ref()?.minimum.value;
    Some(interval::exact(gate, old - new, threshold, "fall of the smallest cosine"))
}
