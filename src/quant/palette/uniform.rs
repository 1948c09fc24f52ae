//! Entries in equal steps from the smallest to the largest value of each group.
//!
//! The formulas and their roundings are those of coremltools 9.0, `compress_uniform`, on fp16 weights. A group of equal
//! values, where coremltools divides by zero, has indices of 0; a range beyond fp16 is not rounded.

use half::f16;

use super::super::bits::Bits;
use super::super::grid::Grid;
use super::super::histogram::widen;
use super::super::round::{in_fp16, round_to_fp16, round_to_integer};
use super::super::source::Source;

/// The range of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Steps {
    low: f32,
    /// 0 if all values are equal.
    span: f32,
}

/// The tables, `[blocks of grid, 2^bits]`, and how values find their entries. What is pruned counts as zero.
pub(super) fn tables(source: &Source<'_>, grid: &Grid, bits: Bits) -> (Vec<f16>, Vec<Steps>) {
    let n = bits.n_values();
    let steps: Vec<Steps> = source
        .extremes(grid)
        .into_iter()
        .map(|(low, high)| {
            let (low, high) = (widen(low), widen(high));
            Steps { low, span: in_fp16(high - low) }
        })
        .collect();
    let table = |steps: &Steps| {
        let scale = f64::from(in_fp16(steps.span / (n - 1) as f32));
        let low = f64::from(steps.low);
        (0..n).map(move |i| f16::from_f64(i as f64 * scale + low))
    };
    (steps.iter().flat_map(table).collect(), steps)
}

impl Steps {
    pub(super) fn assign(self, values: &[f16], bits: Bits, indices: &mut [u8]) {
        if self.span == 0.0 {
            return indices.fill(0);
        }
        assign(values, self.low, self.span, (bits.n_values() - 1) as f32, indices);
    }
}

crate::base::simd::multiversion! {
    fn assign(values: &[f16], low: f32, span: f32, last: f32, indices: &mut [u8]) {
        for (index, &value) in indices.iter_mut().zip(values) {
            let part = round_to_fp16(round_to_fp16(widen(value) - low) / span);
            *index = round_to_integer(round_to_fp16(part * last)) as u8;
        }
    }
}
