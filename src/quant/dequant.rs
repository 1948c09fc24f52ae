//! Plain dequantization: the values that a compressed weight stands for, one at a time from the definitions.
//!
//! This is the reference that quicker ones are tested against.

use half::f16;

use super::affine::Affine;
use super::palette::Palettized;

/// `lut[group of the row, index]`, as MIL's `constexpr_lut_to_dense`; row-major `[rows, cols]`.
pub fn palettized(weight: &Palettized) -> Vec<f16> {
    let n_entries = weight.bits.n_values();
    let group_len = weight.group_size * weight.cols;
    let entry =
        |(i, &index): (usize, &u8)| weight.lut[i / group_len * n_entries + usize::from(index)];
    weight.indices.iter().enumerate().map(entry).collect()
}

/// `scale · (data − offset)` in f32, rounded to fp16, as MIL's `constexpr_blockwise_shift_scale`; row-major `[rows, cols]`.
pub fn affine(weight: &Affine) -> Vec<f16> {
    let [block_rows, block_cols] = weight.block_shape;
    let blocks_in_row = weight.cols / block_cols;
    let value = |(i, &byte): (usize, &u8)| {
        let (row, col) = (i / weight.cols, i % weight.cols);
        let block = row / block_rows * blocks_in_row + col / block_cols;
        let offset = weight.offset.as_ref().map_or(0, |offset| weight.dtype.value(offset[block]));
        f16::from_f32((weight.dtype.value(byte) - offset) as f32 * weight.scale[block].to_f32())
    };
    weight.data.iter().enumerate().map(value).collect()
}
