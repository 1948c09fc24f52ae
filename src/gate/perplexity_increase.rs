//! `perplexity_increase`: perplexity of the artifact over that of its f32 reference on the same tokens, less one.

use std::collections::BTreeMap;

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "perplexity_increase",
    summary: "the perplexity exceeds the reference's by less than this share",
    unit: Unit::Ratio,
    side: Side::Below,
    default: || Limit::ByBits(BTreeMap::from([(16, 0.005), (8, 0.01), (4, 0.03)])),
    reproducible: true,
    regression: false,
    docs: "\
The perplexity of the package divided by that of the source model in f32 on the same tokens, minus one. The standard error is
that of the paired differences per token, so difficulty that both share does not count as noise. Any scored token whose
log-likelihood is not finite makes the figure invalid.

The default depends on the smallest bit width in the recipe. Small models lose more than large ones at the same bit width:
expect to raise the 4-bit threshold below about a billion parameters.

If it fails: give the most sensitive weights more bits (`attention=pal6-g16`), use smaller groups, or use `divergence`,
which needs fewer tokens to detect damage.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let perplexity = subject.measurements.perplexity.as_ref()?;
    Some(if perplexity.non_finite > 0 {
        let of = perplexity.value.n;
        interval::non_finite(gate, subject, threshold, perplexity.non_finite, of)
    } else {
        interval::estimate(gate, &perplexity.increase, threshold, "perplexity increase")
    })
}
