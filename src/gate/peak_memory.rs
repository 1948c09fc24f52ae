//! `peak_memory`: the largest resident memory of the process that evaluated the package.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "peak_memory",
    summary: "the process that evaluates the package holds at most this many bytes in memory",
    unit: Unit::Bytes,
    side: Side::AtMost,
    default: || Limit::Off,
    reproducible: false,
    regression: false,
    docs: "\
The largest resident memory of the process while it evaluated the package, mapped weights included. It is that of the
in-process runtime on the machine that ran the evaluation; a device's own runtime needs another amount.

There is no default.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    Some(interval::exact(gate, subject.measurements.peak_memory? as f64, threshold, "peak memory"))
}
