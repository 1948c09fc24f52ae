//! `legacy`: the files of PyTorch before 1.6: four pickles, the keys of the storages, then the storages.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::pickle::{Tensor, Value};
use super::{Error, Layout, MAX_PICKLE, Storage, beginning, dtype, load, state};
use crate::source::positional::File;

/// Finds the tensors of the file.
pub(super) fn layout(file: &File) -> Result<Layout, Error> {
    let path = file.path();
    let bytes = beginning(file, MAX_PICKLE)?;
    let mut at = 0;
    let mut next = || {
        let rest = bytes.get(at..).unwrap_or_default();
        let (value, length) = load(path, rest)?;
        at += length;
        Ok::<_, Error>((value, at))
    };
    // A magic number that is longer than any integer here, a version and facts of the machine.
    for _ in 0..3 {
        next()?;
    }
    let (pickle, _) = next()?;
    let (keys, end) = next()?;
    let bad = |reason: &str| Error::NotTorch { file: path.to_owned(), reason: reason.to_owned() };
    let Value::List(keys) = &keys.value else { return Err(bad("it has no list of storages")) };
    let mut classes = BTreeMap::new();
    collect(&pickle.value, &mut classes);
    let mut storages: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut begin = u64::try_from(end).map_err(|_| bad("it is too long"))?;
    for key in keys.borrow().iter() {
        let Value::Text(key) = key else { return Err(bad("a storage has no key")) };
        let size = classes.get(key).copied().ok_or_else(|| bad("a storage is not used"))?;
        let cut = || Error::Truncated {
            file: path.to_owned(),
            reason: format!("storage `{key}` reaches beyond its end"),
        };
        let mut length = [0; 8];
        file.read_exact_at(&mut length, begin).map_err(|_| cut())?;
        let first = begin + 8;
        let last = u64::from_le_bytes(length).checked_mul(size).and_then(|n| first.checked_add(n));
        let last = last.filter(|last| *last <= file.length()).ok_or_else(cut)?;
        storages.insert(key.clone(), (first, last));
        begin = last;
    }
    let mut find = |tensor: &Tensor| -> Result<Storage, String> {
        let storage = storages.get(&tensor.key).copied();
        let (begin, end) = storage.ok_or_else(|| format!("has no storage `{}`", tensor.key))?;
        Ok(Storage { begin, end })
    };
    state::layout(path, &pickle.value, &mut find)
}

/// The size of an element of each storage that a tensor of `value` uses.
fn collect(value: &Value, classes: &mut BTreeMap<String, u64>) {
    let Value::Dict(dict) = value else { return };
    for (_, value) in dict.borrow().iter() {
        if let Value::Tensor(tensor) = value
            && let Some(size) = dtype(&tensor.class).and_then(|d| u64::try_from(d.size()).ok())
        {
            classes.insert(tensor.key.clone(), size);
        }
    }
}
