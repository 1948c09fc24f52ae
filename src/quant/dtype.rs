//! `Dtype`: integer types of linear quantization.

use super::bits::Bits;

/// The type of the stored integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// −8 to 7.
    Int4,
    /// 0 to 15.
    Uint4,
    /// −128 to 127.
    Int8,
    /// 0 to 255.
    Uint8,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::Int4, Self::Uint4, Self::Int8, Self::Uint8];

    /// The name in MIL and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Uint4 => "uint4",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
        }
    }

    /// The width.
    pub fn bits(self) -> Bits {
        match self {
            Self::Int4 | Self::Uint4 => Bits::FOUR,
            Self::Int8 | Self::Uint8 => Bits::EIGHT,
        }
    }

    /// True if integers of this type can be negative.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8)
    }

    /// The number that a stored byte stands for.
    pub fn value(self, byte: u8) -> i32 {
        if self.is_signed() { i32::from(byte as i8) } else { i32::from(byte) }
    }

    /// The smallest and largest number that quantization makes: one less at an end where it is symmetric.
    pub(super) fn range(self, mode: Mode) -> (i32, i32) {
        let n = self.bits().n_values() as i32;
        let less = i32::from(mode == Mode::Symmetric);
        if self.is_signed() { (less - n / 2, n / 2 - 1) } else { (0, n - 1 - less) }
    }
}

/// Range of values that the integers cover: symmetric around zero, or from the smallest to the largest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// coremltools' `LINEAR_SYMMETRIC`: `sym`.
    Symmetric,
    /// coremltools' `LINEAR`: `asym`.
    Asymmetric,
}
