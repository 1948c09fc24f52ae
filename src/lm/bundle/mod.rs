//! A split language model with the interface of one package: [`BundleModel`] is a [`Loaded`] program with the functions
//! `init` and `decode` of the standard layout, which runs ANEMLL parts in sequence.
//!
//! Generation and evaluation use the standard layout: [`BundleGraph`] is read once from the signatures of the parts,
//! and [`BundleModel`] executes them.

mod graph;
mod model;

pub use graph::{BundleGraph, BundleGraphError};
pub(super) use model::BundleModel;
