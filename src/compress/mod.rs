//! Applies compression schemes to a package: which weights, which scheme each, the rewriting, the audit.
//!
//! A weight that several functions share is compressed once and stays shared. A weight that a recipe matches and
//! that cannot be compressed is an error, never a skip.

mod audit;
mod background_writer;
mod diff;
mod encoding;
mod error;
mod groups;
mod recipe;
mod run;
mod select;

pub use audit::{
    Audit, CONVENTION, ComponentAudit, Parts, Rest, Role, Scales, StorageFormat, StoredWeight,
    Tables, TensorAudit, audit, float_constants, stored_weights,
};
pub use diff::{Diff, Difference, Totals, WeightDifference, What, diff};
pub use error::CompressError;
pub use groups::check_group_sizes;
pub use recipe::{Component, Recipe, RecipeError, Selector};
pub use run::{Compressed, Options, Skipped, run, run_all};
pub use select::{MIN_ELEMENTS, Weight, matched, weights};
