//! `Mask`: a bit for each value, packed as Core ML stores it.

use half::f16;
use rayon::prelude::*;

/// Values per task.
const CHUNK: usize = 1 << 16;

/// Which values are stored, in row-major order: bit `i % 8` of byte `i / 8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    bits: Vec<u8>,
    n_set: usize,
}

impl Mask {
    /// The values that `keep` keeps: it gets some of them with their place and clears flags.
    ///
    /// `values` are looked at in chunks whose length is a multiple of `whole` and of 8; values that are zero are never kept.
    pub(in super::super) fn of(
        values: &[f16],
        whole: usize,
        keep: impl Fn(usize, &[f16], &mut [bool]) + Sync,
    ) -> Self {
        let length = whole * 8 * (CHUNK / (whole * 8)).max(1);
        let mut bits = vec![0_u8; values.len().div_ceil(8)];
        let n_set = values
            .par_chunks(length)
            .zip(bits.par_chunks_mut(length / 8))
            .enumerate()
            .map_init(Vec::new, |flags: &mut Vec<bool>, (i, (values, bits))| {
                flags.clear();
                flags.extend(values.iter().map(|v| v.to_bits() & 0x7fff != 0));
                keep(i * length, values, flags);
                for (byte, eight) in bits.iter_mut().zip(flags.chunks(8)) {
                    *byte = eight.iter().rev().fold(0, |byte, &flag| byte << 1 | u8::from(flag));
                }
                flags.iter().filter(|&&flag| flag).count()
            })
            .sum();
        Self { bits, n_set }
    }

    /// The bits, least significant first.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Number of stored values.
    pub fn n_set(&self) -> usize {
        self.n_set
    }

    /// True if the value at the flat position `at` is stored.
    pub fn is_set(&self, at: usize) -> bool {
        self.bits[at / 8] >> (at % 8) & 1 == 1
    }

    /// Puts zeros where nothing is stored in `values`, which stand at `at` and behind it.
    pub(in super::super) fn clear(&self, at: usize, values: &mut [f16]) {
        // Up to a whole byte, then eight values for each.
        let head = (at.next_multiple_of(8) - at).min(values.len());
        let (head, rest) = values.split_at_mut(head);
        for (i, value) in head.iter_mut().enumerate() {
            if !self.is_set(at + i) {
                *value = f16::ZERO;
            }
        }
        zero_unset(rest, &self.bits[at.div_ceil(8)..]);
    }

    /// Moves those of `elements`, which stand at `at` and behind it, that are stored to the front.
    pub(in super::super) fn keep<T: Copy>(&self, at: usize, elements: &mut Vec<T>) {
        // Written always, and kept by moving on: no branch could be foretold.
        let mut n = 0;
        for i in 0..elements.len() {
            elements[n] = elements[i];
            n += usize::from(self.is_set(at + i));
        }
        elements.truncate(n);
    }

    /// Number of stored values in `range`.
    #[cfg(test)]
    pub(in super::super) fn n_set_in(&self, range: std::ops::Range<usize>) -> usize {
        range.filter(|&at| self.is_set(at)).count()
    }

    pub(super) fn set_first(&mut self) {
        self.n_set += usize::from(self.bits[0] & 1 == 0);
        self.bits[0] |= 1;
    }
}

crate::base::simd::multiversion! {
    /// Zeros where the bits are not set, eight values for each byte.
    fn zero_unset(values: &mut [f16], bits: &[u8]) {
        for (eight, &byte) in values.chunks_mut(8).zip(bits) {
            for (i, value) in eight.iter_mut().enumerate() {
                let keep = (u16::from(byte) >> i & 1).wrapping_neg();
                *value = f16::from_bits(value.to_bits() & keep);
            }
        }
    }
}
