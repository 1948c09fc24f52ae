//! Reading a table of 16 values by index, the kernel of palettized weights.

/// Writes `table[code]` for each code below 16.
pub(crate) fn lut16(table: &[f32; 16], codes: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the feature was found on this processor.
        unsafe {
            x86::lut16(table, codes, out);
        }
        return;
    }
    plain(table, codes, out);
}

fn plain(table: &[f32; 16], codes: &[u8], out: &mut [f32]) {
    // The mask lets the compiler see that no index leaves the table.
    out.iter_mut().zip(codes).for_each(|(o, &c)| *o = table[usize::from(c & 15)]);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_cvtsi64_si128, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu8_epi32,
        _mm256_loadu_ps, _mm256_permutevar8x32_ps, _mm256_slli_epi32, _mm256_storeu_ps,
    };

    #[target_feature(enable = "avx2")]
    pub(super) fn lut16(table: &[f32; 16], codes: &[u8], out: &mut [f32]) {
        #[expect(unsafe_code, reason = "unaligned loads take pointers")]
        // SAFETY: the table holds 16 elements, eight from either place.
        let (low, high) =
            unsafe { (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8))) };
        let (code_runs, code_rest) = codes.as_chunks::<8>();
        let (out_runs, out_rest) = out.as_chunks_mut::<8>();
        for (codes, out) in code_runs.iter().zip(out_runs) {
            let codes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
            // Bits 0 to 2 choose within a half, bit 3 (moved to the sign) between the halves.
            let from_low = _mm256_permutevar8x32_ps(low, codes);
            let from_high = _mm256_permutevar8x32_ps(high, codes);
            let choice = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            let values = _mm256_blendv_ps(from_low, from_high, choice);
            #[expect(unsafe_code, reason = "an unaligned store takes a pointer")]
            // SAFETY: the array holds the eight elements that are stored.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), values);
            }
        }
        super::plain(table, code_rest, out_rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quick_is_plain(table in prop::array::uniform16(-9.0_f32..9.0), codes in prop::collection::vec(0_u8..16, 0..70)) {
            let (mut got, mut want) = (vec![0.0; codes.len()], vec![0.0; codes.len()]);
            lut16(&table, &codes, &mut got);
            plain(&table, &codes, &mut want);
            prop_assert_eq!(got, want);
        }
    }
}
