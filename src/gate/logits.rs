//! `logits`: how far the logits along the reference's transcripts are from the reference's.

use std::collections::BTreeMap;

use super::{Gate, Limit, Outcome, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "logits",
    summary: "the logits along the reference's transcripts differ from the reference's by less than this share",
    unit: Unit::Ratio,
    side: Side::Below,
    default: || Limit::ByBits(BTreeMap::from([(16, 0.05), (8, 0.2), (6, 0.5), (1, 0.9)])),
    reproducible: true,
    regression: false,
    docs: "\
The prompts with the reference's continuations are fed to the package, and its logits after every token are compared with
those of the source model in f32 for the same tokens: √(Σ (x − r)² / Σ r²) over the reference's most likely tokens (at
most 1,024), where x and r are the logits minus their mean at that position. 0 is equal, 1 is the value of constant
logits, and √2 that of an unrelated model of the same scale. Unlike `transcripts` it does not stop at the first
difference, so it also judges packages with few bits. `convert --profile-validate` measures it.

The defaults are derived from the error of the weights. The optimal palette of b bits for normally distributed weights has the
relative error e(b) = 0.006 at 8 bits, 0.026 at 6, 0.097 at 4, 0.19 at 3 and 0.34 at 2 (Lloyd and Max); fp16 has 0.0003. Errors
of consecutive matrices accumulate: a random model of two layers, which amplifies more than a trained one, has 0.004 with fp16,
0.02 to 0.04 with 8 bits, 0.1 to 0.18 with 6, 0.35 to 0.65 with 4 and 0.9 to 1.2 with 2. The thresholds for 16, 8 and 6 bits are
two to ten times as large, to allow for less normal weights and deeper models. With fewer bits the threshold only distinguishes a
compressed model from a broken one. The prompts are a fixed list, so the figure is compared without an interval.

If it fails at 16 bits, the conversion is wrong or values overflow: use `evaluate --precision-report`. If it fails at few bits,
give the most sensitive weights more bits (`attention=pal6-g16`).",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let logits = subject.measurements.transcripts.as_ref()?.logits.as_ref()?;
    if logits.non_finite > 0 {
        let of = logits.error.n;
        return Some(interval::non_finite(gate, subject, threshold, logits.non_finite, of));
    }
    let what = "relative error of the logits";
    let mut verdict = interval::exact(gate, logits.error.value, threshold, what);
    if verdict.outcome != Outcome::Pass {
        verdict.message.push_str(&interval::because(subject));
    }
    Some(verdict)
}
