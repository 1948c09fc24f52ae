//! Perplexity of an artifact and its distance from the reference on the same windows of a text.
//!
//! With a(t) and r(t) the negative log-likelihoods of token t by the artifact and by the reference, and ‾ the mean
//! over all scored tokens: perplexity A = exp(ā), reference R = exp(r̄), ln(A/R) = d̄ with d = a - r, increase exp(d̄) - 1,
//! difference A - R. Their errors follow by the delta method from the errors of means (see [`crate::eval::stats`], windows as
//! groups): that of the increase from d, that of the difference from A·a - R·r. Both are paired: what makes a token hard
//! for artifact and reference does not enter. The list of figures is that of llama.cpp's `--kl-divergence`
//! (`tools/perplexity/perplexity.cpp`), the buckets are those of exllamav3's `qbench`.

use rayon::prelude::*;

use crate::eval::error::EvalError;
use crate::eval::reference::Distributions;
use crate::eval::text::Windows;
use crate::eval::{divergence::Expected, divergence::Observed, divergence::observe};
use crate::eval::{
    results::Bucket, results::Perplexity, results::ProbabilityChange, results::Spread,
};
use crate::eval::{stats::Mean, stats::correlation};
use crate::eval::{tokens::Token, tokens::Tokens};

/// Ends of the buckets of confidence.
const CONFIDENCE: [f64; 6] = [0.0, 0.25, 0.5, 0.75, 0.95, 1.0];

/// Collects what is observed window by window.
#[derive(Debug)]
pub(super) struct Scores<'a> {
    windows: &'a Windows,
    reference: &'a Distributions,
    tokens: Tokens,
    /// Window and position of the first token that is not finite.
    broken: Option<(usize, usize)>,
}

impl<'a> Scores<'a> {
    /// Nothing observed yet.
    pub(super) fn new(windows: &'a Windows, reference: &'a Distributions) -> Self {
        Self { windows, reference, tokens: Tokens::default(), broken: None }
    }

    /// Takes the artifact's logits after the tokens from `first` on of window `w`, `vocab` for each; they are about the
    /// next ones.
    pub(super) fn add(&mut self, w: usize, first: usize, logits: &[f32], vocab: usize) {
        let (windows, reference) = (self.windows, self.reference);
        let scored = windows.first_scored(w).saturating_sub(first + 1);
        let rows: Vec<(usize, &[f32])> = (first..).zip(logits.chunks(vocab)).skip(scored).collect();
        let observed: Vec<(Observed, f64)> = rows
            .par_iter()
            .map(|&(position, logits)| {
                let expected: Expected<'_> = reference.at(w, position);
                let confidence = expected.log_probs.first().map_or(0.0, |&p| f64::from(p).exp());
                (observe(logits, windows.tokens[w][position + 1], &expected), confidence)
            })
            .collect();
        for ((position, _), (observed, confidence)) in rows.into_iter().zip(observed) {
            let Observed { nll, divergence, hidden, same_sampled, same_top } = observed;
            if !(nll.is_finite() && divergence.is_finite()) {
                self.tokens.non_finite += 1;
                self.broken.get_or_insert((w, position));
                continue;
            }
            self.tokens.rows.push(Token {
                window: w as u32,
                position: position as u32 + 1,
                nll,
                reference_nll: reference.nll(w, position),
                divergence,
                hidden,
                same_sampled,
                confidence,
                same_top,
            });
        }
    }

    /// What the artifact was fed up to the first position whose logits are not finite.
    pub(super) fn broken(&self) -> Option<&'a [u32]> {
        let (w, position) = self.broken?;
        Some(&self.windows.tokens[w][..=position])
    }

    /// The figures with the tokens that they come from; tokens that are not finite are counted and left out of both.
    pub(super) fn finish(self) -> Result<(Perplexity, Tokens), EvalError> {
        let Self { windows, reference, tokens, .. } = self;
        let nothing = EvalError::NothingFinite { tokens: tokens.non_finite as usize };
        let figures = figures(&tokens.rows).ok_or(nothing)?;
        let cut = windows.cut;
        let perplexity = Perplexity {
            window: cut.window as u64,
            stride: cut.stride as u64,
            windows: windows.tokens.len() as u64,
            non_finite: tokens.non_finite,
            text_sha256: windows.text_sha256.clone(),
            top_k: Some(reference.top_k as u64),
            ..figures
        };
        Ok((perplexity, tokens))
    }
}

/// All figures of tokens, which say nothing of how the text was cut; nothing where there are none.
fn figures(tokens: &[Token]) -> Option<Perplexity> {
    let mean = |f: &dyn Fn(&Token) -> f64| Mean::of_groups(tokens.iter().map(|t| (t.window, f(t))));
    let exp = |mean: Mean| mean.map(mean.value.exp(), mean.value.exp());
    let artifact = exp(mean(&|t| t.nll)?);
    let reference = exp(mean(&|t| t.reference_nll)?);
    let ratio = mean(&|t| t.nll - t.reference_nll)?;
    let (a, r) = (artifact.value, reference.value);
    let difference = mean(&|t| a * t.nll - r * t.reference_nll)?;
    let hidden = mean(&|t| t.hidden)?;
    Some(Perplexity {
        value: artifact.figure("1"),
        reference: reference.figure("1"),
        increase: ratio.map(ratio.value.exp_m1(), ratio.value.exp()).figure("1"),
        difference: Some(difference.map(a - r, 1.0).figure("1")),
        log_ratio: Some(ratio.figure("nats")),
        correlation: correlation(tokens.iter().map(|t| (t.window, t.nll, t.reference_nll))),
        divergence: mean(&|t| t.divergence)?.figure("nats"),
        divergence_bound: hidden.value.is_finite().then(|| hidden.figure("nats")),
        divergence_spread: Spread::of(tokens.iter().map(|t| t.divergence).collect()),
        buckets: buckets(tokens),
        probability_change: probability_change(tokens),
        same_top: mean(&|t| f64::from(u8::from(t.same_top)))?.figure("1"),
        same_sampled: Some(mean(&|t| t.same_sampled)?.figure("1")),
        ..Perplexity::default()
    })
}

/// What tokens of like confidence have in common; buckets without tokens are left out.
fn buckets(tokens: &[Token]) -> Vec<Bucket> {
    let within = |from: f64, to: f64| {
        let all = tokens.iter();
        all.filter(move |t| t.confidence >= from && (t.confidence < to || to >= 1.0))
    };
    let bucket = |ends: &[f64]| {
        let (from, to) = (ends[0], ends[1]);
        let mean =
            |f: fn(&Token) -> f64| Mean::of_groups(within(from, to).map(|t| (t.window, f(t))));
        Some(Bucket {
            from,
            to,
            divergence: mean(|t| t.divergence)?.figure("nats"),
            median: Spread::of(within(from, to).map(|t| t.divergence).collect())?.p50,
            same_top: mean(|t| f64::from(u8::from(t.same_top)))?.figure("1"),
        })
    };
    CONFIDENCE.windows(2).filter_map(bucket).collect()
}

fn probability_change(tokens: &[Token]) -> Option<ProbabilityChange> {
    let change = |t: &Token| (-t.nll).exp() - (-t.reference_nll).exp();
    let mean =
        |f: &dyn Fn(f64) -> f64| Mean::of_groups(tokens.iter().map(|t| (t.window, f(change(t)))));
    let square = mean(&|x| x * x)?;
    let root = square.value.sqrt();
    // The slope of √x, which is infinite where there is no change and so no error either.
    let slope = if root > 0.0 { 0.5 / root } else { 0.0 };
    Some(ProbabilityChange {
        mean: mean(&|x| x)?.figure("1"),
        rms: square.map(root, slope).figure("1"),
        spread: Spread::of(tokens.iter().map(change).collect())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::text::WindowConfig;

    const VOCAB: usize = 5;

    fn logits(seed: usize) -> Vec<f32> {
        (0..VOCAB).map(|v| ((seed * 37 + v * 101 + 13) % 29) as f32 / 7.0).collect()
    }

    fn log_softmax(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        logits.iter().map(|&l| f64::from(l) - sum.ln()).collect()
    }

    /// The reference of windows whose logits at position p of window w are `logits(100 * w + p)`, with all tokens.
    fn reference(windows: &[Vec<u32>]) -> Distributions {
        let (mut next, mut ids, mut log_probs) = (Vec::new(), Vec::new(), Vec::new());
        for (w, window) in windows.iter().enumerate() {
            for p in 0..window.len() {
                let all = log_softmax(&logits(100 * w + p));
                let mut order: Vec<u32> = (0..VOCAB as u32).collect();
                order.sort_by(|&a, &b| all[b as usize].total_cmp(&all[a as usize]));
                log_probs.extend(order.iter().map(|&i| all[i as usize] as f32));
                ids.extend(order);
                if p + 1 < window.len() {
                    next.push(all[window[p + 1] as usize] as f32);
                }
            }
        }
        let tail = vec![f32::NEG_INFINITY; windows.iter().map(Vec::len).sum()];
        Distributions { window: windows[0].len(), top_k: VOCAB, next, ids, log_probs, tail }
    }

    fn windows(tokens: Vec<Vec<u32>>) -> Windows {
        let window = tokens[0].len();
        let cut = WindowConfig { window, stride: window, max_windows: 9 };
        Windows { tokens, cut, text_sha256: "0".to_owned() }
    }

    #[test]
    fn the_reference_against_itself_differs_in_nothing() {
        let windows = windows(vec![vec![0, 1, 2, 3], vec![4, 3, 1, 0]]);
        let reference = reference(&windows.tokens);
        let mut scores = Scores::new(&windows, &reference);
        for w in 0..2 {
            for p in 0..3 {
                scores.add(w, p, &logits(100 * w + p), VOCAB);
            }
        }
        let got = scores.finish().unwrap().0;
        assert!(got.increase.value.abs() < 1e-6 && got.divergence.value.abs() < 1e-6);
        assert!((got.value.value - got.reference.value).abs() < 1e-5);
        assert_eq!((got.same_top.value, got.value.n, got.non_finite), (1.0, 6, 0));
    }

    #[test]
    fn figures_equal_the_plain_computation() {
        let windows = windows(vec![vec![0, 1, 2, 3], vec![4, 3, 1, 0], vec![2, 2, 4, 1]]);
        let reference = reference(&windows.tokens);
        let mut scores = Scores::new(&windows, &reference);
        let (mut ours, mut theirs, mut kl) = (vec![], vec![], vec![]);
        for (w, tokens) in windows.tokens.iter().enumerate() {
            for p in 0..3 {
                let got = logits(7 + 100 * w + 3 * p);
                scores.add(w, p, &got, VOCAB);
                let (q, r) = (log_softmax(&got), log_softmax(&logits(100 * w + p)));
                ours.push(-q[tokens[p + 1] as usize]);
                theirs.push(-r[tokens[p + 1] as usize]);
                kl.push(q.iter().zip(&r).map(|(q, r)| r.exp() * (r - q)).sum::<f64>());
            }
        }
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let got = scores.finish().unwrap().0;
        let (a, r) = (mean(&ours).exp(), mean(&theirs).exp());
        let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-5, "{x} {y}");
        close(got.value.value, a);
        close(got.reference.value, r);
        close(got.increase.value, a / r - 1.0);
        close(got.divergence.value, mean(&kl));
        close(got.difference.as_ref().unwrap().value, a - r);
        close(got.log_ratio.as_ref().unwrap().value, (a / r).ln());
        // All tokens are known one by one, so that nothing is hidden.
        close(got.divergence_bound.as_ref().unwrap().value, 0.0);
        let spread = got.divergence_spread.unwrap();
        let mut sorted = kl.clone();
        sorted.sort_by(f64::total_cmp);
        close(spread.p50, sorted[4]);
        close(spread.max, sorted[8]);
        assert_eq!((spread.p99, spread.p99_9), (None, None));
        let change: Vec<f64> =
            ours.iter().zip(&theirs).map(|(a, r)| (-a).exp() - (-r).exp()).collect();
        let found = got.probability_change.as_ref().unwrap();
        close(found.mean.value, mean(&change));
        let squares: Vec<f64> = change.iter().map(|x| x * x).collect();
        close(found.rms.value, mean(&squares).sqrt());
        assert_eq!(got.buckets.iter().map(|b| b.divergence.n).sum::<u64>(), 9);
        // Windows are of one length, so the error comes from the spread of their means.
        let by_window: Vec<f64> = (0..3)
            .map(|w| mean(&ours[3 * w..3 * w + 3]) - mean(&theirs[3 * w..3 * w + 3]))
            .collect();
        let m = mean(&by_window);
        let variance = by_window.iter().map(|x| (x - m).powi(2)).sum::<f64>() / 2.0;
        close(got.increase.standard_error.unwrap(), a / r * (variance / 3.0).sqrt());
    }

    #[test]
    fn tokens_that_are_not_finite_are_counted() {
        let windows = windows(vec![vec![0, 1, 2]]);
        let reference = reference(&windows.tokens);
        let mut scores = Scores::new(&windows, &reference);
        scores.add(0, 0, &[f32::NAN; VOCAB], VOCAB);
        let mut more = Scores::new(&windows, &reference);
        let rows = [logits(0), vec![f32::INFINITY; VOCAB]].concat();
        more.add(0, 0, &rows, VOCAB);
        let error = scores.finish().unwrap_err();
        assert_eq!(error.to_string(), "none of 1 scored tokens has a finite log-likelihood");
        let got = more.finish().unwrap().0;
        assert_eq!((got.value.n, got.non_finite, got.value.standard_error), (1, 1, None));
    }
}
