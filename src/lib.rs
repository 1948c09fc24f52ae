//! coremill turns Hugging Face checkpoints into Core ML packages that are proven before they ship.
//!
//! The layers, from the bottom, stand in ARCHITECTURE.md; `tests/it/layers.rs` holds the table of allowed edges.

pub mod base;
pub mod blob;
pub mod cli;
pub mod compress;
pub mod convert;
pub mod coreml;
pub mod eval;
pub mod gate;
pub mod interp;
pub mod manifest;
pub mod mil;
pub mod package;
pub mod proto;
pub mod python;
pub mod quant;
pub mod report;
pub mod source;
pub mod sweep;
