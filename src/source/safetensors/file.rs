//! `SafeTensors`: one safetensors file, its tensors read at positions.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::header::{self, MAX_HEADER};
use super::{Entry, Error, Tensor};
use crate::source::dtype;
use crate::source::positional::File;

/// Bytes that are read and converted at a time.
const PIECE: usize = 1 << 18;

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct SafeTensors {
    file: File,
    entries: BTreeMap<String, Entry>,
}

impl SafeTensors {
    /// Opens `path` and checks the header; no weight is read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)?;
        let length = file.length();
        let too_short = || Error::TooShort { file: path.to_owned(), length };
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(too_short());
        }
        file.read_exact_at(&mut prefix, 0)?;
        let size = u64::from_le_bytes(prefix);
        if size > MAX_HEADER {
            let file = path.to_owned();
            return Err(Error::HeaderTooLarge { file, header: size, limit: MAX_HEADER });
        }
        let start = 8 + size;
        if start > length {
            let file = path.to_owned();
            return Err(Error::Truncated { file, expected: start, found: length });
        }
        let mut json = vec![0; usize::try_from(size).map_err(|_| too_short())?];
        file.read_exact_at(&mut json, 8)?;
        let entries = header::parse(path, &json, start, length)?;
        Ok(Self { file, entries })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Every tensor by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Reads a tensor whole.
    pub fn read(&self, name: &str) -> Result<Tensor, Error> {
        let entry = self.entry(name)?;
        let n = entry.n_elements() * entry.dtype.size();
        let mut bytes = vec![0; n];
        self.file.read_exact_at(&mut bytes, entry.begin)?;
        Ok(Tensor { dtype: entry.dtype, shape: entry.shape.clone(), bytes })
    }

    /// Reads elements from `first` on as f32, in pieces of at most 256 KiB beyond `out`.
    pub fn read_f32(&self, name: &str, first: usize, out: &mut [f32]) -> Result<(), Error> {
        let entry = self.float_entry(name)?;
        assert!(first + out.len() <= entry.n_elements(), "elements lie within the tensor");
        let mut buffer = vec![0; PIECE.min(out.len() * entry.dtype.size())];
        self.read_run(entry, first, out, &mut buffer)
    }

    /// Reads the part of a matrix that lies in `rows` and `columns` as f32, row by row.
    pub fn read_block(
        &self,
        name: &str,
        rows: &Range<usize>,
        columns: &Range<usize>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let entry = self.float_entry(name)?;
        let (n_rows, n_columns) = entry.rows_and_columns();
        assert!(rows.end <= n_rows && columns.end <= n_columns, "the block lies within the matrix");
        assert_eq!(out.len(), rows.len() * columns.len(), "the block fits");
        if columns.len() == n_columns {
            return self.read_f32(name, rows.start * n_columns, out);
        }
        let mut buffer = vec![0; PIECE.min(columns.len() * entry.dtype.size())];
        for (row, out) in rows.clone().zip(out.chunks_mut(columns.len().max(1))) {
            self.read_run(entry, row * n_columns + columns.start, out, &mut buffer)?;
        }
        Ok(())
    }

    /// Reads elements that lie one after the other, as many at a time as the buffer holds.
    fn read_run(
        &self,
        entry: &Entry,
        first: usize,
        out: &mut [f32],
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let size = entry.dtype.size();
        let mut at = entry.begin + wide(first * size);
        for piece in out.chunks_mut((buffer.len() / size).max(1)) {
            let bytes = buffer.get_mut(..piece.len() * size).expect("a piece fits the buffer");
            self.file.read_exact_at(bytes, at)?;
            dtype::decode(entry.dtype, bytes, piece);
            at += wide(bytes.len());
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.entries
            .get(name)
            .ok_or_else(|| Error::NoTensor { dir: self.path().to_owned(), tensor: name.to_owned() })
    }

    fn float_entry(&self, name: &str) -> Result<&Entry, Error> {
        let entry = self.entry(name)?;
        if entry.dtype.is_float() {
            return Ok(entry);
        }
        Err(Error::NotFloat {
            file: self.path().to_owned(),
            tensor: name.to_owned(),
            dtype: entry.dtype,
        })
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a usize has at most 64 bits")
}
