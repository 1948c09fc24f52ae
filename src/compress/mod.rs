//! Applies compression schemes to a package: which weights, which scheme each, the rewriting, the audit.
//!
//! A weight that several functions share is compressed once and stays shared. A weight that a recipe matches and
//! that cannot be compressed is an error, never a skip.

mod audit;
mod behind;
mod error;
mod recipe;
mod rewrite;
mod run;
mod select;

pub use audit::{Audit, TensorAudit, audit};
pub use error::CompressError;
pub use recipe::{Component, Recipe, RecipeError, Selector};
pub use run::{Compressed, Options, run};
pub use select::{Weight, weights};
