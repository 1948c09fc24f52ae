//! `perplexity_regression`: the perplexity increase over that of an older report.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, change};

pub(super) static GATE: Gate = Gate {
    name: "perplexity_regression",
    summary: "the perplexity increase has not grown by more than this share beyond the errors of both runs",
    unit: Unit::Ratio,
    side: Side::AtMost,
    default: || Limit::One(0.0),
    reproducible: true,
    regression: true,
    docs: "\
The perplexity increase of the variant less that of the variant of its name in the baseline report. The interval of the
difference comes from the standard errors of both, which are taken as independent. The gate fails only when all of it
is above the threshold: a change that the errors could explain passes, with the interval in the message. So it says that
something got worse, never that nothing did; for that, use `perplexity_increase`.

On a miss: look at what changed between the two reports, `report compare`.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let new = &subject.measurements.perplexity.as_ref()?.increase;
    let old = &subject.baseline?.measurements.perplexity.as_ref()?.increase;
    let what = "growth of the perplexity increase";
    Some(change::of_estimates(gate, old, new, threshold, what))
}
