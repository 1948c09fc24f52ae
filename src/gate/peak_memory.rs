//! `peak_memory`: the largest resident memory of the process that evaluated the package.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "peak_memory",
    summary: "the process that evaluates the package uses at most this many bytes of memory",
    unit: Unit::Bytes,
    side: Side::AtMost,
    default: || Limit::Off,
    reproducible: false,
    regression: false,
    docs: "\
The largest resident memory of the process while it evaluated the package, including memory-mapped weights. It describes
coremill's runtime on the machine that ran the evaluation, not a device.

There is no default.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    Some(interval::exact(gate, subject.measurements.peak_memory? as f64, threshold, "peak memory"))
}
