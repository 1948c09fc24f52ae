//! `memory_regression`: the peak memory over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change};

pub(super) static GATE: Gate = Gate {
    name: "memory_regression",
    summary: "the peak memory of the evaluation has not grown by more than this share",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.1),
    reproducible: false,
    regression: true,
    docs: "\
The largest resident memory of the process that evaluated the variant divided by that of the variant with the same name in the
baseline report, minus one. On another machine the gate is skipped, or inconclusive if it was requested explicitly.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let (new, baseline) = (subject.measurements.peak_memory?, subject.baseline?);
    let old = baseline.measurements.peak_memory?;
    if !baseline.same_machine {
        return Some(change::elsewhere(gate, threshold));
    }
    Some(change::of_counts(gate, old, new, threshold, "growth of the peak memory"))
}
