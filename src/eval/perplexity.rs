//! Perplexity of an artifact and its distance from the reference on the same windows of a text.
//!
//! With a(t) and r(t) the negative log-likelihoods of token t by the artifact and by the reference, and ‾ the mean
//! over all scored tokens: perplexity exp(ā), reference exp(r̄), increase exp(d̄) - 1 with d = a - r. Their errors
//! follow by the delta method from the errors of ā, r̄ and d̄ (see [`super::stats`], windows as groups), so that of
//! the increase is paired: what makes a token hard for both does not enter.

use rayon::prelude::*;

use super::divergence::{Expected, Observed, observe};
use super::error::EvalError;
use super::reference::Distributions;
use super::results::Perplexity;
use super::stats::Mean;
use super::text::Windows;

/// Collects what is observed window by window.
#[derive(Debug)]
pub(super) struct Scores<'a> {
    windows: &'a Windows,
    reference: &'a Distributions,
    artifact_nll: Vec<Vec<f64>>,
    reference_nll: Vec<Vec<f64>>,
    increase: Vec<Vec<f64>>,
    divergence: Vec<Vec<f64>>,
    same_top: Vec<Vec<f64>>,
    non_finite: u64,
}

impl<'a> Scores<'a> {
    /// Nothing observed yet.
    pub(super) fn new(windows: &'a Windows, reference: &'a Distributions) -> Self {
        let groups = || vec![Vec::new(); windows.tokens.len()];
        Self {
            windows,
            reference,
            artifact_nll: groups(),
            reference_nll: groups(),
            increase: groups(),
            divergence: groups(),
            same_top: groups(),
            non_finite: 0,
        }
    }

    /// Takes the artifact's logits after the tokens from `first` on of window `w`, `vocab` for each; they are about the
    /// next ones.
    pub(super) fn add(&mut self, w: usize, first: usize, logits: &[f32], vocab: usize) {
        let (windows, reference) = (self.windows, self.reference);
        let scored = windows.first_scored(w).saturating_sub(first + 1);
        let rows: Vec<(usize, &[f32])> = (first..).zip(logits.chunks(vocab)).skip(scored).collect();
        let observed: Vec<Observed> = rows
            .par_iter()
            .map(|&(position, logits)| {
                let expected: Expected<'_> = reference.at(w, position);
                observe(logits, windows.tokens[w][position + 1], &expected)
            })
            .collect();
        for ((position, _), Observed { nll, divergence, same_top }) in
            rows.into_iter().zip(observed)
        {
            let reference = reference.nll(w, position);
            if !(nll.is_finite() && divergence.is_finite()) {
                self.non_finite += 1;
                continue;
            }
            self.artifact_nll[w].push(nll);
            self.reference_nll[w].push(reference);
            self.increase[w].push(nll - reference);
            self.divergence[w].push(divergence);
            self.same_top[w].push(f64::from(u8::from(same_top)));
        }
    }

    /// The figures; tokens that are not finite are counted and left out of them.
    pub(super) fn finish(self) -> Result<Perplexity, EvalError> {
        let nothing = EvalError::NothingFinite { tokens: self.non_finite as usize };
        let artifact = Mean::of_groups(&self.artifact_nll).ok_or(nothing)?;
        let mean = |groups: &[Vec<f64>]| {
            Mean::of_groups(groups).expect("as many observations as negative log-likelihoods")
        };
        let exp = |mean: Mean| mean.map(mean.value.exp(), mean.value.exp()).figure("1");
        let difference = mean(&self.increase);
        let cut = self.windows.cut;
        Ok(Perplexity {
            value: exp(artifact),
            reference: exp(mean(&self.reference_nll)),
            increase: difference.map(difference.value.exp_m1(), difference.value.exp()).figure("1"),
            divergence: mean(&self.divergence).figure("nats"),
            same_top: mean(&self.same_top).figure("1"),
            window: cut.window as u64,
            stride: cut.stride as u64,
            windows: self.windows.tokens.len() as u64,
            non_finite: self.non_finite,
            text_sha256: self.windows.text_sha256.clone(),
            ..Perplexity::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::text::Cut;

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
        let cut = Cut { window, stride: window, max_windows: 9 };
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
        let got = scores.finish().unwrap();
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
        let got = scores.finish().unwrap();
        let (a, r) = (mean(&ours).exp(), mean(&theirs).exp());
        let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-5, "{x} {y}");
        close(got.value.value, a);
        close(got.reference.value, r);
        close(got.increase.value, a / r - 1.0);
        close(got.divergence.value, mean(&kl));
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
        let got = more.finish().unwrap();
        assert_eq!((got.value.n, got.non_finite, got.value.standard_error), (1, 1, None));
    }
}
