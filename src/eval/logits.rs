//! The logits along the reference's transcripts beside the reference's own.
//!
//! A transcript says nothing after its first difference. Here the artifact is fed what the reference wrote, so every token
//! counts, and the distance is relative to the spread of the reference's logits: it means the same for a large model and for a
//! random one whose logits are all but equal.

use crate::eval::reference::Distributions;
use crate::eval::{results::Figure, results::Logits};
use crate::lm::top;

/// Tokens of the reference that are compared at each position at most.
pub(super) const TOP_K: usize = 1024;

/// Adds up what is seen position by position.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    squares: f64,
    error_squares: f64,
    same_top: u64,
    n: u64,
    non_finite: u64,
}

impl Comparison {
    /// Takes the artifact's logits after the tokens from `first` on of window `w`, `vocab` for each.
    pub(super) fn add(
        &mut self,
        reference: &Distributions,
        w: usize,
        first: usize,
        logits: &[f32],
        vocab: usize,
    ) {
        for (position, logits) in (first..).zip(logits.chunks(vocab)) {
            let expected = reference.at(w, position);
            let pairs: Vec<(f64, f64)> = expected
                .ids
                .iter()
                .zip(expected.log_probs)
                .map(|(&id, &log_prob)| (f64::from(logits[id as usize]), f64::from(log_prob)))
                .collect();
            self.n += 1;
            if !pairs.iter().all(|(x, _)| x.is_finite()) {
                self.non_finite += 1;
                continue;
            }
            let mean = |f: fn(&(f64, f64)) -> f64| {
                pairs.iter().map(f).sum::<f64>() / pairs.len().max(1) as f64
            };
            let (x_mean, r_mean) = (mean(|pair| pair.0), mean(|pair| pair.1));
            for (x, r) in pairs {
                let (x, r) = (x - x_mean, r - r_mean);
                self.squares += r * r;
                self.error_squares += (x - r) * (x - r);
            }
            let same = expected.ids.first().is_some_and(|&id| id as usize == top(logits));
            self.same_top += u64::from(same);
        }
    }

    /// The figures, of `top_k` tokens at each position; nothing where there was none.
    pub(super) fn finish(self, top_k: usize) -> Option<Logits> {
        let Self { squares, error_squares, same_top, n, non_finite } = self;
        let figure = |value| Figure { value, unit: "1".to_owned(), n, standard_error: None };
        let finite = n - non_finite;
        (n > 0).then(|| Logits {
            error: figure((error_squares / squares).sqrt()),
            same_top: figure(same_top as f64 / finite as f64),
            top_k: top_k as u64,
            non_finite,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        // The reference's logits less a constant: -1, 0, 1 for the tokens 2, 1, 0.
        let reference = Distributions {
            window: 2,
            top_k: 3,
            next: vec![0.0],
            ids: vec![0, 1, 2, 0, 1, 2],
            log_probs: vec![1.0, 0.0, -1.0, 1.0, 0.0, -1.0],
            tail: vec![0.0; 2],
        };
        let nan = f32::NAN;
        for (logits, error, same_top, non_finite) in [
            // Equal but for a constant.
            ([6.0, 5.0, 4.0], 0.0, 1.0, 0),
            ([0.0, 0.0, 0.0], 1.0, 1.0, 0),
            // Twice as sure, and the other way round.
            ([2.0, 0.0, -2.0], 1.0, 1.0, 0),
            ([-1.0, 0.0, 1.0], 2.0, 0.0, 0),
            ([nan, 0.0, 1.0], nan.into(), nan.into(), 1),
        ] {
            let mut comparison = Comparison::default();
            comparison.add(&reference, 0, 0, &logits, 3);
            let found = comparison.finish(3).unwrap();
            let close = |a: f64, b: f64| (a - b).abs() < 1e-9 || a.is_nan() && b.is_nan();
            assert!(close(found.error.value, error), "{logits:?}: {found:?}");
            assert!(close(found.same_top.value, same_top), "{logits:?}: {found:?}");
            assert_eq!(found.non_finite, non_finite, "{logits:?}");
        }
        assert_eq!(Comparison::default().finish(3), None);
    }
}
