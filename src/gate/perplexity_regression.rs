//! `perplexity_regression`: the perplexity increase over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change};

pub(super) static GATE: Gate = Gate {
    name: "perplexity_regression",
    summary: "the perplexity increase has not grown by more than this, beyond the errors of both runs",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.0),
    reproducible: true,
    regression: true,
    docs: "\
The perplexity increase of the variant minus that of the variant with the same name in the baseline report. The interval of
the difference is computed from the standard errors of both, treated as independent. The gate fails only if the whole interval
is above the threshold: a change within the errors passes, with the interval in the message. It can show that a variant
got worse, not that it did not; for that, use `perplexity_increase`.

If it fails: compare the two reports with `report compare`.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let new = &subject.measurements.perplexity.as_ref()?.increase;
    let old = &subject.baseline?.measurements.perplexity.as_ref()?.increase;
    let what = "growth of the perplexity increase";
    Some(change::of_estimates(gate, old, new, threshold, what))
}
