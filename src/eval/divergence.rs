//! Metrics of one position's logits: negative log-likelihood of the next token, divergence from a reference.

use crate::interp::sum_exp;
use crate::lm::top;

/// Reference distribution of one position: top K tokens and one bucket for the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected<'a> {
    /// The K most likely tokens, most likely first.
    pub ids: &'a [u32],
    /// Their log-probabilities.
    pub log_probs: &'a [f32],
    /// The logarithm of the probability of all others together.
    pub tail: f32,
}

/// Metrics of one position's logits.
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
    /// True if the reference's first token is the first here.
    pub same_top: bool,
}

/// Compares logits with the reference. Nothing here is finite where the logits are not.
///
/// What one bin for the rest hides: of the rest the reference says that its probabilities p add up to P and that none is above
/// its K-th, p(K). Σ p ln(p/q) is convex in p, so that its largest value over all such p is at a corner: p(K) at m = ⌊P / p(K)⌋
/// tokens, what is left of P, r, at one more, nothing elsewhere. Σ p ln p is the same in all corners, and −Σ p ln q is largest
/// where the tokens are those least likely here. So Σ p ln(p/q) ≤ m p(K) ln p(K) + r ln r − p(K) Σ ln q − r ln q(m+1), the sum
/// over the m least q; no less can be said without knowing more of the reference. Of it P ln(P / Q) is counted.
pub(super) fn observe(logits: &[f32], next: u32, expected: &Expected<'_>) -> Observed {
    let best = top(logits);
    let largest = logits[best];
    let exp = |id: u32| f64::from((logits[id as usize] - largest).exp());
    let mut ids = expected.ids.to_vec();
    ids.sort_unstable();
    let rest = if largest == f32::NEG_INFINITY {
        0.0
    } else {
        others(logits, &ids).map(|between| sum_exp(between, largest)).sum()
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
            let worst = worst_case(logits, &ids, total, (tail, f64::from(least)));
            (worst - counted).max(0.0)
        }
        _ => 0.0,
    };
    let same_top = expected.ids.first().is_some_and(|&id| id as usize == best);
    Observed { nll: -log_prob(next), divergence, hidden, same_sampled, same_top }
}

/// The logits of the tokens that `ids`, in order, leaves out, run by run: what is summed over them is a sum of its own and no
/// difference of two.
fn others<'a>(logits: &'a [f32], ids: &'a [u32]) -> impl Iterator<Item = &'a [f32]> {
    let ends = ids.iter().map(|&id| id as usize).chain([logits.len()]);
    ends.scan(0, move |next: &mut usize, end| {
        let between = &logits[(*next).min(end)..end];
        *next = end + 1;
        Some(between)
    })
}

/// The largest Σ p ln(p/q) over the tokens that `ids`, in order, leaves out, where the logarithm of Σ p is `tail` and that of
/// the largest p is at most `most`; q are the probabilities of logits whose Σ exp has the logarithm `total`. See [`observe`].
fn worst_case(logits: &[f32], ids: &[u32], total: f64, (tail, most): (f64, f64)) -> f64 {
    let whole = (tail - most).exp();
    if whole < 1.0 {
        // All of it at one token: no order is needed, which is so wherever the reference is sure.
        let least = |run: &[f32]| run.iter().copied().fold(f32::INFINITY, f32::min);
        let least = others(logits, ids).map(least).fold(f32::INFINITY, f32::min);
        return term(tail, f64::from(least) - total);
    }
    let mut rest = Vec::with_capacity(logits.len());
    others(logits, ids).for_each(|run| rest.extend_from_slice(run));
    let n = (whole as usize).min(rest.len());
    if n < rest.len() {
        rest.select_nth_unstable_by(n, f32::total_cmp);
    }
    let log_q = |&logit: &f32| f64::from(logit) - total;
    let at_most: f64 = rest[..n].iter().map(|logit| term(most, log_q(logit))).sum();
    // Where the probabilities are all equal, rounding leaves a speck of them without a token.
    let left = tail.exp() - n as f64 * most.exp();
    let one_more = rest.get(n).filter(|_| left > 0.0).map_or(0.0, |q| term(left.ln(), log_q(q)));
    at_most + one_more
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
            // What is hidden is no more than if all of the rest were as likely as the K-th token and stood at the least likely.
            let least = (0..12).filter(|&i| !kept(i)).map(|i| q[i]).fold(f64::INFINITY, f64::min);
            let counted = bins(&p)[k] * (bins(&p)[k] / bins(&q)[k]).ln();
            let crude = bins(&p)[k] * (p[ids[k - 1] as usize] / least).ln() - counted;
            prop_assert!(got.hidden < crude.max(0.0) + 1e-5);
            let both: f64 = ids.iter().map(|&i| p[i as usize] * q[i as usize]).sum();
            prop_assert!((got.same_sampled - both).abs() < 1e-5);
            prop_assert_eq!(got.same_top, top(&a) == top(&b));
        }
    }

    proptest! {
        /// No reference that the summary fits has more divergence, and one that it fits has as much.
        #[test]
        fn the_worst_case_is_one(
            weights in prop::collection::vec(0.001_f64..1.0, 20),
            shares in prop::collection::vec(0.0_f64..1.0, 20),
            most in 0.05_f64..1.0,
        ) {
            let total: f64 = weights.iter().sum();
            let logits: Vec<f32> = weights.iter().map(|&w| (w / total).ln() as f32).collect();
            // Shares that add up to what fits, none above the largest.
            let mut p: Vec<f64> = shares.iter().map(|&share| share * most).collect();
            p[0] = p[0].max(most / 2.0);
            let tail: f64 = p.iter().sum();
            let worst = worst_case(&logits, &[], 0.0, (tail.ln(), most.ln()));
            let q = |i: usize| f64::from(logits[i]);
            let of = |p: &[f64]| (0..20).map(|i| term(p[i].ln(), q(i))).sum::<f64>();
            prop_assert!(of(&p) <= worst + 1e-9, "{} {worst}", of(&p));
            // The corner, filled greedily from the least likely token on.
            let mut order: Vec<usize> = (0..20).collect();
            order.sort_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let (mut corner, mut left) = (vec![0.0; 20], tail);
            for i in order {
                corner[i] = left.min(most);
                left -= corner[i];
            }
            prop_assert!((of(&corner) - worst).abs() < 1e-9, "{} {worst}", of(&corner));
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
