//! Writing a blob file as one stream, its digest taken on the way.

use std::io::{self, Write};
use std::path::Path;
use std::thread::{self, JoinHandle};

use thiserror::Error;

use super::record::{ALIGNMENT, BlobType, RECORD, Record, header};
use crate::base::digest::Hasher;
use crate::base::error::{ErrorKind, Hint};

/// An error of writing.
#[derive(Debug, Error)]
pub enum WriterError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A blob got another number of bytes than was announced.
    #[error("a blob of {announced} bytes got {written}")]
    Length {
        /// The size in the record.
        announced: u64,
        /// Written files.
        written: u64,
    },
    /// Another number of blobs than was announced.
    #[error("a file of {announced} blobs got {written}")]
    Count {
        /// The count in the header.
        announced: u32,
        /// Written files.
        written: u32,
    },
}

impl Hint for WriterError {
    fn hint(&self) -> Option<String> {
        if let Self::Io(e) = self { e.hint() } else { None }
    }

    fn error_kind(&self) -> ErrorKind {
        ErrorKind::Environment
    }
}

/// Bytes after which the system is asked to bring what there is to the disk, while the next are made.
const DISK: u64 = if cfg!(test) { 1 << 8 } else { 1 << 25 };

/// A blob file being written from front to back.
#[derive(Debug)]
pub struct Writer {
    out: io::BufWriter<fs_err::File>,
    hasher: Hasher,
    position: u64,
    announced: u32,
    count: u32,
    /// How far the file has been brought to the disk, or is being.
    on_disk: u64,
    disk: Option<JoinHandle<io::Result<()>>>,
}

/// What a finished file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of the whole file.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl Writer {
    /// Starts the file at `path`, which will hold `count` blobs.
    pub fn create(path: &Path, count: u32) -> Result<Self, WriterError> {
        let out = io::BufWriter::with_capacity(1 << 20, fs_err::File::create(path)?);
        let mut writer = Self {
            out,
            hasher: Hasher::default(),
            position: 0,
            announced: count,
            count: 0,
            on_disk: 0,
            disk: None,
        };
        writer.put(&header(count))?;
        Ok(writer)
    }

    /// Writes one blob of `elements` values of `bits` each; `fill` hands over its bytes in pieces.
    ///
    /// Gives the offset of the record, which is what a program refers to.
    pub fn blob<E: From<WriterError>>(
        &mut self,
        ty: BlobType,
        elements: u64,
        bits: u32,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), WriterError>) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.blob_of_bits(ty, elements.saturating_mul(u64::from(bits)), fill)
    }

    /// Writes one blob whose elements take `bits` in all, as [`blob`](Self::blob) does.
    pub fn blob_of_bits<E: From<WriterError>>(
        &mut self,
        ty: BlobType,
        bits: u64,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), WriterError>) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.align()?;
        let record_at = self.position;
        let size = bits.div_ceil(8);
        let offset = record_at + RECORD;
        let padding_bits = (size * 8).saturating_sub(bits);
        let record = Record { ty: ty.code(), size, offset, padding_bits };
        self.put(&record.to_bytes())?;
        fill(&mut |bytes| self.put(bytes))?;
        let written = self.position - offset;
        if written != size {
            return Err(WriterError::Length { announced: size, written }.into());
        }
        self.count += 1;
        Ok(record_at)
    }

    /// Ends the file: everything is on disk when this returns.
    pub fn finish(mut self) -> Result<Written, WriterError> {
        if self.count != self.announced {
            return Err(WriterError::Count { announced: self.announced, written: self.count });
        }
        self.out.flush()?;
        self.wait_for_disk()?;
        self.out.get_ref().sync_all()?;
        Ok(Written { sha256: self.hasher.finish(), size: self.position })
    }

    fn align(&mut self) -> Result<(), WriterError> {
        const ZEROS: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];
        let gap = self.position.next_multiple_of(ALIGNMENT) - self.position;
        self.put(&ZEROS[..gap as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriterError> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        let idle = self.disk.as_ref().is_none_or(JoinHandle::is_finished);
        if self.position - self.on_disk >= DISK && idle {
            self.wait_for_disk()?;
            let file = self.out.get_ref().try_clone()?;
            self.disk = Some(thread::spawn(move || file.sync_data()));
            self.on_disk = self.position;
        }
        Ok(())
    }

    fn wait_for_disk(&mut self) -> io::Result<()> {
        self.disk.take().map_or(Ok(()), |disk| disk.join().expect("asking does not panic"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::digest;
    use crate::blob::{BlobError, Reader};

    const TYPES: [(BlobType, u32); 5] = [
        (BlobType::Float16, 16),
        (BlobType::Uint4, 4),
        (BlobType::Uint3, 3),
        (BlobType::Uint1, 1),
        (BlobType::Int8, 8),
    ];

    proptest! {
        #[test]
        fn what_is_written_is_read(blobs in proptest::collection::vec((0..TYPES.len(), 0_u64..200), 0..8)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("weight.bin");
            let mut writer = Writer::create(&path, blobs.len() as u32).unwrap();
            let mut offsets = Vec::new();
            for (i, &(ty, elements)) in blobs.iter().enumerate() {
                let (ty, bits) = TYPES[ty];
                let bytes = vec![i as u8; (elements * u64::from(bits)).div_ceil(8) as usize];
                let half = bytes.len() / 2;
                let offset = writer.blob::<WriterError>(ty, elements, bits, |put| {
                    put(&bytes[..half])?;
                    put(&bytes[half..])
                }).unwrap();
                offsets.push((offset, ty, bytes, (8 - elements * u64::from(bits) % 8) % 8));
            }
            let written = writer.finish().unwrap();
            prop_assert_eq!(digest::of_file(&path).unwrap(), (written.sha256, written.size));
            let reader = Reader::open(&path).unwrap();
            for (offset, ty, bytes, padding) in offsets {
                let blob = reader.blob(offset).unwrap();
                prop_assert_eq!((blob.ty, blob.bytes(), blob.padding_bits), (ty, bytes.as_slice(), padding));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300), offset: u64) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("weight.bin");
            fs_err::write(&path, &bytes).unwrap();
            if let Ok(reader) = Reader::open(&path) {
                for offset in [offset, offset % 300, 64] {
                    if let Ok(blob) = reader.blob(offset) {
                        prop_assert!(blob.bytes().len() <= bytes.len());
                    }
                }
            }
        }
    }

    #[test]
    fn broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let write = |count: u32, version: u32, record: Option<Record>| {
            let mut bytes = header(count);
            bytes[4..8].copy_from_slice(&version.to_le_bytes());
            bytes.extend(record.map_or(vec![0; 64], Record::to_bytes));
            fs_err::write(&path, bytes).unwrap();
        };
        let record = |ty, size, offset| Some(Record { ty, size, offset, padding_bits: 0 });
        let cases = [
            (1, None, "no record at offset 64"),
            (2, None, "no record at offset 64"),
            (2, record(77, 0, 128), "unknown type code 77"),
            (2, record(1, 1, 128), "places 1 bytes at 128"),
            (2, record(1, u64::MAX, 128), "outside the file of 128 bytes"),
            (2, record(1, 0, 100), "off the 64-byte grid"),
        ];
        for (version, record, want) in cases {
            write(1, version, record);
            let outcome = Reader::open(&path).and_then(|r| r.blob(64));
            let error = outcome.unwrap_err().to_string();
            let want = if version == 1 { "has version 1, not 2" } else { want };
            assert!(error.contains(want), "{error}");
        }
        fs_err::write(&path, [0; 10]).unwrap();
        assert!(matches!(Reader::open(&path), Err(BlobError::Short { length: 10, .. })));
    }

    #[test]
    fn lengths_and_counts_must_hold() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&dir.path().join("w"), 2).unwrap();
        let short = writer.blob::<WriterError>(BlobType::Int8, 4, 8, |put| put(&[1, 2, 3]));
        assert_eq!(short.unwrap_err().to_string(), "a blob of 4 bytes got 3");
        assert_eq!(writer.finish().unwrap_err().to_string(), "a file of 2 blobs got 0");
    }
}
