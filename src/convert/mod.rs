//! Converts a checkpoint to a package: Python exports the graph, Rust writes the weights.
//!
//! [`run`] asks Python for one skeleton package per function, joins them into one program and streams each weight from
//! the checkpoint into `weight.bin` once, even if several functions use it.

mod dry_run;
mod error;
mod join;
mod origin;
mod preflight;
mod request;
mod run;
mod skeleton;
mod write_weights;

pub use dry_run::{DryRun, dry_run};
pub use error::ConvertError;
pub use preflight::{Preflight, preflight};
pub use request::{DEFAULT_PROMPT_CHUNK, Request};
pub use run::{Converted, encodes_over_base, existing_output, run, run_full};
pub use skeleton::{ModelInfo, SkeletonInfo};
