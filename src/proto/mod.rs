//! The messages of Core ML's model format that an ML program needs, as `prost` structs with ordered maps.
//!
//! Field numbers and names are those of Core ML's `Model.proto`, `FeatureTypes.proto` and `MIL.proto`. Maps are
//! `BTreeMap`, so that encoding the same model gives the same bytes. Other model kinds (neural networks, trees,
//! pipelines) are not declared: [`Model::ml_program`] is `None` for them.

#![deny(clippy::as_conversions, clippy::indexing_slicing)]

pub mod feature;
pub mod mil;
pub mod model;
pub mod weigh;

pub use model::Model;
