//! Few queries, as in a decode step: every key and every value is read once, by all of them.

use super::{Head, Rows, View};
use crate::interp::kernel::dot::{dot, dot_f16};
use crate::interp::kernel::simd::multiversion;
use crate::interp::kernel::softmax::{exp_and_sum, scale_by};

/// Keys handled together, so that their f32 form stays in the cache.
const KEYS: usize = 128;

/// As [`super::head`].
pub(super) fn head(
    head: &Head,
    q: &[f32],
    k: Rows<'_>,
    v: Rows<'_>,
    view: View<'_>,
    out: &mut [f32],
) {
    let Head { queries, depth, value_depth, scale, .. } = *head;
    let seen = view.of(0..queries);
    let n = seen.len();
    let mut scores = vec![0.0; queries * n];
    for (place, key) in seen.clone().enumerate() {
        let row = key * depth..(key + 1) * depth;
        for (i, q) in q.chunks(depth.max(1)).enumerate() {
            scores[i * n + place] = match k {
                Rows::F32(k) => dot(&k[row.clone()], q),
                Rows::F16(k) => dot_f16(&k[row.clone()], q),
            };
        }
    }
    if n == 0 {
        out.fill(f32::NAN);
        return;
    }
    let mut factors = vec![0.0; queries];
    for (i, (row, factor)) in scores.chunks_mut(n).zip(&mut factors).enumerate() {
        scale_by(row, scale);
        view.apply(i, seen.clone(), row);
        exp_and_sum(row, factor);
    }
    out.fill(0.0);
    let mut tile = Vec::new();
    for from in seen.clone().step_by(KEYS) {
        let to = (from + KEYS).min(seen.end);
        v.tile(from * value_depth, to * value_depth, &mut tile);
        for (out, weights) in out.chunks_mut(value_depth).zip(scores.chunks(n)) {
            blend(&weights[from - seen.start..to - seen.start], &tile, out);
        }
    }
    // A query that sees no key has no weights that sum to one: its factor is NaN, as the formula gives.
    for (out, factor) in out.chunks_mut(value_depth).zip(factors) {
        scale_by(out, factor);
    }
}

multiversion! {
    /// Adds Σ weight · row to `out`, for rows as long as `out`.
    fn blend(weights: &[f32], rows: &[f32], out: &mut [f32]) {
        /// Sums that stay in registers.
        const LANES: usize = 32;
        let depth = out.len();
        let (parts, rest) = out.as_chunks_mut::<LANES>();
        let done = parts.len() * LANES;
        for (i, part) in parts.iter_mut().enumerate() {
            let mut sums = *part;
            for (&w, row) in weights.iter().zip(rows.chunks_exact(depth)) {
                let row: &[f32; LANES] = row[i * LANES..][..LANES].try_into().expect("the length was just taken");
                for lane in 0..LANES {
                    sums[lane] += w * row[lane];
                }
            }
            *part = sums;
        }
        for (&w, row) in weights.iter().zip(rows.chunks_exact(depth)) {
            rest.iter_mut().zip(&row[done..]).for_each(|(o, &x)| *o += w * x);
        }
    }
}
