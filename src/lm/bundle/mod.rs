//! A language model in parts behind the face of one package: [`BundleModel`] is a [`Loaded`] program with the functions
//! `init` and `decode` of our own layout, which runs ANEMLL's parts one after the other.
//!
//! Everything above, from `generate` to perplexity, sees the layout it knows: [`BundleGraph`] is read from the parts'
//! signatures once, [`BundleModel`] feeds them.

mod graph;
mod model;

pub use graph::{BundleGraph, BundleGraphError};
pub(super) use model::BundleModel;
