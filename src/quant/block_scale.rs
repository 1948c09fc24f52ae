//! `BlockScale`: scale and zero point of one block of linear quantization.

use half::f16;

use super::dtype::Dtype;
use super::histogram::widen;
use super::round::{in_fp16, round_to_fp16, round_to_integer};
use super::scheme::Mode;

/// The scale and zero point of one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BlockScale {
    pub(super) dtype: Dtype,
    pub(super) mode: Mode,
    pub(super) scale: f16,
    pub(super) zero_point: i32,
}

impl BlockScale {
    /// For a block with these smallest and largest values.
    ///
    /// A block of zeros has the scale 1. A scale too small for fp16 becomes 2^−24, of which all fp16 values are multiples.
    pub(super) fn of((low, high): (f16, f16), dtype: Dtype, mode: Mode) -> Self {
        let (low, high) = (widen(low), widen(high));
        let (q_low, q_high) = dtype.range(mode);
        // As for all zero points without a range: 0, or the middle of the unsigned ones.
        let middle = if mode == Mode::Symmetric { i32::midpoint(q_low, q_high) } else { 0 };
        if (low, high) == (0.0, 0.0) {
            return Self { dtype, mode, scale: f16::ONE, zero_point: middle };
        }
        let (low, high) = if mode == Mode::Symmetric {
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
        let zero_point = if mode == Mode::Symmetric {
            middle
        } else {
            let exact = if too_small {
                q_low as f32 - low / widen(scale)
            } else {
                let difference = in_fp16(q_low as f32 * high) - in_fp16(q_high as f32 * low);
                in_fp16(in_fp16(difference) / span)
            };
            (exact.round_ties_even() as i32).clamp(q_low, q_high)
        };
        Self { dtype, mode, scale, zero_point }.bounded()
    }

    /// With a scale a little smaller if the largest number times it were infinite.
    pub(super) fn bounded(mut self) -> Self {
        let (q_low, q_high) = self.dtype.range(self.mode);
        let farthest = (q_high - self.zero_point).max(self.zero_point - q_low) as f32;
        if f16::from_f32(farthest * widen(self.scale)).is_infinite() {
            self.scale = f16::from_bits(self.scale.to_bits() - 1);
        }
        self
    }

    /// With another scale and zero point.
    pub(super) fn with(self, scale: f16, zero_point: i32) -> Self {
        Self { scale, zero_point, ..self }.bounded()
    }

    pub(super) fn scale(self) -> f16 {
        self.scale
    }

    pub(super) fn zero_point(self) -> i32 {
        self.zero_point
    }

    /// The smallest and largest integer.
    pub(super) fn range(self) -> (i32, i32) {
        self.dtype.range(self.mode)
    }

    /// The value of an integer.
    pub(super) fn value(self, byte: u8) -> f16 {
        let q = (self.dtype.value(byte) - self.zero_point) as f32;
        f16::from_f32(q * widen(self.scale))
    }

    /// The integers of `values`.
    pub(super) fn quantize(self, values: &[f16], data: &mut [u8]) {
        runs(values, values.len().max(1), &[(self.scale, self.zero_point)], self.range(), data);
    }
}

crate::base::simd::multiversion! {
    /// The integers of `values`, of which every `run` has a scale and zero point, between two limits.
    pub(super) fn runs(values: &[f16], run: usize, steps: &[(f16, i32)], limits: (i32, i32), data: &mut [u8]) {
        let blocks = values.chunks(run).zip(data.chunks_mut(run));
        for ((values, data), &(scale, zero_point)) in blocks.zip(steps) {
            let scale = widen(scale);
            let integer = |value: f32| {
                let quotient = round_to_integer(round_to_fp16(value / scale));
                (quotient + zero_point).clamp(limits.0, limits.1) as u8
            };
            let (eights, rest) = values.as_chunks::<8>();
            let (data, data_rest) = data.as_chunks_mut::<8>();
            for (data, values) in data.iter_mut().zip(eights) {
                *data = lanes::widen(values).map(integer);
            }
            for (data, &value) in data_rest.iter_mut().zip(rest) {
                *data = integer(widen(value));
            }
        }
    }
}

crate::base::simd::multiversion! {
    /// The values of `data`, of which every `run` has a scale and zero point.
    pub(super) fn values_of_runs(data: &[u8], run: usize, steps: &[(f16, i32)], signed: bool, out: &mut [f16]) {
        let blocks = data.chunks(run).zip(out.chunks_mut(run));
        for ((data, out), &(scale, zero_point)) in blocks.zip(steps) {
            let scale = widen(scale);
            // Bytes from 128 on are negative numbers.
            let below = if signed { 256 } else { 0 };
            let value = |byte: u8| {
                let sign = i32::from(byte >> 7) * below;
                (i32::from(byte) - sign - zero_point) as f32 * scale
            };
            let (eights, rest) = data.as_chunks::<8>();
            let (out, out_rest) = out.as_chunks_mut::<8>();
            for (out, data) in out.iter_mut().zip(eights) {
                *out = lanes::narrow(data.map(value));
            }
            for (out, &byte) in out_rest.iter_mut().zip(rest) {
                *out = f16::from_f32(value(byte));
            }
        }
    }
}
