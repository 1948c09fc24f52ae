//! `weight.bin`: the blob storage of a Core ML package, read through a mapping and written as a stream.
//!
//! Format, version 2, little endian: a 64-byte header (`u32` count, `u32` version, zeros); then for each blob a record
//! of 64 bytes at a multiple of 64 (`u32` sentinel, `u32` type, `u64` size in bytes, `u64` offset of the data, `u64`
//! padding in bits, zeros), followed by the data at a multiple of 64. A program refers to the record, not the data.

mod map;
mod reader;
mod record;
mod writer;

pub use map::{Map, map};
pub use reader::{Blob, BlobError, Reader};
pub use record::{BlobType, overhead};
pub use writer::{Writer, WriterError, Written};
