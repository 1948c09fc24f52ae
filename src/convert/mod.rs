//! From a checkpoint to a package: Python draws the graph, Rust pours the weights.
//!
//! [`run`] asks Python for one skeleton per function, joins them into one program and streams every weight from the
//! checkpoint into `weight.bin` once, however many functions use it.

mod dry_run;
mod error;
mod join;
mod origin;
mod pour;
mod preflight;
mod request;
mod run;
mod table;

pub use dry_run::{DryRun, dry_run};
pub use error::ConvertError;
pub use preflight::{Preflight, preflight};
pub use request::{AdapterMode, KvForm, Request, Target};
pub use run::{Converted, encodes_over_base, run, run_full, standing};
pub use table::{Facts, Table};
