//! `tokens_per_second`: how many tokens `decode` gives in a second.

use super::interval::{bare, exact};
use super::{Gate, Limit, Outcome, Side, Subject, Unit, Verdict};

pub(super) static GATE: Gate = Gate {
    name: "tokens_per_second",
    summary: "`decode` generates at least this many tokens per second",
    unit: Unit::TokensPerSecond,
    side: Side::AtLeast,
    default: || Limit::Off,
    reproducible: false,
    regression: false,
    docs: "\
1000 divided by the median of the timed `decode` steps in milliseconds, the reciprocal of `decode_latency`. It describes the
runtime and the machine that the report names.

There is no default.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let decode = subject.measurements.latency.as_ref()?.decode.as_ref()?;
    let Some(median) = decode.p50 else {
        let text = format!("n = {} supports no median of the decode step", decode.n);
        return Some(bare(gate, Outcome::Inconclusive, threshold, text));
    };
    let mut verdict = exact(gate, 1000.0 / median, threshold, "rate of the median decode step");
    verdict.message = format!("{} (n = {})", verdict.message, decode.n);
    Some(verdict)
}
