//! `energy_regression`: the energy of a decode step over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change, interval};

pub(super) static GATE: Gate = Gate {
    name: "energy_regression",
    summary: "the energy of a `decode` step has not grown by more than this share",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.1),
    reproducible: false,
    regression: true,
    docs: "\
Energy of all processor packages per timed `decode` step, divided by that of the variant with the same name in the
baseline report, minus one. Available on Linux if the counters in `/sys/class/powercap` are readable; includes everything else that
ran at the time. On another machine the gate is skipped, or inconclusive if it was requested explicitly.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let baseline = subject.baseline?;
    let new = subject.measurements.latency.as_ref()?.decode_energy.as_ref()?.value;
    let old = baseline.measurements.latency.as_ref()?.decode_energy.as_ref()?.value;
    if !baseline.same_machine {
        return Some(change::elsewhere(gate, threshold));
    }
    let what = "growth of the energy of a decode step";
    Some(interval::exact(gate, new / old - 1.0, threshold, what))
}
