//! Constants in the form they are stored in, expanded a run at a time where they are used.
//!
//! Products, gathers and convolutions ask a [`Stored`] for the elements they need, so a compressed weight is never
//! expanded as a whole. One file per form; each is tied by a property to the plain formula in its tests.

mod blockwise;
mod dense;
mod lut;
mod packed;
mod sparse;

use std::sync::Arc;

pub(crate) use blockwise::Blockwise;
pub(crate) use lut::Lut;
pub(crate) use packed::Packed;
pub(crate) use sparse::{Mask, Sparse};

use super::kernel::row::Row;
use super::tensor::Tensor;
use crate::mil::DType;

/// A constant that gives its elements as f32, any run of them, in row-major order.
pub(crate) trait Stored: Send + Sync {
    /// The type its elements have.
    fn dtype(&self) -> DType;
    /// Its extents.
    fn shape(&self) -> &[usize];
    /// Writes the elements from the flat position `at` on, on this thread: callers hold memory of their thread.
    fn fill(&self, at: usize, out: &mut [f32]);
    /// `n` elements from the flat position `at` on as they lie in memory, where a kernel can use them so.
    fn run(&self, _at: usize, _n: usize) -> Option<Row<'_>> {
        None
    }
    /// The number of elements.
    fn len(&self) -> usize {
        self.shape().iter().product()
    }
}

/// A stored constant, shared by the operations that use it.
pub(crate) type Shared = Arc<dyn Stored>;

/// A tensor as a stored constant.
pub(crate) fn of_tensor(tensor: Tensor) -> Shared {
    Arc::new(dense::Dense(tensor))
}

/// All elements as a tensor: fp16 in two bytes each.
pub(crate) fn expand(stored: &dyn Stored) -> Tensor {
    let shape = stored.shape();
    let n = stored.len();
    let mut run = vec![0.0_f32; n.min(1 << 16)];
    match stored.dtype() {
        DType::F16 => {
            let mut out = Vec::with_capacity(n);
            while out.len() < n {
                let take = run.len().min(n - out.len());
                stored.fill(out.len(), &mut run[..take]);
                out.extend(run[..take].iter().map(|&v| half::f16::from_f32(v)));
            }
            Tensor::f16(shape, out)
        }
        dtype => {
            let mut out = vec![0.0; n];
            stored.fill(0, &mut out);
            if dtype.is_float() {
                Tensor::f32(shape, out).tagged(dtype)
            } else {
                Tensor::i32(shape, out.into_iter().map(|v| v as i32).collect()).tagged(dtype)
            }
        }
    }
}

/// Row-major position to coordinates.
fn coordinates(mut at: usize, shape: &[usize], out: &mut [usize]) {
    for (c, &n) in out.iter_mut().zip(shape).rev() {
        *c = at % n;
        at /= n;
    }
}

/// Splits a run of elements into pieces that lie in one row of the innermost dimension: calls
/// `f(outer coordinates, first column, piece)`.
fn by_row(
    shape: &[usize],
    mut at: usize,
    mut out: &mut [f32],
    mut f: impl FnMut(&[usize], usize, &mut [f32]),
) {
    let (outer_shape, row) = match shape.split_last() {
        Some((&row, outer)) => (outer, row),
        None => (shape, 1),
    };
    let mut outer = vec![0; outer_shape.len()];
    while !out.is_empty() {
        coordinates(at / row, outer_shape, &mut outer);
        let column = at % row;
        let (piece, rest) = out.split_at_mut((row - column).min(out.len()));
        at += piece.len();
        f(&outer, column, piece);
        out = rest;
    }
}
