//! The two 8-bit floats as values: E4M3 without infinities (`fp8e4m3fn`) and E5M2.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use crate::mil::DType;

/// The value of a code.
pub(super) fn value(dtype: DType, code: u8) -> f64 {
    let e4m3 = dtype == DType::F8E4M3;
    let (fraction_bits, bias) = if e4m3 { (3, 7) } else { (2, 15) };
    let exponent = i32::from(code & 0x7F) >> fraction_bits;
    let fraction = i32::from(code) & ((1 << fraction_bits) - 1);
    let magnitude = match (e4m3, code & 0x7F) {
        (true, 0x7F) | (false, 0x7D..) => f64::NAN,
        (false, 0x7C) => f64::INFINITY,
        _ if exponent == 0 => f64::from(fraction) * 2_f64.powi(1 - bias - fraction_bits),
        _ => {
            f64::from(fraction + (1 << fraction_bits)) * 2_f64.powi(exponent - bias - fraction_bits)
        }
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The code whose value is nearest; of two, the even one.
pub(super) fn nearest(dtype: DType, of: f64) -> u8 {
    if of.is_nan() {
        return 0x7F;
    }
    // E4M3 has no infinity; its largest value stands for it.
    let of = if dtype == DType::F8E4M3 { of.clamp(-448.0, 448.0) } else { of };
    let distance = |code: u8| {
        let value = value(dtype, code);
        let same_sign = value.is_sign_negative() == of.is_sign_negative();
        let off = if value.to_bits() == of.to_bits() { 0.0 } else { (value - of).abs() };
        if value.is_nan() || !same_sign { f64::INFINITY } else { off }
    };
    let closer = |best: u8, code: u8| match distance(code).total_cmp(&distance(best)) {
        std::cmp::Ordering::Less => code,
        std::cmp::Ordering::Equal if best & 1 == 1 => code,
        _ => best,
    };
    let start = if of.is_sign_negative() { 0x80 } else { 0 };
    (0..=u8::MAX).fold(start, closer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for dtype in [DType::F8E4M3, DType::F8E5M2] {
            for code in 0..=u8::MAX {
                let of = value(dtype, code);
                if !of.is_nan() {
                    assert_eq!(nearest(dtype, of), code, "{dtype} {code:#x}");
                }
            }
        }
        // The largest finite values, and the least.
        let ends = [(DType::F8E4M3, 0x7E, 448.0), (DType::F8E5M2, 0x7B, 57344.0)];
        let least = [(DType::F8E4M3, 1, 2_f64.powi(-9)), (DType::F8E5M2, 1, 2_f64.powi(-16))];
        for (dtype, code, want) in ends.into_iter().chain(least) {
            assert_eq!(value(dtype, code).to_bits(), want.to_bits(), "{dtype} {code:#x}");
        }
        assert_eq!(nearest(DType::F8E4M3, f64::INFINITY), 0x7E);
    }
}
