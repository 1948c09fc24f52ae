//! `Delta`: `scale B A` as two factors, added to any block of a weight.

use std::ops::Range;
use std::path::Path;

use super::{Adapter, Branch, Error};
use crate::source::safetensors::Tensors;

/// The product of a low-rank pair in the layout of its weight: `left` [rows, rank] times `right` [rank, columns].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delta {
    left: Vec<f32>,
    right: Vec<f32>,
    rank: usize,
    n_columns: usize,
}

impl Delta {
    /// Reads a pair; the scale goes into the left factor.
    pub(crate) fn read(adapter: &Adapter, branch: &Branch) -> Result<Self, Error> {
        let a = adapter.tensors().read_f32(&branch.pair.a)?;
        let b = adapter.tensors().read_f32(&branch.pair.b)?;
        let rank = branch.rank;
        let (mut left, right, n_columns) = if branch.in_out {
            let left = transposed(&a, rank, branch.n_inputs);
            (left, transposed(&b, branch.n_outputs, rank), branch.n_outputs)
        } else {
            (b, a, branch.n_inputs)
        };
        for x in &mut left {
            *x *= branch.scale as f32;
        }
        Ok(Self { left, right, rank, n_columns })
    }

    /// Reads the factors that an initialisation takes out of a weight: the product with the opposite sign.
    pub(crate) fn read_initial(file: &Path, branch: &Branch) -> Result<Self, Error> {
        let factors = Tensors::open_file(file)?;
        let mut left = factors.read_f32("left")?;
        let right = factors.read_f32("right")?;
        for x in &mut left {
            *x *= -branch.scale as f32;
        }
        let n_columns = if branch.in_out { branch.n_outputs } else { branch.n_inputs };
        Ok(Self { left, right, rank: branch.rank, n_columns })
    }

    /// True if it adds nothing anywhere: for each inner index one of the factors is zero.
    pub(crate) fn is_zero(&self) -> bool {
        let columns = self.n_columns.max(1);
        self.right.chunks(columns).enumerate().all(|(k, row)| {
            row.iter().all(|x| *x == 0.0)
                || self.left.iter().skip(k).step_by(self.rank).all(|x| *x == 0.0)
        })
    }

    /// Adds the product's `rows` and `columns` to `block`, which holds them row by row.
    ///
    /// Each element is summed over the inner index in order, whatever the block, so that a weight does not depend on
    /// how it is cut up.
    pub(crate) fn add_to(&self, rows: &Range<usize>, columns: &Range<usize>, block: &mut [f32]) {
        for (row, out) in rows.clone().zip(block.chunks_mut(columns.len().max(1))) {
            let left = &self.left[row * self.rank..(row + 1) * self.rank];
            // Four inner indices at a time: one pass over the row for four of the factor's rows.
            let mut k = 0;
            while k + 4 <= self.rank {
                let [r0, r1, r2, r3] = [0, 1, 2, 3].map(|i| self.right_row(k + i, columns));
                let [l0, l1, l2, l3] = [0, 1, 2, 3].map(|i| left[k + i]);
                for ((((x, a), b), c), d) in out.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3) {
                    *x = *x + l0 * a + l1 * b + l2 * c + l3 * d;
                }
                k += 4;
            }
            for (k, l) in left.iter().enumerate().skip(k) {
                for (x, r) in out.iter_mut().zip(self.right_row(k, columns)) {
                    *x += l * r;
                }
            }
        }
    }

    fn right_row(&self, k: usize, columns: &Range<usize>) -> &[f32] {
        &self.right[k * self.n_columns..][columns.clone()]
    }
}

/// The transpose of a row-major matrix of `n_rows` by `n_columns`.
fn transposed(matrix: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; matrix.len()];
    for (i, row) in matrix.chunks(n_columns.max(1)).enumerate() {
        for (j, x) in row.iter().enumerate() {
            out[j * n_rows + i] = *x;
        }
    }
    out
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "a block must equal its part of the whole to the bit")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The product by its definition.
    fn plain(delta: &Delta, n_rows: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| {
            let terms = (0..delta.rank).map(|k| {
                let l = f64::from(delta.left[i * delta.rank + k]);
                l * f64::from(delta.right[k * delta.n_columns + j])
            });
            terms.sum()
        };
        (0..n_rows).flat_map(|i| (0..delta.n_columns).map(move |j| at(i, j))).collect()
    }

    proptest! {
        #[test]
        fn blocks_are_the_product(n_rows in 1usize..9, n_columns in 1usize..17, rank in 1usize..11, seed: u32) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) ^ seed) as f32 / u32::MAX as f32 - 0.5;
            let left: Vec<f32> = (0..n_rows * rank).map(value).collect();
            let right: Vec<f32> = (0..n_columns * rank).map(|i| value(i + 999)).collect();
            let delta = Delta { left, right, rank, n_columns };
            let mut whole = vec![0.0; n_rows * n_columns];
            delta.add_to(&(0..n_rows), &(0..n_columns), &mut whole);
            for (got, want) in whole.iter().zip(plain(&delta, n_rows)) {
                // rank <= 10 products of at most 1/4 each: the sum is off by at most 11 roundings of 2.5.
                prop_assert!((f64::from(*got) - want).abs() <= 11.0 * 2.5 * f64::from(f32::EPSILON));
            }
            let (rows, columns) = (n_rows / 2..n_rows, n_columns / 3..n_columns);
            let mut block = vec![0.0; rows.len() * columns.len()];
            delta.add_to(&rows, &columns, &mut block);
            for (i, row) in rows.enumerate() {
                for (j, column) in columns.clone().enumerate() {
                    prop_assert_eq!(block[i * columns.len() + j], whole[row * n_columns + column]);
                }
            }
        }
    }
}
