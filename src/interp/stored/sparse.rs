//! `Sparse`: a bit per element says whether it is there; those that are stand one after another.

use super::{Packed, Shared, Stored};
use crate::interp::error::OpError;
use crate::interp::kernel::strided::split_at_axis;
use crate::mil::DType;

/// Elements counted per entry of the table of counts.
const STRIDE: usize = 4096;

/// One bit per element, with counts that let any place be found quickly.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    bits: Packed,
    /// Set bits before each multiple of [`STRIDE`], and all of them at the end.
    before: Vec<usize>,
}

impl Mask {
    /// From a uint1 tensor.
    pub(crate) fn new(bits: Packed) -> Self {
        let n = bits.len();
        let mut before = Vec::with_capacity(n / STRIDE + 2);
        let mut count = 0;
        for start in (0..n).step_by(STRIDE) {
            before.push(count);
            count += count_ones(bits.bytes(), start, (start + STRIDE).min(n));
        }
        before.push(count);
        Self { bits, before }
    }

    /// The extents of the dense tensor.
    pub(crate) fn shape(&self) -> &[usize] {
        self.bits.shape()
    }

    /// The number of bits.
    pub(crate) fn len(&self) -> usize {
        self.bits.len()
    }

    /// Number of set bits.
    pub(crate) fn count(&self) -> usize {
        self.before.last().copied().unwrap_or(0)
    }

    /// True if the element at the flat position is there.
    pub(crate) fn is_set(&self, at: usize) -> bool {
        self.bits.bytes()[at / 8] >> (at % 8) & 1 == 1
    }

    /// From one flag per element.
    pub(crate) fn from_flags(shape: &[usize], flags: impl Iterator<Item = bool>) -> Self {
        let mut bytes = vec![0_u8; shape.iter().product::<usize>().div_ceil(8)];
        for (i, _) in flags.enumerate().filter(|(_, set)| *set) {
            bytes[i / 8] |= 1 << (i % 8);
        }
        Self::new(Packed::owned(DType::U1, shape.to_vec(), bytes))
    }

    /// Values given for the set bits at their places, the default elsewhere.
    pub(crate) fn spread<T: Copy + Default>(&self, given: &[T]) -> Vec<T> {
        let mut given = given.iter();
        let value = |i| if self.is_set(i) { given.next().copied() } else { None };
        (0..self.bits.len()).map(value).map(Option::unwrap_or_default).collect()
    }

    /// Each bit `times` times along `axis`.
    pub(crate) fn repeated(&self, axis: usize, times: usize) -> Self {
        let (before, n, after) = split_at_axis(self.shape(), axis);
        let mut shape = self.shape().to_vec();
        shape[axis] *= times;
        let flag = |i: usize| {
            let (outer, c, inner) = (i / (n * times * after), i / after % (n * times), i % after);
            self.is_set((outer * n + c / times) * after + inner)
        };
        Self::from_flags(&shape, (0..before * n * times * after).map(flag))
    }

    fn rank(&self, at: usize) -> usize {
        let stride = at / STRIDE;
        self.before[stride] + count_ones(self.bits.bytes(), stride * STRIDE, at)
    }
}

fn count_ones(bytes: &[u8], from: usize, to: usize) -> usize {
    // `from` is a multiple of 8.
    let whole = &bytes[from / 8..to / 8];
    let ones: usize = whole.iter().map(|b| b.count_ones() as usize).sum();
    match to % 8 {
        0 => ones,
        rest => ones + (bytes[to / 8] & ((1 << rest) - 1)).count_ones() as usize,
    }
}

/// A sparse constant.
pub(crate) struct Sparse {
    mask: Mask,
    values: Shared,
}

impl Sparse {
    /// The values of the set bits in order.
    pub(crate) fn new(mask: Mask, values: Shared) -> Result<Self, OpError> {
        if mask.count() != values.len() {
            let (bits, n) = (mask.count(), values.len());
            return Err(OpError::invalid(format!("a mask of {bits} set bits has {n} values")));
        }
        Ok(Self { mask, values })
    }
}

impl Stored for Sparse {
    fn dtype(&self) -> DType {
        self.values.dtype()
    }

    fn shape(&self) -> &[usize] {
        self.mask.shape()
    }

    fn fill(&self, at: usize, out: &mut [f32]) {
        let first = self.mask.rank(at);
        let n = (at..at + out.len()).filter(|&i| self.mask.is_set(i)).count();
        let mut values = vec![0.0; n];
        self.values.fill(first, &mut values);
        let mut values = values.into_iter();
        for (i, o) in out.iter_mut().enumerate() {
            let set = self.mask.is_set(at + i);
            *o = if set { values.next().expect("as many values as set bits") } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::stored::of_tensor;
    use crate::interp::tensor::Tensor;

    proptest! {
        #[test]
        fn a_run_is_part_of_the_whole(mask in prop::collection::vec(any::<bool>(), 1..9000), at in 0.0_f64..1.0) {
            let mut bytes = vec![0_u8; mask.len().div_ceil(8)];
            let mut whole = vec![0.0; mask.len()];
            let mut values = Vec::new();
            for (i, _) in mask.iter().enumerate().filter(|(_, set)| **set) {
                bytes[i / 8] |= 1 << (i % 8);
                values.push(i as f32 + 1.0);
                whole[i] = i as f32 + 1.0;
            }
            let bits = Packed::owned(DType::U1, vec![mask.len()], bytes);
            let sparse = Sparse::new(Mask::new(bits), of_tensor(Tensor::f32(&[values.len()], values))).unwrap();
            let start = (at * mask.len() as f64) as usize;
            let mut run = vec![9.0; mask.len() - start];
            sparse.fill(start, &mut run);
            prop_assert_eq!(&whole[start..], run.as_slice());
        }
    }
}
