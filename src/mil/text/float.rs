//! Floats in the textual form: hexadecimal, as C's `%a` writes them, so that no bit is lost.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::fmt::Write as _;

/// Reads a float: hexadecimal, decimal, `inf` or `nan`, each with or without a sign.
pub(super) fn parse(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let magnitude = if let Some(hex) = lower.strip_prefix("0x") {
        hexadecimal(hex)?
    } else if matches!(lower.as_str(), "inf" | "infinity") {
        f64::INFINITY
    } else if lower == "nan" {
        f64::NAN
    } else if lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        lower.parse().ok()?
    } else {
        return None;
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// `h.hhhp±d` without sign and `0x`; at most 16 digits count, what follows them only breaks ties.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once('p').unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent: i64 = exponent.parse().ok()?;
    let exponent = exponent.clamp(-100_000, 100_000);
    let (mut mantissa, mut shift) = (0_u64, 0_i64);
    for (i, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let in_fraction = i >= whole.len();
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            shift -= if in_fraction { 4 } else { 0 };
        } else {
            mantissa |= u64::from(digit != 0);
            shift += if in_fraction { 0 } else { 4 };
        }
    }
    Some(scale(mantissa, exponent.saturating_add(shift)))
}

/// mantissa · 2^exponent, rounded to nearest even.
fn scale(mantissa: u64, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // Where the highest bit stands, and how many bits a float of that size keeps.
    let top = 63 - i64::from(mantissa.leading_zeros()) + exponent;
    if top > 1023 {
        return f64::INFINITY;
    }
    let kept = if top >= -1022 { 53 } else { 53 - (-1022 - top) };
    if kept < 0 {
        return 0.0;
    }
    let drop = 64 - i64::from(mantissa.leading_zeros()) - kept;
    let (rounded, exponent) = if drop > 0 {
        (round_shift(mantissa, drop), exponent + drop)
    } else {
        (mantissa, exponent)
    };
    // At most 53 bits, so every step below is exact; three steps reach from the largest to the least.
    let mut value = exact(rounded);
    let mut left = exponent;
    while left != 0 {
        let step = left.clamp(-1000, 1000);
        value *= power_of_two(step);
        left -= step;
    }
    value
}

fn round_shift(mantissa: u64, drop: i64) -> u64 {
    let drop = u32::try_from(drop).unwrap_or(u32::MAX);
    if drop >= 64 {
        return u64::from(drop == 64 && mantissa > 1 << 63);
    }
    let (kept, rest, half) = (mantissa >> drop, mantissa & ((1 << drop) - 1), 1 << (drop - 1));
    kept + u64::from(rest > half || (rest == half && kept & 1 == 1))
}

/// A whole number of at most 53 bits.
fn exact(n: u64) -> f64 {
    let high = u32::try_from(n >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(n & 0xFFFF_FFFF).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(u64::try_from(exponent + 1023).unwrap_or(0) << 52)
}

/// Appends a float as C's `%a` writes it.
pub(super) fn write(out: &mut String, value: f64) {
    let bits = value.to_bits();
    let sign = if value.is_sign_negative() && !value.is_nan() { "-" } else { "" };
    let (biased, fraction) = (bits >> 52 & 0x7FF, bits & ((1 << 52) - 1));
    let written = match biased {
        0x7FF if fraction == 0 => write!(out, "{sign}inf"),
        0x7FF => write!(out, "nan"),
        0 if fraction == 0 => write!(out, "{sign}0x0p+0"),
        _ => {
            let (lead, exponent) = if biased == 0 {
                (0, -1022)
            } else {
                (1, i64::try_from(biased).unwrap_or(0) - 1023)
            };
            let digits = format!("{fraction:013x}");
            let digits = digits.trim_end_matches('0');
            let point = if digits.is_empty() { "" } else { "." };
            write!(out, "{sign}0x{lead}{point}{digits}p{exponent:+}")
        }
    };
    written.expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_are_written_as_c_writes_them() {
        let cases = [
            (1.0, "0x1p+0"),
            (-0.5, "-0x1p-1"),
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (f64::from(0.97_f32), "0x1.f0a3d8p-1"),
            (2_f64.powi(-149), "0x1p-149"),
            (f64::from_bits(1), "0x0.0000000000001p-1022"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, want) in cases {
            let mut out = String::new();
            write(&mut out, value);
            assert_eq!(out, want);
            assert_eq!(parse(want).map(f64::to_bits), Some(value.to_bits()), "{want}");
        }
    }

    #[test]
    fn other_spellings_are_read() {
        let cases = [
            ("1.5", Some(1.5)),
            ("-1e-3", Some(-0.001)),
            ("+.5", Some(0.5)),
            ("0x10", Some(16.0)),
            ("0X1.8P1", Some(3.0)),
            ("0x.8p0", Some(0.5)),
            ("infinity", Some(f64::INFINITY)),
            // More digits than fit: the last ones only break the tie.
            ("0x1.00000000000008p0", Some(1.0)),
            ("0x1.000000000000080000001p0", Some(1.0 + f64::EPSILON)),
            ("0x1.00000000000018p0", Some(1.0 + 2.0 * f64::EPSILON)),
            ("0x100000000000000000p-60", Some(256.0)),
            ("0x1p1024", Some(f64::INFINITY)),
            ("0x1p99999999999", Some(f64::INFINITY)),
            ("0x1p-1075", Some(0.0)),
            ("0x1.8p-1075", Some(f64::from_bits(1))),
            ("0x", None),
            ("0xp1", None),
            ("0x1p", None),
            ("0x1g", None),
            ("-", None),
            ("", None),
            ("one", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).map(f64::to_bits), want.map(f64::to_bits), "{text}");
        }
        assert!(parse("-nan").unwrap().is_nan());
    }

    proptest! {
        #[test]
        fn every_float_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let mut out = String::new();
            write(&mut out, value);
            prop_assert_eq!(parse(&out).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?(0x)?[0-9a-fp.+-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
