//! Rows of 4-bit codes used as they are stored: each code looked up in sixteen fp16 values, 64 codes at a time.
//!
//! The values of a row are one table (palettized), or made for every block of codes from its scale (quantized
//! linearly); either way two byte shuffles read them, one for the low and one for the high bytes.

use half::f16;

use super::dot;

/// Sixteen fp16 values by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    low: [u8; 16],
    high: [u8; 16],
}

impl Table {
    /// Of sixteen values; nothing where one is not a value of fp16.
    pub(crate) fn new(values: &[f32; 16]) -> Option<Self> {
        let halves = values.map(f16::from_f32);
        let exact = halves.iter().zip(values).all(|(h, &v)| h.to_f32().to_bits() == v.to_bits());
        let bytes = halves.map(f16::to_le_bytes);
        exact.then(|| Self { low: bytes.map(|b| b[0]), high: bytes.map(|b| b[1]) })
    }

    fn value(&self, code: u8) -> f32 {
        let i = usize::from(code & 15);
        f16::from_le_bytes([self.low[i], self.high[i]]).to_f32()
    }
}

/// What the codes of a row stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    /// Entries of one table.
    Table(&'a Table),
    /// `numbers[code]` times the scale of the block, rounded to fp16.
    Scaled {
        /// The number of each code.
        numbers: &'a [f32; 16],
        /// One for each block.
        scales: &'a [f16],
        /// Codes in a block, a multiple of 32.
        block: usize,
    },
}

/// A run of codes, two in a byte, the first in the low bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nibbles<'a> {
    /// An even number of codes.
    pub(crate) codes: &'a [u8],
    /// Starts where the codes start: with the first code of a block.
    pub(crate) values: Values<'a>,
}

impl Nibbles<'_> {
    /// The value at one place, said plainly.
    fn at(&self, i: usize) -> f32 {
        let code = self.codes[i / 2] >> (i % 2 * 4) & 15;
        match self.values {
            Values::Table(table) => table.value(code),
            Values::Scaled { numbers, scales, block } => {
                f16::from_f32(numbers[usize::from(code)] * scales[i / block].to_f32()).to_f32()
            }
        }
    }

    /// Writes the values.
    pub(crate) fn expand(&self, out: &mut [f32]) {
        let done = self.expand_runs(out);
        for (i, o) in out.iter_mut().enumerate().skip(done) {
            *o = self.at(i);
        }
    }

    /// Writes values as far as the processor's instructions go; gives how many.
    #[cfg(target_arch = "x86_64")]
    fn expand_runs(&self, out: &mut [f32]) -> usize {
        if !x86::present() {
            return 0;
        }
        let done = out.len() / 64 * 64;
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the features were found on this processor.
        unsafe {
            x86::expand(self, &mut out[..done]);
        }
        done
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[expect(clippy::unused_self, reason = "as its other form")]
    fn expand_runs(&self, _: &mut [f32]) -> usize {
        0
    }

    /// Σ value · x for each vector in `vectors`, which are as long as this run and stand one after another.
    pub(crate) fn dots(&self, vectors: &[f32], out: &mut [f32]) {
        let k = self.codes.len() * 2;
        if k == 0 {
            out.fill(0.0);
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if x86::present() {
            for (vectors, out) in vectors.chunks(4 * k).zip(out.chunks_mut(4)) {
                #[expect(unsafe_code, reason = "a function that needs processor features")]
                // SAFETY: the features were found on this processor.
                unsafe {
                    match out {
                        [one] => [*one] = x86::dots(self, [vectors]),
                        [a, b] => [*a, *b] = x86::dots(self, parts(vectors, k)),
                        [a, b, c] => [*a, *b, *c] = x86::dots(self, parts(vectors, k)),
                        [a, b, c, d] => [*a, *b, *c, *d] = x86::dots(self, parts(vectors, k)),
                        _ => unreachable!("chunks of one to four"),
                    }
                }
                for (o, x) in out.iter_mut().zip(vectors.chunks(k)) {
                    *o += (k / 64 * 64..k).map(|i| self.at(i) * x[i]).sum::<f32>();
                }
            }
            return;
        }
        let mut run = [0.0; 512];
        out.fill(0.0);
        for from in (0..k).step_by(run.len()) {
            let run = &mut run[..(k - from).min(512)];
            run.iter_mut().enumerate().for_each(|(i, o)| *o = self.at(from + i));
            for (o, x) in out.iter_mut().zip(vectors.chunks(k)) {
                *o += dot::dot(run, &x[from..from + run.len()]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn parts<const T: usize>(vectors: &[f32], k: usize) -> [&[f32]; T] {
    std::array::from_fn(|i| &vectors[i * k..(i + 1) * k])
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm256_and_si256,
        _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_mul_ps, _mm256_packus_epi16, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_epi8, _mm256_srli_epi16,
        _mm256_storeu_ps, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
    };

    use half::f16;

    use super::{Nibbles, Table, Values};
    use crate::interp::kernel::dot::x86::total;

    pub(super) fn present() -> bool {
        std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
    }

    /// Low and high bytes of the values: those of the first 32 codes in the lower lane, of the others in the upper.
    #[derive(Clone, Copy)]
    struct Panel {
        low: __m256i,
        high: __m256i,
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn one_table(table: &Table) -> Panel {
        #[expect(unsafe_code, clippy::cast_ptr_alignment, reason = "unaligned loads take pointers")]
        // SAFETY: both arrays hold the 16 bytes that are read.
        let (low, high) = unsafe {
            (
                _mm_loadu_si128(table.low.as_ptr().cast::<__m128i>()),
                _mm_loadu_si128(table.high.as_ptr().cast::<__m128i>()),
            )
        };
        Panel { low: _mm256_broadcastsi128_si256(low), high: _mm256_broadcastsi128_si256(high) }
    }

    /// The numbers of all codes times one scale for each lane, rounded to fp16.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn scaled(numbers: (__m256, __m256), scales: [f32; 2]) -> Panel {
        let halves = |numbers: __m256, scale: f32| {
            let product = _mm256_mul_ps(numbers, _mm256_set1_ps(scale));
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(product)
        };
        let [a, b] = scales;
        let first = _mm256_set_m128i(halves(numbers.0, b), halves(numbers.0, a));
        let second = _mm256_set_m128i(halves(numbers.1, b), halves(numbers.1, a));
        let bytes = _mm256_set1_epi16(0xFF);
        Panel {
            low: _mm256_packus_epi16(
                _mm256_and_si256(first, bytes),
                _mm256_and_si256(second, bytes),
            ),
            high: _mm256_packus_epi16(
                _mm256_srli_epi16::<8>(first),
                _mm256_srli_epi16::<8>(second),
            ),
        }
    }

    /// Up to eight scales as f32.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn eight(scales: &[f16]) -> [f32; 8] {
        let mut halves = [f16::ZERO; 8];
        halves[..scales.len()].copy_from_slice(scales);
        let mut floats = [0.0; 8];
        #[expect(
            unsafe_code,
            clippy::cast_ptr_alignment,
            reason = "unaligned access takes pointers"
        )]
        // SAFETY: both arrays hold the eight elements that are read and written.
        unsafe {
            let halves = _mm_loadu_si128(halves.as_ptr().cast::<__m128i>());
            _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
        floats
    }

    /// The values of 64 codes in their order, eight in a register.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn look_up(codes: &[u8; 32], lanes: Panel) -> [__m256; 8] {
        #[expect(unsafe_code, clippy::cast_ptr_alignment, reason = "unaligned loads take pointers")]
        // SAFETY: the array holds the 32 bytes that are read.
        let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast::<__m256i>()) };
        let mask = _mm256_set1_epi8(15);
        let even = _mm256_and_si256(codes, mask);
        let odd = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
        // Panel are worked on apart: the lower holds codes 0 to 31, the upper 32 to 63.
        let halves = |codes: __m256i| {
            let low = _mm256_shuffle_epi8(lanes.low, codes);
            let high = _mm256_shuffle_epi8(lanes.high, codes);
            (_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high))
        };
        let (a, b) = halves(_mm256_unpacklo_epi8(even, odd));
        let (c, d) = halves(_mm256_unpackhi_epi8(even, odd));
        let lower = |v: __m256i| _mm256_cvtph_ps(_mm256_castsi256_si128(v));
        let upper = |v: __m256i| _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(v));
        [lower(a), lower(b), lower(c), lower(d), upper(a), upper(b), upper(c), upper(d)]
    }

    /// Calls `f` with the values of every 64 codes.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn each(row: &Nibbles<'_>, mut f: impl FnMut(usize, [__m256; 8])) {
        let (runs, _) = row.codes.as_chunks::<32>();
        match row.values {
            Values::Table(table) => {
                let lanes = one_table(table);
                for (i, codes) in runs.iter().enumerate() {
                    f(i, look_up(codes, lanes));
                }
            }
            Values::Scaled { numbers, scales, block } => {
                #[expect(unsafe_code, reason = "unaligned loads take pointers")]
                // SAFETY: the array holds 16 elements, eight from either place.
                let numbers = unsafe {
                    (_mm256_loadu_ps(numbers.as_ptr()), _mm256_loadu_ps(numbers.as_ptr().add(8)))
                };
                if block == 32 {
                    for (i, (codes, scales)) in runs.chunks(4).zip(scales.chunks(8)).enumerate() {
                        let scales = eight(scales);
                        let (pairs, _) = scales.as_chunks::<2>();
                        for (j, (codes, &pair)) in codes.iter().zip(pairs).enumerate() {
                            f(i * 4 + j, look_up(codes, scaled(numbers, pair)));
                        }
                    }
                } else {
                    for (i, codes) in runs.iter().enumerate() {
                        let scale = |at: usize| scales[at / block].to_f32();
                        let lanes = scaled(numbers, [scale(i * 64), scale(i * 64 + 32)]);
                        f(i, look_up(codes, lanes));
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn expand(row: &Nibbles<'_>, out: &mut [f32]) {
        let (outs, _) = out.as_chunks_mut::<64>();
        each(row, |i, values| {
            let Some(out) = outs.get_mut(i) else { return };
            for (j, v) in values.into_iter().enumerate() {
                #[expect(unsafe_code, reason = "an unaligned store takes a pointer")]
                // SAFETY: eight elements from `j * 8` on lie inside the array of 64.
                unsafe {
                    _mm256_storeu_ps(out.as_mut_ptr().add(j * 8), v);
                }
            }
        });
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn dots<const T: usize>(row: &Nibbles<'_>, vectors: [&[f32]; T]) -> [f32; T] {
        let vectors = vectors.map(|v| v.as_chunks::<64>().0);
        let mut sums = [[_mm256_setzero_ps(); 4]; T];
        each(row, |i, values| {
            for (vector, sums) in vectors.iter().zip(&mut sums) {
                let Some(x) = vector.get(i) else { return };
                for (j, &v) in values.iter().enumerate() {
                    #[expect(unsafe_code, reason = "an unaligned load takes a pointer")]
                    // SAFETY: eight elements from `j * 8` on lie inside the array of 64.
                    let x = unsafe { _mm256_loadu_ps(x.as_ptr().add(j * 8)) };
                    sums[j % 4] = _mm256_fmadd_ps(v, x, sums[j % 4]);
                }
            }
        });
        sums.map(|s| total(s))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_hold_fp16_only() {
        assert!(Table::new(&[0.1; 16]).is_none());
        let table = Table::new(&std::array::from_fn(|i| i as f32 - 8.5)).unwrap();
        assert_eq!((table.value(0), table.value(15)), (-8.5, 6.5));
    }

    proptest! {
        #[test]
        fn quick_is_plain(
            codes in prop::collection::vec(any::<u8>(), 0..150),
            numbers in prop::array::uniform16(-20_i32..20),
            scales in prop::collection::vec(-2.0_f32..2.0, 10),
            block in 1_usize..4,
            t in 1_usize..7,
            palette: bool,
        ) {
            let k = codes.len() * 2;
            let numbers = numbers.map(|n| n as f32);
            let table = Table::new(&numbers.map(|n| n / 8.0)).unwrap();
            let scales: Vec<f16> = scales.iter().map(|&s| f16::from_f32(s)).collect();
            let values = if palette {
                Values::Table(&table)
            } else {
                Values::Scaled { numbers: &numbers, scales: &scales, block: 32 * block }
            };
            let row = Nibbles { codes: &codes, values };
            let plain: Vec<f32> = (0..k).map(|i| row.at(i)).collect();
            let mut got = vec![0.0; k];
            row.expand(&mut got);
            prop_assert_eq!(&got, &plain);
            let vectors: Vec<f32> = (0..t * k).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
            let mut got = vec![f32::NAN; t];
            row.dots(&vectors, &mut got);
            for (i, &got) in got.iter().enumerate() {
                let want: f64 = (0..k).map(|p| f64::from(plain[p]) * f64::from(vectors[i * k + p])).sum();
                // k additions of terms below 40 in magnitude.
                let bound = 40.0 * (k * k) as f64 * f64::from(f32::EPSILON);
                prop_assert!((f64::from(got) - want).abs() <= bound, "{} for {}", got, want);
            }
        }
    }
}
