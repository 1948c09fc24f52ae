//! `transcripts`: greedy transcripts agree with the reference's, divergences at a near tie forgiven.

use super::{Gate, Limit, Side, Subject, Unit, Verdict, interval};
use crate::eval::results::Transcript;

/// Logit margin below which two choices of the reference count as tied.
///
/// Logits of a language model reach 8 to 32, where neighbouring fp16 values lie 1/128 to 1/64 apart; the roundings of a
/// forward pass add up to several of those steps. A tenth is 6 to 13 steps.
pub const NEAR_TIE: f64 = 0.1;

pub(super) static GATE: Gate = Gate {
    name: "transcripts",
    summary: "greedy transcripts agree with the reference's for at least this share of their tokens",
    unit: Unit::Ratio,
    side: Side::AtLeast,
    default: || Limit::Off,
    reproducible: true,
    regression: false,
    docs: "\
Each prompt is continued greedily by the package and by the source model in f32. A transcript counts with the share of
the reference's tokens that come before the first difference; the gate looks at the mean over the prompts. A transcript
whose first difference falls where the reference's two best choices lie less than 0.1 logits apart counts in full: there
the rounding of fp16 alone decides, and nothing after it can be compared. So a threshold of 1 asks that all transcripts
are equal except at near ties.

The golden prompts are a fixed list, not a sample, so the figure is compared without an interval.

There is no default: an fp16 package should reach 1, a compressed one will not, and how soon it parts from the reference
says less about its quality than `perplexity_increase` and `divergence` do.",
    verdict,
};

fn verdict(gate: &Gate, subject: &Subject<'_>, threshold: f64) -> Option<Verdict> {
    let transcripts = subject.measurements.transcripts.as_ref()?;
    let prompts = &transcripts.prompts;
    if prompts.is_empty() {
        return Some(interval::invalid(gate, threshold, "there are no prompts"));
    }
    let total: f64 = prompts.iter().map(share).sum();
    let mut verdict =
        interval::exact(gate, total / prompts.len() as f64, threshold, "mean agreement");
    // The widest margin shows the gravest difference.
    let worst = prompts.iter().enumerate().filter(|(_, t)| share(t) < 1.0).max_by(|a, b| {
        let margin = |t: &Transcript| t.margin.unwrap_or(f64::INFINITY);
        margin(a.1).total_cmp(&margin(b.1))
    });
    if let Some((i, transcript)) = worst {
        let at = transcript.first_divergence.unwrap_or(0);
        let margin = transcript
            .margin
            .map_or_else(|| "of unknown size".to_owned(), |m| format!("of {m:.3} logits"));
        verdict.message = format!(
            "{}; the gravest difference is in prompt {} at token {at}, against a margin {margin}",
            verdict.message,
            i + 1
        );
    }
    Some(verdict)
}

/// The share of the reference's tokens that come before a difference that counts.
fn share(transcript: &Transcript) -> f64 {
    match transcript.first_divergence {
        None => 1.0,
        Some(_) if transcript.margin.is_some_and(|m| m < NEAR_TIE) => 1.0,
        // A package that stopped late, or wrote on after the reference's end, differs past its last token.
        Some(at) => (at as f64 / transcript.reference_tokens.len().max(1) as f64).min(1.0 - 1e-9),
    }
}

#[cfg(test)]
mod tests {
    use crate::eval::results::{Figure, Measurements, Transcript, Transcripts};
    use crate::gate::{Outcome, Subject, find};

    fn transcript(divergence: Option<(u64, Option<f64>)>) -> Transcript {
        Transcript {
            prompt: "p".to_owned(),
            prompt_tokens: 1,
            text: String::new(),
            tokens: vec![1; 4],
            reference_text: String::new(),
            reference_tokens: vec![1; 4],
            first_divergence: divergence.map(|d| d.0),
            margin: divergence.and_then(|d| d.1),
        }
    }

    #[test]
    fn near_ties_are_forgiven_and_nothing_else() {
        let near = Some((1, Some(0.05)));
        let cases = [
            (vec![None, None], 1.0, Outcome::Pass, "mean agreement of 100 % is at least 100 %"),
            (vec![None, near], 1.0, Outcome::Pass, "mean agreement of 100 % is at least 100 %"),
            (
                vec![None, Some((1, Some(0.1)))],
                1.0,
                Outcome::Fail,
                "mean agreement of 62.5 % is below 100 %; the gravest difference is in prompt 2 at \
                 token 1, against a margin of 0.100 logits",
            ),
            (
                vec![Some((2, None)), Some((1, Some(3.0)))],
                0.3,
                Outcome::Pass,
                "mean agreement of 37.5 % is at least 30 %; the gravest difference is in prompt 1 at \
                 token 2, against a margin of unknown size",
            ),
            (
                vec![Some((4, Some(2.0)))],
                1.0,
                Outcome::Fail,
                "mean agreement of 99.9999999 % is below 100 %; the gravest difference is in prompt \
                 1 at token 4, against a margin of 2.000 logits",
            ),
            (vec![], 1.0, Outcome::Invalid, "there are no prompts"),
        ];
        for (prompts, threshold, outcome, message) in cases {
            let prompts: Vec<_> = prompts.into_iter().map(transcript).collect();
            let agreement = Figure { value: 0.0, unit: "1".to_owned(), n: 0, standard_error: None };
            let measurements = Measurements {
                transcripts: Some(Transcripts { prompts, equal: 0, agreement, chat_template: false }),
                ..Measurements::default()
            };
            let subject = Subject::of(&measurements);
            let verdict = find("transcripts").unwrap().judge(&subject, threshold);
            assert_eq!((verdict.outcome, verdict.message.as_str()), (outcome, message));
        }
    }
}
