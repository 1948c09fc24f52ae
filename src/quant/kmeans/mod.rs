//! `kmeans`: one-dimensional k-means over distinct values, as a choice of boundaries between sorted values.

mod exact;
mod layer;
mod quick;

use super::histogram::Distinct;

/// Up to this many distinct values, or [`ALWAYS_EXACT_PER_CLUSTER`], the optimum is found in any case: it costs
/// little there, and other clusterings differ from it most.
const ALWAYS_EXACT: usize = 256;

/// See [`ALWAYS_EXACT`].
const ALWAYS_EXACT_PER_CLUSTER: usize = 16;

/// How hard to look for the optimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Search {
    /// Dynamic programming near an expected clustering, coarse to fine: most often the optimum, and within 0.1 % of its
    /// squared error on every sample tried, though nothing bounds it.
    Quick,
    /// The optimum, by dynamic programming over all distinct values.
    Exact,
}

/// Boundaries `b` with `b[0] = 0 < b[1] < … < b[m] = distinct.len()`: cluster `c` holds the values `b[c]..b[c+1]`.
///
/// They minimise the weighted squared distance of the values to the mean of their cluster, for
/// `m = min(n_clusters, distinct.len())` clusters: in one dimension an optimal cluster is an interval.
/// `distinct` must not be empty and `n_clusters` not be 0.
pub fn boundaries(distinct: &Distinct, n_clusters: usize, search: Search) -> Vec<usize> {
    let n = distinct.len();
    if n <= n_clusters {
        return (0..=n).collect();
    }
    let all = Moments { weight: distinct.weight(), sum: distinct.sum() };
    match search {
        Search::Quick if n > ALWAYS_EXACT.max(ALWAYS_EXACT_PER_CLUSTER * n_clusters) => {
            quick::boundaries(distinct, &all, n_clusters)
        }
        Search::Quick | Search::Exact => exact::boundaries(distinct, &all, n_clusters),
    }
}

/// The weighted mean of each cluster.
pub fn centroids(distinct: &Distinct, boundaries: &[usize]) -> Vec<f64> {
    let all = Moments { weight: distinct.weight(), sum: distinct.sum() };
    boundaries
        .windows(2)
        .map(|b| (all.sum[b[1]] - all.sum[b[0]]) / (all.weight[b[1]] - all.weight[b[0]]))
        .collect()
}

/// Prefix sums of weight and of weight times value, one longer than the values they are over.
#[derive(Debug, Clone, Copy)]
struct Moments<'a> {
    weight: &'a [f64],
    sum: &'a [f64],
}

impl Moments<'_> {
    fn n_values(&self) -> usize {
        self.weight.len() - 1
    }

    /// How much of the values' sum of squares the mean of `from..to` accounts for: s² / w.
    ///
    /// The squared error of a clustering is the sum of squares minus the gains of its clusters, so a
    /// clustering is best when its total gain is largest; the sum of squares itself is never needed.
    fn gain(&self, from: usize, to: usize) -> f64 {
        let weight = self.weight[to] - self.weight[from];
        let sum = self.sum[to] - self.sum[from];
        sum * sum / weight
    }

    fn total_gain(&self, boundaries: &[usize]) -> f64 {
        boundaries.windows(2).map(|b| self.gain(b[0], b[1])).sum()
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::super::histogram::Histogram;
    use super::super::samples::{SHAPES, sample};
    use super::*;

    fn distinct(values: &[f16]) -> Distinct {
        let mut histogram = Histogram::default();
        histogram.add(values);
        histogram.into_distinct()
    }

    /// The squared error by its definition.
    fn squared_error(distinct: &Distinct, boundaries: &[usize]) -> f64 {
        let mut total = 0.0;
        for (cluster, mean) in boundaries.windows(2).zip(centroids(distinct, boundaries)) {
            for i in cluster[0]..cluster[1] {
                total += f64::from(distinct.counts()[i])
                    * (f64::from(distinct.values()[i]) - mean).powi(2);
            }
        }
        total
    }

    /// The least squared error of the first `end` values in `n_clusters` clusters, by trying them all.
    fn least_error(distinct: &Distinct, end: usize, n_clusters: usize) -> f64 {
        if n_clusters == 1 {
            return squared_error(distinct, &[0, end]);
        }
        let last = |start: usize| {
            let mean = centroids(distinct, &[start, end])[0];
            (start..end)
                .map(|i| {
                    f64::from(distinct.counts()[i])
                        * (f64::from(distinct.values()[i]) - mean).powi(2)
                })
                .sum::<f64>()
        };
        (n_clusters - 1..end)
            .map(|start| least_error(distinct, start, n_clusters - 1) + last(start))
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn quick_is_within_a_thousandth_of_exact() {
        for shape in SHAPES {
            // How many values, whether they come from bf16 and so are less distinct, and clusters.
            for (n, from_bf16, n_clusters) in [
                (6_000, false, 2),
                (16_384, true, 2),
                (6_000, false, 4),
                (20_000, false, 8),
                (16_384, true, 8),
                (1_500, true, 8),
                (16_384, false, 16),
                (16_384, true, 16),
                (4_096, true, 16),
                (8_000, false, 64),
                (30_000, true, 64),
                (20_000, false, 256),
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
                let quick = squared_error(&values, &boundaries(&values, n_clusters, Search::Quick));
                let exact = squared_error(&values, &boundaries(&values, n_clusters, Search::Exact));
                assert!(
                    quick <= exact * 1.001,
                    "{shape:?}, {n} values, {n_clusters} clusters: {}",
                    quick / exact
                );
                assert!(
                    exact <= quick * (1.0 + 1e-9),
                    "{shape:?}, {n} values, {n_clusters} clusters: {}",
                    exact / quick
                );
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
        assert_eq!(centroids(&values, &[0, 1, 3]), [-2.0, 10.0 / 3.0]);
    }

    proptest! {
        #[test]
        fn exact_is_the_best_of_all(values in prop::collection::vec(-40_i8..40, 1..14), n_clusters in 1_usize..6) {
            let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(f32::from(v).powi(3) / 64.0)).collect();
            let values = distinct(&halves);
            let boundaries = boundaries(&values, n_clusters, Search::Exact);
            let least = least_error(&values, values.len(), n_clusters.min(values.len()));
            prop_assert!(boundaries.is_sorted_by(|a, b| a < b));
            prop_assert!((squared_error(&values, &boundaries) - least).abs() <= 1e-9 * (1.0 + least));
        }

        #[test]
        fn every_cluster_has_values(shape in prop::sample::select(&SHAPES), n in 1_usize..600, n_clusters in 1_usize..257, seed in any::<u64>()) {
            let values = distinct(&sample(shape, n, seed));
            let all = Moments { weight: values.weight(), sum: values.sum() };
            let mut found = vec![boundaries(&values, n_clusters, Search::Quick)];
            if values.len() > n_clusters {
                found.push(quick::boundaries(&values, &all, n_clusters));
            }
            for boundaries in found {
                prop_assert_eq!(boundaries.len(), n_clusters.min(values.len()) + 1);
                prop_assert!(boundaries.is_sorted_by(|a, b| a < b));
                prop_assert_eq!((boundaries[0], *boundaries.last().unwrap()), (0, values.len()));
            }
        }
    }
}
