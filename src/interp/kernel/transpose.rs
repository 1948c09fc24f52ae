//! Turning a matrix, so that rows become columns: eight by eight on x86.

/// Writes element `(r, c)` of `from`, whose rows are `from_step` apart, to `(c, r)` of `to`, whose rows are `to_step`
/// apart.
pub(crate) fn transpose(
    from: &[f32],
    from_step: usize,
    to: &mut [f32],
    to_step: usize,
    (rows, columns): (usize, usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        from.len() >= (rows - 1) * from_step + columns
            && to.len() >= (columns - 1) * to_step + rows,
        "both matrices lie inside their slices"
    );
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        let (whole_rows, whole_columns) = (rows / 8 * 8, columns / 8 * 8);
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the feature was found on this processor; the extents were checked just above.
        unsafe {
            x86::transpose(from, from_step, to, to_step, (whole_rows, whole_columns));
        }
        plain(from, from_step, to, to_step, (0..whole_rows, whole_columns..columns));
        plain(from, from_step, to, to_step, (whole_rows..rows, 0..columns));
        return;
    }
    plain(from, from_step, to, to_step, (0..rows, 0..columns));
}

fn plain(
    from: &[f32],
    from_step: usize,
    to: &mut [f32],
    to_step: usize,
    (rows, columns): (std::ops::Range<usize>, std::ops::Range<usize>),
) {
    for r in rows {
        for c in columns.clone() {
            to[c * to_step + r] = from[r * from_step + c];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    /// # Safety
    ///
    /// `from` has the rows and columns, and `to` has them turned; both numbers are multiples of 8.
    #[expect(unsafe_code, reason = "loads and stores of a part of a row take pointers")]
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn transpose(
        from: &[f32],
        from_step: usize,
        to: &mut [f32],
        to_step: usize,
        (rows, columns): (usize, usize),
    ) {
        for r in (0..rows).step_by(8) {
            for c in (0..columns).step_by(8) {
                // SAFETY: eight rows and columns from here on are inside, by this function's contract.
                unsafe {
                    let from = from.as_ptr().add(r * from_step + c);
                    let x: [_; 8] =
                        std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * from_step)));
                    // Pairs of rows interleaved, then fours, then halves of all eight.
                    let pair = |i| {
                        (_mm256_unpacklo_ps(x[i], x[i + 1]), _mm256_unpackhi_ps(x[i], x[i + 1]))
                    };
                    let four = |i| {
                        let ((a, b), (c, d)) = (pair(i), pair(i + 2));
                        [
                            _mm256_shuffle_ps::<0x44>(a, c),
                            _mm256_shuffle_ps::<0xEE>(a, c),
                            _mm256_shuffle_ps::<0x44>(b, d),
                            _mm256_shuffle_ps::<0xEE>(b, d),
                        ]
                    };
                    let (upper, lower) = (four(0), four(4));
                    let to = to.as_mut_ptr().add(c * to_step + r);
                    for (i, (&a, &b)) in upper.iter().zip(&lower).enumerate() {
                        let low = _mm256_permute2f128_ps::<0x20>(a, b);
                        _mm256_storeu_ps(to.add(i * to_step), low);
                        let high = _mm256_permute2f128_ps::<0x31>(a, b);
                        _mm256_storeu_ps(to.add((i + 4) * to_step), high);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quick_is_plain(rows in 0_usize..20, columns in 0_usize..20, more in (0_usize..5, 0_usize..5)) {
            let (from_step, to_step) = (columns + more.0, rows + more.1);
            let from: Vec<f32> = (0..rows * from_step).map(|i| i as f32).collect();
            let mut got = vec![-1.0; columns * to_step];
            let mut want = got.clone();
            transpose(&from, from_step, &mut got, to_step, (rows, columns));
            plain(&from, from_step, &mut want, to_step, (0..rows, 0..columns));
            prop_assert_eq!(got, want);
        }
    }
}
