//! Writes `weight.bin`: every entry streamed from the checkpoint or copied from the skeleton, then the program
//! pointed at the records.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConvertError;
use super::join::{Content, Entry, Joined};
use super::table::{Placeholder, Table};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};
use crate::blob::Writer;
use crate::mil::{DType, edit};
use crate::package::{Draft, FileRecord, Model};
use crate::source::{Element, Pour, Weights};

/// Writes the package at `output` and gives its model and files.
///
/// The first `chat` adapters of `weights` are merged into every plain weight; the others belong to `encode`.
pub(super) fn pour(
    joined: Joined,
    table: &Table,
    weights: &Weights,
    chat: usize,
    output: &Path,
    replace: bool,
    progress: &dyn Progress,
) -> Result<(Model, Vec<FileRecord>), ConvertError> {
    let Joined { mut model, entries } = joined;
    let placeholders: BTreeMap<u64, &Placeholder> = table.placeholders.iter().map(|p| (p.id, p)).collect();
    let draft = Draft::begin(output, replace)?;
    let total = entries.iter().map(Entry::bytes).sum();
    progress.begin("pour weights", Some(total), Unit::Bytes);
    let count = u32::try_from(entries.len()).expect("fewer constants than 2^32");
    let mut writer = draft.weights(count)?;
    let mut offsets = Vec::with_capacity(entries.len());
    for entry in &entries {
        cancel::check()?;
        offsets.push(write(entry, &placeholders, weights, chat, &mut writer, progress)?);
    }
    let written = writer.finish()?;
    progress.end();
    edit::for_each_op_mut::<ConvertError>(&mut model.program, &mut |op| {
        edit::for_each_blob_mut(op, &mut |_, at| {
            let index = usize::try_from(at.offset).expect("an index made by `join`");
            at.offset = offsets[index];
            Ok(())
        })
    })?;
    let written = (count > 0).then_some(written);
    let files = draft.finish(&model, written)?;
    Ok((model, files))
}

fn write(
    entry: &Entry,
    placeholders: &BTreeMap<u64, &Placeholder>,
    weights: &Weights,
    chat: usize,
    writer: &mut Writer,
    progress: &dyn Progress,
) -> Result<u64, ConvertError> {
    let elements = entry.shape.iter().product();
    let ty = entry.dtype.blob_type().expect("a constant in a blob has a type of the blob format");
    writer.blob(ty, elements, entry.dtype.bits(), |put| {
        let mut put = |bytes: &[u8]| {
            progress.advance(bytes.len() as u64);
            put(bytes)
        };
        match &entry.content {
            Content::Given(blob) => Ok(put(blob.bytes())?),
            &Content::Placeholder { id, over_base } => {
                let placeholder =
                    placeholders.get(&id).ok_or(ConvertError::UnknownPlaceholder { id })?;
                stream(entry, placeholder, over_base, weights, chat, &mut put)
            }
        }
    })
}

fn stream(
    entry: &Entry,
    placeholder: &Placeholder,
    over_base: bool,
    weights: &Weights,
    chat: usize,
    put: &mut dyn FnMut(&[u8]) -> Result<(), crate::blob::WriterError>,
) -> Result<(), ConvertError> {
    if placeholder.shape != entry.shape {
        return Err(ConvertError::PlaceholderShape {
            tensor: placeholder.tensor.clone(),
            drawn: entry.shape.clone(),
            stated: placeholder.shape.clone(),
        });
    }
    let element = match entry.dtype {
        DType::F16 => Element::F16,
        DType::F32 => Element::F32,
        other => return Err(ConvertError::PlaceholderType { tensor: placeholder.tensor.clone(), dtype: other }),
    };
    let mut failed = None;
    let mut sink = |bytes: &[u8]| {
        put(bytes).map_err(|e| {
            let text = e.to_string();
            failed = Some(e);
            std::io::Error::other(text)
        })
    };
    let outcome = if let Some(part) = &placeholder.adapter {
        weights.adapter_part(chat + part.index, &part.module, &part.part, element, &mut sink)
    } else {
        let merged: Vec<usize> = if !placeholder.merged_adapters.is_empty() {
            placeholder.merged_adapters.iter().map(|i| chat + i).collect()
        } else if over_base {
            Vec::new()
        } else {
            (0..chat).collect()
        };
        let pour = Pour {
            tensor: placeholder.tensor.clone(),
            shape: entry.shape.clone(),
            transpose: placeholder.transpose,
            adapters: merged,
            element,
        };
        weights.stream(&pour, &mut sink)
    };
    match failed {
        Some(e) => Err(e.into()),
        None => Ok(outcome?),
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.dtype.bytes_for(self.shape.iter().product()).unwrap_or(u64::MAX)
    }
}
