//! Writes `weight.bin` from the checkpoint and the skeleton, then sets the program's blob offsets.

use std::io;
use std::path::Path;

use super::ConvertError;
use super::join::{BlobContent, BlobEntry, JoinedProgram};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};
use crate::blob::{Writer, WriterError};
use crate::mil::{DType, edit};
use crate::package::{Draft, FileRecord, Model};
use crate::source::dtype::Float;
use crate::source::weights::Weights;

/// Writes the package at `output`. Returns its model and file records.
pub(super) fn write_weights(
    joined: JoinedProgram,
    weights: &Weights,
    output: &Path,
    replace: bool,
    progress: &dyn Progress,
) -> Result<(Model, Vec<FileRecord>), ConvertError> {
    let JoinedProgram { mut model, entries } = joined;
    let draft = Draft::begin(output, replace)?;
    let total = entries.iter().map(BlobEntry::bytes).sum();
    progress.begin("write weights", Some(total), Unit::Bytes);
    let count = u32::try_from(entries.len()).expect("fewer constants than 2^32");
    let mut writer = draft.weights(count)?;
    let mut offsets = Vec::with_capacity(entries.len());
    for entry in &entries {
        cancel::check()?;
        offsets.push(write(entry, weights, &mut writer, progress)?);
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
    let files = draft.finish(&model, Some(written))?;
    Ok((model, files))
}

fn write(
    entry: &BlobEntry,
    weights: &Weights,
    writer: &mut Writer,
    progress: &dyn Progress,
) -> Result<u64, ConvertError> {
    let elements = entry.shape.iter().product();
    let ty = entry.dtype.blob_type().expect("a constant in a blob has a type of the blob format");
    writer.blob(ty, elements, entry.dtype.bits(), |put| match &entry.content {
        BlobContent::FromSkeleton(blob) => {
            progress.advance(blob.bytes().len() as u64);
            Ok(put(blob.bytes())?)
        }
        BlobContent::FromCheckpoint(origin) => {
            let out = match entry.dtype {
                DType::F16 => Float::F16,
                DType::F32 => Float::F32,
                dtype => return Err(ConvertError::PlaceholderType { dtype }),
            };
            origin.stream(weights, out, &mut |bytes| {
                progress.advance(bytes.len() as u64);
                put(bytes).map_err(|error| match error {
                    WriterError::Io(error) => error,
                    other => io::Error::other(other),
                })
            })
        }
    })
}

impl BlobEntry {
    fn bytes(&self) -> u64 {
        self.dtype.bytes_for(self.shape.iter().product()).unwrap_or(u64::MAX)
    }
}
