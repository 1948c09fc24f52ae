//! Six rows of a weight times sixteen vectors, the kernel of products with many vectors.

/// Rows of the weight in a tile.
pub(crate) const ROWS: usize = 6;
/// Vectors in a panel, and so in a tile.
pub(crate) const LANES: usize = 16;

/// The sums of a tile: element `[r][l]` belongs to row `r` and vector `l`.
pub(crate) type Sums = [[f32; LANES]; ROWS];

/// Adds `Σ_p rows[r * stride + p] * panel[p][l]` to `sums[r][l]`, p in rising order; `rows` holds [`ROWS`] rows.
pub(crate) fn add(rows: &[f32], stride: usize, panel: &[[f32; LANES]], sums: &mut Sums) {
    assert!(
        panel.is_empty() || rows.len() >= (ROWS - 1) * stride + panel.len(),
        "the rows lie inside their slice"
    );
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        #[expect(unsafe_code, reason = "a function that needs processor features")]
        // SAFETY: the features were found on this processor; the extents were checked just above.
        unsafe {
            x86::add(rows, stride, panel, sums);
        }
        return;
    }
    plain(rows, stride, panel, sums);
}

fn plain(rows: &[f32], stride: usize, panel: &[[f32; LANES]], sums: &mut Sums) {
    let mut own = [[0.0_f32; LANES]; ROWS];
    for (p, x) in panel.iter().enumerate() {
        for (r, sums) in own.iter_mut().enumerate() {
            let w = rows[r * stride + p];
            for (sum, &x) in sums.iter_mut().zip(x) {
                // Fused where that is one instruction, as it is on every processor of this family.
                *sum =
                    if cfg!(target_arch = "aarch64") { w.mul_add(x, *sum) } else { *sum + w * x };
            }
        }
    }
    for (sum, own) in sums.as_flattened_mut().iter_mut().zip(own.as_flattened()) {
        *sum += own;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{LANES, ROWS, Sums};

    /// Elements of the panel between two looks at the loop's end.
    const UNROLLED: usize = 4;

    /// Adds the next N products and gives where `w` goes on.
    ///
    /// # Safety
    ///
    /// `w` points to at least N elements of each of [`ROWS`] rows, which are `stride` apart.
    #[expect(
        unsafe_code,
        reason = "loads take pointers, and checks inside the loop would cost half of it"
    )]
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn steps<const N: usize>(
        w: *const f32,
        stride: usize,
        panel: &[[f32; LANES]; N],
        sums: &mut [[__m256; 2]; ROWS],
    ) -> *const f32 {
        for (p, x) in panel.iter().enumerate() {
            let x = x.as_ptr();
            // SAFETY: `x` points to LANES = 16 elements; for `w` see this function's contract.
            unsafe {
                let (first, second) = (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let w = _mm256_broadcast_ss(&*w.add(r * stride + p));
                    sums[0] = _mm256_fmadd_ps(w, first, sums[0]);
                    sums[1] = _mm256_fmadd_ps(w, second, sums[1]);
                }
            }
        }
        // SAFETY: at most one behind the last element of the first row.
        unsafe { w.add(N) }
    }

    /// # Safety
    ///
    /// `rows` holds at least `(ROWS - 1) * stride + panel.len()` elements.
    #[expect(
        unsafe_code,
        reason = "loads take pointers, and checks inside the loop would cost half of it"
    )]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn add(rows: &[f32], stride: usize, panel: &[[f32; LANES]], sums: &mut Sums) {
        let mut own = [[_mm256_setzero_ps(); 2]; ROWS];
        let mut w = rows.as_ptr();
        let (runs, rest) = panel.as_chunks::<UNROLLED>();
        // SAFETY: after p elements of the panel `w` is element p of the first row, so that elements p to p + N of row r
        // lie inside `rows` by this function's contract.
        unsafe {
            for run in runs {
                w = steps(w, stride, run, &mut own);
            }
            for one in rest {
                w = steps(w, stride, std::array::from_ref(one), &mut own);
            }
        }
        for (sums, own) in sums.iter_mut().zip(own) {
            let to = sums.as_mut_ptr();
            // SAFETY: `to` points to LANES = 16 elements.
            unsafe {
                _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), own[0]));
                _mm256_storeu_ps(to.add(8), _mm256_add_ps(_mm256_loadu_ps(to.add(8)), own[1]));
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
        fn quick_is_plain(depth in 0_usize..40, extra in 0_usize..5, values in prop::collection::vec(-8_i8..8, 1024)) {
            // Small whole numbers: every sum is exact in any order, fused or not.
            let number = |i: usize| f32::from(values[i % values.len()]);
            let stride = depth + extra;
            let rows: Vec<f32> = (0..ROWS * stride).map(number).collect();
            let panel: Vec<[f32; LANES]> =
                (0..depth).map(|p| std::array::from_fn(|l| number(p * 31 + l * 7 + 5))).collect();
            let start: Sums = std::array::from_fn(|r| std::array::from_fn(|l| number(r + l)));
            let (mut got, mut want) = (start, start);
            add(&rows, stride, &panel, &mut got);
            plain(&rows, stride, &panel, &mut want);
            prop_assert_eq!(got, want);
            for (r, l) in [(0, 0), (5, 15), (3, 8)] {
                let sum: f32 = (0..depth).map(|p| rows[r * stride + p] * panel[p][l]).sum();
                prop_assert_eq!(got[r][l], start[r][l] + sum);
            }
        }
    }
}
