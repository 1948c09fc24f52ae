//! Six rows of a weight times sixteen vectors, the kernel of products with many vectors.

#![expect(
    clippy::inline_always,
    reason = "what reads a register has to be part of the function that has its feature"
)]

use bytemuck::{Pod, Zeroable};

/// Rows of the weight in a tile.
pub(crate) const ROWS: usize = 6;
/// Vectors in a panel, and so in a tile.
pub(crate) const LANES: usize = 16;
/// Elements of the panel between two looks at the loop's end.
const UNROLLED: usize = 4;

/// One element of each of [`LANES`] vectors, in a line of the cache: a load from two lines takes twice as long.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Panel(pub(crate) [f32; LANES]);

/// The sums of a tile: element `[r][l]` belongs to row `r` and vector `l`.
pub(crate) type Sums = [[f32; LANES]; ROWS];

/// Adds `Σ_p rows[r * stride + p] * panel[p].0[l]` to `sums[r][l]`, p in rising order; `rows` holds [`ROWS`] rows.
#[expect(unsafe_code, reason = "functions that need processor features")]
pub(crate) fn add(rows: &[f32], stride: usize, panel: &[Panel], sums: &mut Sums) {
    assert!(
        panel.is_empty() || rows.len() >= (ROWS - 1) * stride + panel.len(),
        "the rows lie inside their slice"
    );
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature was found on this processor; the extents were checked just above.
        return unsafe { x86::add_512(rows, stride, panel, sums) };
    } else if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
    {
        // SAFETY: the features were found on this processor; the extents were checked just above.
        return unsafe { x86::add_256(rows, stride, panel, sums) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: NEON belongs to every processor of this family; the extents were checked just above.
    return unsafe { in_registers::<neon::Quads, 1>(rows, stride, panel, sums) };
    #[cfg(not(target_arch = "aarch64"))]
    plain(rows, stride, panel, sums);
}

#[cfg(any(test, not(target_arch = "aarch64")))]
fn plain(rows: &[f32], stride: usize, panel: &[Panel], sums: &mut Sums) {
    let mut own = [[0.0_f32; LANES]; ROWS];
    for (p, x) in panel.iter().enumerate() {
        for (r, sums) in own.iter_mut().enumerate() {
            let w = rows[r * stride + p];
            for (sum, &x) in sums.iter_mut().zip(&x.0) {
                *sum += w * x;
            }
        }
    }
    for (sum, own) in sums.as_flattened_mut().iter_mut().zip(own.as_flattened()) {
        *sum += own;
    }
}

/// [`LANES`] numbers in a processor's registers.
///
/// # Safety
///
/// Functions are called where the processor has the features that the registers belong to.
#[expect(unsafe_code, reason = "functions that need processor features")]
trait Registers: Copy {
    unsafe fn zero() -> Self;
    unsafe fn load(from: &[f32; LANES]) -> Self;
    unsafe fn store(self, to: &mut [f32; LANES]);
    unsafe fn plus(self, other: Self) -> Self;
    /// self + w · x, rounded once.
    unsafe fn plus_product(self, w: f32, x: Self) -> Self;
}

/// As [`add`], with N sums for every element, so that an addition need not wait for the last one.
///
/// # Safety
///
/// The processor has the features of `R`; `rows` holds at least `(ROWS - 1) * stride + panel.len()` elements.
#[expect(
    unsafe_code,
    reason = "loads take pointers, and checks inside the loop would cost half of it"
)]
#[inline(always)]
unsafe fn in_registers<R: Registers, const N: usize>(
    rows: &[f32],
    stride: usize,
    panel: &[Panel],
    sums: &mut Sums,
) {
    const { assert!(UNROLLED.is_multiple_of(N), "a run begins with the first of the sums") }
    // SAFETY: the features are there by this function's contract. After p elements of the panel `w` is element p of the
    // first row, so that element p + i of row r lies inside `rows` for the i-th next element of the panel.
    unsafe {
        let mut own = [[R::zero(); ROWS]; N];
        let mut w = rows.as_ptr();
        let (runs, rest) = panel.as_chunks::<UNROLLED>();
        for run in runs {
            for (i, x) in run.iter().enumerate() {
                let x = R::load(&x.0);
                for (r, sum) in own[i % N].iter_mut().enumerate() {
                    *sum = sum.plus_product(*w.add(r * stride + i), x);
                }
            }
            w = w.add(UNROLLED);
        }
        for x in rest {
            let x = R::load(&x.0);
            for (r, sum) in own[0].iter_mut().enumerate() {
                *sum = sum.plus_product(*w.add(r * stride), x);
            }
            w = w.add(1);
        }
        let [first, more @ ..] = own.as_slice() else { return };
        for (r, (sums, &own)) in sums.iter_mut().zip(first).enumerate() {
            let own = more.iter().fold(own, |sum, more| sum.plus(more[r]));
            R::load(sums).plus(own).store(sums);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "functions that need processor features, and loads take pointers")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, Panel, Registers, Sums, in_registers};

    /// # Safety
    ///
    /// `rows` holds at least `(ROWS - 1) * stride + panel.len()` elements.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn add_512(r: &[f32], stride: usize, x: &[Panel], sums: &mut Sums) {
        // SAFETY: this function's own contract and features. Two sums, because six registers would wait for each other.
        unsafe { in_registers::<One, 2>(r, stride, x, sums) }
    }

    /// # Safety
    ///
    /// `rows` holds at least `(ROWS - 1) * stride + panel.len()` elements.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn add_256(r: &[f32], stride: usize, x: &[Panel], sums: &mut Sums) {
        // SAFETY: this function's own contract and features.
        unsafe { in_registers::<Pair, 1>(r, stride, x, sums) }
    }

    /// A register of AVX-512.
    #[derive(Clone, Copy)]
    struct One(__m512);

    #[expect(unsafe_op_in_unsafe_fn, reason = "the contract of each is that of its instruction")]
    // SAFETY of loads and stores: pointers come from arrays of as many elements.
    impl Registers for One {
        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(_mm512_setzero_ps())
        }

        #[inline(always)]
        unsafe fn load(from: &[f32; LANES]) -> Self {
            Self(_mm512_loadu_ps(from.as_ptr()))
        }

        #[inline(always)]
        unsafe fn store(self, to: &mut [f32; LANES]) {
            _mm512_storeu_ps(to.as_mut_ptr(), self.0);
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            Self(_mm512_add_ps(self.0, other.0))
        }

        #[inline(always)]
        unsafe fn plus_product(self, w: f32, x: Self) -> Self {
            Self(_mm512_fmadd_ps(_mm512_set1_ps(w), x.0, self.0))
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    struct Pair(__m256, __m256);

    #[expect(unsafe_op_in_unsafe_fn, reason = "the contract of each is that of its instruction")]
    // SAFETY of loads and stores: pointers come from arrays of as many elements.
    impl Registers for Pair {
        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(_mm256_setzero_ps(), _mm256_setzero_ps())
        }

        #[inline(always)]
        unsafe fn load(from: &[f32; LANES]) -> Self {
            let from = from.as_ptr();
            Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
        }

        #[inline(always)]
        unsafe fn store(self, to: &mut [f32; LANES]) {
            let to = to.as_mut_ptr();
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
        }

        #[inline(always)]
        unsafe fn plus_product(self, w: f32, x: Self) -> Self {
            let w = _mm256_set1_ps(w);
            Self(_mm256_fmadd_ps(w, x.0, self.0), _mm256_fmadd_ps(w, x.1, self.1))
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "functions that need processor features, and loads take pointers")]
mod neon {
    use std::arch::aarch64::{
        float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_n_f32, vld1q_f32, vst1q_f32,
    };

    use super::{LANES, Registers};

    /// Four registers of NEON.
    #[derive(Clone, Copy)]
    pub(super) struct Quads([float32x4_t; 4]);

    #[expect(unsafe_op_in_unsafe_fn, reason = "the contract of each is that of its instruction")]
    // SAFETY of loads and stores: pointers come from arrays of as many elements.
    impl Registers for Quads {
        #[inline(always)]
        unsafe fn zero() -> Self {
            Self([vdupq_n_f32(0.0); 4])
        }

        #[inline(always)]
        unsafe fn load(from: &[f32; LANES]) -> Self {
            let (quads, _) = from.as_chunks::<4>();
            Self(std::array::from_fn(|i| vld1q_f32(quads[i].as_ptr())))
        }

        #[inline(always)]
        unsafe fn store(self, to: &mut [f32; LANES]) {
            let (quads, _) = to.as_chunks_mut::<4>();
            for (to, from) in quads.iter_mut().zip(self.0) {
                vst1q_f32(to.as_mut_ptr(), from);
            }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            Self(std::array::from_fn(|i| vaddq_f32(self.0[i], other.0[i])))
        }

        #[inline(always)]
        unsafe fn plus_product(self, w: f32, x: Self) -> Self {
            Self(std::array::from_fn(|i| vfmaq_n_f32(self.0[i], x.0[i], w)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy)]
    struct Array([f32; LANES]);

    #[expect(unsafe_code, reason = "the trait's functions are so for those of processors")]
    impl Registers for Array {
        unsafe fn zero() -> Self {
            Self([0.0; LANES])
        }

        unsafe fn load(from: &[f32; LANES]) -> Self {
            Self(*from)
        }

        unsafe fn store(self, to: &mut [f32; LANES]) {
            *to = self.0;
        }

        unsafe fn plus(self, other: Self) -> Self {
            Self(std::array::from_fn(|l| self.0[l] + other.0[l]))
        }

        unsafe fn plus_product(self, w: f32, x: Self) -> Self {
            Self(std::array::from_fn(|l| w.mul_add(x.0[l], self.0[l])))
        }
    }

    fn in_registers<R: Registers, const N: usize>(
        rows: &[f32],
        stride: usize,
        panel: &[Panel],
        sums: &mut Sums,
    ) {
        #[expect(unsafe_code, reason = "see `Registers`")]
        // SAFETY: the test gives enough rows; arrays need no features.
        unsafe {
            super::in_registers::<R, N>(rows, stride, panel, sums);
        }
    }

    proptest! {
        #[test]
        fn quick_is_plain(depth in 0_usize..40, extra in 0_usize..5, values in prop::collection::vec(-8_i8..8, 1024)) {
            // Small whole numbers: every sum is exact in any order, fused or not.
            let number = |i: usize| f32::from(values[i % values.len()]);
            let stride = depth + extra;
            let rows: Vec<f32> = (0..ROWS * stride).map(number).collect();
            let lanes = |p| Panel(std::array::from_fn(|l| number(p * 31 + l * 7 + 5)));
            let panel: Vec<Panel> = (0..depth).map(lanes).collect();
            let start: Sums = std::array::from_fn(|r| std::array::from_fn(|l| number(r + l)));
            let (mut got, mut want) = (start, start);
            add(&rows, stride, &panel, &mut got);
            plain(&rows, stride, &panel, &mut want);
            prop_assert_eq!(got, want);
            // The kernel itself on registers that are arrays: what holds for these holds for every processor whose
            // instructions do what their names say.
            let (mut one, mut two) = (start, start);
            in_registers::<Array, 1>(&rows, stride, &panel, &mut one);
            in_registers::<Array, 2>(&rows, stride, &panel, &mut two);
            prop_assert_eq!((one, two), (want, want));
            for (r, l) in [(0, 0), (5, 15), (3, 8)] {
                let sum: f32 = (0..depth).map(|p| rows[r * stride + p] * panel[p].0[l]).sum();
                prop_assert_eq!(got[r][l], start[r][l] + sum);
            }
        }
    }
}
