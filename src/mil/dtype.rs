//! Element types of MIL tensors: their names, widths and codes in the program and in `weight.bin`.

use std::fmt;

use crate::blob::BlobType;
use crate::proto::mil::DataType;

/// The type of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are the format's own names")]
pub enum DType {
    Bool,
    Str,
    F16,
    F32,
    F64,
    Bf16,
    I8,
    I16,
    I32,
    I64,
    I4,
    U8,
    U16,
    U32,
    U64,
    U4,
    U2,
    U1,
    U6,
    U3,
    F8E4M3,
    F8E5M2,
}

/// One line per type: code in the program, name as coremltools prints it, bits, code in `weight.bin`.
const TABLE: &[(DType, DataType, &str, u32, Option<BlobType>)] = &[
    (DType::Bool, DataType::Bool, "bool", 8, None),
    (DType::Str, DataType::String, "string", 0, None),
    (DType::F16, DataType::Float16, "fp16", 16, Some(BlobType::Float16)),
    (DType::F32, DataType::Float32, "fp32", 32, Some(BlobType::Float32)),
    (DType::F64, DataType::Float64, "fp64", 64, None),
    (DType::Bf16, DataType::Bfloat16, "bf16", 16, Some(BlobType::Bfloat16)),
    (DType::I8, DataType::Int8, "int8", 8, Some(BlobType::Int8)),
    (DType::I16, DataType::Int16, "int16", 16, Some(BlobType::Int16)),
    (DType::I32, DataType::Int32, "int32", 32, Some(BlobType::Int32)),
    (DType::I64, DataType::Int64, "int64", 64, None),
    (DType::I4, DataType::Int4, "int4", 4, Some(BlobType::Int4)),
    (DType::U8, DataType::Uint8, "uint8", 8, Some(BlobType::Uint8)),
    (DType::U16, DataType::Uint16, "uint16", 16, Some(BlobType::Uint16)),
    (DType::U32, DataType::Uint32, "uint32", 32, Some(BlobType::Uint32)),
    (DType::U64, DataType::Uint64, "uint64", 64, None),
    (DType::U4, DataType::Uint4, "uint4", 4, Some(BlobType::Uint4)),
    (DType::U2, DataType::Uint2, "uint2", 2, Some(BlobType::Uint2)),
    (DType::U1, DataType::Uint1, "uint1", 1, Some(BlobType::Uint1)),
    (DType::U6, DataType::Uint6, "uint6", 6, Some(BlobType::Uint6)),
    (DType::U3, DataType::Uint3, "uint3", 3, Some(BlobType::Uint3)),
    (DType::F8E4M3, DataType::Float8e4m3fn, "fp8e4m3fn", 8, Some(BlobType::Float8E4M3FN)),
    (DType::F8E5M2, DataType::Float8e5m2, "fp8e5m2", 8, Some(BlobType::Float8E5M2)),
];

impl DType {
    /// Every type once.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|line| line.0)
    }

    fn line(self) -> &'static (Self, DataType, &'static str, u32, Option<BlobType>) {
        TABLE.iter().find(|line| line.0 == self).expect("every type stands in the table")
    }

    /// Bits of one element; 0 for strings, 8 for booleans.
    pub fn bits(self) -> u32 {
        self.line().3
    }

    /// Bytes that `n` elements take in `weight.bin`, or nothing when that overflows.
    pub fn bytes_for(self, n: u64) -> Option<u64> {
        n.checked_mul(u64::from(self.bits())).map(|bits| bits.div_ceil(8))
    }

    /// The name that coremltools prints.
    pub fn name(self) -> &'static str {
        self.line().2
    }

    /// The code in the program.
    pub fn code(self) -> DataType {
        self.line().1
    }

    /// The type with this code in the program.
    pub fn from_code(code: DataType) -> Option<Self> {
        TABLE.iter().find(|line| line.1 == code).map(|line| line.0)
    }

    /// The code in `weight.bin`, where the type can be stored there.
    pub fn blob_type(self) -> Option<BlobType> {
        self.line().4
    }

    /// The type with this name, as coremltools prints it.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|line| line.2 == name).map(|line| line.0)
    }

    /// True if values are floating point.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64 | Self::Bf16 | Self::F8E4M3 | Self::F8E5M2)
    }

    /// True if values are whole numbers.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::Str)
    }

    /// The least and the greatest whole number of the type; nothing for other types.
    pub fn range(self) -> Option<(i128, i128)> {
        let bits = self.bits();
        match self {
            _ if !self.is_int() => None,
            _ if self.is_unsigned() => Some((0, (1 << bits) - 1)),
            _ => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
        }
    }

    /// True if values are whole numbers without a sign.
    pub fn is_unsigned(self) -> bool {
        use DType::{U1, U2, U3, U4, U6, U8, U16, U32, U64};
        matches!(self, U1 | U2 | U3 | U4 | U6 | U8 | U16 | U32 | U64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
