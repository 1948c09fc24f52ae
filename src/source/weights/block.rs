//! `Weight`: any block of a stored tensor with what is merged into it, in f32.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::Error;
use crate::source::adapter::Delta;
use crate::source::dtype::Float;
use crate::source::safetensors;

/// Elements in hand at a time: 8 MiB of f32 and as many bytes again at most for the output.
pub(super) const BLOCK: usize = 1 << 21;
/// Elements in hand at a time when a matrix is turned: 32 MiB of f32, as much turned, half for the output. A strip of
/// columns is read row by row, so that a narrow one would be read in crumbs.
pub(super) const STRIP: usize = 1 << 23;
/// Elements that one thread reads, merges or rounds at a time.
const CHUNK: usize = 1 << 16;

/// A stored tensor and the arithmetic between it and the weight that is poured.
pub(super) struct Weight<'a> {
    /// Where the elements lie, by file and name; without it they are zeros.
    pub(super) stored: Option<(&'a safetensors::Tensors, String)>,
    pub(super) shape: Vec<usize>,
    pub(super) steps: Vec<Step>,
}

/// One step of the arithmetic.
pub(super) enum Step {
    /// The product of a low-rank pair is added.
    Add(Delta),
    /// One factor for each output: a column if the weight is stored [in, out], else a row.
    Scale(Vec<f32>, bool),
    /// Rows are replaced.
    Rows(BTreeMap<usize, Vec<f32>>),
    /// A vector is added to a vector.
    Bias(Vec<f32>),
}

impl Weight<'_> {
    pub(super) fn size(&self) -> (usize, usize) {
        match self.shape.split_first() {
            None => (1, 1),
            Some((rows, rest)) => (*rows, rest.iter().product()),
        }
    }

    /// The weight's `rows` and `columns`, row by row; rows are shared out among the threads.
    pub(super) fn block(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let n_rows = (CHUNK / columns.len()).max(1);
        let read = |(i, out): (usize, &mut [f32])| {
            let first = rows.start + i * n_rows;
            let rows = first..first + out.len() / columns.len();
            match &self.stored {
                Some((tensors, tensor)) => tensors.read_block(tensor, &rows, columns, out)?,
                None => out.fill(0.0),
            }
            for step in &self.steps {
                step.apply(&rows, columns, out);
            }
            Ok(())
        };
        out.par_chunks_mut(n_rows * columns.len()).enumerate().try_for_each(read)
    }

    /// The squared norm of the weights of each output.
    pub(super) fn output_norms(&self, in_out: bool) -> Result<Vec<f64>, Error> {
        let (n_rows, n_columns) = self.size();
        let mut norms = vec![0.0; if in_out { n_columns } else { n_rows }];
        let mut values = Vec::new();
        for rows in strips(n_rows, (BLOCK / n_columns.max(1)).max(1)) {
            values.resize(rows.len() * n_columns, 0.0);
            self.block(&rows, &(0..n_columns), &mut values)?;
            for (row, values) in rows.zip(values.chunks(n_columns)) {
                for (column, x) in values.iter().enumerate() {
                    let square = f64::from(*x) * f64::from(*x);
                    norms[if in_out { column } else { row }] += square;
                }
            }
        }
        Ok(norms)
    }
}

impl Step {
    fn apply(&self, rows: &Range<usize>, columns: &Range<usize>, block: &mut [f32]) {
        match self {
            Self::Add(delta) => delta.add_to(rows, columns, block),
            Self::Rows(replaced) => {
                for (row, values) in rows.clone().zip(block.chunks_mut(columns.len())) {
                    if let Some(vector) = replaced.get(&row) {
                        values.copy_from_slice(&vector[columns.clone()]);
                    }
                }
            }
            // A vector is a matrix of one column.
            Self::Bias(bias) => {
                for (x, b) in block.iter_mut().zip(&bias[rows.clone()]) {
                    *x += b;
                }
            }
            Self::Scale(factors, in_out) => {
                for (row, values) in rows.clone().zip(block.chunks_mut(columns.len())) {
                    if *in_out {
                        let factors = &factors[columns.clone()];
                        for (x, f) in values.iter_mut().zip(factors) {
                            *x *= f;
                        }
                    } else {
                        for x in values {
                            *x *= factors[row];
                        }
                    }
                }
            }
        }
    }
}

/// `0..n` in pieces of at most `step`.
pub(super) fn strips(n: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(step).map(move |first| first..n.min(first + step))
}

/// The transpose of a row-major matrix with `n_columns` columns, by tiles that stay in the nearest cache.
pub(super) fn transposed(matrix: &[f32], n_columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let n_rows = matrix.len() / n_columns;
    let mut out = vec![0.0; matrix.len()];
    out.par_chunks_mut(n_rows * TILE).enumerate().for_each(|(i, out)| {
        let first = i * TILE;
        for rows in strips(n_rows, TILE) {
            for (j, out) in out.chunks_mut(n_rows).enumerate() {
                for row in rows.clone() {
                    out[row] = matrix[row * n_columns + first + j];
                }
            }
        }
    });
    out
}

/// Rounds in parallel; on overflow the first such element, whichever thread met one first.
pub(super) fn encode(float: Float, values: &[f32], bytes: &mut [u8]) -> Result<(), usize> {
    let chunks = values.par_chunks(CHUNK).zip(bytes.par_chunks_mut(CHUNK * float.size()));
    let first = chunks
        .enumerate()
        .filter_map(|(i, (values, bytes))| {
            float.encode(values, bytes).err().map(|at| i * CHUNK + at)
        })
        .min();
    first.map_or(Ok(()), Err)
}
