//! `Packed`: elements of any stored type as bytes, types below 8 bits packed from the low bits up.

use half::{bf16, f16};

use crate::blob::Blob;
use crate::interp::kernel::simd::multiversion;
use crate::mil::DType;

#[derive(Debug, Clone)]
enum Bytes {
    Owned(Vec<u8>),
    Mapped(Blob),
}

/// Elements in their stored form.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Packed {
    pub(crate) fn owned(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        Self { dtype, shape, bytes: Bytes::Owned(bytes) }
    }

    pub(crate) fn mapped(dtype: DType, shape: Vec<usize>, blob: Blob) -> Self {
        Self { dtype, shape, bytes: Bytes::Mapped(blob) }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn as_blob(&self) -> Option<&Blob> {
        if let Bytes::Mapped(blob) = &self.bytes { Some(blob) } else { None }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(blob) => blob.bytes(),
        }
    }

    /// The same bytes read as another type and shape, as the opsets before iOS18 pack bits into uint8.
    pub(crate) fn reread(self, dtype: DType, shape: Vec<usize>) -> Self {
        Self { dtype, shape, bytes: self.bytes }
    }

    /// Writes whole numbers of at most 8 bits, which the caller knows these to be, without a sign from the flat position `at` on.
    pub(crate) fn fill_codes(&self, at: usize, out: &mut [u8]) {
        unpack(self.bytes(), self.dtype.bits(), at, out);
    }

    /// Writes elements as f32 from the flat position `at` on.
    pub(crate) fn fill(&self, at: usize, out: &mut [f32]) {
        let bytes = self.bytes();
        let put2 = |out: &mut [f32], f: fn([u8; 2]) -> f32| {
            let (pairs, _) = bytes.as_chunks::<2>();
            out.iter_mut().zip(&pairs[at..]).for_each(|(o, b)| *o = f(*b));
        };
        match self.dtype {
            DType::F32 => {
                let (words, _) = bytes.as_chunks::<4>();
                out.iter_mut().zip(&words[at..]).for_each(|(o, b)| *o = f32::from_le_bytes(*b));
            }
            DType::F64 => {
                let (words, _) = bytes.as_chunks::<8>();
                out.iter_mut()
                    .zip(&words[at..])
                    .for_each(|(o, b)| *o = f64::from_le_bytes(*b) as f32);
            }
            DType::F16 => put2(out, |b| f16::from_le_bytes(b).to_f32()),
            DType::Bf16 => put2(out, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F8E4M3 => {
                out.iter_mut().zip(&bytes[at..]).for_each(|(o, &b)| *o = minifloat(b, 4, 3));
            }
            DType::F8E5M2 => {
                out.iter_mut().zip(&bytes[at..]).for_each(|(o, &b)| *o = minifloat(b, 5, 2));
            }
            dtype if dtype.bits() <= 8 => {
                let bits = dtype.bits();
                let signed = !dtype.is_unsigned() && dtype != DType::Bool;
                let sign = if signed { 1 << (bits - 1) } else { 0 };
                fill_small(bytes, bits, sign, at, out);
            }
            _ => {
                let mut ints = vec![0; out.len()];
                self.fill_ints(at, &mut ints);
                out.iter_mut().zip(ints).for_each(|(o, i)| *o = i as f32);
            }
        }
    }

    /// Writes whole numbers as i32 from the flat position `at` on; wider types keep their low bits.
    pub(crate) fn fill_ints(&self, at: usize, out: &mut [i32]) {
        let bytes = self.bytes();
        match self.dtype.bits() {
            64 => {
                let (words, _) = bytes.as_chunks::<8>();
                out.iter_mut()
                    .zip(&words[at..])
                    .for_each(|(o, b)| *o = i64::from_le_bytes(*b) as i32);
            }
            32 => {
                let (words, _) = bytes.as_chunks::<4>();
                out.iter_mut().zip(&words[at..]).for_each(|(o, b)| *o = i32::from_le_bytes(*b));
            }
            16 => {
                let (pairs, _) = bytes.as_chunks::<2>();
                let unsigned = self.dtype.is_unsigned();
                for (o, b) in out.iter_mut().zip(&pairs[at..]) {
                    *o = if unsigned {
                        i32::from(u16::from_le_bytes(*b))
                    } else {
                        i32::from(i16::from_le_bytes(*b))
                    };
                }
            }
            _ => {
                let mut floats = vec![0.0; out.len()];
                self.fill(at, &mut floats);
                out.iter_mut().zip(floats).for_each(|(o, f)| *o = f as i32);
            }
        }
    }
}

/// Whole numbers of at most 8 bits as f32; `sign` is the bit that counts negative, 0 when none does.
fn fill_small(bytes: &[u8], bits: u32, sign: u8, at: usize, out: &mut [f32]) {
    let mut codes = [0_u8; 256];
    for (i, piece) in out.chunks_mut(codes.len()).enumerate() {
        let codes = &mut codes[..piece.len()];
        unpack(bytes, bits, at + i * 256, codes);
        widen(codes, sign, piece);
    }
}

multiversion! {
    fn widen(codes: &[u8], sign: u8, out: &mut [f32]) {
        for (o, &c) in out.iter_mut().zip(codes) {
            *o = (i32::from(c ^ sign) - i32::from(sign)) as f32;
        }
    }
}

/// Reads fields of `bits` bits, from element `at` on; a field may lie across two bytes.
pub(crate) fn unpack(bytes: &[u8], bits: u32, at: usize, out: &mut [u8]) {
    match bits {
        8 => out.copy_from_slice(&bytes[at..at + out.len()]),
        4 if at.is_multiple_of(2) => packed4(&bytes[at / 2..], out),
        _ => {
            let mask = (1_u16 << bits) - 1;
            let mut bit = at * bits as usize;
            for o in out {
                let low = u16::from(bytes[bit / 8]);
                let high = bytes.get(bit / 8 + 1).map_or(0, |&b| u16::from(b));
                *o = (((low | (high << 8)) >> (bit % 8)) & mask) as u8;
                bit += bits as usize;
            }
        }
    }
}

multiversion! {
    fn packed4(bytes: &[u8], out: &mut [u8]) {
        let (pairs, last) = out.as_chunks_mut::<2>();
        for (pair, &b) in pairs.iter_mut().zip(bytes) {
            *pair = [b & 15, b >> 4];
        }
        if let [o] = last {
            *o = bytes[pairs.len()] & 15;
        }
    }
}

/// An 8-bit float: `E4M3` has no infinities and one NaN pattern, `E5M2` is as IEEE.
fn minifloat(byte: u8, exponent_bits: u32, mantissa_bits: u32) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let mantissa = byte & ((1 << mantissa_bits) - 1);
    let exponent = (byte & 0x7F) >> mantissa_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let top = (1 << exponent_bits) - 1;
    let scale = f32::from(1_u16 << mantissa_bits);
    let magnitude = match (i32::from(exponent), mantissa) {
        (0, m) => f32::from(m) / scale * 2_f32.powi(1 - bias),
        (e, 0) if e == top && mantissa_bits == 2 => f32::INFINITY,
        (e, _) if e == top && mantissa_bits == 2 => f32::NAN,
        (e, 7) if e == top => f32::NAN,
        (e, m) => (1.0 + f32::from(m) / scale) * 2_f32.powi(e - bias),
    };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_of_every_type() {
        let cases: [(DType, &[u8], &[f32]); 9] = [
            (DType::U1, &[0b1000_0001], &[1., 0., 0., 0., 0., 0., 0., 1.]),
            (DType::U3, &[0b11_010_001, 0b0000_0001], &[1., 2., 7.]),
            (DType::U4, &[0x21, 0xF3], &[1., 2., 3., 15.]),
            (DType::I4, &[0x87, 0x0F], &[7., -8., -1.]),
            (DType::U6, &[0b11_000001, 0b0000_1111], &[1., 63.]),
            (DType::I8, &[0x80, 0x7F], &[-128., 127.]),
            (DType::F8E4M3, &[0x38, 0xB8, 0x01, 0x7E], &[1., -1., 0.001_953_125, 448.]),
            (DType::F8E5M2, &[0x3C, 0x7C, 0x01], &[1., f32::INFINITY, 1.525_878_9e-5]),
            (DType::U16, &[0xFF, 0xFF, 1, 0], &[65535., 1.]),
        ];
        for (dtype, bytes, want) in cases {
            let mut got = vec![0.0; want.len()];
            Packed::owned(dtype, vec![want.len()], bytes.to_vec()).fill(0, &mut got);
            assert_eq!(got, want, "{dtype}");
        }
    }

    proptest! {
        #[test]
        fn any_run_is_part_of_the_whole(bits in prop::sample::select(vec![1_u32, 2, 3, 4, 6, 8]), bytes in prop::collection::vec(any::<u8>(), 12..40), at in 0_usize..10) {
            let n = bytes.len() * 8 / bits as usize;
            let mut whole = vec![0; n];
            for (i, o) in whole.iter_mut().enumerate() {
                for b in 0..bits as usize {
                    let bit = i * bits as usize + b;
                    *o |= (bytes[bit / 8] >> (bit % 8) & 1) << b;
                }
            }
            let mut run = vec![0; n - at];
            unpack(&bytes, bits, at, &mut run);
            prop_assert_eq!(&whole[at..], run.as_slice());
        }
    }
}
