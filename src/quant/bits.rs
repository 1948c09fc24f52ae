//! `Bits`: the widths of an index into a table that Core ML has types for.

use std::fmt;

/// 1, 2, 3, 4, 6 or 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits(u8);

impl Bits {
    /// Every width, ascending.
    pub const ALL: [Self; 6] = [Self(1), Self(2), Self(3), Self(4), Self(6), Self(8)];
    /// Four bits, also the width of `int4` and `uint4`.
    pub const FOUR: Self = Self(4);
    /// Eight bits, also the width of `int8` and `uint8`.
    pub const EIGHT: Self = Self(8);

    /// The width of `bits` bits, if there is one.
    pub fn new(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.0 == bits)
    }

    /// The number of bits.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Number of values of an index of this width.
    pub fn n_values(self) -> usize {
        1 << self.0
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_types_of_core_ml() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|&b| Bits::new(b).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4, 6, 8]);
        assert_eq!(Bits::ALL.map(Bits::n_values), [2, 4, 8, 16, 64, 256]);
    }
}
