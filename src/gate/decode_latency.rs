//! `decode_latency`: the median time of one `decode` step.

use super::interval::{bare, exact};
use super::{Gate, Limit, Outcome, Side, Subject, Unit, Verdict};

pub(super) static GATE: Gate = Gate {
    name: "decode_latency",
    summary: "the median `decode` step takes at most this time",
    unit: Unit::Milliseconds,
    side: Side::AtMost,
    default: || Limit::Off,
    reproducible: false,
    regression: false,
    docs: "\
The median of timed `decode` calls after warm-up, in the runtime that the report names. Times of coremill's
runtime are not those of a device: compare them only with earlier times of the same machine. With fewer than 5
observations the gate is inconclusive.

There is no default.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let decode = subject.measurements.latency.as_ref()?.decode.as_ref()?;
    let Some(median) = decode.p50 else {
        let text = format!("n = {} supports no median of the decode step", decode.n);
        return Some(bare(gate, Outcome::Inconclusive, threshold, text));
    };
    let mut verdict = exact(gate, median, threshold, "median decode step");
    verdict.message = format!("{} (n = {})", verdict.message, decode.n);
    Some(verdict)
}
