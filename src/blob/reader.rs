//! Reading blobs: bounds, alignment and types are checked before a byte is handed out.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::map::{Map, map};
use super::record::{ALIGNMENT, BlobType, RECORD, Record, VERSION};

/// An error of a blob file.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is shorter than its header.
    #[error("blob file `{}` has {length} bytes, fewer than its header of 64", file.display())]
    Short {
        /// The file.
        file: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Another version of the format.
    #[error("blob file `{}` has version {version}, not {VERSION}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: u32,
    },
    /// No record at the offset that the program names.
    #[error("blob file `{}` has no record at offset {offset}", file.display())]
    NoRecord {
        /// The file.
        file: PathBuf,
        /// The offset.
        offset: u64,
    },
    /// A record with a type code that the format does not define.
    #[error("blob file `{}`: record at {offset} has unknown type code {code}", file.display())]
    UnknownType {
        /// The file.
        file: PathBuf,
        /// The record's offset.
        offset: u64,
        /// The code.
        code: u32,
    },
    /// A record whose data lies outside the file or is not aligned.
    #[error("blob file `{}`: record at {offset} places {size} bytes at {data}, outside the file of {length} bytes or off the 64-byte grid", file.display())]
    OutOfBounds {
        /// The file.
        file: PathBuf,
        /// The record's offset.
        offset: u64,
        /// Where the data should start.
        data: u64,
        /// Its size.
        size: u64,
        /// The file's length.
        length: usize,
    },
}

/// An open blob file.
#[derive(Debug, Clone)]
pub struct Reader {
    file: PathBuf,
    map: Map,
}

/// One blob: its type, and its bytes inside the mapped file.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Element type.
    pub ty: BlobType,
    /// Bits at the end of the data that belong to no element.
    pub padding_bits: u64,
    map: Map,
    range: Range<usize>,
}

impl Blob {
    /// The blob's bytes, little endian; sub-byte types packed from the low bits up.
    pub fn bytes(&self) -> &[u8] {
        self.map
            .get(self.range.clone())
            .expect("the range was checked against the file when the blob was opened")
    }
}

impl Reader {
    /// Opens a blob file and checks its header.
    pub fn open(path: &Path) -> Result<Self, BlobError> {
        let file = path.to_owned();
        let length = fs_err::metadata(path)?.len();
        if length < RECORD {
            return Err(BlobError::Short {
                file,
                length: usize::try_from(length).unwrap_or(usize::MAX),
            });
        }
        let map = map(path)?;
        let version = map.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        if version != VERSION {
            return Err(BlobError::Version { file, version });
        }
        Ok(Self { file, map })
    }

    /// The blob whose record stands at `offset`.
    pub fn blob(&self, offset: u64) -> Result<Blob, BlobError> {
        let no_record = || BlobError::NoRecord { file: self.file.clone(), offset };
        let start = usize::try_from(offset).map_err(|_| no_record())?;
        let bytes = self
            .map
            .get(start..)
            .and_then(|rest| rest.first_chunk::<64>())
            .ok_or_else(no_record)?;
        let record = Record::from_bytes(bytes).ok_or_else(no_record)?;
        let ty = BlobType::from_code(record.ty).ok_or_else(|| BlobError::UnknownType {
            file: self.file.clone(),
            offset,
            code: record.ty,
        })?;
        let range = self.range(record).ok_or_else(|| BlobError::OutOfBounds {
            file: self.file.clone(),
            offset,
            data: record.offset,
            size: record.size,
            length: self.map.len(),
        })?;
        Ok(Blob { ty, padding_bits: record.padding_bits, map: self.map.clone(), range })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.file
    }

    fn range(&self, record: Record) -> Option<Range<usize>> {
        if !record.offset.is_multiple_of(ALIGNMENT) {
            return None;
        }
        let start = usize::try_from(record.offset).ok()?;
        let end = start.checked_add(usize::try_from(record.size).ok()?)?;
        (end <= self.map.len()).then_some(start..end)
    }
}
