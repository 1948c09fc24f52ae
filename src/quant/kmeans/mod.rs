//! `kmeans`: one-dimensional k-means over distinct values, as a choice of boundaries between sorted values.

mod exact;
mod layer;
mod quick;

use super::histogram::Distinct;

/// How hard to look for the optimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Search {
    /// Coarse dynamic programming, then refinement; within 0.1 % of the optimum's squared error.
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
        Search::Quick => quick::boundaries(distinct, &all, n_clusters),
        Search::Exact => exact::boundaries(distinct, &all, n_clusters),
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
