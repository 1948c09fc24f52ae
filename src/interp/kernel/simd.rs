//! Elementwise loops compiled twice, for any processor and for one with AVX2; and an `exp` that they can vectorise.

use rayon::prelude::*;

pub(crate) use crate::base::simd::multiversion;

/// Replaces every value `v` by `f(v)`; `f` should be small enough to be inlined.
pub(crate) fn map(values: &mut [f32], f: impl Fn(f32) -> f32) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the feature was found on this processor.
        unsafe {
            map_avx2(values, f);
        }
        return;
    }
    for v in values {
        *v = f(*v);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn map_avx2(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for v in values {
        *v = f(*v);
    }
}

/// Σ exp(x − shift) in f64 of exponentials in f32; the same whatever the number of threads.
pub fn sum_exp(values: &[f32], shift: f32) -> f64 {
    /// Elements summed by one thread at a time.
    const PIECE: usize = 1 << 12;
    let piece = |values: &[f32]| -> f64 {
        let mut terms = [0.0; 256];
        let part = |values: &[f32]| -> f64 {
            let terms = &mut terms[..values.len()];
            terms.copy_from_slice(values);
            map(terms, |x| exp(x - shift));
            terms.iter().map(|&t| f64::from(t)).sum()
        };
        values.chunks(256).map(part).sum()
    };
    if values.len() <= PIECE {
        return piece(values);
    }
    let sums: Vec<f64> = values.par_chunks(PIECE).map(piece).collect();
    sums.iter().sum()
}

/// Brings elements that are wanted soon into the second-level cache, on processors that can be asked to.
pub(crate) fn prefetch<T>(elements: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        /// Bytes that come at once.
        const LINE: usize = 64;
        for element in elements.iter().step_by(const { LINE / size_of::<T>() }) {
            #[expect(unsafe_code, reason = "the instruction takes a pointer")]
            // SAFETY: every processor of this family has it, and it changes nothing but the caches.
            unsafe {
                _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(element).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = elements;
}

/// Replaces every value `a` by `f(a, b)`.
pub(crate) fn zip(values: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the feature was found on this processor.
        unsafe {
            zip_avx2(values, b, f);
        }
        return;
    }
    for (a, &b) in values.iter_mut().zip(b) {
        *a = f(*a, b);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn zip_avx2(values: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for (a, &b) in values.iter_mut().zip(b) {
        *a = f(*a, b);
    }
}

/// eˣ within 2 units in the last place: 2ⁿ · p(r) with |r| ≤ ln 2 / 2.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to a whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; products of the first with small whole numbers are exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the result is 0 or infinite.
    let clamped = if x < -104.0 { -104.0 } else { x };
    let clamped = if clamped > 89.0 { 89.0 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    // The series of eʳ to the 7th power: what follows is below 2⁻²⁷ for |r| ≤ 0.35.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // 2ⁿ in two factors, so that neither leaves the range of normal numbers.
    let n = shifted.to_bits().cast_signed() - ROUND.to_bits().cast_signed();
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23).cast_unsigned());
    p * power(half) * power(n - half)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn exp_is_within_two_units(x in -103.0_f32..89.0) {
            let want = f64::from(x).exp();
            let got = exp(x);
            // Below the normal numbers a unit is 2⁻¹⁴⁹.
            let unit = (want * f64::from(f32::EPSILON)).max(2_f64.powi(-149));
            if want < f64::from(f32::MAX) {
                prop_assert!((f64::from(got) - want).abs() <= 2.0 * unit, "{}: {} for {}", x, got, want);
            } else {
                prop_assert!(got >= f32::MAX * 0.999);
            }
        }
    }

    #[test]
    fn ends() {
        let cases = [
            (f32::NEG_INFINITY, 0.0),
            (-200.0, 0.0),
            (0.0, 1.0),
            (89.0, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
        ];
        for (x, want) in cases {
            assert_eq!(exp(x), want, "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_of_exponentials() {
        for n in [0_u16, 1, 255, 256, 257, 5000, 9000] {
            let x: Vec<f32> = (0..n).map(|i| f32::from(i % 97) / 10.0).collect();
            let want: f64 = x.iter().map(|&x| f64::from(x - 2.0).exp()).sum();
            assert!((sum_exp(&x, 2.0) - want).abs() <= want * 1e-6, "{n}");
        }
        assert!(sum_exp(&[0.0, f32::NAN], 0.0).is_nan());
    }

    #[test]
    fn both_compilations_agree() {
        let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.17 - 90.0).collect();
        let mut quick = x.clone();
        map(&mut quick, exp);
        let plain: Vec<f32> = x.iter().map(|&v| exp(v)).collect();
        assert_eq!(quick, plain);
        let mut quick = x.clone();
        zip(&mut quick, &plain, |a, b| a * b + a);
        let plain: Vec<f32> = x.iter().zip(&plain).map(|(&a, &b)| a * b + a).collect();
        assert_eq!(quick, plain);
    }
}
