//! Converts Hugging Face checkpoints to Core ML packages, compresses them, runs them on any operating system, and
//! compares them with their source models.
//!
//! The workflows of the command line are in [`pipeline`]; `examples/` has programs that convert and gate a checkpoint,
//! quantize a package and run a sweep. The layers below it can be used on their own:
//!
//! | Module | Description |
//! |---|---|
//! | [`pipeline`] | conversion with validation and manifest, references, sweeps |
//! | [`package`] | reads and writes `.mlpackage` directories |
//! | [`mil`] | ML programs: types, operations, text form, edits |
//! | [`compress`], [`quant`] | compression recipes and the encodings of weights |
//! | [`interp`] | the Core ML runtime |
//! | [`eval`] | perplexity, divergence, transcripts, embeddings, latency |
//! | [`gate`], [`manifest`], [`sweep`], [`report`] | thresholds, manifests, sweeps and their reports |
//!
//! # Example
//!
//! Compresses a package to 8 bits per weight and reads the result back:
//!
//! ```
//! use std::path::Path;
//!
//! use coremill::base::progress::Silent;
//! use coremill::compress::{self, Options};
//! use coremill::package::Package;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let package = Package::open(Path::new("tests/fixtures/compression/dense_ios18.mlpackage"))?;
//! let folder = tempfile::tempdir()?;
//! let output = folder.path().join("small.mlpackage");
//! compress::run(&package, &"int8-c".parse()?, &output, &Options::default(), &Silent)?;
//! let audit = compress::audit(&Package::open(&output)?)?;
//! assert!(audit.tensors.iter().any(|tensor| tensor.bits_per_weight < 9.0));
//! # Ok(())
//! # }
//! ```

pub mod base;
#[doc(hidden)]
pub mod blob;
#[doc(hidden)]
pub mod cli;
pub mod compress;
pub mod convert;
#[doc(hidden)]
pub mod coreml;
pub mod eval;
pub mod gate;
pub mod interp;
pub mod lm;
pub mod manifest;
pub mod mil;
pub mod package;
pub mod pipeline;
#[doc(hidden)]
pub mod proto;
#[doc(hidden)]
pub mod python;
pub mod quant;
pub mod report;
pub mod runtime;
pub mod source;
pub mod sweep;
