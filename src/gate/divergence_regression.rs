//! `divergence_regression`: the mean divergence over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change};

pub(super) static GATE: Gate = Gate {
    name: "divergence_regression",
    summary: "the mean divergence has not grown by more than this, beyond the errors of both runs",
    unit: Unit::Nats,
    side: Side::AtMost,
    default: || Limit::One(0.0),
    reproducible: true,
    regression: true,
    docs: "\
The mean divergence of the variant minus that of the variant with the same name in the baseline report, judged like
`perplexity_regression`. It detects smaller changes than perplexity.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let new = &subject.measurements.perplexity.as_ref()?.divergence;
    let old = &subject.baseline?.measurements.perplexity.as_ref()?.divergence;
    Some(change::of_estimates(gate, old, new, threshold, "growth of the divergence"))
}
