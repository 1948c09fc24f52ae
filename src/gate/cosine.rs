//! `cosine`: the smallest cosine between an embedding of the package and the reference's.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};

pub(super) static GATE: Gate = Gate {
    name: "cosine",
    summary: "the smallest cosine between an embedding and the reference's is at least this",
    unit: Unit::Cosine,
    side: Side::AtLeast,
    default: || Limit::One(0.99),
    reproducible: true,
    regression: false,
    docs: "\
Each sentence is embedded by the package's `encode` function and by the reference in f32: the encoder checkpoint itself,
or the LLM2Vec adapters on the base they were trained on. The gate looks at the smallest cosine, not the mean: one
wrong embedding is one wrong search result. The sentences are a fixed list, so the figure is compared without an interval.

If it fails: the message names the sentence. If all cosines are low, check pooling, the instruction and the attention
mask; if a single one is low, check its length and its tokens.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let similarity = subject.measurements.similarity.as_ref()?;
    let mut verdict = interval::exact(gate, similarity.minimum.value, threshold, "smallest cosine");
    verdict.message = format!("{}, at `{}`", verdict.message, shortened(&similarity.worst));
    Some(verdict)
}

/// The first 60 characters of the text's first line.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
