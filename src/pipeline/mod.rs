//! Complete workflows on top of the other layers: conversion with validation and manifest, references, sweeps.
//!
//! The command line parses arguments, calls this module and prints its results. See `examples/` for its use as a
//! library.

mod clock;
pub mod convert;
mod failure;
pub(crate) mod input;
pub mod job;
pub(crate) mod manifest_check;
pub(crate) mod open_tokenizer;
pub mod reference;
mod session;
pub mod sweep;
pub mod texts;
mod tokenizer_folder;

pub use clock::SystemClock;
pub use failure::Failure;
pub use session::{Session, Settings, StartError, Warn};
