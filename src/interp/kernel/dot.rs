//! Dot products of one stored row with one vector, the kernel of a decode step.
//!
//! The plain forms are the reference; the others use what the processor has, found at run time.

use half::f16;

use super::fp16;

/// Independent sums, so that additions do not wait for each other.
const LANES: usize = 32;

/// Σ a·b in f32.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the features were found on this processor.
        return unsafe { x86::dot(a, b) };
    }
    dot_plain(a, b)
}

/// Σ a·b for a row of fp16, every product exact in f32's rounding.
pub(crate) fn dot_f16(a: &[f16], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
    {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the features were found on this processor.
        return unsafe { x86::dot_f16(a, b) };
    }
    let mut run = [0.0; 512];
    let mut sum = 0.0;
    for (a, b) in a.chunks(run.len()).zip(b.chunks(run.len())) {
        let run = &mut run[..a.len()];
        fp16::to_f32(a, run);
        sum += dot(run, b);
    }
    sum
}

fn dot_plain(a: &[f32], b: &[f32]) -> f32 {
    let (a_runs, a_rest) = a.as_chunks::<LANES>();
    let (b_runs, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_runs.iter().zip(b_runs) {
        for ((s, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, _mm_loadu_si128, _mm256_add_ps, _mm256_cvtph_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use half::f16;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
        let (a_runs, a_rest) = a.as_chunks::<32>();
        let (b_runs, b_rest) = b.as_chunks::<32>();
        let mut sums = [_mm256_setzero_ps(); 4];
        for (a, b) in a_runs.iter().zip(b_runs) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                #[expect(unsafe_code, reason = "unaligned loads take pointers")]
                // SAFETY: eight elements from `lane * 8` on lie inside the arrays of 32.
                let (x, y) = unsafe {
                    (
                        _mm256_loadu_ps(a.as_ptr().add(lane * 8)),
                        _mm256_loadu_ps(b.as_ptr().add(lane * 8)),
                    )
                };
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| a * b).sum();
        total(sums) + rest
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn dot_f16(a: &[f16], b: &[f32]) -> f32 {
        let (a_runs, a_rest) = a.as_chunks::<32>();
        let (b_runs, b_rest) = b.as_chunks::<32>();
        let mut sums = [_mm256_setzero_ps(); 4];
        for (a, b) in a_runs.iter().zip(b_runs) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                #[expect(
                    unsafe_code,
                    clippy::cast_ptr_alignment,
                    reason = "unaligned loads take pointers"
                )]
                // SAFETY: eight elements from `lane * 8` on lie inside the arrays of 32.
                let (halves, floats) = unsafe {
                    (
                        _mm_loadu_si128(a.as_ptr().add(lane * 8).cast::<__m128i>()),
                        _mm256_loadu_ps(b.as_ptr().add(lane * 8)),
                    )
                };
                *sum = _mm256_fmadd_ps(_mm256_cvtph_ps(halves), floats, *sum);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, &b)| a.to_f32() * b).sum();
        total(sums) + rest
    }

    /// The sum of all lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::interp::kernel) fn total(sums: [__m256; 4]) -> f32 {
        let both = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let mut lanes = [0.0_f32; 8];
        #[expect(unsafe_code, reason = "an unaligned store takes a pointer")]
        // SAFETY: the array holds the eight elements that are stored.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), both);
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quick_sums_are_the_plain_sum(values in prop::collection::vec((-2.0_f32..2.0, -2.0_f32..2.0), 0..300)) {
            let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(v.0)).collect();
            let a: Vec<f32> = halves.iter().map(|h| h.to_f32()).collect();
            let b: Vec<f32> = values.iter().map(|v| v.1).collect();
            let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            // n additions of terms below 4, each off by at most half an ulp of the sum of magnitudes.
            let bound = 4.0 * (values.len() as f64).powi(2) * f64::from(f32::EPSILON);
            for got in [dot_plain(&a, &b), dot(&a, &b), dot_f16(&halves, &b)] {
                prop_assert!((f64::from(got) - exact).abs() <= bound, "{} for {}", got, exact);
            }
        }
    }
}
