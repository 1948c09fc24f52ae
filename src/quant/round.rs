//! Rounding to fp16 and to integers as coremltools' fp16 arithmetic does it, in loops that vectorise.

use half::f16;

/// `x` rounded to fp16, as numpy has it after every step; unrounded where that would be infinite.
pub(super) fn in_fp16(x: f32) -> f32 {
    let rounded = f16::from_f32(x);
    if rounded.is_finite() { rounded.to_f32() } else { x }
}

/// `x` rounded to the 11 significant bits of fp16, ties to even; for magnitudes beyond 2^−14, below which it is off
/// but still rounds to the integer 0.
///
/// Plain integer arithmetic, unlike the general conversion, so that loops over it vectorise.
#[inline]
pub(super) fn round_to_fp16(x: f32) -> f32 {
    const DROPPED: u32 = f32::MANTISSA_DIGITS - f16::MANTISSA_DIGITS;
    let bits = x.to_bits();
    let odd = bits >> DROPPED & 1;
    f32::from_bits((bits + (1 << (DROPPED - 1)) - 1 + odd) & !((1 << DROPPED) - 1))
}

/// The nearest integer, ties to even, of a number below 2^22 in magnitude.
///
/// At 1.5 · 2^23 the steps of f32 are 1, so the addition does the rounding.
#[inline]
pub(super) fn round_to_integer(x: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
