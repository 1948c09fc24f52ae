//! `kmeans`: one-dimensional k-means over distinct values, as a choice of boundaries between sorted values.

mod partition;
mod penalty;

use half::f16;

use super::histogram::SortedHistogram;
use super::search::Search;

/// By how much of itself the squared error may exceed that of any table of numbers whatsoever in a quick search.
const ENOUGH: f64 = 1e-5;

/// Boundaries `b` with `b[0] = 0 < b[1] < … < b[m] = distinct.len()`: cluster `c` holds the values `b[c]..b[c+1]`.
///
/// They minimise the weighted squared distance of the values to the entries of their clusters, for
/// `m = min(n_clusters, distinct.len())` clusters: in one dimension an optimal cluster is an interval. Entries are fp16
/// numbers. A quick search takes the optimal clusters around exact means if rounding these costs next to nothing, at most
/// [`ENOUGH`]. `distinct` must not be empty and `n_clusters` not be 0.
pub fn boundaries(distinct: &SortedHistogram, n_clusters: usize, search: Search) -> Vec<usize> {
    let n = distinct.len();
    if n <= n_clusters {
        return (0..=n).collect();
    }
    let exact = Moments { weight: distinct.weight(), sum: distinct.sum(), rounded: false };
    let variance = distinct.sum_of_squares() - exact.error_reduction(0, n);
    let (boundaries, penalty) = penalty::optimal(&exact, variance, n_clusters);
    let rounded = Moments { rounded: true, ..exact };
    let error_reduction = exact.total_error_reduction(&boundaries);
    let least = distinct.sum_of_squares() - error_reduction;
    let enough = error_reduction - rounded.total_error_reduction(&boundaries) <= ENOUGH * least;
    if search == Search::Quick && enough {
        return boundaries;
    }
    penalty::search(&rounded, penalty, n_clusters).0
}

/// The fp16 numbers nearest to the weighted means of the clusters between `boundaries`.
pub fn entries(distinct: &SortedHistogram, boundaries: &[usize]) -> impl Iterator<Item = f16> {
    let (weight, sum) = (distinct.weight(), distinct.sum());
    boundaries
        .windows(2)
        .map(|b| f16::from_f64((sum[b[1]] - sum[b[0]]) / (weight[b[1]] - weight[b[0]])))
}

/// Prefix sums of weight and of weight times value, one longer than the values they are over.
#[derive(Debug, Clone, Copy)]
struct Moments<'a> {
    weight: &'a [f64],
    sum: &'a [f64],
    /// True if entries are rounded to fp16.
    rounded: bool,
}

impl Moments<'_> {
    fn n_values(&self) -> usize {
        self.weight.len() - 1
    }

    fn error_reduction(&self, from: usize, to: usize) -> f64 {
        let (weight, sum) = (self.weight[to] - self.weight[from], self.sum[to] - self.sum[from]);
        if self.rounded {
            error_reduction::<true>(weight, sum)
        } else {
            error_reduction::<false>(weight, sum)
        }
    }

    fn total_error_reduction(&self, boundaries: &[usize]) -> f64 {
        boundaries.windows(2).map(|b| self.error_reduction(b[0], b[1])).sum()
    }
}

/// How much of its values' sum of squares a cluster of this `weight` and `sum` accounts for.
///
/// It is s² / w around the mean s / w, and 2·e·s − e²·w around that rounded to fp16, the entry e. The squared error of a
/// clustering is the sum of squares minus the error reductions of its clusters, so a clustering is best when its total error reduction is largest.
#[inline(always)]
#[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
fn error_reduction<const ROUNDED: bool>(weight: f64, sum: f64) -> f64 {
    if ROUNDED {
        let entry = nearest_half(sum / weight);
        entry * (2.0 * sum - entry * weight)
    } else {
        sum * sum / weight
    }
}

/// `value` as the nearest fp16 number, in arithmetic that vectorises; for what fp16 can hold.
#[inline(always)]
fn nearest_half(value: f64) -> f64 {
    /// Leaves 11 bits of 53 (Veltkamp, 1968).
    const SPLIT: f64 = ((1_u64 << 42) + 1) as f64;
    /// The last bit of a number next to it is 2^−24, that of fp16's subnormal numbers.
    const ALIGN: f64 = 1.5 * (1_u64 << 28) as f64;
    const LEAST_NORMAL: f64 = 1.0 / 16384.0;
    let wide = value * SPLIT;
    let normal = wide - (wide - value);
    let subnormal = (value + ALIGN) - ALIGN;
    if value.abs() < LEAST_NORMAL { subnormal } else { normal }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::histogram::Histogram;
    use super::super::samples::{SHAPES, sample};
    use super::*;

    fn distinct(values: &[f16]) -> SortedHistogram {
        let mut histogram = Histogram::default();
        histogram.add(values);
        histogram.into_distinct()
    }

    /// The squared error by its definition.
    fn squared_error(distinct: &SortedHistogram, boundaries: &[usize]) -> f64 {
        let mut total = 0.0;
        for (cluster, entry) in boundaries.windows(2).zip(entries(distinct, boundaries)) {
            for i in cluster[0]..cluster[1] {
                total += f64::from(distinct.counts()[i])
                    * (f64::from(distinct.values()[i]) - entry.to_f64()).powi(2);
            }
        }
        total
    }

    /// The least squared error of the first `end` values in `n_clusters` clusters, by trying them all.
    fn least_error(distinct: &SortedHistogram, end: usize, n_clusters: usize) -> f64 {
        if n_clusters == 1 {
            return squared_error(distinct, &[0, end]);
        }
        let last = |start: usize| {
            let entry = entries(distinct, &[start, end]).next().unwrap().to_f64();
            (start..end)
                .map(|i| {
                    f64::from(distinct.counts()[i])
                        * (f64::from(distinct.values()[i]) - entry).powi(2)
                })
                .sum::<f64>()
        };
        (n_clusters - 1..end)
            .map(|start| least_error(distinct, start, n_clusters - 1) + last(start))
            .fold(f64::INFINITY, f64::min)
    }

    /// The least squared error by dynamic programming over one number of clusters after another, O(k n²).
    fn least_error_layer_by_layer(distinct: &SortedHistogram, n_clusters: usize) -> f64 {
        let all = Moments { weight: distinct.weight(), sum: distinct.sum(), rounded: true };
        let n = distinct.len();
        let mut best: Vec<f64> =
            (0..=n).map(|j| if j == 0 { 0.0 } else { f64::NEG_INFINITY }).collect();
        for _ in 0..n_clusters {
            best = (0..=n)
                .map(|j| {
                    (0..j)
                        .map(|i| best[i] + all.error_reduction(i, j))
                        .fold(f64::NEG_INFINITY, f64::max)
                })
                .collect();
        }
        distinct.sum_of_squares() - best[n]
    }

    #[test]
    fn data_of_every_shape_is_clustered_optimally() {
        for shape in SHAPES {
            // How many values, whether they come from bf16 and so are less distinct, and clusters.
            for (n, from_bf16, n_clusters) in [
                (700, false, 2),
                (2_000, true, 2),
                (300, false, 4),
                (700, false, 8),
                (1_000, true, 16),
                (500, false, 16),
                (500, true, 64),
                (300, false, 128),
            ] {
                let mut values = sample(shape, n, n as u64);
                if from_bf16 {
                    for value in &mut values {
                        *value = f16::from_f32(half::bf16::from_f32(value.to_f32()).to_f32());
                    }
                }
                let values = distinct(&values);
                if values.len() <= n_clusters {
                    continue;
                }
                let least = least_error_layer_by_layer(&values, n_clusters);
                let rounding = 1e-12 * values.sum_of_squares();
                for (search, slack) in [(Search::Quick, ENOUGH), (Search::Exact, 1e-9)] {
                    let found = squared_error(&values, &boundaries(&values, n_clusters, search));
                    assert!(
                        found <= least * (1.0 + slack) + rounding,
                        "{shape:?}, {n} values, {n_clusters} clusters: {found} instead of {least}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_more_clusters_than_values() {
        let values = distinct(&[1.0, 1.0, -2.0, 8.0].map(f16::from_f32));
        for search in [Search::Quick, Search::Exact] {
            assert_eq!(boundaries(&values, 16, search), [0, 1, 2, 3]);
            assert_eq!(boundaries(&values, 3, search), [0, 1, 2, 3]);
            assert_eq!(boundaries(&values, 1, search), [0, 3]);
            assert_eq!(boundaries(&values, 2, search), [0, 2, 3]);
        }
        let entries: Vec<f64> = entries(&values, &[0, 1, 3]).map(f16::to_f64).collect();
        assert_eq!(entries, [-2.0, 3.333_984_375]);
    }

    proptest! {
        #[test]
        fn halves_are_those_of_the_conversion(bits in 0_u16..0x7c00, between in 0.0_f64..1.0, negative: bool) {
            let (low, high) = (f16::from_bits(bits).to_f64(), f16::from_bits((bits + 1).min(0x7bff)).to_f64());
            let value = (low + (high - low) * between) * if negative { -1.0 } else { 1.0 };
            let (found, want) = (nearest_half(value), f16::from_f64(value).to_f64());
            // Of two that are equally near either will do.
            prop_assert!((found - value).abs().total_cmp(&(want - value).abs()).is_eq(), "{} becomes {} and not {}", value, found, want);
        }

        #[test]
        fn exact_is_the_best_of_all(values in prop::collection::vec(-40_i8..40, 1..14), n_clusters in 1_usize..6, divisor in prop::sample::select(&[1.0_f32, 64.0, 1e10])) {
            let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(f32::from(v).powi(3) / divisor)).collect();
            let values = distinct(&halves);
            let least = least_error(&values, values.len(), n_clusters.min(values.len()));
            for (search, slack) in [(Search::Quick, ENOUGH), (Search::Exact, 0.0)] {
                let boundaries = boundaries(&values, n_clusters, search);
                prop_assert!(boundaries.is_sorted_by(|a, b| a < b));
                prop_assert!(squared_error(&values, &boundaries) <= least * (1.0 + slack) + 1e-9 * values.sum_of_squares());
            }
        }

        #[test]
        fn every_cluster_has_values(search in prop::sample::select(&[Search::Quick, Search::Exact]), shape in prop::sample::select(&SHAPES), n in 1_usize..600, n_clusters in 1_usize..257, seed in any::<u64>()) {
            let values = distinct(&sample(shape, n, seed));
            let boundaries = boundaries(&values, n_clusters, search);
            prop_assert_eq!(boundaries.len(), n_clusters.min(values.len()) + 1);
            prop_assert!(boundaries.is_sorted_by(|a, b| a < b));
            prop_assert_eq!((boundaries[0], *boundaries.last().unwrap()), (0, values.len()));
        }
    }
}
