//! Sweeps: a spec in TOML becomes a plan of variants, and the plan a resumable run.
//!
//! [`Spec::parse`] reads the spec; [`Spec::plan`] lists its variants, the fp16 baseline first; [`run`] takes them
//! through [`Pipeline`] and keeps every finished step in a [`Store`], so that a run that was killed goes on from there.

mod budget;
mod cache;
mod engine;
mod names;
mod pipeline;
mod plan;
mod run;
mod spec;
mod store;
mod texts;

pub use crate::base::toml_error::TomlError as SpecError;
pub use budget::{Predicted, Search};
pub use engine::Engine;
pub use names::of_recipe;
pub use pipeline::{Built, Identity, Measured, Pipeline, StageError};
pub use plan::{BASELINE, Plan, Shard, ShardError, Variant};
pub use run::{Entry, Failure, Run, RunError, Status, memory_of, run, workers};
pub use spec::{
    AdapterSpec, BudgetSpec, EngineSpec, EvaluateSpec, Keep, ModelSpec, OutputSpec, Place, RunSpec,
    Spec, parse_bytes,
};
pub use store::{Key, Kind, Store, StoreError};
pub use texts::{Lines, Sentence, TextError};

#[cfg(test)]
mod tests;
