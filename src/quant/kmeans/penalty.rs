//! `penalty`: the penalty of a cluster at which the best partition has as many as are wanted.
//!
//! The least squared error is a convex function of the number of clusters, and so every optimal clustering is the best partition
//! at some penalty (Aggarwal, Schieber and Tokuyama, "Finding a minimum-weight k-link path in graphs with the concave Monge
//! property", 1994; for k-means: Grønlund et al., "Fast exact k-means, k-medians and Bregman divergence clustering in 1D",
//! 2017, §3).

use super::Moments;
use super::partition::partition;

/// Cells for each cluster on the grid on which the penalty is found first.
const CELLS: usize = 8;

/// Prices that are guessed before each is computed from what is known on both sides.
const GUESSES: usize = 16;

/// The boundaries of the optimal clustering into `n_clusters`, of which there are fewer than values, and its penalty.
///
/// `variance` is the sum of squared distances to the mean of all; it decides nothing but the first penalty.
pub(super) fn optimal(all: &Moments<'_>, variance: f64, n_clusters: usize) -> (Vec<usize>, f64) {
    let n = all.n_values();
    // The least error of k clusters of a normal distribution is √3π/2 · σ² / k² (Panter and Dite, 1951): this is what one more is worth.
    let mut penalty = (5.44 * variance / (n_clusters as f64).powi(3)).max(f64::MIN_POSITIVE);
    let step = n / (CELLS * n_clusters);
    if step > 1 {
        let coarse = |sums: &[f64]| -> Vec<f64> {
            sums[..n].iter().step_by(step).chain(sums.last()).copied().collect()
        };
        let (weight, sum) = (coarse(all.weight), coarse(all.sum));
        penalty = search(&Moments { weight: &weight, sum: &sum, ..*all }, penalty, n_clusters).1;
    }
    search(all, penalty, n_clusters)
}

/// The best `n_clusters` clusters, and a penalty at which they are.
pub(super) fn search(
    moments: &Moments<'_>,
    mut penalty: f64,
    n_clusters: usize,
) -> (Vec<usize>, f64) {
    let n = moments.n_values();
    // Boundaries of fewer and of more clusters; at first of one, and of one for each value.
    let mut few = vec![0, n];
    let mut many: Vec<usize> = Vec::new();
    // Whether the penalty is the one at which `few` and `many` are equally good.
    let mut computed = false;
    let mut guesses = 0;
    loop {
        let found = partition(moments, penalty);
        let count = found.len() - 1;
        if count == n_clusters {
            return (found, penalty);
        }
        if computed && (found.len() <= few.len() || many.len() <= found.len()) {
            // Nothing is better than both sides at the penalty at which they are equal: so is all that lies between them.
            return (splice(&few, &many, n_clusters), penalty);
        }
        if count < n_clusters {
            few = found;
        } else {
            many = found;
        }
        let one_sided = few.len() == 2 || many.is_empty();
        computed = !one_sided || guesses == GUESSES;
        if computed {
            if many.is_empty() {
                many = (0..=n).collect();
            }
            let more = moments.total_error_reduction(&many) - moments.total_error_reduction(&few);
            penalty = more / (many.len() - few.len()) as f64;
        } else {
            guesses += 1;
            // What a further cluster of smooth data is worth falls with the third power of their number.
            let law = (count as f64 / n_clusters as f64).powi(3);
            penalty *= if count < n_clusters { law.min(0.9) } else { law.max(1.1) };
        }
    }
}

/// `n_clusters` clusters that begin as `few` and end as `many` do, or the other way round.
///
/// Somewhere a cluster of `few` holds one of `many` such that both belong there. If both are best at one penalty, so is what
/// comes of exchanging what follows (Aggarwal, Schieber and Tokuyama, 1994, lemma 3).
fn splice(few: &[usize], many: &[usize], n_clusters: usize) -> Vec<usize> {
    let shift = many.len() - 1 - n_clusters;
    let at = few
        .windows(2)
        .zip(many[shift..].windows(2))
        .position(|(outer, inner)| outer[0] <= inner[0] && inner[1] <= outer[1])
        .expect("the first of `few` begins before the one of `many`, and the last ends after it");
    [&few[..=at], &many[shift + at + 1..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_clusters_that_no_price_singles_out() {
        // Equal steps: the squared error of 2 values together is the same wherever they are.
        let sums =
            |f: fn(usize) -> f64| -> Vec<f64> { (0..=12).map(|n| (0..n).map(f).sum()).collect() };
        let (weight, sum) = (sums(|_| 1.0), sums(|value| value as f64));
        let moments = Moments { weight: &weight, sum: &sum, rounded: false };
        for n_clusters in 1..12 {
            let boundaries = optimal(&moments, 143.0, n_clusters).0;
            assert_eq!(boundaries.len(), n_clusters + 1);
            let sizes: Vec<usize> = boundaries.windows(2).map(|b| b[1] - b[0]).collect();
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{n_clusters}: {sizes:?}");
        }
    }

    #[test]
    fn a_splice_takes_the_beginning_of_one_and_the_end_of_the_other() {
        for (few, many, n_clusters, want) in [
            (&[0, 10][..], &[0, 2, 5, 10][..], 2, &[0, 5, 10][..]),
            (&[0, 6, 10], &[0, 1, 2, 3, 10], 3, &[0, 2, 3, 10]),
            (&[0, 1, 10], &[0, 2, 4, 6, 8, 10], 3, &[0, 1, 8, 10]),
        ] {
            assert_eq!(splice(few, many, n_clusters), want);
        }
    }
}
