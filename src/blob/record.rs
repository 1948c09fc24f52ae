//! The header and the records between the data.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

/// Everything stands at a multiple of this many bytes.
pub(super) const ALIGNMENT: u64 = 64;
/// Length of the header and of each record.
pub(super) const RECORD: u64 = 64;
/// The version that this module reads and writes.
pub(super) const VERSION: u32 = 2;
const SENTINEL: u32 = 0xDEAD_BEEF;

/// What a blob of `size` bytes takes in the file besides them: its record, and zeros up to the next multiple of 64.
pub fn overhead(size: u64) -> u64 {
    RECORD + (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT
}

/// The type code of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are the format's own names")]
#[repr(u32)]
pub enum BlobType {
    Float16 = 1,
    Float32 = 2,
    Uint8 = 3,
    Int8 = 4,
    Bfloat16 = 5,
    Int16 = 6,
    Uint16 = 7,
    Int4 = 8,
    Uint1 = 9,
    Uint2 = 10,
    Uint4 = 11,
    Uint3 = 12,
    Uint6 = 13,
    Int32 = 14,
    Uint32 = 15,
    Float8E4M3FN = 16,
    Float8E5M2 = 17,
}

const ALL: [BlobType; 17] = [
    BlobType::Float16,
    BlobType::Float32,
    BlobType::Uint8,
    BlobType::Int8,
    BlobType::Bfloat16,
    BlobType::Int16,
    BlobType::Uint16,
    BlobType::Int4,
    BlobType::Uint1,
    BlobType::Uint2,
    BlobType::Uint4,
    BlobType::Uint3,
    BlobType::Uint6,
    BlobType::Int32,
    BlobType::Uint32,
    BlobType::Float8E4M3FN,
    BlobType::Float8E5M2,
];

impl BlobType {
    /// The code in the file.
    pub fn code(self) -> u32 {
        #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
        let code = self as u32;
        code
    }

    /// The type with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        ALL.into_iter().find(|t| t.code() == code)
    }
}

/// What a record says of its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) ty: u32,
    pub(super) size: u64,
    pub(super) offset: u64,
    pub(super) padding_bits: u64,
}

impl Record {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(SENTINEL.to_le_bytes());
        bytes.extend(self.ty.to_le_bytes());
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.padding_bits.to_le_bytes());
        bytes.resize(64, 0);
        bytes
    }

    /// The record in `bytes`, unless the sentinel is not there.
    ///
    /// Bytes 32 to 64 are reserved and may hold anything.
    pub(super) fn from_bytes(bytes: &[u8; 64]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let [head, size, offset, padding, ..] = words else { return None };
        let head = u64::from_le_bytes(*head);
        let low = u32::try_from(head & 0xFFFF_FFFF).ok()?;
        let ty = u32::try_from(head >> 32).ok()?;
        (low == SENTINEL).then_some(Self {
            ty,
            size: u64::from_le_bytes(*size),
            offset: u64::from_le_bytes(*offset),
            padding_bits: u64::from_le_bytes(*padding),
        })
    }
}

pub(super) fn header(count: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend(count.to_le_bytes());
    bytes.extend(VERSION.to_le_bytes());
    bytes.resize(64, 0);
    bytes
}
