//! What one position's logits say: the next token's negative log-likelihood, and how far they are from a reference.

use super::sampling::top;
use crate::interp::sum_exp;

/// What the reference says at one position: its first K tokens and one bin for the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected<'a> {
    /// The K most likely tokens, most likely first.
    pub ids: &'a [u32],
    /// Their log-probabilities.
    pub log_probs: &'a [f32],
    /// The logarithm of the probability of all others together.
    pub tail: f32,
}

/// What one position's logits say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Observed {
    /// Negative log-likelihood of the token that follows.
    pub nll: f64,
    /// Kullback-Leibler divergence of the reference from these logits, over the reference's K tokens and the rest.
    pub divergence: f64,
    /// By how much the divergence over all tokens may be larger, see [`observe`]; infinite where one of the rest is ruled out.
    pub hidden: f64,
    /// Σ p q over the reference's K tokens: how often both draw the same token, at least.
    pub same_sampled: f64,
    /// Whether the reference's first token is the first here.
    pub same_top: bool,
}

/// Compares logits with the reference. Nothing here is finite where the logits are not.
///
/// What one bin for the rest hides: no token of the rest is likelier in the reference than its K-th, p(K), or less likely
/// here than the least likely of them, q(min). With P and Q the probabilities of the rest, Σ p ln(p/q) over it is at most
/// P ln(p(K) / q(min)), of which P ln(P / Q) is counted.
pub(super) fn observe(logits: &[f32], next: u32, expected: &Expected<'_>) -> Observed {
    let best = top(logits);
    let largest = logits[best];
    let exp = |id: u32| f64::from((logits[id as usize] - largest).exp());
    let (rest, least_of_others) = if largest == f32::NEG_INFINITY {
        (0.0, largest)
    } else {
        others(logits, expected.ids, largest)
    };
    let total =
        f64::from(largest) + (rest + expected.ids.iter().map(|&id| exp(id)).sum::<f64>()).ln();
    let log_prob = |id: u32| f64::from(logits[id as usize]) - total;
    let (mut divergence, mut same_sampled) = (0.0, 0.0);
    for (&id, &p) in expected.ids.iter().zip(expected.log_probs) {
        let (p, q) = (f64::from(p), log_prob(id));
        divergence += term(p, q);
        same_sampled += (p + q).exp();
    }
    let tail = f64::from(expected.tail);
    let counted = term(tail, rest.ln() + f64::from(largest) - total);
    divergence += counted;
    let hidden = match expected.log_probs.last() {
        Some(&least) if tail > f64::NEG_INFINITY => {
            let least_here = f64::from(least_of_others) - total;
            (tail.exp() * (f64::from(least) - least_here) - counted).max(0.0)
        }
        _ => 0.0,
    };
    let same_top = expected.ids.first().is_some_and(|&id| id as usize == best);
    Observed { nll: -log_prob(next), divergence, hidden, same_sampled, same_top }
}

/// Of the tokens that `ids` leaves out Σ exp(logit − shift), a sum of its own, so that it is no difference of two, and the
/// least logit.
fn others(logits: &[f32], ids: &[u32], shift: f32) -> (f64, f32) {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let (mut sum, mut least, mut next) = (0.0, f32::INFINITY, 0);
    for end in ids.into_iter().map(|id| id as usize).chain([logits.len()]) {
        let between = &logits[next.min(end)..end];
        sum += sum_exp(between, shift);
        least = between.iter().fold(least, |least, &logit| least.min(logit));
        next = end + 1;
    }
    (sum, least)
}

/// p · ln(p/q) from the logarithms of both; nothing where p is 0.
fn term(p: f64, q: f64) -> f64 {
    if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    /// The reference's K tokens and the rest, from its logits.
    fn summary(logits: &[f32], k: usize) -> (Vec<u32>, Vec<f32>, f32) {
        let p = softmax(logits);
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|&a, &b| p[b as usize].total_cmp(&p[a as usize]));
        let tail: f64 = ids[k..].iter().map(|&i| p[i as usize]).sum();
        ids.truncate(k);
        let log_probs = ids.iter().map(|&i| p[i as usize].ln() as f32).collect();
        (ids, log_probs, tail.ln() as f32)
    }

    proptest! {
        #[test]
        fn equals_the_plain_computation(
            a in prop::collection::vec(-8.0_f32..8.0, 12),
            b in prop::collection::vec(-8.0_f32..8.0, 12),
            k in 1_usize..12,
            next in 0_u32..12,
        ) {
            let (p, q) = (softmax(&b), softmax(&a));
            let (ids, log_probs, tail) = summary(&b, k);
            let expected = Expected { ids: &ids, log_probs: &log_probs, tail };
            let got = observe(&a, next, &expected);
            prop_assert!((got.nll + q[next as usize].ln()).abs() < 1e-5);
            let kept = |i: usize| ids.contains(&(i as u32));
            let bins = |p: &[f64]| {
                let mut bins: Vec<f64> = ids.iter().map(|&i| p[i as usize]).collect();
                bins.push((0..12).filter(|&i| !kept(i)).map(|i| p[i]).sum());
                bins
            };
            let want: f64 = bins(&p).iter().zip(bins(&q)).map(|(p, q)| p * (p / q).ln()).sum();
            prop_assert!((got.divergence - want).abs() < 1e-5);
            // One bin for the rest gives a lower bound of the full divergence, and that is never negative.
            let full: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
            prop_assert!(got.divergence > -1e-5 && got.divergence < full + 1e-5);
            prop_assert!(got.divergence + got.hidden > full - 1e-5);
            let both: f64 = ids.iter().map(|&i| p[i as usize] * q[i as usize]).sum();
            prop_assert!((got.same_sampled - both).abs() < 1e-5);
            prop_assert_eq!(got.same_top, top(&a) == top(&b));
        }
    }

    #[test]
    fn extreme_logits() {
        let expected = Expected { ids: &[0], log_probs: &[0.0], tail: f32::NEG_INFINITY };
        let all = |logits: &[f32]| observe(logits, 1, &expected);
        // The largest fp16 values: a plain exponential would overflow.
        let got = all(&[65504.0, -65504.0, 0.0]);
        assert_eq!((got.nll, got.divergence, got.same_top), (131_008.0, 0.0, true));
        assert!(!all(&[0.0, f32::NAN, 0.0]).nll.is_finite());
        assert!(!all(&[f32::INFINITY, 0.0, 0.0]).divergence.is_finite());
        assert!(!all(&[f32::NEG_INFINITY; 3]).nll.is_finite());
        // What the reference expects is ruled out here.
        assert!(!all(&[f32::NEG_INFINITY, 0.0, 0.0]).divergence.is_finite());
    }
}
