//! Greedy continuations of the golden prompts beside the reference's.

use crate::eval::error::EvalError;
use crate::eval::reference::Continuation;
use crate::eval::stats::Mean;
use crate::eval::{results::Transcript, results::Transcripts};

/// One prompt with both continuations.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Continuation of the artifact.
    pub tokens: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Continuation of the reference.
    pub reference: Continuation,
    /// Its text.
    pub reference_text: String,
}

/// Compares continuations prompt by prompt.
pub(super) fn compare(pairs: Vec<Pair<'_>>, chat_template: bool) -> Result<Transcripts, EvalError> {
    let shares: Vec<f64> =
        pairs.iter().map(|pair| agreement(&pair.tokens, &pair.reference.tokens)).collect();
    let agreement = Mean::of(&shares).ok_or(EvalError::Nothing { what: "prompts" })?.figure("1");
    let prompts: Vec<Transcript> = pairs.into_iter().map(transcript).collect();
    let equal = prompts.iter().filter(|t| t.first_divergence.is_none()).count() as u64;
    Ok(Transcripts { prompts, equal, agreement, chat_template, logits: None })
}

fn transcript(pair: Pair<'_>) -> Transcript {
    let divergence = first_divergence(&pair.tokens, &pair.reference.tokens);
    let likeliest = divergence.and_then(|index| pair.reference.likeliest.get(index));
    let (lost, peak) = match likeliest.map(Vec::as_slice) {
        None | Some([]) => (None, None),
        Some(likeliest @ [(_, best), ..]) => {
            let chosen = divergence.and_then(|index| pair.tokens.get(index));
            let of_chosen = likeliest.iter().find(|(id, _)| Some(id) == chosen);
            // A token that is not among them is no likelier than the last of them.
            let (_, other) = of_chosen.or(likeliest.last()).expect("there is a first one");
            let peak = likeliest.iter().map(|(_, logit)| logit.abs()).fold(0.0, f64::max);
            (Some(best - other), Some(peak))
        }
    };
    Transcript {
        prompt: pair.prompt.to_owned(),
        prompt_tokens: pair.prompt_tokens as u64,
        text: pair.text,
        tokens: pair.tokens,
        reference_text: pair.reference_text,
        first_divergence: divergence.map(|index| index as u64),
        margin: divergence.and_then(|index| pair.reference.margins.get(index).copied()),
        reference_tokens: pair.reference.tokens,
        lost,
        peak,
    }
}

/// Index of the first token that only one of the two has at its place.
pub(super) fn first_divergence(a: &[u32], b: &[u32]) -> Option<usize> {
    let differing = a.iter().zip(b).position(|(a, b)| a != b);
    differing.or((a.len() != b.len()).then_some(a.len().min(b.len())))
}

/// The share of the reference's tokens before the first divergence.
fn agreement(tokens: &[u32], reference: &[u32]) -> f64 {
    match first_divergence(tokens, reference) {
        None => 1.0,
        Some(index) => index as f64 / reference.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences() {
        // Tokens, where they part, the reference's margin there, the agreement.
        const REFERENCE: [u32; 3] = [1, 2, 3];
        let cases = [
            (vec![1, 2, 3], None, None, 1.0),
            (vec![1, 2, 4], Some(2), Some(0.25), 2.0 / 3.0),
            (vec![9], Some(0), Some(0.125), 0.0),
            // One stopped earlier.
            (vec![1, 2], Some(2), Some(0.25), 2.0 / 3.0),
            (vec![1, 2, 3, 4], Some(3), None, 1.0),
        ];
        for (tokens, first, margin, agreement) in cases {
            let pair = Pair {
                prompt: "p",
                prompt_tokens: 1,
                tokens,
                text: String::new(),
                reference: Continuation {
                    tokens: REFERENCE.to_vec(),
                    margins: vec![0.125, 0.5, 0.25],
                    likeliest: Vec::new(),
                },
                reference_text: String::new(),
            };
            let got = compare(vec![pair], false).unwrap();
            assert_eq!(got.prompts[0].first_divergence, first);
            assert_eq!(got.prompts[0].margin, margin);
            assert!((got.agreement.value - agreement).abs() < 1e-12);
            assert_eq!(got.equal, u64::from(first.is_none()));
        }
    }
}
