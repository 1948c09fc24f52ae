//! `speed_regression`: the median decode step over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change};
use crate::eval::results::Percentiles;

pub(super) static GATE: Gate = Gate {
    name: "speed_regression",
    summary: "the median `decode` step has not grown by more than this share, nor by more than three times its noise",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.1),
    reproducible: false,
    regression: true,
    docs: "\
The median of the timed `decode` steps divided by that of the variant with the same name in the baseline report, minus one. The
limit is the larger of the threshold and three times the noise, which is the standard error of the difference of
the two medians, from their median absolute deviations. Times of another machine (system, processor or number of cores)
cannot be compared: the gate is then skipped, or inconclusive if it was requested explicitly.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let new = subject.measurements.latency.as_ref()?.decode.as_ref()?;
    let baseline = subject.baseline?;
    let old = baseline.measurements.latency.as_ref()?.decode.as_ref()?;
    if !baseline.same_machine {
        return Some(change::elsewhere(gate, threshold));
    }
    let median = |times: &Percentiles| Some((times.p50?, times.median_error.unwrap_or(0.0)));
    let (old, new) = (median(old)?, median(new)?);
    Some(change::of_times(gate, old, new, threshold, "growth of the median decode step"))
}
