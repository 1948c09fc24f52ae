//! `Parts`: the bytes of a weight by what they are.

use serde::Serialize;

use crate::blob;

/// Role of a parameter of a compressed constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Indices, integers, or the values themselves.
    Codes,
    /// Entries of lookup tables.
    Tables,
    /// Scales.
    Scales,
    /// Zero points.
    Offsets,
    /// Bits that say which values are stored.
    Mask,
}

/// One line per parameter that holds a part of a weight; the others say how parts lie.
const ROLES: &[(&str, Role)] = &[
    ("data", Role::Codes),
    ("data_mask", Role::Mask),
    ("indices", Role::Codes),
    ("indices_mask", Role::Mask),
    ("indices_nonzero_data", Role::Codes),
    ("lut", Role::Tables),
    ("mask", Role::Mask),
    ("nonzero_data", Role::Codes),
    ("offset", Role::Offsets),
    ("quantized_data", Role::Codes),
    ("scale", Role::Scales),
    ("source_val", Role::Codes),
    ("zero_point", Role::Offsets),
];

impl Role {
    /// The role of the parameter called `name`, which is given back.
    pub(in crate::compress) fn of(name: impl AsRef<str>) -> Option<(&'static str, Self)> {
        ROLES.iter().find(|line| line.0 == name.as_ref()).copied()
    }
}

/// Bytes of blobs by what they are, and what these take in the file besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Parts {
    /// Indices, integers, or the values themselves.
    pub codes: u64,
    /// Entries of lookup tables.
    pub tables: u64,
    /// Scales, of elements and of table entries.
    pub scales: u64,
    /// Zero points.
    pub offsets: u64,
    /// Bits that say which values are stored.
    pub mask: u64,
    /// Records of 64 bytes, and zeros up to the next multiple of 64.
    pub alignment: u64,
}

impl Parts {
    /// A blob of `bytes`.
    pub(in crate::compress) fn add(&mut self, role: Role, bytes: u64) {
        let part = match role {
            Role::Codes => &mut self.codes,
            Role::Tables => &mut self.tables,
            Role::Scales => &mut self.scales,
            Role::Offsets => &mut self.offsets,
            Role::Mask => &mut self.mask,
        };
        *part += bytes;
        self.alignment += blob::overhead(bytes);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.codes += other.codes;
        self.tables += other.tables;
        self.scales += other.scales;
        self.offsets += other.offsets;
        self.mask += other.mask;
        self.alignment += other.alignment;
    }

    /// All bytes but those of the alignment.
    pub fn bytes(&self) -> u64 {
        self.codes + self.tables + self.scales + self.offsets + self.mask
    }

    /// All bytes that the file grew by.
    pub fn aligned(&self) -> u64 {
        self.bytes() + self.alignment
    }
}
