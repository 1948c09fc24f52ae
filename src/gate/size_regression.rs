//! `size_regression`: the package's size over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change};

pub(super) static GATE: Gate = Gate {
    name: "size_regression",
    summary: "the package has not grown by more than this share",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.01),
    reproducible: true,
    regression: true,
    docs: "\
Size of the variant's files divided by that of the variant with the same name in the baseline report, minus one.

If it fails: `inspect --diff OLD NEW` shows which weights grew.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let (old, new) = (subject.baseline?.size_bytes?, subject.size_bytes?);
    Some(change::of_counts(gate, old, new, threshold, "growth of the size"))
}
