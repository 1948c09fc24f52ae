//! `state`: the tensors of a state dict, each placed in the file and checked against its storage.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;

use super::pickle::{Tensor, Value};
use super::{Error, Layout, Storage, dtype};
use crate::source::safetensors::Entry;

/// The tensors of `value`; `find` gives the place of a storage by its key.
pub(super) fn layout(
    file: &Path,
    value: &Value,
    find: &mut dyn FnMut(&Tensor) -> Result<Storage, String>,
) -> Result<Layout, Error> {
    let mut layout = Layout { entries: BTreeMap::new(), strides: BTreeMap::new() };
    let Value::Dict(dict) = value else {
        let (file, keys) = (file.to_owned(), "a value that is not a dictionary".to_owned());
        return Err(Error::NoTensors { file, keys });
    };
    let mut others = Vec::new();
    for (key, value) in dict.borrow().iter() {
        let Value::Text(name) = key else { continue };
        let Value::Tensor(tensor) = value else {
            others.push(format!("`{name}`"));
            continue;
        };
        let wrong = |reason| Error::Tensor { file: file.to_owned(), tensor: name.clone(), reason };
        let (entry, strides) = place(tensor, find).map_err(wrong)?;
        layout.entries.insert(name.clone(), entry);
        if let Some(strides) = strides {
            layout.strides.insert(name.clone(), strides);
        }
    }
    if layout.entries.is_empty() {
        others.truncate(5);
        let keys =
            if others.is_empty() { "an empty dictionary".to_owned() } else { others.join(", ") };
        return Err(Error::NoTensors { file: file.to_owned(), keys });
    }
    Ok(layout)
}

/// Where a tensor lies, and its strides unless it is row-major.
fn place(
    tensor: &Tensor,
    find: &mut dyn FnMut(&Tensor) -> Result<Storage, String>,
) -> Result<(Entry, Option<Vec<usize>>), String> {
    let named = tensor.dtype.as_deref().unwrap_or(&tensor.class);
    let dtype = dtype(named).ok_or_else(|| format!("has type `{named}`, which is not known"))?;
    let storage = find(tensor)?;
    let stored =
        u64::try_from(dtype.size()).ok().and_then(|size| size.checked_mul(tensor.n_stored));
    if tensor.dtype.is_none() && stored.is_none_or(|n| n > storage.end - storage.begin) {
        let found = storage.end - storage.begin;
        return Err(format!("has a storage of {} elements in {found} bytes", tensor.n_stored));
    }
    if tensor.shape.len() != tensor.strides.len() {
        return Err(format!("has shape {:?} and strides {:?}", tensor.shape, tensor.strides));
    }
    let too_large = || format!("has shape {:?}, which is too large", tensor.shape);
    let size = dtype.size();
    let n =
        tensor.shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).ok_or_else(too_large)?;
    let wide = |n: usize| u64::try_from(n).map_err(|_| too_large());
    let begin = tensor
        .offset
        .checked_mul(wide(size)?)
        .and_then(|offset| storage.begin.checked_add(offset))
        .ok_or_else(too_large)?;
    let bytes = wide(n.checked_mul(size).ok_or_else(too_large)?)?;
    let end = begin.checked_add(bytes).ok_or_else(too_large)?;
    // One past the last element that is read.
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(0_usize, |last, (d, stride)| {
            d.saturating_sub(1).checked_mul(*stride)?.checked_add(last)
        })
        .and_then(|last| last.checked_add(1)?.checked_mul(size))
        .ok_or_else(too_large)?;
    let reaches = begin.checked_add(wide(last)?).ok_or_else(too_large)?;
    if n > 0 && reaches > storage.end {
        return Err(format!(
            "reaches {} bytes beyond its storage",
            reaches.saturating_sub(storage.end)
        ));
    }
    let entry = Entry { dtype, shape: tensor.shape.clone(), begin, end };
    let strides = (n > 0 && !is_row_major(tensor)).then(|| tensor.strides.clone());
    Ok((entry, strides))
}

fn is_row_major(tensor: &Tensor) -> bool {
    let mut expected = 1_usize;
    for (d, stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if *d != 1 && *stride != expected {
            return false;
        }
        expected = expected.saturating_mul(*d);
    }
    true
}
