//! `Blockwise`: scale · (data − offset), one scale and offset per block of elements on any axes.
//!
//! Serves `constexpr_blockwise_shift_scale` and, with blocks that span all axes but one, `constexpr_affine_dequantize`.

use super::{Packed, Shared, Stored, by_row};
use crate::interp::error::OpError;
use crate::interp::kernel::packed4::{Nibbles, Values};
use crate::interp::kernel::round;
use crate::interp::kernel::row::Row;
use crate::interp::kernel::simd::multiversion;
use crate::mil::DType;

/// A linearly quantized constant.
pub(crate) struct Blockwise {
    data: Packed,
    scale: Shared,
    offset: Option<Shared>,
    /// Extents of the grid of blocks.
    grid: Vec<usize>,
    /// Extents of one block.
    block: Vec<usize>,
    dtype: DType,
    /// The number of each code, where 4-bit codes are scaled in runs of a multiple of 32 and rounded to fp16.
    quick: Option<[f32; 16]>,
}

impl Blockwise {
    /// Scales (and offsets) stand in a grid of shape `grid` over the data.
    pub(crate) fn new(
        data: Packed,
        scale: Shared,
        offset: Option<Shared>,
        grid: Vec<usize>,
        dtype: DType,
    ) -> Result<Self, OpError> {
        let shape = data.shape();
        let fits = grid.len() == shape.len()
            && !grid.is_empty()
            && shape.iter().zip(&grid).all(|(&n, &g)| g > 0 && n.is_multiple_of(g));
        let cells = grid.iter().product::<usize>();
        let offsets_fit = offset.as_ref().is_none_or(|o| o.len() == cells);
        if !fits || scale.len() != cells || !offsets_fit {
            let fact = format!("data {shape:?} and scale {:?} do not fit", scale.shape());
            return Err(OpError::invalid(fact));
        }
        let block: Vec<usize> = shape.iter().zip(&grid).map(|(&n, &g)| n / g).collect();
        let runs = block.last().is_some_and(|n| n.is_multiple_of(32)) && offset.is_none();
        let quick = (runs && dtype == DType::F16)
            .then(|| match data.dtype() {
                DType::I4 => {
                    Some(std::array::from_fn(|c| if c < 8 { c as f32 } else { c as f32 - 16.0 }))
                }
                DType::U4 => Some(std::array::from_fn(|c| c as f32)),
                _ => None,
            })
            .flatten();
        Ok(Self { data, scale, offset, grid, block, dtype, quick })
    }
}

impl Blockwise {
    /// The cell of the grid that the flat position `at` lies in.
    fn cell_of(&self, mut at: usize) -> usize {
        let (mut cell, mut step) = (0, 1);
        for ((&n, &block), &cells) in
            self.data.shape().iter().zip(&self.block).zip(&self.grid).rev()
        {
            cell += at % n / block * step;
            at /= n;
            step *= cells;
        }
        cell
    }
}

impl Stored for Blockwise {
    fn run(&self, at: usize, n: usize) -> Option<Row<'_>> {
        let numbers = self.quick.as_ref()?;
        let (&row, &block) = (self.data.shape().last()?, self.block.last()?);
        if row == 0 {
            return None;
        }
        let inside = n.is_multiple_of(2) && at % row + n <= row && (at % row).is_multiple_of(block);
        if !inside {
            return None;
        }
        let codes = self.data.bytes().get(at / 2..)?.get(..n / 2)?;
        let Row::F16(scales) = self.scale.run(self.cell_of(at), n.div_ceil(block))? else {
            return None;
        };
        Some(Row::Nibbles(Nibbles { codes, values: Values::Scaled { numbers, scales, block } }))
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.data.shape()
    }

    fn fill(&self, at: usize, out: &mut [f32]) {
        let last = self.grid.len() - 1;
        let block = self.block[last];
        let (mut scales, mut offsets) = (Vec::new(), Vec::new());
        // Differences of whole numbers are exact; others are rounded before they are scaled, as coremltools does.
        let fractional = self.offset.as_ref().is_some_and(|o| o.dtype().is_float());
        self.data.fill(at, out);
        by_row(self.data.shape(), at, out, |outer, column, out| {
            let cell = outer
                .iter()
                .enumerate()
                .fold(0, |cell, (axis, &c)| cell * self.grid[axis] + c / self.block[axis]);
            let n = (column + out.len()).div_ceil(block) - column / block;
            let cell = cell * self.grid[last] + column / block;
            scales.resize(n, 0.0);
            self.scale.fill(cell, &mut scales);
            offsets.clear();
            offsets.resize(n, 0.0);
            if let Some(offset) = &self.offset {
                offset.fill(cell, &mut offsets);
            }
            let first = column % block;
            if fractional {
                shift(out, &offsets, block, first);
                round::here(self.dtype, out);
            } else if self.offset.is_some() {
                shift(out, &offsets, block, first);
            }
            scale_blocks(out, &scales, block, first);
        });
        round::here(self.dtype, out);
    }
}

multiversion! {
    /// Subtracts one offset per block from elements that start `first` elements into a block.
    fn shift(out: &mut [f32], offsets: &[f32], block: usize, first: usize) {
        let (head, rest) = out.split_at_mut((block - first).min(out.len()));
        let blocks = std::iter::once(head).chain(rest.chunks_mut(block));
        for (run, &offset) in blocks.zip(offsets) {
            for o in run {
                *o -= offset;
            }
        }
    }
}

multiversion! {
    /// Multiplies elements that start `first` elements into a block by one scale per block.
    fn scale_blocks(out: &mut [f32], scales: &[f32], block: usize, first: usize) {
        let (head, rest) = out.split_at_mut((block - first).min(out.len()));
        let blocks = std::iter::once(head).chain(rest.chunks_mut(block));
        for (run, &scale) in blocks.zip(scales) {
            for o in run {
                *o *= scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::interp::stored::{coordinates, of_tensor};
    use crate::interp::tensor::Tensor;

    proptest! {
        #[test]
        fn a_run_is_what_the_formula_says(
            grid in prop::array::uniform2(1_usize..5), block in prop::array::uniform2(1_usize..6),
            // Scales in steps: a range of f32 that is not a multiple of its own precision trips an assertion of proptest 1.12,
            // once in some ten million values.
            values in prop::collection::vec((any::<i8>(), 1_u16..2048, -9_i32..9), 625), with_offset: bool, at in 0.0_f64..1.0,
        ) {
            let shape = [grid[0] * block[0], grid[1] * block[1]];
            let n = shape[0] * shape[1];
            let cells = grid[0] * grid[1];
            let data: Vec<i8> = values[..n].iter().map(|v| v.0).collect();
            let scale: Vec<f16> = values[..cells].iter().map(|v| f16::from_f32(f32::from(v.1) / 1024.0)).collect();
            let offset: Vec<i32> = values[..cells].iter().map(|v| v.2).collect();
            let packed = Packed::owned(DType::I8, shape.to_vec(), data.iter().map(|&i| i as u8).collect());
            let offsets: Option<Shared> = with_offset.then(|| of_tensor(Tensor::i32(&grid, offset.clone())));
            let stored = Blockwise::new(packed, of_tensor(Tensor::f16(&grid, scale.clone())), offsets, grid.to_vec(), DType::F16).unwrap();
            let start = (at * n as f64) as usize;
            let mut got = vec![0.0; n - start];
            stored.fill(start, &mut got);
            for (i, got) in (start..n).zip(got) {
                let mut c = [0; 2];
                coordinates(i, &shape, &mut c);
                let cell = c[0] / block[0] * grid[1] + c[1] / block[1];
                let shift = if with_offset { offset[cell] } else { 0 };
                let want = f16::from_f32(scale[cell].to_f32() * (f32::from(data[i]) - shift as f32));
                prop_assert_eq!(got, want.to_f32());
            }
        }

        #[test]
        fn a_run_of_codes_is_what_fill_says(
            grid in prop::array::uniform2(1_usize..4), rows in 1_usize..4, width in 1_usize..4, signed: bool,
            codes in prop::collection::vec(any::<u8>(), 2048), at in 0_usize..12, n in 1_usize..4,
        ) {
            let (shape, block) = ([grid[0] * rows, grid[1] * width * 32], width * 32);
            let elements = shape[0] * shape[1];
            let dtype = if signed { DType::I4 } else { DType::U4 };
            let packed = Packed::owned(dtype, shape.to_vec(), codes[..elements / 2].to_vec());
            let scale = (0..grid[0] * grid[1]).map(|i| f16::from_f32(i as f32 / 7.0 - 0.4)).collect();
            let stored = Blockwise::new(packed, of_tensor(Tensor::f16(&grid, scale)), None, grid.to_vec(), DType::F16).unwrap();
            let at = at % (elements / block) * block;
            let n = (n * 32).min(shape[1] - at % shape[1]);
            let run = stored.run(at, n);
            let (mut got, mut want) = (vec![0.0; n], vec![0.0; n]);
            run.unwrap().expand(&mut got);
            stored.fill(at, &mut want);
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn shapes_that_do_not_fit() {
        let scale: Shared = of_tensor(Tensor::f32(&[2, 3], vec![1.0; 6]));
        for (grid, shape) in
            [(vec![2, 3], vec![4, 4]), (vec![3, 2], vec![4, 4]), (vec![6], vec![6, 1])]
        {
            let data = Packed::owned(DType::I8, shape, vec![0; 16]);
            assert!(Blockwise::new(data, Arc::clone(&scale), None, grid, DType::F32).is_err());
        }
    }
}
