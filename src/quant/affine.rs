//! Linear quantization: every value becomes an integer times the scale of its block, perhaps with a zero point.
//!
//! The formulas and the rounding of every step are those of coremltools 9.0, `optimize/_utils.py`,
//! `quantize_weight_by_dtype` on fp16 weights, so the stored numbers are the same. Where coremltools stores
//! nonsense ours differ: a block of zeros (0 / 0 there), a scale or zero point that overflows fp16 on the way,
//! a scale below fp16, a largest number that times its scale is infinite.

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
    let farthest = (q_high - zero_point).max(zero_point - q_low) as f32;
    if f16::from_f32(farthest * widen(scale)).is_infinite() {
        scale = f16::from_bits(scale.to_bits() - 1);
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SHAPES, sample};
    use super::*;
    use crate::quant::dequant;

    fn halves(values: &[f32]) -> Vec<f16> {
        values.iter().copied().map(f16::from_f32).collect()
    }

    #[test]
    fn blocks_that_coremltools_gets_wrong() {
        // Values of one block, type, scale, restored values.
        let check = |values: &[f32], dtype, scale: f32, restored: &[f32]| {
            let values = halves(values);
            let weight = Weight::new(&values, 1, values.len()).unwrap();
            let found = quantize(weight, dtype, [1, values.len()]).unwrap();
            assert_eq!(found.scale, halves(&[scale]), "{values:?} as {dtype:?}");
            assert_eq!(dequant::affine(&found), halves(restored), "{values:?} as {dtype:?}");
        };
        for dtype in Dtype::ALL {
            check(&[0.0, -0.0, 0.0], dtype, 1.0, &[0.0; 3]);
        }
        let tiny = f16::from_bits(1).to_f32();
        check(&[tiny, 0.0, 5.0 * tiny], Dtype::Int8, tiny, &[tiny, 0.0, 5.0 * tiny]);
        check(&[-3.0 * tiny, 0.0, 5.0 * tiny], Dtype::Uint8, tiny, &[-3.0 * tiny, 0.0, 5.0 * tiny]);
        check(&[-3.0 * tiny, 0.0, 2.0 * tiny], Dtype::Uint4, tiny, &[-3.0 * tiny, 0.0, 2.0 * tiny]);
        // Twice the largest is beyond fp16, as is 255 times the smallest.
        // With the scale to the nearest, 516 and 257, the largest value would come back infinite.
        check(&[65504.0, -32752.0], Dtype::Int8, 515.5, &[65472.0, -32992.0]);
        check(&[-65504.0, 0.0], Dtype::Uint8, 256.75, &[-65472.0, 0.0]);
    }

    #[test]
    fn blocks_that_do_not_fit() {
        let values = vec![f16::ONE; 40];
        let weight = Weight::new(&values, 4, 10).unwrap();
        for block_shape in [[1, 3], [1, 0], [1, 20], [2, 10], [0, 10]] {
            let error = quantize(weight, Dtype::Int8, block_shape).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("shape [4, 10] does not divide into blocks of shape {block_shape:?}")
            );
        }
    }

    #[test]
    fn the_quick_rounding_is_that_of_fp16() {
        for x in (0..2_000_000).map(|i| i as f32 * 1.7e-4 - 170.0) {
            let expected = f16::from_f32(x).to_f32().round_ties_even() as i32;
            assert_eq!(round_to_integer(round_to_fp16(x)), expected, "{x}");
        }
        for (x, expected) in
            [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (126.96, 127), (-1e-9, 0), (0.0, 0)]
        {
            assert_eq!(round_to_integer(round_to_fp16(x)), expected, "{x}");
        }
    }

    proptest! {
        #[test]
        fn an_error_is_at_most_half_a_step(
            shape in prop::sample::select(&SHAPES),
            dtype in prop::sample::select(&Dtype::ALL),
            (rows, n_blocks, block) in (1_usize..4, 1_usize..4, 1_usize..70),
            seed in any::<u64>(),
        ) {
            let values = sample(shape, rows * n_blocks * block, seed);
            let weight = Weight::new(&values, rows, n_blocks * block).unwrap();
            let found = quantize(weight, dtype, [1, block]).unwrap();
            let restored = dequant::affine(&found);
            // Half a step; the rounding of the quotient, of the product, and of the scale and so of the largest
            // value's quotient; a zero point's own rounding, which shifts and cuts off by as much as one step.
            let steps = if dtype.is_signed() { 0.5 } else { 1.5 };
            for (i, (x, y)) in values.iter().zip(&restored).enumerate() {
                let (x, y, scale) = (x.to_f64(), y.to_f64(), found.scale[i / block].to_f64());
                let bound = steps * scale + 3.0 * x.abs() * 2.0_f64.powi(-11) + 255.0 * 2.0_f64.powi(-25);
                prop_assert!((x - y).abs() <= bound, "{x} became {y} at scale {scale}");
            }
        }
    }
}
