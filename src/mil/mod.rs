//! The typed program: functions, blocks, operations and values, free of protobuf.
//!
//! [`read`] and [`mod@write`] turn Core ML's messages into these types and back; [`verify`] says whether a program hangs
//! together. Operations keep coremltools' names (`linear`, `constexpr_lut_to_dense`) and their arguments by name.

mod blobs;
mod dtype;
pub mod edit;
pub mod print;
pub mod read;
mod rules;
pub mod text;
mod types;
pub mod verify;
pub mod write;

pub use blobs::{Blobs, ConstError, constant_bytes};
pub use dtype::DType;
pub use rules::{Allowed, Fill, Rule, Rules};
pub use types::{
    Arg, BlobRef, Block, Data, Dim, Function, NamedType, Op, Program, TensorData, TensorType, Type,
    Value,
};
