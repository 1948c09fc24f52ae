//! Choices by chance: which edit, where, and values that formats and kernels tend to trip over.

use coremill::base::split_mix64::SplitMix64;

/// Choices that follow from a seed.
pub struct Dice(SplitMix64);

/// Whole numbers at the edges of types, tiles and bounds.
const INTS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    257,
    1000,
    4096,
    32767,
    32768,
    46341,
    65535,
    65536,
    65537,
    1 << 20,
    i32::MAX as i64 - 1,
    i32::MAX as i64,
    1 << 31,
    u32::MAX as i64,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
];

const FLOATS: &[f32] = &[
    0.0,
    1.0,
    0.5,
    2.0,
    3.0,
    1e-3,
    1e-8,
    1e-40,
    65504.0,
    65520.0,
    1e10,
    2147483648.0,
    4294967296.0,
    1e30,
    f32::MAX,
    f32::INFINITY,
    f32::NAN,
    f32::EPSILON,
    0.999_999_94,
];

impl Dice {
    /// Choices from `seed`.
    pub fn new(seed: u32) -> Self {
        Self(SplitMix64::new(u64::from(seed)))
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.0.unit() * n as f64) as usize
    }

    /// Yes, once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn of<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// One of them, to change.
    pub fn of_mut<'a, T>(&mut self, from: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(from.len());
        from.get_mut(at)
    }

    /// A whole number, mostly small, sometimes at an edge, sometimes near `old`.
    pub fn int(&mut self, old: i64) -> i64 {
        match self.below(8) {
            0..3 => self.below(6) as i64 - 2,
            3 => old.wrapping_add(1),
            4 => old.wrapping_sub(1),
            5 => old.wrapping_neg(),
            _ => {
                let n = *self.of(INTS).unwrap_or(&0);
                if self.one_in(3) { n.wrapping_neg() } else { n }
            }
        }
    }

    /// An extent: mostly small.
    pub fn extent(&mut self, old: u64) -> u64 {
        match self.below(8) {
            0..4 => self.below(5) as u64,
            4 => old.wrapping_add(1),
            5 => old.saturating_mul(2),
            _ => self.int(old as i64) as u64,
        }
    }

    /// A float, finite or not.
    pub fn float(&mut self) -> f32 {
        let x = *self.of(FLOATS).unwrap_or(&0.0);
        if self.one_in(3) { -x } else { x }
    }
}
