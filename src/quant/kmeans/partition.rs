//! `partition`: the best clusters of values in order when each cluster has a penalty, however many there are.
//!
//! `best[j] = max over i < j of best[i] + error_reduction(i, j) − penalty` for the first `j` values. The error reduction of an interval obeys the
//! quadrangle inequality, also when entries are rounded, and so the best `i`, the first of equals, never decreases
//! with `j`. Ends are therefore settled in blocks: once the best `i` of the last end of a block is known, those of the others lie
//! between it and that of the end before the block, and a few candidates are compared with many ends at a time.

use super::{Moments, error_reduction};

/// Ends for which candidates are compared at a time.
const LANES: usize = 8;

/// Ends in a large block: four times [`LANES`], whose bounds are found first.
const LARGE: usize = 4 * LANES;

/// The boundaries `[0, …, n]` of the clusters of `moments` whose total error reduction minus `penalty` for each is largest.
///
/// The weights before each place must increase strictly.
pub(super) fn partition(moments: &Moments<'_>, penalty: f64) -> Vec<usize> {
    let n = moments.n_values();
    let mut best = vec![0.0; n + 1];
    let mut from = vec![0; n + 1];
    fill_dp_block(moments, penalty, &mut best, &mut from);
    let mut boundaries = vec![n];
    let mut end = n;
    while end > 0 {
        end = from[end] as usize;
        boundaries.push(end);
    }
    boundaries.reverse();
    boundaries
}

crate::base::simd::multiversion! {
    /// Fills in `best` and where the last cluster before each end begins; `best[0]` must be 0.
    fn fill_dp_block(moments: &Moments<'_>, penalty: f64, best: &mut [f64], from: &mut [u32]) {
        let Moments { weight, sum, rounded } = *moments;
        if rounded {
            fill_dp_block_with::<true>(weight, sum, penalty, best, from);
        } else {
            fill_dp_block_with::<false>(weight, sum, penalty, best, from);
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
fn fill_dp_block_with<const ROUNDED: bool>(
    weight: &[f64],
    sum: &[f64],
    penalty: f64,
    best: &mut [f64],
    from: &mut [u32],
) {
    let n = weight.len() - 1;
    // The next end, and where the last cluster before the one before it begins.
    let (mut first, mut low) = (1, 0);
    let mut size = LARGE;
    while first <= n {
        let left = n + 1 - first;
        let rows = if size <= left {
            size
        } else if LANES <= left.min(size) {
            LANES
        } else {
            1
        };
        let last = first + rows - 1;
        let top = scan::<ROUNDED>(weight, sum, best, (low, first), last);
        if rows == 1 {
            (best[first], from[first]) = (top.error_reduction - penalty, top.at as u32);
        } else {
            // The bounds of each group of ends.
            let mut bounds = [low, 0, 0, 0, top.at];
            if rows == LARGE {
                // No closure: it would not have the features of the processor.
                for (group, below, above) in [(2, 0, 4), (1, 0, 2), (3, 2, 4)] {
                    let (row, range) =
                        (first + group * LANES - 1, (bounds[below], bounds[above] + 1));
                    bounds[group] = scan::<ROUNDED>(weight, sum, best, range, row).at;
                }
            } else {
                bounds[1] = top.at;
            }
            for group in 0..rows / LANES {
                let (low, high) = (bounds[group], bounds[group + 1]);
                compare::<ROUNDED>(
                    weight,
                    sum,
                    best,
                    from,
                    (low, high + 1),
                    first + group * LANES,
                    penalty,
                );
            }
            // That assumed that no cluster lies within the block. Were it not so for some end, the first such end would
            // have the right candidates, and they would be better for the last end too.
            if scan::<ROUNDED>(weight, sum, best, (first, last), last).error_reduction
                > top.error_reduction
            {
                size = if rows == LARGE { LANES } else { 1 };
                continue;
            }
        }
        low = top.at;
        first += rows;
        // Clusters reach back as far as the next block, and farther.
        let reach = first - low;
        if reach > 2 * LARGE {
            size = LARGE;
        } else if reach > 2 * LANES {
            size = size.max(LANES);
        }
    }
}

/// A candidate and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    error_reduction: f64,
    at: usize,
}

/// The first of the best among the candidates `low..end` for the last cluster before `row`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
fn scan<const ROUNDED: bool>(
    weight: &[f64],
    sum: &[f64],
    best: &[f64],
    (low, end): (usize, usize),
    row: usize,
) -> Found {
    let (own_weight, own_sum) = (weight[row], sum[row]);
    let (weights, weights_left) = weight[low..end].as_chunks::<LANES>();
    let (sums, sums_left) = sum[low..end].as_chunks::<LANES>();
    let (before, before_left) = best[low..end].as_chunks::<LANES>();
    let error_reduction = |before: f64, weight: f64, sum: f64| {
        before + error_reduction::<ROUNDED>(own_weight - weight, own_sum - sum)
    };
    // The best in each lane, and the number of the chunk that it is in.
    let (mut top, mut chunk) = ([f64::NEG_INFINITY; LANES], [0.0; LANES]);
    let mut number = 0.0;
    for ((before, weights), sums) in before.iter().zip(weights).zip(sums) {
        for lane in 0..LANES {
            let error_reduction = error_reduction(before[lane], weights[lane], sums[lane]);
            let better = error_reduction > top[lane];
            top[lane] = if better { error_reduction } else { top[lane] };
            chunk[lane] = if better { number } else { chunk[lane] };
        }
        number += 1.0;
    }
    let mut found = Found { error_reduction: f64::NEG_INFINITY, at: usize::MAX };
    for lane in 0..LANES {
        let at = chunk[lane] as usize * LANES + lane;
        let first = top[lane] >= found.error_reduction && at < found.at;
        if top[lane] > found.error_reduction || first {
            found = Found { error_reduction: top[lane], at };
        }
    }
    let done = before.len() * LANES;
    let left = before_left.iter().zip(weights_left).zip(sums_left);
    for (i, ((&before, &weight), &sum)) in left.enumerate() {
        let error_reduction = error_reduction(before, weight, sum);
        if error_reduction > found.error_reduction {
            found = Found { error_reduction, at: done + i };
        }
    }
    Found { at: low + found.at.min(end - low), ..found }
}

/// Settles the [`LANES`] ends from `row` on, whose last clusters begin in `low..end`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
fn compare<const ROUNDED: bool>(
    weight: &[f64],
    sum: &[f64],
    best: &mut [f64],
    from: &mut [u32],
    (low, end): (usize, usize),
    row: usize,
    penalty: f64,
) {
    let (mut top, mut at) = ([f64::NEG_INFINITY; LANES], [0.0; LANES]);
    let (mut weights, mut sums) = ([0.0; LANES], [0.0; LANES]);
    weights.copy_from_slice(&weight[row..row + LANES]);
    sums.copy_from_slice(&sum[row..row + LANES]);
    let mut number = low as f64;
    let candidates = best[low..end].iter().zip(&weight[low..end]).zip(&sum[low..end]);
    for ((&before, &weight), &sum) in candidates {
        for lane in 0..LANES {
            let error_reduction =
                before + error_reduction::<ROUNDED>(weights[lane] - weight, sums[lane] - sum);
            let better = error_reduction > top[lane];
            top[lane] = if better { error_reduction } else { top[lane] };
            at[lane] = if better { number } else { at[lane] };
        }
        number += 1.0;
    }
    for lane in 0..LANES {
        best[row + lane] = top[lane] - penalty;
        from[row + lane] = at[lane] as u32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: every candidate for every end.
    fn plain(moments: &Moments<'_>, penalty: f64) -> f64 {
        let mut best = vec![0.0];
        for j in 1..=moments.n_values() {
            let of = |i: usize| best[i] + moments.error_reduction(i, j) - penalty;
            best.push((0..j).map(of).fold(f64::NEG_INFINITY, f64::max));
        }
        best[moments.n_values()]
    }

    proptest! {
        #[test]
        fn it_is_the_best_of_all(
            steps in prop::collection::vec((1_u8..30, 1_u8..9), 1..400), start in -2000_i16..2000,
            // From a cluster for each value to one for all.
            penalty in prop::sample::select(&[0.0, 1e-3, 0.5, 20.0, 1e3, 1e5, 1e7, 1e9]),
        ) {
            let mut value = f64::from(start);
            let values: Vec<(f64, f64)> = steps.iter().map(|&(step, count)| {
                value += f64::from(step).powi(2);
                (value / 64.0, f64::from(count))
            }).collect();
            let (mut weight, mut sum) = (vec![0.0], vec![0.0]);
            for (i, &(value, count)) in values.iter().enumerate() {
                weight.push(weight[i] + count);
                sum.push(sum[i] + count * value);
            }
            let penalty = penalty / 4096.0;
            for rounded in [false, true] {
                let moments = Moments { weight: &weight, sum: &sum, rounded };
                let boundaries = partition(&moments, penalty);
                let worth = moments.total_error_reduction(&boundaries) - penalty * (boundaries.len() - 1) as f64;
                let best = plain(&moments, penalty);
                prop_assert!(boundaries.is_sorted_by(|a, b| a < b));
                prop_assert_eq!((boundaries[0], boundaries.last()), (0, Some(&values.len())));
                prop_assert!((worth - best).abs() <= 1e-9 * (1.0 + best.abs()), "{} instead of {}", worth, best);
            }
        }
    }
}
