//! Writing on threads of its own: files are written and digested while the next bytes are made.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::error::CompressError;
use crate::blob::{Blob, BlobType, Writer, WriterError, Written};

/// Items that may wait for a file: enough to keep it busy, few enough to be small.
const WAITING: usize = 16;

/// An operation on a file.
#[expect(clippy::rc_buffer, reason = "the bytes come as a vector, and stay where they are")]
enum Item {
    /// A blob is copied.
    Copy(Blob),
    /// A blob of so many bits begins.
    Begin(BlobType, u64),
    /// Some of its bytes.
    Bytes(Arc<Vec<u8>>),
}

/// Several files that are being written, each from front to back.
pub(super) struct Files {
    senders: Vec<SyncSender<Item>>,
}

/// Whether to go on: a break says that writing has failed.
pub(super) type WriteStatus = ControlFlow<()>;

impl Files {
    /// Copies a blob to the end of the files `to`.
    pub(super) fn copy(&self, to: &[usize], blob: &Blob) -> WriteStatus {
        self.send(to, || Item::Copy(blob.clone()))
    }

    /// Begins a blob of so many bits in the files `to`.
    pub(super) fn begin(&self, to: &[usize], ty: BlobType, bits: u64) -> WriteStatus {
        self.send(to, || Item::Begin(ty, bits))
    }

    /// Goes on with the blob that began in the files `to`.
    pub(super) fn bytes(&self, to: &[usize], bytes: Vec<u8>) -> WriteStatus {
        let bytes = Arc::new(bytes);
        self.send(to, || Item::Bytes(Arc::clone(&bytes)))
    }

    fn send(&self, to: &[usize], item: impl Fn() -> Item) -> WriteStatus {
        for file in to {
            if self.senders[*file].send(item()).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Where the blobs of a file stand, in their order, and what the file has become.
pub(super) type Done = (Vec<u64>, Written);

/// Runs `make`, which fills the files, and writes them behind it.
///
/// Where writing fails `make` is told by a break, and the failure is given.
pub(super) fn write_in_background<T>(
    writers: Vec<Writer>,
    make: impl FnOnce(&Files) -> Result<T, CompressError>,
) -> Result<(T, Vec<Done>), CompressError> {
    thread::scope(|scope| {
        let (senders, threads): (Vec<_>, Vec<_>) = writers
            .into_iter()
            .map(|writer| {
                let (send, receive) = sync_channel(WAITING);
                (send, scope.spawn(move || write(writer, &receive)))
            })
            .unzip();
        let files = Files { senders };
        let made = make(&files);
        drop(files);
        let ends: Vec<Result<Done, WriterError>> = threads
            .into_iter()
            .map(|thread| thread.join().expect("writing does not panic"))
            .collect();
        let made = made?;
        // A file that lacks blobs does so because another failed.
        let own = |end: &Result<_, _>| !matches!(end, Ok(_) | Err(WriterError::Count { .. }));
        let failed = ends.iter().position(own);
        let failed = failed.or_else(|| ends.iter().position(Result::is_err));
        let mut ends: Vec<_> = ends.into_iter().map(Some).collect();
        if let Some(Some(Err(error))) = failed.map(|at| ends[at].take()) {
            return Err(error.into());
        }
        let done = ends.into_iter().flatten().collect::<Result<_, _>>()?;
        Ok((made, done))
    })
}

fn write(mut writer: Writer, items: &Receiver<Item>) -> Result<Done, WriterError> {
    let mut offsets = Vec::new();
    while let Ok(item) = items.recv() {
        offsets.push(match item {
            Item::Copy(blob) => {
                let bits = blob.bytes().len() as u64 * 8 - blob.padding_bits;
                writer.blob_of_bits(blob.ty, bits, |put| put(blob.bytes()))?
            }
            Item::Begin(ty, bits) => writer.blob_of_bits::<WriterError>(ty, bits, |put| {
                let mut left = bits.div_ceil(8);
                while left > 0 {
                    let Ok(Item::Bytes(bytes)) = items.recv() else { break };
                    left = left.saturating_sub(bytes.len() as u64);
                    put(&bytes)?;
                }
                Ok(())
            })?,
            Item::Bytes(bytes) => {
                return Err(WriterError::Length { announced: 0, written: bytes.len() as u64 });
            }
        });
    }
    Ok((offsets, writer.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: BlobType = BlobType::Uint8;

    #[test]
    fn blobs_stand_in_their_order_in_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let writer = |name, n| Writer::create(&dir.path().join(name), n).unwrap();
        let (all, done) = write_in_background(vec![writer("a", 2), writer("b", 1)], |files| {
            let flows = [
                files.begin(&[0, 1], TYPE, 32),
                files.bytes(&[0, 1], vec![1; 3]),
                files.bytes(&[0, 1], vec![2]),
                files.begin(&[0], TYPE, 8),
                files.bytes(&[0], vec![3]),
            ];
            Ok(flows.iter().all(ControlFlow::is_continue))
        })
        .unwrap();
        let sizes: Vec<_> = done.iter().map(|(offsets, w)| (offsets.clone(), w.size)).collect();
        assert_eq!((all, sizes), (true, vec![(vec![64, 192], 257), (vec![64], 132)]));
    }

    #[test]
    fn whichever_fails_first_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let writers = || ["a", "b"].map(|f| Writer::create(&dir.path().join(f), 9).unwrap()).into();
        // More bytes than the blob has.
        let error = write_in_background(writers(), |files| {
            let _ = files.begin(&[1], TYPE, 8);
            while files.bytes(&[1], vec![0; 3]).is_continue() {}
            Ok(())
        });
        assert_eq!(error.map(drop).unwrap_err().to_string(), "a blob of 1 bytes got 3");
        let error = write_in_background(writers(), |files| {
            let _ = files.begin(&[0], TYPE, 32);
            Err::<(), _>(CompressError::NoWeights)
        });
        assert!(matches!(error.map(drop).unwrap_err(), CompressError::NoWeights));
    }
}
