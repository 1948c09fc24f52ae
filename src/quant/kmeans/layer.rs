//! `Layer`: one more cluster: from the best clusterings of every prefix into `c` clusters to those into `c + 1`.
//!
//! `best[c + 1][j]`, the largest gain of the first `j` values in `c + 1` clusters, is the maximum over `i` of
//! `best[c][i] + gain(i, j)`. The maximising `i` does not decrease with `j`, so divide and conquer over `j` takes
//! O(n log n) steps instead of O(n²) (Grønlund et al., "Fast exact k-means, k-medians and Bregman divergence
//! clustering in 1D", 2017, §2.1). Of equal maxima the smallest `i` is taken.

use std::borrow::Cow;

/// Consecutive places between values where a cluster may end, with the prefix sums there.
#[derive(Debug, Clone)]
pub(super) struct Places<'a> {
    /// The number of the first of them.
    pub(super) start: usize,
    /// The weight of the values before each.
    pub(super) weight: Cow<'a, [f64]>,
    /// The sum of weight times value of the values before each.
    pub(super) sum: Cow<'a, [f64]>,
}

/// The best clusterings of the values before each of some places.
#[derive(Debug, Clone)]
pub(super) struct Layer<'a> {
    places: Places<'a>,
    /// The largest gain; −∞ where nothing is known.
    best: Vec<f64>,
    /// The place where the last cluster of that clustering begins; at most 65,535 as there are fewer distinct values.
    from: Vec<u16>,
}

impl<'a> Layer<'a> {
    /// No cluster yet, before all values.
    pub(super) fn empty() -> Self {
        let places = Places { start: 0, weight: Cow::Borrowed(&[0.0]), sum: Cow::Borrowed(&[0.0]) };
        Self { places, best: vec![0.0], from: vec![0] }
    }

    /// One cluster more, ending at each of `places`, of which `keep(place, gain)` says whether it and those after it matter.
    ///
    /// `places` begin after the first of `self`. Two that have no value between them are never ends of one cluster.
    pub(super) fn next(&self, places: Places<'a>, keep: impl Fn(usize, f64) -> bool) -> Self {
        debug_assert!(places.start > self.places.start, "a cluster needs a value");
        let n = places.weight.len();
        let end = places.start + n - 1;
        let known = self.best.iter().rposition(|b| *b > f64::NEG_INFINITY).unwrap_or(0);
        let mut next = Self { best: vec![f64::NEG_INFINITY; n], from: vec![0; n], places };
        let (first, low) = (next.places.start, self.places.start);
        Step { previous: self, next: &mut next, keep }.solve(first, end, low, low + known);
        next
    }

    /// The largest gain of the values before `place`; −∞ outside of the range.
    pub(super) fn best(&self, place: usize) -> f64 {
        place
            .checked_sub(self.places.start)
            .and_then(|j| self.best.get(j))
            .copied()
            .unwrap_or(f64::NEG_INFINITY)
    }

    /// Where the last cluster before `place` begins.
    pub(super) fn from(&self, place: usize) -> usize {
        usize::from(self.from[place - self.places.start])
    }
}

/// Candidates from which on it pays to call the function that has the processor's wide instructions.
const FEW: usize = 12;

/// The largest gain and the number of the first candidate that has it, if any is better than `found`.
fn best_of(
    before: &[f64],
    weights: &[f64],
    sums: &[f64],
    (weight, sum): (f64, f64),
    found: &mut (f64, usize),
) {
    for (i, ((before, w), s)) in before.iter().zip(weights).zip(sums).enumerate() {
        // Not a number, and so never better, where there is no weight.
        let gain = before + (sum - s) * (sum - s) / (weight - w);
        if gain > found.0 {
            *found = (gain, i);
        }
    }
}

crate::base::simd::quick! {
    /// As [`best_of`], several candidates at a time.
    fn best_of_many(before: &[f64], weights: &[f64], sums: &[f64], end: (f64, f64), found: &mut (f64, usize)) {
        const LANES: usize = 8;
        let (weight, sum) = end;
        let (mut best, mut number) = ([f64::NEG_INFINITY; LANES], [0_u64; LANES]);
        let whole = before.as_chunks::<LANES>().0.iter().zip(weights.as_chunks::<LANES>().0);
        for (i, ((before, w), s)) in whole.zip(sums.as_chunks::<LANES>().0).enumerate() {
            for lane in 0..LANES {
                let gain = before[lane] + (sum - s[lane]) * (sum - s[lane]) / (weight - w[lane]);
                let better = gain > best[lane];
                best[lane] = if better { gain } else { best[lane] };
                number[lane] = if better { i as u64 } else { number[lane] };
            }
        }
        for lane in 0..LANES {
            let at = number[lane] as usize * LANES + lane;
            let first = best[lane] >= found.0 && at < found.1;
            if best[lane] > found.0 || first {
                *found = (best[lane], at);
            }
        }
        let done = before.len() - before.len() % LANES;
        let mut rest = (found.0, usize::MAX);
        best_of(&before[done..], &weights[done..], &sums[done..], end, &mut rest);
        if rest.1 != usize::MAX {
            *found = (rest.0, done + rest.1);
        }
    }
}

struct Step<'s, 'a, K> {
    previous: &'s Layer<'a>,
    next: &'s mut Layer<'a>,
    keep: K,
}

impl<K: Fn(usize, f64) -> bool> Step<'_, '_, K> {
    /// Fills in the places `first..=last`, whose last clusters begin between `low` and `high`.
    fn solve(&mut self, first: usize, last: usize, low: usize, high: usize) {
        let middle = first.midpoint(last);
        let at = middle - self.next.places.start;
        let (weight, sum) = (self.next.places.weight[at], self.next.places.sum[at]);
        let offset = self.previous.places.start;
        let candidates = low - offset..(high + 1).min(middle).max(low) - offset;
        let before = &self.previous.best[candidates.clone()];
        let weights = &self.previous.places.weight[candidates.clone()];
        let sums = &self.previous.places.sum[candidates];
        let mut found = (f64::NEG_INFINITY, 0);
        if before.len() < FEW {
            best_of(before, weights, sums, (weight, sum), &mut found);
        } else {
            best_of_many(before, weights, sums, (weight, sum), &mut found);
        }
        let (best, from) = (found.0, low + found.1);
        let kept = (self.keep)(middle, best);
        if kept {
            self.next.best[at] = best;
            self.next.from[at] =
                u16::try_from(from).expect("fewer distinct fp16 values than u16 holds");
        }
        if first < middle {
            self.solve(first, middle - 1, low, from);
        }
        if middle < last && kept {
            self.solve(middle + 1, last, from, high);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_candidates_are_searched_as_few_are(
            candidates in prop::collection::vec((-4_i8..4, 0_u8..4, -3_i8..3), 1..70),
            end in (3_u8..9, -3_i8..3),
        ) {
            let of = |f: fn(&(i8, u8, i8)) -> f64| -> Vec<f64> { candidates.iter().map(f).collect() };
            // Few values, so that there are equal gains; some have no weight.
            let (before, weights, sums) = (of(|c| c.0.into()), of(|c| c.1.into()), of(|c| c.2.into()));
            let end = (f64::from(end.0), f64::from(end.1));
            let (mut plain, mut quick) = ((f64::NEG_INFINITY, 0), (f64::NEG_INFINITY, 0));
            best_of(&before, &weights, &sums, end, &mut plain);
            best_of_many(&before, &weights, &sums, end, &mut quick);
            prop_assert_eq!(plain, quick);
        }
    }
}
