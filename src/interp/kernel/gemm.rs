//! Matrix products in f32 on strided slices: the `gemm` crate behind a checked call.

use gemm::Parallelism;

/// A matrix inside a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Element `(i, j)` stands at `i * row + j * column`.
    pub(crate) fn new(data: &'a [f32], row: usize, column: usize) -> Self {
        Self { data, row, column }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// `out = a · b` (`out += a · b` when `accumulate`) for `a` of `[m, k]` and `b` of `[k, n]`, on this thread.
///
/// `out` is row-major with rows `stride` apart.
pub(crate) fn multiply(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            out.chunks_mut(stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "the matrices lie inside their slices");
    assert!(stride >= n && (m - 1) * stride + n <= out.len(), "the product lies inside its slice");
    #[expect(unsafe_code, reason = "the crate's only entry point takes pointers")]
    // SAFETY: every element that the call touches lies inside its slice, which was checked just above; rows of `out`
    // do not overlap because they are `stride >= n` apart, and `out` is borrowed for writing by this call alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride.cast_signed(),
            accumulate,
            a.data.as_ptr(),
            a.column.cast_signed(),
            a.row.cast_signed(),
            b.data.as_ptr(),
            b.column.cast_signed(),
            b.row.cast_signed(),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_the_definition(m in 1_usize..20, n in 1_usize..20, k in 0_usize..20, ta: bool, tb: bool, accumulate: bool) {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32 - 2.0).collect();
            let (ar, ac) = if ta { (1, m) } else { (k, 1) };
            let (br, bc) = if tb { (1, k) } else { (n, 1) };
            let stride = n + 2;
            let mut got = vec![1.0; m * stride];
            multiply((m, n, k), Matrix::new(&a, ar, ac), Matrix::new(&b, br, bc), &mut got, stride, accumulate);
            for i in 0..m {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|p| a[i * ar + p * ac] * b[p * br + j * bc]).sum();
                    prop_assert_eq!(got[i * stride + j], sum + f32::from(u8::from(accumulate)));
                }
                prop_assert_eq!(&got[i * stride + n..(i + 1) * stride], &[1.0, 1.0]);
            }
        }
    }
}
