//! Products with a stored weight: rows are expanded a tile at a time inside the product, on all cores.
//!
//! Tiles are of fixed size and every element is summed by one thread, so results do not depend on the thread count.

use std::cell::RefCell;
use std::marker::PhantomData;

use rayon::prelude::*;

use super::columns::Columns;
use super::dot::dot;
use super::fp16;
use super::gemm::{Matrix, multiply};
use super::panels::{self, Block};
use crate::interp::stored::Stored;

/// Up to this many vectors, each row of the weight is used as soon as it is read.
const MAX_GEMV_VECTORS: usize = 4;
/// Rows of the weight in a tile when the weight stands as `[k, n]`.
const ROWS: usize = 64;
/// Elements of the weight in a task when there are few vectors.
const TASK: usize = 1 << 16;
/// Columns of the weight in a tile when the weight stands as `[k, n]`.
const COLUMNS: usize = 128;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What happens to sums before they are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// Added, one for each row of the weight.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether to round to fp16.
    pub(crate) halves: bool,
}

impl Epilogue<'_> {
    /// Finishes the sums of the rows from `first` on with one vector.
    fn apply(&self, first: usize, sums: &mut [f32]) {
        if let Some(bias) = self.bias {
            sums.iter_mut().zip(&bias[first..]).for_each(|(s, &b)| *s += b);
        }
        if self.halves {
            fp16::round(sums);
        }
    }
}

/// `w · x` for `w` of `[n, k]` and `x` of `[k, t]`: `[n, t]`, row-major.
pub(crate) fn rows(w: &dyn Stored, (n, k): (usize, usize), x: &Columns<'_>, out: &mut [f32]) {
    let t = x.t;
    if out.is_empty() || k == 0 {
        out.fill(0.0);
        return;
    }
    if t <= MAX_GEMV_VECTORS {
        gemv(w, (n, k), &x.vectors(k), out);
    } else {
        let strips = Strips::new(out, t);
        panels::gemm(w, (n, k), x, &|block| {
            for i in 0..block.rows {
                strips.write(block.row + i, block.vector, block.row(i));
            }
        });
    }
}

/// `x · wᵀ` for `x` of `[t, k]` and `w` of `[n, k]`, finished: `[t, n]`, row-major.
pub(crate) fn linear(
    w: &dyn Stored,
    (n, k): (usize, usize),
    x: &[f32],
    finish: Epilogue<'_>,
    out: &mut [f32],
) {
    if n == 0 {
        return;
    }
    let t = out.len() / n;
    if k == 0 || t == 0 {
        out.fill(0.0);
        out.chunks_mut(n).for_each(|sums| finish.apply(0, sums));
    } else if t == 1 {
        gemv(w, (n, k), x, out);
        finish.apply(0, out);
    } else if t <= MAX_GEMV_VECTORS {
        let mut sums = vec![0.0; n * t];
        gemv(w, (n, k), x, &mut sums);
        for (i, out) in out.chunks_mut(n).enumerate() {
            out.iter_mut().zip(sums[i..].iter().step_by(t)).for_each(|(o, &s)| *o = s);
            finish.apply(0, out);
        }
    } else {
        let strips = Strips::new(out, n);
        let columns = Columns { data: x, t, k_stride: 1, t_stride: k };
        panels::gemm(w, (n, k), &columns, &|block: &Block<'_>| {
            for (lane, sums) in block.transposed()[..block.vectors].iter_mut().enumerate() {
                let sums = &mut sums[..block.rows];
                finish.apply(block.row, sums);
                strips.write(block.vector + lane, block.row, sums);
            }
        });
    }
}

/// A row-major matrix that several threads write, each place by one of them.
struct Strips<'a> {
    to: *mut f32,
    rows: usize,
    width: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

#[expect(
    unsafe_code,
    reason = "columns of a row-major matrix cannot be lent as slices to several threads"
)]
// SAFETY: the pointer is used in `write` alone, whose callers write every place once.
unsafe impl Sync for Strips<'_> {}

impl<'a> Strips<'a> {
    fn new(matrix: &'a mut [f32], width: usize) -> Self {
        let rows = matrix.len() / width;
        Self { to: matrix.as_mut_ptr(), rows, width, matrix: PhantomData }
    }

    /// Writes a part of a row. Blocks of [`panels::gemm`] do not overlap, so no two calls write the same place.
    fn write(&self, row: usize, column: usize, values: &[f32]) {
        assert!(row < self.rows && column + values.len() <= self.width, "inside the matrix");
        #[expect(unsafe_code, reason = "see the type")]
        // SAFETY: the part lies inside the matrix, which is borrowed for writing as long as `self` lives; `values`
        // lies in a task's own memory; no other thread writes this part.
        unsafe {
            let to = self.to.add(row * self.width + column);
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
        }
    }
}

/// `w · x` for few vectors that stand one after another: `[n, t]`.
fn gemv(w: &dyn Stored, (n, k): (usize, usize), vectors: &[f32], out: &mut [f32]) {
    let t = vectors.len() / k;
    let per_task = (TASK / k).clamp(1, n.max(1));
    let task = |(i, out): (usize, &mut [f32])| few_rows(w, i * per_task, k, vectors, out);
    if n <= per_task {
        task((0, out));
    } else {
        out.par_chunks_mut(per_task * t).enumerate().for_each(task);
    }
}

fn few_rows(w: &dyn Stored, first: usize, k: usize, vectors: &[f32], out: &mut [f32]) {
    let t = vectors.len() / k;
    for (i, out) in out.chunks_mut(t).enumerate() {
        let at = (first + i) * k;
        match w.run(at, k) {
            Some(row) => row.dots(vectors, out),
            None => with_scratch(k, |row| {
                w.fill(at, row);
                for (o, x) in out.iter_mut().zip(vectors.chunks(k)) {
                    *o = dot(row, x);
                }
            }),
        }
    }
}

/// `x · w` for `x` of `[t, k]` (rows `k` apart) and `w` of `[k, n]`: `[t, n]`, row-major.
pub(crate) fn columns(
    w: &dyn Stored,
    (k, n): (usize, usize),
    x: &[f32],
    t: usize,
    out: &mut [f32],
) {
    let blocks: Vec<Vec<f32>> = (0..n.div_ceil(COLUMNS))
        .into_par_iter()
        .map(|block| {
            let first = block * COLUMNS;
            let width = COLUMNS.min(n - first);
            let mut out = vec![0.0; t * width];
            with_scratch(ROWS * width, |tile| {
                for start in (0..k).step_by(ROWS) {
                    let depth = ROWS.min(k - start);
                    for (i, row) in tile.chunks_mut(width).take(depth).enumerate() {
                        w.fill((start + i) * n + first, row);
                    }
                    let (a, b) = (Matrix::new(&x[start..], k, 1), Matrix::new(tile, width, 1));
                    multiply((t, width, depth), a, b, &mut out, width, true);
                }
            });
            out
        })
        .collect();
    for (block, part) in blocks.iter().enumerate() {
        let first = block * COLUMNS;
        let width = COLUMNS.min(n - first);
        for (out, part) in out.chunks_mut(n).zip(part.chunks(width)) {
            out[first..first + width].copy_from_slice(part);
        }
    }
}

fn with_scratch(n: usize, f: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < n {
            scratch.resize(n, 0.0);
        }
        f(&mut scratch[..n]);
    });
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::interp::stored::{Blockwise, Lut, Packed, Shared, expand, of_tensor};
    use crate::interp::tensor::Tensor;
    use crate::mil::DType;

    /// One weight of each stored form, `[n, k]` with both a multiple of 4.
    fn forms(n: usize, k: usize, seed: u64) -> Vec<Shared> {
        let mut x = seed;
        let mut next = move || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 40) as u8
        };
        let halves: Vec<f16> =
            (0..n * k).map(|_| f16::from_f32(f32::from(next()) / 128.0 - 1.0)).collect();
        let floats: Vec<f32> = halves.iter().map(|h| h.to_f32()).collect();
        let codes: Vec<u8> = (0..n * k / 2).map(|_| next()).collect();
        let tables: Vec<f32> = (0..n / 4 * 16).map(|_| f32::from(next()) / 128.0 - 1.0).collect();
        let scales: Vec<f16> =
            (0..n * k / 4).map(|_| f16::from_f32(f32::from(next()) / 2048.0)).collect();
        let packed = |dtype| Packed::owned(dtype, vec![n, k], codes.clone());
        let scale = of_tensor(Tensor::f16(&[n, k / 4], scales));
        vec![
            of_tensor(Tensor::f16(&[n, k], halves)),
            of_tensor(Tensor::f32(&[n, k], floats)),
            std::sync::Arc::new(
                Lut::new(packed(DType::U4), tables, &[n / 4, 1, 16, 1], DType::F16, 0).unwrap(),
            ),
            std::sync::Arc::new(
                Blockwise::new(packed(DType::I4), scale, None, vec![n, k / 4], DType::F16).unwrap(),
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_form_multiplies_as_its_expanded_self(n in 1_usize..40, k in 1_usize..40, t in 1_usize..9, seed: u64) {
            let (n, k) = (n * 4, k * 4);
            let x: Vec<f32> = (0..t * k).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
            for w in forms(n, k, seed) {
                let plain = expand(&*w).to_f32().unwrap();
                let dense = |t: usize, n_: usize| -> f64 { (0..k).map(|i| f64::from(plain[n_ * k + i]) * f64::from(x[t * k + i])).sum() };
                // k additions of terms below 2 in magnitude.
                let bound = 2.0 * (k * k) as f64 * f64::from(f32::EPSILON);
                let mut got = vec![0.0; n * t];
                rows(&*w, (n, k), &Columns { data: &x, t, k_stride: 1, t_stride: k }, &mut got);
                for (i, &v) in got.iter().enumerate() {
                    prop_assert!((f64::from(v) - dense(i % t, i / t)).abs() <= bound);
                }
                let bias: Vec<f32> = (0..n).map(|i| i as f32 / 8.0).collect();
                let mut turned = vec![0.0; n * t];
                linear(&*w, (n, k), &x, Epilogue { bias: Some(&bias), halves: false }, &mut turned);
                for (i, &v) in turned.iter().enumerate() {
                    prop_assert!((f64::from(v) - dense(i / n, i % n) - f64::from(bias[i % n])).abs() <= bound + 1e-5);
                }
                let mut halves = vec![0.0; n * t];
                linear(&*w, (n, k), &x, Epilogue { bias: Some(&bias), halves: true }, &mut halves);
                prop_assert!(halves.iter().zip(&turned).all(|(&h, &v)| h == f16::from_f32(v).to_f32()));
                // The same elements read as `[k', n']` with the sides swapped.
                let x: Vec<f32> = x.iter().cycle().take(t * n).copied().collect();
                let mut got = vec![0.0; t * k];
                columns(&*w, (n, k), &x, t, &mut got);
                for (i, &v) in got.iter().enumerate() {
                    let want: f64 = (0..n).map(|p| f64::from(x[i / k * n + p]) * f64::from(plain[p * k + i % k])).sum();
                    prop_assert!((f64::from(v) - want).abs() <= 2.0 * (n * n) as f64 * f64::from(f32::EPSILON));
                }
            }
        }
    }

    #[test]
    fn the_thread_count_does_not_matter() {
        let (n, k) = (520, 128);
        for w in forms(n, k, 7) {
            for t in [1, 3, 20] {
                let x: Vec<f32> =
                    (0..t * k).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
                let run = |threads| {
                    let pool =
                        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut out = vec![0.0; n * t];
                    let columns = Columns { data: &x, t, k_stride: 1, t_stride: k };
                    pool.install(|| rows(&*w, (n, k), &columns, &mut out));
                    out
                };
                assert_eq!(run(1), run(3), "t = {t}");
            }
        }
    }
}
