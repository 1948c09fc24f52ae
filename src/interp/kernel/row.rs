//! A run of a stored constant as it lies in memory, for the kernels that use it without expanding it first.

use half::f16;

use super::dot::{dot, dot_f16};
use super::fp16;
use super::packed4::Nibbles;
use super::simd;

/// Elements that follow one another in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Nibbles(Nibbles<'a>),
}

impl Row<'_> {
    /// Writes the elements as f32.
    pub(crate) fn expand(&self, out: &mut [f32]) {
        match self {
            Self::F32(row) => out.copy_from_slice(row),
            Self::F16(row) => fp16::to_f32(row, out),
            Self::Nibbles(row) => row.expand(out),
        }
    }

    /// Asks for the elements, which are wanted soon, to be brought nearer.
    pub(crate) fn prefetch(&self) {
        match self {
            Self::F32(row) => simd::prefetch(row),
            Self::F16(row) => simd::prefetch(row),
            Self::Nibbles(row) => simd::prefetch(row.codes),
        }
    }

    /// Σ element · x for each of the vectors, which are as long as the run and stand one after another.
    pub(crate) fn dots(&self, vectors: &[f32], out: &mut [f32]) {
        let k = vectors.len().checked_div(out.len()).unwrap_or(0);
        let each = |out: &mut [f32], product: &dyn Fn(&[f32]) -> f32| {
            for (o, x) in out.iter_mut().zip(vectors.chunks(k.max(1))) {
                *o = product(x);
            }
        };
        match self {
            Self::F32(row) => each(out, &|x| dot(row, x)),
            Self::F16(row) => each(out, &|x| dot_f16(row, x)),
            Self::Nibbles(row) => row.dots(vectors, out),
        }
    }
}
