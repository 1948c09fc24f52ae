//! `NAME.manifest.json`: the record that stands beside a package and says what it is, from what, and what it is worth.
//!
//! The same inputs give the same bytes: nothing in it depends on the clock, the machine or the run. Times and memory
//! stand in the report instead.
//!
//! # Versions
//!
//! The version is a semantic version, given by whoever makes the package, `0.1.0` otherwise. From one package to its
//! successor ([`next_version`]) it moves by what changed, also below 1.0:
//!
//! - **major**: a function, input, output or state, the deployment target, the sequence length or the form of the cache
//!   changed, so that an application must change too;
//! - **minor**: the same calls, but size or quality moved: by more than 1 % of the bytes, by more than the errors of both
//!   measurements, to other transcripts; or the files changed and no figure stands in both manifests;
//! - **patch**: it behaves the same as far as it was measured.

mod artifact;
mod check;
mod quality_delta;
mod signature;
mod target;
mod tensor;
mod types;
mod version;

pub use artifact::{Artifact, records};
pub use check::{Problem, check};
pub use signature::{Feature, Signature, functions};
pub use target::{TARGETS, Target, compatible, target};
pub use tensor::{TensorError, layer_of};
pub use types::{
    Adapter, AdapterBase, AdapterKind, AdapterMode, Facts, Manifest, ManifestError, Quality,
    Source, Tool, manifest_path, package_path,
};
pub use version::{Change, Step, next_version};

/// The version of the manifest's own form; readers refuse a larger one.
pub const SCHEMA_VERSION: u32 = 1;

#[cfg(test)]
mod tests;
