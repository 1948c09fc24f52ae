//! Linear quantization: every value becomes an integer times the scale of its block, perhaps with a zero point.
//!
//! The formulas and the rounding of every step are those of coremltools 9.0, `optimize/_utils.py`,
//! `quantize_weight_by_dtype` on fp16 weights, so the stored numbers are the same. Where coremltools stores
//! nonsense ours differ: a block of zeros (0 / 0 there), a scale or zero point beyond fp16, a scale below it.

use half::f16;
use rayon::prelude::*;

use super::bits::Bits;
use super::error::Error;
use super::histogram::{ordered_key, value_of_key, widen};
use super::weight::Weight;

/// About as many values per task.
const CHUNK: usize = 1 << 16;

/// The type of the stored integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// −8 to 7, of which quantization uses −7 to 7.
    Int4,
    /// 0 to 15.
    Uint4,
    /// −128 to 127, of which quantization uses −127 to 127.
    Int8,
    /// 0 to 255.
    Uint8,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::Int4, Self::Uint4, Self::Int8, Self::Uint8];

    /// The name in MIL and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Uint4 => "uint4",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
        }
    }

    /// The width.
    pub fn bits(self) -> Bits {
        match self {
            Self::Int4 | Self::Uint4 => Bits::FOUR,
            Self::Int8 | Self::Uint8 => Bits::EIGHT,
        }
    }

    /// Whether integers of this type can be negative.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8)
    }

    /// The number that a byte of [`Affine::data`] stands for.
    pub fn value(self, byte: u8) -> i32 {
        if self.is_signed() { i32::from(byte as i8) } else { i32::from(byte) }
    }

    /// The smallest and largest number that quantization makes.
    fn range(self) -> (i32, i32) {
        let n = self.bits().n_values() as i32;
        if self.is_signed() { (1 - n / 2, n / 2 - 1) } else { (0, n - 1) }
    }
}

/// A weight as integers, with one scale for each block.
///
/// The value is `scale · (data − offset)`, computed in f32 and rounded to fp16.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// The type of the integers.
    pub dtype: Dtype,
    /// Output channels.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Output channels and inputs of a block: all of them, one channel, or part of one.
    pub block_shape: [usize; 2],
    /// The integers, `[rows, cols]`, one in each byte, negative ones in two's complement.
    pub data: Vec<u8>,
    /// `[rows, cols] / block_shape`.
    pub scale: Vec<f16>,
    /// The zero points, like [`Self::scale`] in shape and [`Self::data`] in type; none for signed types.
    pub offset: Option<Vec<u8>>,
}

/// The weight in blocks of `block_shape` output channels by inputs, which must be the whole, one channel or part of one.
///
/// Signed types are quantized as coremltools' `LINEAR_SYMMETRIC`, unsigned ones as its `LINEAR`. A block of zeros
/// has the scale 1. A scale too small for fp16 becomes 2^−24, of which all fp16 values are multiples.
pub fn quantize(
    weight: Weight<'_>,
    dtype: Dtype,
    block_shape: [usize; 2],
) -> Result<Affine, Error> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let [block_rows, block_cols] = block_shape;
    let contiguous = block_shape == [rows, cols] || block_rows == 1;
    if !contiguous || block_cols == 0 || !cols.is_multiple_of(block_cols) {
        return Err(Error::Block { rows, cols, block_shape });
    }
    let block_len = block_rows * block_cols;
    let n_blocks = rows * cols / block_len;
    let mut data = vec![0; rows * cols];
    let mut parameters = vec![(f16::ONE, 0); n_blocks];
    let blocks_per_task = (CHUNK / block_len).max(1);
    weight
        .values()
        .par_chunks(block_len * blocks_per_task)
        .zip(data.par_chunks_mut(block_len * blocks_per_task))
        .zip(parameters.par_chunks_mut(blocks_per_task))
        .for_each(|((values, data), parameters)| {
            let blocks = values.chunks_exact(block_len).zip(data.chunks_exact_mut(block_len));
            for ((values, data), parameters) in blocks.zip(parameters) {
                *parameters = block(values, dtype, data);
            }
        });
    let (scale, offset): (Vec<f16>, Vec<u8>) = parameters.into_iter().unzip();
    let offset = (!dtype.is_signed()).then_some(offset);
    Ok(Affine { dtype, rows, cols, block_shape, data, scale, offset })
}

/// Quantizes one block; its scale and zero point.
fn block(values: &[f16], dtype: Dtype, data: &mut [u8]) -> (f16, u8) {
    let (low, high) = range(values);
    if (low, high) == (0.0, 0.0) {
        data.fill(0);
        return (f16::ONE, 0);
    }
    let (q_low, q_high) = dtype.range();
    let (low, high) = if dtype.is_signed() {
        let most = high.max(-low);
        (-most, most)
    } else {
        (low.min(0.0), high.max(0.0))
    };
    let span = in_fp16(high - low);
    let mut scale = f16::from_f32(span / (q_high - q_low) as f32);
    let too_small = scale == f16::ZERO;
    if too_small {
        scale = f16::from_bits(1);
    }
    let zero_point = if dtype.is_signed() {
        0
    } else {
        let exact = if too_small {
            q_low as f32 - low / widen(scale)
        } else {
            let difference = in_fp16(q_low as f32 * high) - in_fp16(q_high as f32 * low);
            in_fp16(in_fp16(difference) / span)
        };
        (exact.round_ties_even() as i32).clamp(q_low, q_high)
    };
    let scale_wide = widen(scale);
    for (data, &value) in data.iter_mut().zip(values) {
        let quotient = round_to_integer(round_to_fp16(widen(value) / scale_wide));
        *data = (quotient + zero_point).clamp(q_low, q_high) as u8;
    }
    (scale, zero_point as u8)
}

/// The smallest and largest of `values`.
fn range(values: &[f16]) -> (f32, f32) {
    let (low, high) = values.iter().fold((u16::MAX, 0), |(low, high), &v| {
        let key = ordered_key(v);
        (low.min(key), high.max(key))
    });
    (widen(value_of_key(low)), widen(value_of_key(high)))
}

/// `x` rounded to fp16, as coremltools has it after every step; unrounded where that would be infinite.
fn in_fp16(x: f32) -> f32 {
    let rounded = f16::from_f32(x);
    if rounded.is_finite() { rounded.to_f32() } else { x }
}

/// `x` rounded to the 11 significant bits of fp16, ties to even; for magnitudes beyond 2^−14, below which it is off
/// but still rounds to the integer 0.
///
/// Plain integer arithmetic, unlike the general conversion, so that loops over it vectorise.
fn round_to_fp16(x: f32) -> f32 {
    const DROPPED: u32 = f32::MANTISSA_DIGITS - f16::MANTISSA_DIGITS;
    let bits = x.to_bits();
    let odd = bits >> DROPPED & 1;
    f32::from_bits((bits + (1 << (DROPPED - 1)) - 1 + odd) & !((1 << DROPPED) - 1))
}

/// The nearest integer, ties to even, of a number below 2^22 in magnitude.
///
/// At 1.5 · 2^23 the steps of f32 are 1, so the addition does the rounding.
fn round_to_integer(x: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}
