//! Masks of scores, and which keys a query sees at all.

use std::ops::Range;

use rayon::prelude::*;

use crate::interp::kernel::simd::multiversion;

/// Fewer elements than this are looked through before another thread has woken up.
const ALONE: usize = 1 << 16;
/// A key whose mask is this far below the largest of its row has no weight beside the key with that one, if the scores
/// themselves lie within [`WITHIN`]. Exporters write -10000 and less for what is not to be seen.
const GAP: f32 = 8192.0;
/// Scores up to this differ by less than [`GAP`] by more than 100, and exp(-100) is nothing beside 1 in f32.
const WITHIN: f32 = (GAP - 100.0) / 2.0;

/// What is done to the scores of some queries with all keys: rows of as many elements as there are keys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    /// True where the key is seen.
    Bool(&'a [bool]),
    /// Added to the scores.
    Float(&'a [f32]),
}

/// The mask of one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// Rows of the queries, one after another, or one for all.
    pub(crate) values: Values<'a>,
    /// From one query's row to the next, in rows: 0 or 1.
    pub(crate) step: usize,
    /// For each row the keys from the first to the last that is seen, of [`seen`].
    pub(crate) seen: &'a [Range<usize>],
}

impl Mask<'_> {
    /// The keys from the first to the last that a query sees.
    pub(super) fn seen(&self, query: usize) -> Range<usize> {
        self.seen[query * self.step].clone()
    }

    /// True if keys outside of [`Self::seen`] have no weight when no score is larger than `most`, either sign.
    pub(super) fn hides(&self, most: f32) -> bool {
        matches!(self.values, Values::Bool(_)) || most <= WITHIN
    }

    /// Masks the scores of a query with some of `n` keys.
    pub(super) fn apply(&self, query: usize, keys: Range<usize>, n: usize, scores: &mut [f32]) {
        let row = query * self.step * n;
        let part = row + keys.start..row + keys.end;
        match self.values {
            Values::Bool(seen) => {
                for (s, &seen) in scores.iter_mut().zip(&seen[part]) {
                    *s = if seen { *s } else { f32::NEG_INFINITY };
                }
            }
            Values::Float(add) => add_to(scores, &add[part]),
        }
    }
}

multiversion! {
    fn add_to(scores: &mut [f32], add: &[f32]) {
        scores.iter_mut().zip(add).for_each(|(s, &a)| *s += a);
    }
}

/// The keys from the first to the last that is seen, for each of `rows` rows of `n` elements; those between may be hidden.
pub(crate) fn seen(values: Values<'_>, rows: usize, n: usize) -> Vec<Range<usize>> {
    fn each<T: Copy + Sync>(
        v: &[T],
        n: usize,
        hidden: impl Fn(&[T]) -> T + Sync,
        below: impl Fn(T, T) -> bool + Sync,
    ) -> Vec<Range<usize>> {
        let range = |row: &[T]| {
            let limit = hidden(row);
            let end = row.iter().rposition(|&x| !below(x, limit)).map_or(0, |last| last + 1);
            let start = row[..end].iter().position(|&x| !below(x, limit)).unwrap_or(end);
            start..end
        };
        if v.len() < ALONE {
            v.chunks(n).map(range).collect()
        } else {
            v.par_chunks(n).with_min_len((ALONE / n).max(1)).map(range).collect()
        }
    }
    if n == 0 {
        return vec![0..0; rows];
    }
    match values {
        Values::Bool(v) => each(v, n, |_| false, |seen, hidden| seen == hidden),
        Values::Float(v) => {
            let limit = |row: &[f32]| {
                let mut most = f32::NEG_INFINITY;
                largest(row, &mut most);
                (most - GAP).max(f32::MIN)
            };
            each(v, n, limit, |add, limit| add < limit)
        }
    }
}

multiversion! {
    fn largest(row: &[f32], most: &mut f32) {
        const LANES: usize = 16;
        let (runs, rest) = row.as_chunks::<LANES>();
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for run in runs {
            for lane in 0..LANES {
                lanes[lane] = if run[lane] > lanes[lane] { run[lane] } else { lanes[lane] };
            }
        }
        *most = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_first_to_the_last() {
        const N: f32 = f32::NEG_INFINITY;
        const FAR: f32 = -3e4;
        let add = [N, 0.0, N, 1.0, N, N, N, N, 0.0, FAR, FAR, N, 0.0, 0.0, 0.0, f32::NAN];
        assert_eq!(seen(Values::Float(&add), 4, 4), [1..4, 0..0, 0..1, 0..4]);
        // All keys as far below: none of them is hidden by the others.
        let far = [FAR, FAR, FAR - 9000.0, FAR, FAR, FAR];
        assert_eq!(seen(Values::Float(&far), 2, 3), [0..2, 0..3]);
        let seen_or_not = add.map(|a| a > FAR || a.is_nan());
        assert_eq!(seen(Values::Bool(&seen_or_not), 4, 4), [1..4, 0..0, 0..1, 0..4]);
        // As many as several threads share.
        let many: Vec<f32> = add.iter().copied().cycle().take(1 << 18).collect();
        assert_eq!(seen(Values::Float(&many), 1 << 16, 4)[65_532..], [1..4, 0..0, 0..1, 0..4]);
    }
}
