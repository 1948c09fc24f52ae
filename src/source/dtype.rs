//! `Dtype`: the element types of safetensors, to f32 and from f32.

use std::fmt;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// The element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// 8-bit float, 4 bits of exponent.
    F8E4M3,
    /// 8-bit float, 5 bits of exponent.
    F8E5M2,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

/// Every type with its name in a safetensors header and its size in bytes.
const TYPES: [(Dtype, &str, usize); 15] = [
    (Dtype::Bool, "BOOL", 1),
    (Dtype::I8, "I8", 1),
    (Dtype::U8, "U8", 1),
    (Dtype::I16, "I16", 2),
    (Dtype::U16, "U16", 2),
    (Dtype::I32, "I32", 4),
    (Dtype::U32, "U32", 4),
    (Dtype::I64, "I64", 8),
    (Dtype::U64, "U64", 8),
    (Dtype::F8E4M3, "F8_E4M3", 1),
    (Dtype::F8E5M2, "F8_E5M2", 1),
    (Dtype::F16, "F16", 2),
    (Dtype::BF16, "BF16", 2),
    (Dtype::F32, "F32", 4),
    (Dtype::F64, "F64", 8),
];

impl Dtype {
    /// The type that safetensors calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        TYPES.iter().find(|(_, n, _)| *n == name).map(|(dtype, _, _)| *dtype)
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        self.row().2
    }

    /// True if [`decode`] takes it: a weight of 16 bits or more that is a float.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    fn row(self) -> (Self, &'static str, usize) {
        *TYPES.iter().find(|(dtype, _, _)| *dtype == self).expect("every type stands in the table")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Elements converted at a time, on the stack.
const STEP: usize = 1024;

/// Little-endian `bytes` of a float type as f32; f64 is rounded once.
///
/// # Panics
/// If the type is not a float or the lengths do not agree: both are checked when a header is read.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * dtype.size(), "bytes and elements agree");
    match dtype {
        Dtype::F32 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        Dtype::F64 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *x = f64::from_le_bytes(*b) as f32;
            }
        }
        Dtype::BF16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        Dtype::F16 => {
            let mut halves = [f16::ZERO; STEP];
            for (out, bytes) in out.chunks_mut(STEP).zip(bytes.chunks(STEP * 2)) {
                let halves = &mut halves[..out.len()];
                for (h, b) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *h = f16::from_le_bytes(*b);
                }
                halves.convert_to_f32_slice(out);
            }
        }
        _ => unreachable!("{dtype} is refused when a tensor is looked up"),
    }
}

/// The element types that weights are poured as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Float {
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
}

impl Float {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The smallest magnitude that rounds to infinity: half a step above the largest f16, 65504.
    const F16_LIMIT: f32 = 65520.0;

    /// `values` as little-endian bytes, rounded to nearest even; the first that is not finite, or would not be, is given
    /// back by its index.
    ///
    /// # Panics
    /// If `out` is not exactly as long as the values need.
    pub fn encode(self, values: &[f32], out: &mut [u8]) -> Result<(), usize> {
        assert_eq!(out.len(), values.len() * self.size(), "bytes and elements agree");
        match self {
            Self::F32 => {
                if let Some(index) = values.iter().position(|x| !x.is_finite()) {
                    return Err(index);
                }
                for (b, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *b = x.to_le_bytes();
                }
            }
            Self::F16 => {
                // Not `x >= limit`: a NaN is no less refused.
                let fits = |x: &f32| x.abs() < Self::F16_LIMIT;
                if let Some(index) = values.iter().position(|x| !fits(x)) {
                    return Err(index);
                }
                let mut halves = [f16::ZERO; STEP];
                for (values, out) in values.chunks(STEP).zip(out.chunks_mut(STEP * 2)) {
                    let halves = &mut halves[..values.len()];
                    halves.convert_from_f32_slice(values);
                    for (b, h) in out.as_chunks_mut::<2>().0.iter_mut().zip(halves.iter()) {
                        *b = h.to_le_bytes();
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "conversions are exact")]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_go_both_ways() {
        for (dtype, name, size) in TYPES {
            assert_eq!(Dtype::from_name(name), Some(dtype));
            assert_eq!((dtype.name(), dtype.size()), (name, size));
        }
        assert_eq!(Dtype::from_name("F4"), None);
    }

    #[test]
    fn every_half_survives_the_way_there_and_back() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![0.0; 1 << 16];
        decode(Dtype::F16, &bytes, &mut values);
        for (bits, value) in (0..=u16::MAX).zip(&values) {
            let want = f16::from_bits(bits).to_f32();
            assert!(value.to_bits() == want.to_bits() || want.is_nan(), "{bits:#06x}");
        }
        values.retain(|x| x.is_finite());
        let mut back = vec![0; values.len() * 2];
        Float::F16.encode(&values, &mut back).unwrap();
        let want: Vec<u8> = (0..=u16::MAX)
            .filter(|b| f16::from_bits(*b).is_finite())
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(back, want);
    }

    #[test]
    fn wide_types_become_f32() {
        let mut out = [0.0; 2];
        decode(Dtype::BF16, &[0x80, 0x3f, 0x49, 0xc0], &mut out);
        assert_eq!(out, [1.0, -3.140_625]);
        let bytes: Vec<u8> = [1e-3f64, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        decode(Dtype::F64, &bytes, &mut out);
        assert_eq!(out, [1e-3, 2.0]);
    }

    #[test]
    fn only_finite_values_are_written() {
        let cases = [
            (65504.0, Ok(0x7bff)),
            (65519.9, Ok(0x7bff)),
            (65520.0, Err(2)),
            (-1e9, Err(2)),
            (f32::INFINITY, Err(2)),
            (f32::NAN, Err(2)),
            (1e-9, Ok(0)),
        ];
        for (value, want) in cases {
            let mut out = [0; 6];
            let got = Float::F16.encode(&[0.0, 1.0, value], &mut out);
            assert_eq!(got.map(|()| u16::from_le_bytes([out[4], out[5]])), want, "{value}");
            let wide = Float::F32.encode(&[0.0, 1.0, value], &mut [0; 12]);
            assert_eq!(wide.is_ok(), value.is_finite(), "{value}");
        }
    }
}
