//! `transcripts`: greedy transcripts agree with the reference's, divergences at a near tie forgiven.

use super::{Gate, Limit, Outcome, Side, Subject, Unit, Verdict, interval};
use crate::eval::results::Transcript;

pub(super) static GATE: Gate = Gate {
    name: "transcripts",
    summary: "greedy transcripts agree with the reference's for at least this share of their tokens",
    unit: Unit::Ratio,
    side: Side::AtLeast,
    default: || Limit::FromBits(16, 1.0),
    reproducible: true,
    regression: false,
    docs: "\
Each prompt is continued greedily by the package and by the source model in f32. The score of a transcript is the share of
the reference's tokens before the first difference; the figure is the mean over the prompts. A transcript counts as equal
if its first difference is a near tie, because fp16 rounding decides there and later tokens cannot be compared: the
reference's logit of the package's token is below its largest logit by less than a hundredth of the largest, which is ten
relative steps of fp16 (2⁻¹⁰). If a reference has only the margin between its two largest logits, the margin
must be less than 0.1. A threshold of 1 requires all transcripts to be equal except at near ties.

The golden prompts are a fixed list, not a sample, so the figure is compared without an interval.

The default is 1 for 16-bit weights, which only have fp16's rounding errors. There is no default below: a compressed package
eventually differs from the reference, and the position of the first difference is a weaker measure of quality than `logits`,
`perplexity_increase` and `divergence`.",
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
    let worst = prompts
        .iter()
        .enumerate()
        .filter(|(_, t)| share(t) < 1.0)
        .max_by(|a, b| a.1.lost().total_cmp(&b.1.lost()));
    if let Some((i, transcript)) = worst {
        let at = transcript.first_divergence.unwrap_or(0);
        let margin = transcript
            .lost
            .or(transcript.margin)
            .map_or_else(|| "of unknown size".to_owned(), |m| format!("of {m:.3} logits"));
        verdict.message = format!(
            "{}; the gravest difference is in prompt {} at token {at}, against a margin {margin}",
            verdict.message,
            i + 1
        );
    }
    if verdict.outcome != Outcome::Pass {
        verdict.message.push_str(&interval::because(subject));
    }
    Some(verdict)
}

/// The share of the reference's tokens that come before a difference that counts.
fn share(transcript: &Transcript) -> f64 {
    match transcript.first_divergence {
        None => 1.0,
        Some(_) if transcript.is_tied() => 1.0,
        // A package that stopped late, or wrote on after the reference's end, differs past its last token.
        Some(at) => (at as f64 / transcript.reference_tokens.len().max(1) as f64).min(1.0 - 1e-9),
    }
}

#[cfg(test)]
mod tests {
    use crate::eval::{
        results::Figure, results::Measurements, results::Transcript, results::Transcripts,
    };
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
            lost: None,
            peak: None,
        }
    }

    #[test]
    fn a_tie_is_one_at_the_size_of_the_logits_and_with_the_token_chosen() {
        // What the chosen token loses, the largest logit, whether it is forgiven.
        for (lost, peak, want) in [
            (Some(0.09), Some(10.0), true),
            (Some(0.11), Some(10.0), false),
            (Some(0.9), Some(-100.0), true),
            // A small random model: the margin is less than a tenth, and the choice is another all the same.
            (Some(0.05), Some(0.4), false),
            (Some(0.002), Some(0.4), true),
            (Some(2.0), Some(10.0), false),
            (None, Some(10.0), true),
        ] {
            let transcript = Transcript { lost, peak, ..transcript(Some((1, Some(0.05)))) };
            assert_eq!(transcript.is_tied(), want, "{lost:?} {peak:?}");
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
                transcripts: Some(Transcripts {
                    prompts,
                    equal: 0,
                    agreement,
                    chat_template: false,
                    logits: None,
                }),
                ..Measurements::default()
            };
            let subject = Subject::of(&measurements);
            let verdict = find("transcripts").unwrap().judge(&subject, threshold);
            assert_eq!((verdict.outcome, verdict.message.as_str()), (outcome, message));
        }
    }
}
