//! `TensorFile`: one file of tensors, safetensors or PyTorch's own format, read at positions.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::header::{self, MAX_HEADER};
use super::{Entry, Error, Tensor};
use crate::source::positional::File;
use crate::source::{dtype, lfs, torch};

/// Bytes that are read and converted at a time.
const PIECE: usize = 1 << 18;

/// An open file whose tensors have been checked against its length.
#[derive(Debug)]
pub struct TensorFile {
    file: File,
    entries: BTreeMap<String, Entry>,
    /// Strides of the tensors that are not stored row by row: PyTorch files may have such.
    strides: BTreeMap<String, Vec<usize>>,
    /// The last of these that was read, row by row.
    gathered: Mutex<Option<(String, Arc<[u8]>)>>,
}

impl TensorFile {
    /// Opens `path` by its extension: `.safetensors`, else PyTorch's format. No weight is read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)?;
        if path.extension().is_some_and(|extension| extension == "bin" || extension == "pt") {
            let torch::Layout { entries, strides } = torch::layout(&file)?;
            return Ok(Self { file, entries, strides, gathered: Mutex::default() });
        }
        let length = file.length();
        let too_short = || Error::TooShort { file: path.to_owned(), length };
        let mut start = vec![0; usize::try_from(length.min(512)).map_err(|_| too_short())?];
        file.read_exact_at(&mut start, 0)?;
        check_magic(path, &start)?;
        let prefix = start.get(..8).and_then(|prefix| prefix.try_into().ok());
        let size = u64::from_le_bytes(prefix.ok_or_else(too_short)?);
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
        let strides = BTreeMap::new();
        Ok(Self { file, entries, strides, gathered: Mutex::default() })
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
        let bytes = if let Some(strides) = self.strides.get(name) {
            self.gather(name, entry, strides)?.to_vec()
        } else {
            let mut bytes = vec![0; entry.n_elements() * entry.dtype.size()];
            self.file.read_exact_at(&mut bytes, entry.begin)?;
            bytes
        };
        Ok(Tensor { dtype: entry.dtype, shape: entry.shape.clone(), bytes })
    }

    /// The elements of a tensor that is stored by `strides`, row by row.
    fn gather(&self, name: &str, entry: &Entry, strides: &[usize]) -> Result<Arc<[u8]>, Error> {
        let mut last = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, bytes)) = &*last
            && known == name
        {
            return Ok(Arc::clone(bytes));
        }
        let size = entry.dtype.size();
        let span: usize = entry.shape.iter().zip(strides).map(|(d, s)| (d - 1) * s).sum();
        let mut stored = vec![0; (span + 1) * size];
        self.file.read_exact_at(&mut stored, entry.begin)?;
        let mut bytes = Vec::with_capacity(entry.n_elements() * size);
        let mut index = vec![0; entry.shape.len()];
        let mut at = 0;
        for _ in 0..entry.n_elements() {
            bytes.extend_from_slice(stored.get(at * size..(at + 1) * size).unwrap_or_default());
            for ((i, d), stride) in index.iter_mut().zip(&entry.shape).zip(strides).rev() {
                *i += 1;
                at += stride;
                if *i < *d {
                    break;
                }
                at -= *d * stride;
                *i = 0;
            }
        }
        let bytes: Arc<[u8]> = bytes.into();
        *last = Some((name.to_owned(), Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// Reads elements from `first` on as f32, in pieces of at most 256 KiB beyond `out`.
    pub fn read_f32(&self, name: &str, first: usize, out: &mut [f32]) -> Result<(), Error> {
        let entry = self.float_entry(name)?;
        assert!(first + out.len() <= entry.n_elements(), "elements lie within the tensor");
        if let Some(strides) = self.strides.get(name) {
            let bytes = self.gather(name, entry, strides)?;
            let size = entry.dtype.size();
            let run = bytes.get(first * size..(first + out.len()) * size);
            dtype::decode(entry.dtype, run.expect("elements lie within the tensor"), out);
            return Ok(());
        }
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
        if self.strides.contains_key(name) {
            for (row, out) in rows.clone().zip(out.chunks_mut(columns.len().max(1))) {
                self.read_f32(name, row * n_columns + columns.start, out)?;
            }
            return Ok(());
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

/// Fails if the file begins like something else than safetensors.
fn check_magic(path: &Path, start: &[u8]) -> Result<(), Error> {
    lfs::check(path, start)?;
    // The length of a header is below 2^32, so the upper half of its eight bytes is zero.
    if start.get(4..8) == Some(&[0; 4]) {
        return Ok(());
    }
    let what = match start {
        [] => "empty",
        [b'<', ..] => "an HTML page",
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file",
        [b'P', b'K', 3, 4, ..] => "a PyTorch or zip archive",
        [0x80, 2..=5, b'}' | b']' | b'c' | 0x8a | 0x95, ..] => "a pickle",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        _ => return Ok(()),
    };
    Err(Error::OtherFormat { file: path.to_owned(), what })
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a usize has at most 64 bits")
}
