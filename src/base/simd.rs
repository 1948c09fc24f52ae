//! Loops compiled twice: for any processor, and for one with AVX2.

/// Defines a function whose body is compiled twice, and the form that fits this processor is run.
///
/// Multiplications and additions are never fused, so that results are the same either way. Within the body `lanes` has what the
/// compiler does not find by itself: [`plain`], or the same in instructions of the processor.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c")]
            fn wide($($arg: $ty),*) {
                use $crate::base::simd::wide as lanes;
                // Most bodies need nothing of it.
                let _ = lanes::widen;
                $body
            }
            fn plain($($arg: $ty),*) {
                use $crate::base::simd::plain as lanes;
                let _ = lanes::widen;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("f16c")
            {
                #[expect(unsafe_code, reason = "a function that needs processor features")]
                // SAFETY: the features were found on this processor.
                unsafe {
                    wide($($arg),*);
                }
                return;
            }
            plain($($arg),*);
        }
    };
}
pub(crate) use multiversion;

/// Conversions of eight numbers in plain arithmetic.
pub(crate) mod plain {
    use half::f16;

    /// As f32, exactly.
    #[inline]
    pub(crate) fn widen(values: &[f16; 8]) -> [f32; 8] {
        values.map(f16::to_f32)
    }

    /// As the nearest fp16 numbers, of two as near the even one; infinite beyond them.
    #[inline]
    pub(crate) fn narrow(values: [f32; 8]) -> [f16; 8] {
        values.map(f16::from_f32)
    }
}

/// [`plain`] in the instructions of F16C.
#[cfg(target_arch = "x86_64")]
pub(crate) mod wide {
    use std::arch::x86_64::{
        __m128i, __m256, _MM_FROUND_TO_NEAREST_INT, _mm256_cvtph_ps, _mm256_cvtps_ph,
    };

    use half::f16;

    /// As [`plain::widen`](super::plain::widen).
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(crate) fn widen(values: &[f16; 8]) -> [f32; 8] {
        #[expect(unsafe_code, reason = "registers as arrays of their size")]
        // SAFETY: both are 16 bytes, and both 32, of which every pattern is a value.
        unsafe {
            let halves = std::mem::transmute::<[f16; 8], __m128i>(*values);
            std::mem::transmute::<__m256, [f32; 8]>(_mm256_cvtph_ps(halves))
        }
    }

    /// As [`plain::narrow`](super::plain::narrow).
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(crate) fn narrow(values: [f32; 8]) -> [f16; 8] {
        #[expect(unsafe_code, reason = "registers as arrays of their size")]
        // SAFETY: both are 32 bytes, and both 16, of which every pattern is a value.
        unsafe {
            let wide = std::mem::transmute::<[f32; 8], __m256>(values);
            std::mem::transmute::<__m128i, [f16; 8]>(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(
                wide,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    multiversion! {
        fn widen(values: &[f16; 8], out: &mut [f32; 8]) {
            *out = lanes::widen(values);
        }
    }

    multiversion! {
        fn narrow(values: [f32; 8], out: &mut [f16; 8]) {
            *out = lanes::narrow(values);
        }
    }

    #[test]
    fn eight_are_converted_as_one_is() {
        let same = |a: f32, b: f32| a.total_cmp(&b).is_eq() || (a.is_nan() && b.is_nan());
        for bits in (0..=u16::MAX).step_by(8) {
            let halves: [f16; 8] = std::array::from_fn(|i| f16::from_bits(bits + i as u16));
            let mut floats = [0.0; 8];
            widen(&halves, &mut floats);
            for (half, float) in halves.into_iter().zip(floats) {
                assert!(same(half.to_f32(), float), "{half:?} becomes {float}");
                // And between this and the next.
                let up = f32::from_bits(float.to_bits() | 0x1000);
                for between in [float, up, up.next_up(), up.next_down()] {
                    let mut narrowed = [f16::ZERO; 8];
                    narrow([between; 8], &mut narrowed);
                    let (found, want) = (narrowed[3].to_f32(), f16::from_f32(between).to_f32());
                    assert!(same(found, want), "{between} becomes {found}, not {want}");
                }
            }
        }
    }
}
