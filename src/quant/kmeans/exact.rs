//! The optimal clustering: dynamic programming from both ends, which meets in the middle.
//!
//! A clustering close to the optimum is known beforehand. Once the first `c` clusters alone would cost more than
//! all of that one, they reach too far, and so do those that reach farther; the same holds from the other end.
//! Both halves therefore stay well short of the whole range.

use super::super::histogram::Distinct;
use super::layer::{Layer, Places};
use super::{Moments, quick};

/// How much the known clustering's squared error is enlarged before it is used as a bound, so that rounding cannot cut off the optimum.
const SLACK: f64 = 1e-9;

/// The boundaries of the optimal clustering into `n_clusters` non-empty clusters; fewer than there are values.
pub(super) fn boundaries(distinct: &Distinct, all: &Moments<'_>, n_clusters: usize) -> Vec<usize> {
    let n = distinct.len();
    if n_clusters == 1 {
        return vec![0, n];
    }
    let square: Vec<f64> = std::iter::once(0.0)
        .chain(distinct.values().iter().zip(all.weight.windows(2)).scan(0.0, |sum, (&v, w)| {
            *sum += (w[1] - w[0]) * f64::from(v) * f64::from(v);
            Some(*sum)
        }))
        .collect();
    let total = square[n];
    let known = quick::boundaries(distinct, all, n_clusters);
    let bound = (total - all.total_gain(&known)) + SLACK * total;

    let from_end =
        |prefix: &[f64]| -> Vec<f64> { prefix.iter().rev().map(|p| prefix[n] - p).collect() };
    let (weight, sum, square_back) = (from_end(all.weight), from_end(all.sum), from_end(&square));
    let n_left = n_clusters / 2;
    let n_right = n_clusters - n_left;
    let left = half(all, &square, n_left, n_right, bound);
    let right = half(&Moments { weight: &weight, sum: &sum }, &square_back, n_right, n_left, bound);

    let total_gain = |j: usize| left[n_left - 1].best(j) + right[n_right - 1].best(n - j);
    let meet = (n_left..=n - n_right)
        .fold(n_left, |best, j| if total_gain(j) > total_gain(best) { j } else { best });
    let mut boundaries = vec![n; n_clusters + 1];
    boundaries[n_left] = meet;
    for c in (0..n_left).rev() {
        boundaries[c] = left[c].from(boundaries[c + 1]);
    }
    for c in (0..n_right).rev() {
        let at = n_clusters - c;
        boundaries[at] = n - right[c].from(n - boundaries[at - 1]);
    }
    boundaries
}

/// The layers of 1 to `n_clusters` clusters, when `n_others` more follow and nothing may cost more than `bound`.
fn half<'a>(
    moments: &Moments<'a>,
    square: &[f64],
    n_clusters: usize,
    n_others: usize,
    bound: f64,
) -> Vec<Layer<'a>> {
    let keep = |place: usize, gain: f64| square[place] - gain <= bound;
    let mut layers = Vec::with_capacity(n_clusters);
    let mut layer = Layer::empty();
    for c in 1..=n_clusters {
        // Enough values before for the clusters so far, and after for those to come.
        let range = c..=moments.n_values() - n_others - (n_clusters - c);
        let (weight, sum) = (&moments.weight[range.clone()], &moments.sum[range]);
        layer = layer.next(Places { start: c, weight: weight.into(), sum: sum.into() }, keep);
        layers.push(layer.clone());
    }
    layers
}
