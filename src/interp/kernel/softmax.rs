//! Softmax of a row: exp(x − max), and what these sum to.

use super::simd::{exp, multiversion};

/// Beyond this distance from the largest score a weight is below the normal numbers of f32, 2⁻¹²⁶ of the largest: none.
const FAR: f32 = -87.0;

multiversion! {
    /// Multiplies each of `scores` with `scale`.
    pub(crate) fn scale_by(scores: &mut [f32], scale: f32) {
        for s in scores {
            *s *= scale;
        }
    }
}

multiversion! {
    /// Turns scores into exp(x − max), in place, and writes 1 / Σ into `factor`: NaN when all scores are -inf.
    pub(crate) fn exp_and_sum(row: &mut [f32], factor: &mut f32) {
        /// Independent running values, so that steps do not wait for each other.
        const LANES: usize = 32;
        let (runs, rest) = row.as_chunks::<LANES>();
        let mut most = [f32::NEG_INFINITY; LANES];
        for run in runs {
            for lane in 0..LANES {
                most[lane] = if run[lane] > most[lane] { run[lane] } else { most[lane] };
            }
        }
        let max = most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |x: f32| {
            let x = x - max;
            let near = if x < FAR { FAR } else { x };
            let weight = exp(near);
            if x < FAR { 0.0 } else { weight }
        };
        let (runs, rest) = row.as_chunks_mut::<LANES>();
        let mut sums = [0.0_f32; LANES];
        for run in runs {
            for lane in 0..LANES {
                run[lane] = weight(run[lane]);
                sums[lane] += run[lane];
            }
        }
        let mut sum: f64 = sums.iter().map(|&s| f64::from(s)).sum();
        for x in rest {
            *x = weight(*x);
            sum += f64::from(*x);
        }
        *factor = (1.0 / sum) as f32;
    }
}

/// exp(x − max) / Σ, in place.
pub(crate) fn softmax(row: &mut [f32]) {
    let mut factor = 0.0;
    exp_and_sum(row, &mut factor);
    scale_by(row, factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_their_sum() {
        const N: f32 = f32::NEG_INFINITY;
        let e = |x: f32| f64::from(x).exp() as f32;
        let cases: [(&[f32], &[f32], f32); 4] = [
            (&[3.0, N, 2.0], &[1.0, 0.0, e(-1.0)], 1.0 / (1.0 + e(-1.0))),
            (&[-500.0, -600.0], &[1.0, 0.0], 1.0),
            (&[], &[], f32::INFINITY),
            (&[f32::MIN; 70], &[1.0; 70], 1.0 / 70.0),
        ];
        for (scores, want, want_factor) in cases {
            let (mut row, mut factor) = (scores.to_vec(), 0.0);
            exp_and_sum(&mut row, &mut factor);
            assert_eq!((row.as_slice(), factor), (want, want_factor), "{scores:?}");
        }
        for scores in [[N; 40], [f32::NAN; 40]] {
            let (mut row, mut factor) = (scores.to_vec(), 0.0);
            exp_and_sum(&mut row, &mut factor);
            assert!(factor.is_nan(), "{scores:?}");
        }
    }
}
