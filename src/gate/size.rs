//! `size`: the bytes of all files of the package.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "size",
    summary: "all files of the package together have at most this many bytes",
    unit: Unit::Bytes,
    side: Side::AtMost,
    default: || Limit::Off,
    reproducible: true,
    regression: false,
    docs: "\
The sum of the sizes of all files in the package. Sizes may be written with decimal
(`\"2 GB\"`) or binary units (`\"2 GiB\"`).

There is no default: the limit depends on the application. If it fails, use fewer bits or larger groups; `inspect` shows the size
of each weight.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    Some(interval::exact(gate, subject.size_bytes? as f64, threshold, "size"))
}
