//! `Layer`: one more cluster: from the best clusterings of every prefix into `c` clusters to those into `c + 1`.
//!
//! best[c + 1][j], the largest gain of the first `j` values in `c + 1` clusters, is the maximum over `i` of
//! best[c][i] + gain(i, j). The maximising `i` does not decrease with `j`, so divide and conquer over `j` takes
//! O(n log n) steps instead of O(n²) (Grønlund et al., "Fast exact k-means, k-medians and Bregman divergence
//! clustering in 1D", 2017, §2.1). Of equal maxima the smallest `i` is taken.

use super::Moments;

/// The best clusterings of the prefixes that end in a range of places.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// The first place of the range.
    start: usize,
    /// best[c][j] for `j` in the range; −∞ where nothing is known.
    best: Vec<f64>,
    /// Where the last cluster of that clustering begins; at most 65,535 as there are fewer distinct values.
    from: Vec<u16>,
}

impl Layer {
    /// Everything up to each place of `1..=end` as one cluster.
    pub(super) fn first(moments: &Moments<'_>, places: std::ops::RangeInclusive<usize>) -> Self {
        let start = *places.start();
        let best: Vec<f64> = places.map(|j| moments.gain(0, j)).collect();
        Self { start, from: vec![0; best.len()], best }
    }

    /// One cluster more, ending at each of `places`, of which `keep(place, gain)` says whether it and those after it matter.
    ///
    /// `places` begins after the first place of `self`.
    pub(super) fn next(
        &self,
        moments: &Moments<'_>,
        places: std::ops::RangeInclusive<usize>,
        keep: impl Fn(usize, f64) -> bool,
    ) -> Self {
        let (start, end) = (*places.start(), *places.end());
        debug_assert!(start > self.start, "a cluster needs a value");
        let mut next = Self {
            start,
            best: vec![f64::NEG_INFINITY; end + 1 - start],
            from: vec![0; end + 1 - start],
        };
        let last = self.start + self.best.iter().rposition(|b| *b > f64::NEG_INFINITY).unwrap_or(0);
        let mut step = Step { moments, previous: self, next: &mut next, keep };
        step.solve(start, end, self.start, last);
        next
    }

    /// The largest gain of the values before `place`; −∞ outside of the range.
    pub(super) fn best(&self, place: usize) -> f64 {
        place
            .checked_sub(self.start)
            .and_then(|j| self.best.get(j))
            .copied()
            .unwrap_or(f64::NEG_INFINITY)
    }

    /// Where the last cluster before `place` begins.
    pub(super) fn from(&self, place: usize) -> usize {
        usize::from(self.from[place - self.start])
    }
}

struct Step<'a, K> {
    moments: &'a Moments<'a>,
    previous: &'a Layer,
    next: &'a mut Layer,
    keep: K,
}

impl<K: Fn(usize, f64) -> bool> Step<'_, K> {
    /// Fills in the places `first..=last`, whose last clusters begin between `low` and `high`.
    fn solve(&mut self, first: usize, last: usize, low: usize, high: usize) {
        let middle = first.midpoint(last);
        let (mut best, mut from) = (f64::NEG_INFINITY, low);
        let top = high.min(middle - 1);
        let offset = self.previous.start;
        let (w, s) = (self.moments.weight[middle], self.moments.sum[middle]);
        if low <= top {
            let before = &self.previous.best[low - offset..=top - offset];
            let weight = &self.moments.weight[low..=top];
            let sum = &self.moments.sum[low..=top];
            for (i, ((b, wi), si)) in before.iter().zip(weight).zip(sum).enumerate() {
                let d = s - si;
                let gain = b + d * d / (w - wi);
                if gain > best {
                    (best, from) = (gain, low + i);
                }
            }
        }
        let kept = (self.keep)(middle, best);
        if kept {
            self.next.best[middle - self.next.start] = best;
            self.next.from[middle - self.next.start] = from as u16;
        }
        if first < middle {
            self.solve(first, middle - 1, low, from);
        }
        if middle < last && kept {
            self.solve(middle + 1, last, from, high);
        }
    }
}
