//! The header of a safetensors file: names, types, shapes and offsets, checked against the file.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::Error;
use crate::source::dtype::Dtype;

/// The longest header that the format's own reader accepts.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Where a tensor lies in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Element type.
    pub dtype: Dtype,
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub begin: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Entry {
    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensor as a matrix: all but the first dimension are columns, a vector is a column.
    pub fn rows_and_columns(&self) -> (usize, usize) {
        match self.shape.split_first() {
            None => (1, 1),
            Some((rows, rest)) => (*rows, rest.iter().product()),
        }
    }
}

/// Parses the JSON of a header whose data begins at `start` in a file of `length` bytes.
pub(super) fn parse(
    file: &Path,
    json: &[u8],
    start: u64,
    length: u64,
) -> Result<BTreeMap<String, Entry>, Error> {
    let Header(raw) = serde_json::from_slice(json)
        .map_err(|e| Error::BadHeader { file: file.to_owned(), reason: e.to_string() })?;
    let mut entries = BTreeMap::new();
    for (tensor, raw) in raw {
        let entry = check(file, &tensor, raw, start)?;
        entries.insert(tensor, entry);
    }
    check_layout(file, &entries, start, length)?;
    Ok(entries)
}

fn check(file: &Path, tensor: &str, raw: Raw, start: u64) -> Result<Entry, Error> {
    let name = || (file.to_owned(), tensor.to_owned());
    let Some(dtype) = Dtype::from_name(&raw.dtype) else {
        let (file, tensor) = name();
        return Err(Error::UnknownDtype { file, tensor, dtype: raw.dtype });
    };
    let (begin, end) = raw.data_offsets;
    let bad_offsets = || {
        let (file, tensor) = name();
        Error::BadOffsets { file, tensor, begin, end }
    };
    let found = end.checked_sub(begin).ok_or_else(bad_offsets)?;
    let (first, last) =
        start.checked_add(begin).zip(start.checked_add(end)).ok_or_else(bad_offsets)?;
    let expected = raw
        .shape
        .iter()
        .try_fold(dtype.size(), |n, d| n.checked_mul(*d))
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(u64::MAX);
    if expected != found {
        let (file, tensor) = name();
        return Err(Error::WrongSize { file, tensor, dtype, shape: raw.shape, expected, found });
    }
    Ok(Entry { dtype, shape: raw.shape, begin: first, end: last })
}

/// Tensors lie back to back and end where the file does.
fn check_layout(
    file: &Path,
    entries: &BTreeMap<String, Entry>,
    start: u64,
    length: u64,
) -> Result<(), Error> {
    let mut order: Vec<(&String, &Entry)> = entries.iter().collect();
    order.sort_by_key(|(_, e)| (e.begin, e.end));
    let mut at = start;
    let mut previous = "";
    for (tensor, entry) in order {
        if let Some(hole) = entry.begin.checked_sub(at) {
            if hole > 0 {
                return Err(Error::Hole {
                    file: file.to_owned(),
                    tensor: tensor.clone(),
                    length: hole,
                });
            }
        } else {
            let (first, second) = (previous.to_owned(), tensor.clone());
            return Err(Error::Overlap { file: file.to_owned(), first, second, at: entry.begin });
        }
        at = entry.end;
        previous = tensor;
    }
    if at > length {
        return Err(Error::Truncated { file: file.to_owned(), expected: at, found: length });
    }
    if at < length {
        let extra = length.saturating_sub(at);
        return Err(Error::TrailingBytes { file: file.to_owned(), found: length, extra });
    }
    Ok(())
}

#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The header's map, in which a name may stand only once.
struct Header(BTreeMap<String, Raw>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensor names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    match entries.entry(name) {
                        Slot::Vacant(slot) => drop(slot.insert(map.next_value::<Raw>()?)),
                        Slot::Occupied(slot) => {
                            let text = format!("tensor `{}` stands twice", slot.key());
                            return Err(A::Error::custom(text));
                        }
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
