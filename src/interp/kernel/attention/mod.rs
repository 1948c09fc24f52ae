//! Scaled dot-product attention of one head: softmax(q·kᵀ·scale + mask)·v, everything in f32 until the end.

mod many;

use std::ops::Range;

use half::f16;

use super::dot::{axpy, dot, dot_f16};
use super::fp16;
use super::simd::{exp, quick};

/// Keys handled together, so that their f32 form stays in the cache.
const KEYS: usize = 128;
/// Up to this many queries, each key is used as soon as it is read.
const FEW: usize = 4;

/// Rows of keys or values as they are carried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// The mask of one head, `[queries, keys]`; a row may serve all queries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mask<'a> {
    None,
    /// True where the key is seen; step from one query's row to the next.
    Bool(&'a [bool], usize),
    /// Added to the scores; step from one query's row to the next.
    Float(&'a [f32], usize),
}

/// The extents of one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) depth: usize,
    pub(crate) value_depth: usize,
    pub(crate) scale: f32,
}

impl Rows<'_> {
    fn tile(&self, from: usize, to: usize, out: &mut Vec<f32>) {
        out.clear();
        match self {
            Self::F32(v) => out.extend_from_slice(&v[from..to]),
            Self::F16(v) => {
                out.resize(to - from, 0.0);
                fp16::to_f32(&v[from..to], out);
            }
        }
    }
}

impl Mask<'_> {
    /// Masks the scores of a query with the keys from `first` on.
    fn apply(&self, query: usize, first: usize, scores: &mut [f32]) {
        match *self {
            Self::None => {}
            Self::Bool(seen, step) => {
                for (s, &seen) in scores.iter_mut().zip(&seen[query * step + first..]) {
                    *s = if seen { *s } else { f32::NEG_INFINITY };
                }
            }
            Self::Float(add, step) => {
                scores.iter_mut().zip(&add[query * step + first..]).for_each(|(s, &a)| *s += a);
            }
        }
    }

    /// Whether none of these queries sees any of these keys, so that they need not be read.
    fn hides(&self, queries: &Range<usize>, keys: Range<usize>) -> bool {
        queries.clone().all(|q| match *self {
            Self::None => false,
            Self::Bool(seen, step) => seen[q * step..][keys.clone()].iter().all(|&s| !s),
            Self::Float(add, step) => {
                add[q * step..][keys.clone()].iter().all(|&a| a == f32::NEG_INFINITY)
            }
        })
    }
}

/// One head: `q` of `[queries, depth]`, keys and values as rows; writes `[queries, value_depth]`.
pub(crate) fn head(
    head: &Head,
    q: &[f32],
    k: Rows<'_>,
    v: Rows<'_>,
    mask: Mask<'_>,
    out: &mut [f32],
) {
    let Head { queries, keys, depth, value_depth, scale } = *head;
    if queries > FEW && value_depth > 0 {
        many::head(head, q, k, v, mask, out);
        return;
    }
    let mut scores = vec![f32::NEG_INFINITY; queries * keys];
    let mut tile = Vec::new();
    let blocks: Vec<_> = (0..keys)
        .step_by(KEYS)
        .map(|from| from..(from + KEYS).min(keys))
        .filter(|block| !mask.hides(&(0..queries), block.clone()))
        .collect();
    for block in &blocks {
        for key in block.clone() {
            let row = key * depth..(key + 1) * depth;
            for (i, q) in q.chunks(depth).enumerate() {
                scores[i * keys + key] = match k {
                    Rows::F32(k) => dot(&k[row.clone()], q),
                    Rows::F16(k) => dot_f16(&k[row.clone()], q),
                };
            }
        }
    }
    // Keys before the first and after the last block that is seen have no weight.
    let seen = blocks.first().map_or(0, |b| b.start)..blocks.last().map_or(keys, |b| b.end);
    for (i, row) in scores.chunks_mut(keys).enumerate() {
        for s in row.iter_mut() {
            *s *= scale;
        }
        mask.apply(i, 0, row);
        softmax(&mut row[seen.clone()]);
    }
    out.fill(0.0);
    for block in &blocks {
        v.tile(block.start * value_depth, block.end * value_depth, &mut tile);
        for (out, p) in out.chunks_mut(value_depth).zip(scores.chunks(keys)) {
            for (row, &p) in tile.chunks(value_depth).zip(&p[block.clone()]) {
                axpy(p, row, out);
            }
        }
    }
    // A query that sees no key has no weights that sum to one: NaN, as the formula gives.
    for (out, p) in out.chunks_mut(value_depth.max(1)).zip(scores.chunks(keys.max(1))) {
        if p.get(seen.start).is_some_and(|p| p.is_nan()) {
            out.fill(f32::NAN);
        }
    }
}

quick! {
    /// exp(x − max) / Σ, in place.
    pub(crate) fn softmax(row: &mut [f32]) {
        /// Independent running values, so that steps do not wait for each other.
        const LANES: usize = 16;
        let (runs, rest) = row.as_chunks::<LANES>();
        let mut most = [f32::NEG_INFINITY; LANES];
        for run in runs {
            for lane in 0..LANES {
                most[lane] = if run[lane] > most[lane] { run[lane] } else { most[lane] };
            }
        }
        let max = most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        for x in row.iter_mut() {
            *x = exp(*x - max);
        }
        let (runs, rest) = row.as_chunks::<LANES>();
        let mut sums = [0.0_f32; LANES];
        for run in runs {
            for lane in 0..LANES {
                sums[lane] += run[lane];
            }
        }
        let sum: f64 = sums.iter().chain(rest).map(|&s| f64::from(s)).sum();
        let factor = (1.0 / sum) as f32;
        for x in row {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The formula in f64.
    fn plain(
        h: &Head,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        mask: &dyn Fn(usize, usize) -> f64,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for i in 0..h.queries {
            let scores: Vec<f64> = (0..h.keys)
                .map(|j| {
                    let dot: f64 = (0..h.depth)
                        .map(|d| f64::from(q[i * h.depth + d]) * f64::from(k[j * h.depth + d]))
                        .sum();
                    dot * f64::from(h.scale) + mask(i, j)
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = e.iter().sum();
            for d in 0..h.value_depth {
                out.push(
                    (0..h.keys).map(|j| e[j] / sum * f64::from(v[j * h.value_depth + d])).sum(),
                );
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn as_the_formula(queries in prop_oneof![1_usize..9, 40_usize..60], keys in 1_usize..300, depth in 1_usize..40, value_depth in 1_usize..20, seen in 1_usize..300, kind in 0..4, seed: u32) {
            let h = Head { queries, keys, depth, value_depth, scale: 0.3 };
            let number = |i: usize| f16::from_f32(((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) as f32 / 2048.0 - 1.0).to_f32();
            let q: Vec<f32> = (0..queries * depth).map(number).collect();
            let k: Vec<f32> = (0..keys * depth).map(|i| number(i + 7777)).collect();
            let v: Vec<f32> = (0..keys * value_depth).map(|i| number(i + 99_999)).collect();
            let k16: Vec<f16> = k.iter().map(|&x| f16::from_f32(x)).collect();
            let v16: Vec<f16> = v.iter().map(|&x| f16::from_f32(x)).collect();
            let bools: Vec<bool> = (0..queries * keys).map(|i| i % keys < seen + i / keys).collect();
            let floats: Vec<f32> = (0..keys).map(|j| if j < seen { number(j) } else { f32::NEG_INFINITY }).collect();
            let (mask, reference): (Mask<'_>, Box<dyn Fn(usize, usize) -> f64>) = match kind {
                0 => (Mask::None, Box::new(|_, _| 0.0)),
                1 => (Mask::Bool(&bools, keys), Box::new(|i, j| if bools[i * keys + j] { 0.0 } else { f64::NEG_INFINITY })),
                _ => (Mask::Float(&floats, 0), Box::new(|_, j| f64::from(floats[j]))),
            };
            let want = plain(&h, &q, &k, &v, &*reference);
            let (k, v) = if kind % 2 == 0 { (Rows::F32(&k), Rows::F32(&v)) } else { (Rows::F16(&k16), Rows::F16(&v16)) };
            let mut got = vec![0.0; queries * value_depth];
            head(&h, &q, k, v, mask, &mut got);
            for (g, w) in got.iter().zip(want) {
                // Scores below 12 in magnitude carry an error of about depth·ε into the exponent.
                prop_assert!((f64::from(*g) - w).abs() < 1e-4, "{} for {}", g, w);
            }
        }
    }

    #[test]
    fn a_query_that_sees_nothing_is_nan() {
        let h = Head { queries: 2, keys: 2, depth: 1, value_depth: 1, scale: 1.0 };
        let seen = [true, false, false, false];
        let mut out = [0.0; 2];
        head(
            &h,
            &[1.0, 1.0],
            Rows::F32(&[1.0, 2.0]),
            Rows::F32(&[5.0, 6.0]),
            Mask::Bool(&seen, 2),
            &mut out,
        );
        assert_eq!(out[0], 5.0);
        assert!(out[1].is_nan());
    }
}
