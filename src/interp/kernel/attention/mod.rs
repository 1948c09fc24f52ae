//! Scaled dot-product attention of one head: softmax(q·kᵀ·scale + mask)·v, everything in f32 until the end.

mod few;
mod many;
mod mask;

use std::ops::Range;

use half::f16;

use super::dot::dot;
use super::fp16;
pub(crate) use mask::{Mask, Values, seen};

/// Up to this many queries, each key is used as soon as it is read.
const FEW: usize = 4;

/// Rows of keys or values as they are carried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
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
        match self {
            Self::F32(v) => {
                out.clear();
                out.extend_from_slice(&v[from..to]);
            }
            Self::F16(v) => {
                out.resize(to - from, 0.0);
                fp16::to_f32(&v[from..to], out);
            }
        }
    }
}

/// What a head's queries see, and how it is masked.
#[derive(Clone, Copy)]
struct View<'a> {
    mask: Option<Mask<'a>>,
    /// True if keys that are not seen may be left out.
    narrow: bool,
    keys: usize,
}

impl<'a> View<'a> {
    fn new(head: &Head, q: &[f32], k: Rows<'_>, mask: Option<Mask<'a>>) -> Self {
        let Head { queries, keys, depth, scale, .. } = *head;
        let view = Self { mask, narrow: true, keys };
        if (0..queries).all(|q| view.of(q..q + 1) == (0..keys)) {
            return view;
        }
        // |q·k| is at most |q|·|k|.
        let most = longest(Rows::F32(q), depth) * longest(k, depth) * scale.abs();
        Self { narrow: mask.is_some_and(|mask| mask.hides(most)), ..view }
    }

    /// The keys from the first to the last that any of these queries sees.
    fn of(&self, queries: Range<usize>) -> Range<usize> {
        match self.mask {
            Some(mask) if self.narrow => {
                let seen = queries.map(|q| mask.seen(q)).filter(|seen| !seen.is_empty());
                seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
            }
            _ => 0..self.keys,
        }
    }

    /// Masks the scores of a query with some keys.
    fn apply(&self, query: usize, keys: Range<usize>, scores: &mut [f32]) {
        if let Some(mask) = self.mask {
            mask.apply(query, keys, self.keys, scores);
        }
    }
}

/// The length of the longest row; NaN when one has no length.
fn longest(rows: Rows<'_>, depth: usize) -> f32 {
    /// Rows taken together.
    const SOME: usize = 64;
    let n = match rows {
        Rows::F32(v) => v.len(),
        Rows::F16(v) => v.len(),
    };
    let (mut most, mut tile) = (0.0_f32, Vec::new());
    for from in (0..n).step_by((SOME * depth).max(1)) {
        rows.tile(from, (from + SOME * depth).min(n), &mut tile);
        for row in tile.chunks(depth) {
            let square = dot(row, row);
            // Not `max`, which would forget a NaN.
            most = if square <= most { most } else { square };
            if most.is_nan() {
                return most;
            }
        }
    }
    most.sqrt()
}

/// One head: `q` of `[queries, depth]`, keys and values as rows; writes `[queries, value_depth]`.
pub(crate) fn head(
    head: &Head,
    q: &[f32],
    k: Rows<'_>,
    v: Rows<'_>,
    mask: Option<Mask<'_>>,
    out: &mut [f32],
) {
    if head.queries == 0 || head.value_depth == 0 {
        return;
    }
    let view = View::new(head, q, k, mask);
    if head.queries <= FEW {
        few::head(head, q, k, v, view, out);
    } else {
        many::head(head, q, k, v, view, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::mask::seen as seen_of;
    use super::*;

    /// What is added to the score of a query with a key.
    type Plain<'a> = dyn Fn(usize, usize) -> f64 + 'a;

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
        fn as_the_formula(queries in prop_oneof![1_usize..9, 40_usize..60], keys in 1_usize..300, depth in 1_usize..40, value_depth in 1_usize..20, seen in 1_usize..300, kind in 0..6, large in any::<bool>(), seed: u32) {
            let h = Head { queries, keys, depth, value_depth, scale: if large { 4000.0 } else { 0.3 } };
            let number = |i: usize| f16::from_f32(((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) as f32 / 2048.0 - 1.0).to_f32();
            let q: Vec<f32> = (0..queries * depth).map(number).collect();
            let k: Vec<f32> = (0..keys * depth).map(|i| number(i + 7777)).collect();
            let v: Vec<f32> = (0..keys * value_depth).map(|i| number(i + 99_999)).collect();
            let k16: Vec<f16> = k.iter().map(|&x| f16::from_f32(x)).collect();
            let v16: Vec<f16> = v.iter().map(|&x| f16::from_f32(x)).collect();
            let bools: Vec<bool> = (0..queries * keys).map(|i| i % keys < seen + i / keys).collect();
            // A window that slides, with holes, and here and there a query that sees nothing.
            let hidden = if kind == 4 { -3e4 } else { f32::NEG_INFINITY };
            let sliding: Vec<f32> = (0..queries * keys).map(|at| {
                let (i, j) = (at / keys, at % keys);
                if j + seen / 2 >= i && j <= i + seen && at % 7 != 3 { number(at) } else { hidden }
            }).collect();
            let floats: Vec<f32> = (0..keys).map(|j| if j < seen { number(j) } else { f32::NEG_INFINITY }).collect();
            let (values, reference): (_, Box<Plain<'_>>) = match kind {
                0 => (None, Box::new(|_, _| 0.0)),
                1 => (Some(Values::Bool(&bools)), Box::new(|i, j| if bools[i * keys + j] { 0.0 } else { f64::NEG_INFINITY })),
                2 => (Some(Values::Float(&floats)), Box::new(|_, j| f64::from(floats[j]))),
                _ => (Some(Values::Float(&sliding)), Box::new(|i, j| f64::from(sliding[i * keys + j]))),
            };
            let ranges = values.map(|v| seen_of(v, if kind == 2 { 1 } else { queries }, keys));
            let mask = values.map(|values| Mask { values, step: usize::from(kind != 2), seen: ranges.as_deref().unwrap() });
            let want = plain(&h, &q, &k, &v, &*reference);
            let (k, v) = if kind % 2 == 0 { (Rows::F32(&k), Rows::F32(&v)) } else { (Rows::F16(&k16), Rows::F16(&v16)) };
            let mut got = vec![0.0; queries * value_depth];
            head(&h, &q, k, v, mask, &mut got);
            for (i, (g, w)) in got.iter().zip(want).enumerate() {
                // Scores below 12 in magnitude carry an error of about depth·ε into the exponent; of large ones, which
                // are about one key each, that of 1e5·depth·ε shows where two are near one another. A query that sees
                // no key has scores of about -3e4, where the steps of f32 are 2⁻⁹, with values up to 2 apart.
                let blind = kind == 4 && (0..keys).all(|j| reference(i / value_depth, j) == -3e4);
                let error = if large { 0.5 } else if blind { 4e-3 } else { 1e-4 };
                prop_assert!(g.is_nan() && w.is_nan() || (f64::from(*g) - w).abs() < error, "{} for {}", g, w);
            }
        }
    }

    #[test]
    fn a_query_that_sees_nothing_is_nan() {
        let h = Head { queries: 2, keys: 2, depth: 1, value_depth: 1, scale: 1.0 };
        for queries in [2, 60] {
            let h = Head { queries, ..h };
            let seen: Vec<bool> = (0..2 * queries).map(|at| at == 0).collect();
            let ranges = seen_of(Values::Bool(&seen), queries, 2);
            let mut out = vec![0.0; queries];
            let (k, v) = (Rows::F32(&[1.0, 2.0]), Rows::F32(&[5.0, 6.0]));
            let mask = Mask { values: Values::Bool(&seen), step: 1, seen: &ranges };
            head(&h, &vec![1.0; queries], k, v, Some(mask), &mut out);
            assert_eq!(out[0], 5.0);
            assert!(out[1..].iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn a_finite_mask_hides_only_what_no_score_reaches() {
        // Causal, so that the last query sees every key; the last key's score is larger than the mask is deep.
        for n in [3, 8] {
            let h = Head { queries: n, keys: n, depth: 1, value_depth: 1, scale: 1.0 };
            let add: Vec<f32> =
                (0..n * n).map(|at| if at % n <= at / n { 0.0 } else { -3e4 }).collect();
            let seen = seen_of(Values::Float(&add), n, n);
            let mask = Mask { values: Values::Float(&add), step: 1, seen: &seen };
            for (score, want) in [(1e5, n - 1), (0.0, 0)] {
                let k: Vec<f32> = (0..n).map(|j| if j + 1 == n { score } else { 0.0 }).collect();
                let v: Vec<f32> = (0..n).map(|j| j as f32).collect();
                let mut out = vec![0.0; n];
                head(&h, &vec![1.0; n], Rows::F32(&k), Rows::F32(&v), Some(mask), &mut out);
                assert_eq!(out[0], want as f32, "{n} queries");
            }
        }
    }
}
