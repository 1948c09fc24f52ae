//! Writing on a thread of its own: one weight is written and digested while the next is compressed.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::error::CompressError;
use super::rewrite::{Form, Part, Place};
use crate::blob::{Blob, Writer, WriterError, Written};

/// What is written at one place of the new file.
pub(super) enum Item {
    /// A blob as it is.
    Copy(Blob),
    /// A compressed weight: its operation and its blobs.
    Parts(&'static str, Vec<Part>),
}

/// Where that has come to stand.
pub(super) enum Stored {
    /// The offset of the blob.
    Copy(u64),
    /// The weight with the offset of each blob.
    Form(Form),
}

/// Runs `make`, which hands its items over one by one, and writes them behind it in their order.
///
/// Gives what `make` gives, where its items stand, and what the file has become. A break says that writing failed, and
/// with what is known only here: `make` then ends.
pub(super) fn behind<T>(
    writer: Writer,
    make: impl FnOnce(&mut dyn FnMut(Item) -> ControlFlow<()>) -> Result<T, CompressError>,
) -> Result<(T, Vec<Stored>, Written), CompressError> {
    // Nothing waits between the two: an item is either being made or being written.
    let (send, receive) = sync_channel(0);
    thread::scope(|scope| {
        let writing = scope.spawn(move || write(writer, receive));
        let made = make(&mut |item| match send.send(item) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })?;
        drop(send);
        let (stored, written) = writing.join().expect("writing does not panic")?;
        Ok((made, stored, written))
    })
}

fn write(mut writer: Writer, items: Receiver<Item>) -> Result<(Vec<Stored>, Written), WriterError> {
    let mut stored = Vec::new();
    for item in items {
        stored.push(match item {
            Item::Copy(blob) => {
                let bits = blob.bytes().len() as u64 * 8 - blob.padding_bits;
                Stored::Copy(writer.blob_of_bits(blob.ty, bits, |put| put(blob.bytes()))?)
            }
            Item::Parts(kind, parts) => {
                let parts = parts.into_iter().map(|part| store(&mut writer, part));
                Stored::Form(Form { kind, parts: parts.collect::<Result<_, _>>()? })
            }
        });
    }
    Ok((stored, writer.finish()?))
}

fn store(writer: &mut Writer, part: Part) -> Result<Place, WriterError> {
    let Part { parameter, dtype, shape, bytes } = part;
    let ty = dtype.blob_type().expect("forms use types of the blob format");
    let elements = shape.iter().product();
    let offset = writer.blob(ty, elements, dtype.bits(), |put| put(&bytes))?;
    Ok(Place { parameter, dtype, shape, offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::DType;

    fn part(bytes: usize) -> Item {
        let shape = vec![4];
        let part = Part { parameter: "data", dtype: DType::U8, shape, bytes: vec![7; bytes] };
        Item::Parts("constexpr_blockwise_shift_scale", vec![part])
    }

    #[test]
    fn items_stand_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::create(&dir.path().join("w"), 2).unwrap();
        let put_two = |put: &mut dyn FnMut(Item) -> ControlFlow<()>| {
            Ok([put(part(4)), put(part(4))].iter().all(ControlFlow::is_continue))
        };
        let (all, stored, written) = behind(writer, put_two).unwrap();
        let offset = |stored: &Stored| match stored {
            Stored::Form(form) => form.parts[0].offset,
            Stored::Copy(_) => unreachable!("nothing was copied"),
        };
        let offsets: Vec<u64> = stored.iter().map(offset).collect();
        assert_eq!((all, offsets, written.size), (true, vec![64, 192], 260));
    }

    #[test]
    fn whichever_fails_first_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let writer = || Writer::create(&dir.path().join("w"), 9).unwrap();
        // A part of another length than its shape says.
        let error = behind(writer(), |put| {
            while put(part(3)).is_continue() {}
            Ok(())
        });
        assert_eq!(error.map(drop).unwrap_err().to_string(), "a blob of 4 bytes got 3");
        let error = behind(writer(), |put| {
            let _ = put(part(4));
            Err::<(), _>(CompressError::NoWeights)
        });
        assert!(matches!(error.map(drop).unwrap_err(), CompressError::NoWeights));
    }
}
