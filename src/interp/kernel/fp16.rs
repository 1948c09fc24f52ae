//! fp16 to f32 and back, a slice at a time: eight elements in one instruction on x86, four
//! (by `half`) on ARM, where the processor has it.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Writes fp16 elements as f32.
pub(crate) fn to_f32(from: &[f16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::present() {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the features were found on this processor.
        unsafe {
            x86::to_f32(from, out);
        }
        return;
    }
    from.convert_to_f32_slice(&mut out[..from.len()]);
}

/// fp16 elements as a vector of f32.
pub(crate) fn to_f32_vec(from: &[f16]) -> Vec<f32> {
    let mut out = vec![0.0; from.len()];
    to_f32(from, &mut out);
    out
}

/// Writes as many values as fp16: the nearest of each, ties to even, overflow to infinity.
pub(crate) fn narrow(out: &mut [f16], from: &[f32]) {
    out.convert_from_f32_slice(from);
}

/// Rounds to the nearest value that fp16 has, ties to even, overflow to infinity.
pub(crate) fn round(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::present() {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the features were found on this processor.
        unsafe {
            x86::round(values);
        }
        return;
    }
    let mut halves = [f16::ZERO; 64];
    for run in values.chunks_mut(halves.len()) {
        let halves = &mut halves[..run.len()];
        halves.convert_from_f32_slice(run);
        halves.convert_to_f32_slice(run);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_loadu_ps, _mm256_storeu_ps,
    };

    use half::f16;

    pub(super) fn present() -> bool {
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c")
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn to_f32(from: &[f16], out: &mut [f32]) {
        let (runs, rest) = from.as_chunks::<8>();
        let (out_runs, out_rest) = out.as_chunks_mut::<8>();
        for (run, out) in runs.iter().zip(out_runs) {
            #[expect(
                unsafe_code,
                clippy::cast_ptr_alignment,
                reason = "unaligned access takes pointers"
            )]
            // SAFETY: both arrays hold the eight elements that are read and written.
            unsafe {
                let halves = _mm_loadu_si128(run.as_ptr().cast::<__m128i>());
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        out_rest.iter_mut().zip(rest).for_each(|(o, h)| *o = h.to_f32());
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn round(values: &mut [f32]) {
        let (runs, rest) = values.as_chunks_mut::<8>();
        for run in runs {
            #[expect(unsafe_code, reason = "unaligned access takes pointers")]
            // SAFETY: the array holds the eight elements that are read and written.
            unsafe {
                let halves =
                    _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(run.as_ptr()));
                _mm256_storeu_ps(run.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        for v in rest {
            *v = f16::from_f32(*v).to_f32();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fp16_value_comes_back() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let plain: Vec<u32> = halves.iter().map(|h| h.to_f32().to_bits()).collect();
        let mut floats = to_f32_vec(&halves);
        for (i, (f, &p)) in floats.iter().zip(&plain).enumerate() {
            assert!(f.to_bits() == p || f.is_nan() && f32::from_bits(p).is_nan(), "{i:04x}");
        }
        let mut again = vec![f16::ZERO; floats.len()];
        narrow(&mut again, &floats);
        assert!(halves.iter().zip(&again).all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
        let before = floats.clone();
        round(&mut floats);
        assert!(before.iter().zip(&floats).all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
    }

    #[test]
    fn rounding_is_that_of_half() {
        // Every 99,991st pattern of f32: all exponents, many fractions.
        let values: Vec<f32> = (0..=u32::MAX).step_by(99_991).map(f32::from_bits).collect();
        let mut got = values.clone();
        round(&mut got);
        for (x, g) in values.iter().zip(&got) {
            let want = f16::from_f32(*x).to_f32();
            assert!(*g == want || g.is_nan() && want.is_nan(), "{x}: {g} for {want}");
        }
    }
}
