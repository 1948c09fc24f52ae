//! `part_size`: the bytes of the largest file of the package.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "part_size",
    summary: "no file of the package has more than this many bytes",
    unit: Unit::Bytes,
    side: Side::AtMost,
    default: || Limit::Off,
    reproducible: true,
    regression: false,
    docs: "\
The size of the largest file in the package, which is the weight file. The App Store's background assets, Git LFS and some
HTTP caches limit the size of a file.

There is no default. If it fails, compress further, or ship the model in parts.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    Some(interval::exact(gate, subject.largest_file? as f64, threshold, "largest file"))
}
