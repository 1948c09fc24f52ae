//! `divergence`: mean Kullback-Leibler divergence per token from the reference.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "divergence",
    summary: "the mean divergence from the reference per token is below this",
    unit: Unit::Nats,
    side: Side::Below,
    default: || Limit::Off,
    reproducible: true,
    regression: false,
    docs: "\
At each scored token the distribution of the package over the next token is compared with that of the source model in
f32: `KL(reference ‖ package)`, in nats, averaged over the tokens. It detects damage that perplexity does not,
because perplexity can hide offsetting changes in confidence and accuracy.

There is no default: the acceptable divergence depends on the application. For orientation, llama.cpp's table for Llama-3-8B on
WikiText-2 (`tools/perplexity/README.md`) gives 0.0014 for q8_0, 0.0055 for q6_K and 0.031 for q4_K_M without importance
matrix. Values do not transfer between model families, and small models diverge more.

Any scored token whose log-likelihood is not finite makes the figure invalid.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let perplexity = subject.measurements.perplexity.as_ref()?;
    Some(if perplexity.non_finite > 0 {
        let of = perplexity.divergence.n;
        interval::non_finite(gate, subject, threshold, perplexity.non_finite, of)
    } else {
        interval::estimate(gate, &perplexity.divergence, threshold, "mean divergence")
    })
}
