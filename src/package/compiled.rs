//! `.mlmodelc`: what `coremlcompiler` makes of a package, and what the hub mostly ships.
//!
//! `model.mil` is the program as text, `weights/weight.bin` its blobs, `metadata.json` what the model says of itself;
//! `coremldata.bin` repeats the description in a form of its own and is not read. The description that applications
//! see follows from the signatures of the functions, except for images, which only `metadata.json` tells from tensors.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::path::Path;

use super::PackageError;
use super::describe;
use super::inside::{file_inside, read as read_file};
use super::metadata::Metadata;
use super::model::Model;
use crate::mil;

/// The program's file.
pub(super) const PROGRAM: &str = "model.mil";

const METADATA: &str = "metadata.json";

/// A program's text beyond this is refused: weights are in blobs.
const MAX_PROGRAM_BYTES: u64 = 1 << 30;

const MAX_METADATA_BYTES: u64 = 16 << 20;

/// Files that tell a compiled model of another kind, and what it is.
const OTHERS: &[(&str, &str)] = &[
    ("model.espresso.net", "a compiled neural network"),
    ("model.espresso.shape", "a compiled neural network"),
    ("model0", "a compiled pipeline"),
    ("neural_network_optionals", "a compiled neural network"),
    ("coremldata.bin", "a compiled model of another kind"),
];

/// What kind of compiled model stands at `path`, if it is one but no ML program.
pub(super) fn other_kind(path: &Path) -> Option<&'static str> {
    OTHERS.iter().find(|(file, _)| path.join(file).exists()).map(|(_, kind)| *kind)
}

/// Reads program and description of the compiled model at `path`.
pub(super) fn read(path: &Path) -> Result<Model, PackageError> {
    let text = file(path, PROGRAM, MAX_PROGRAM_BYTES)?;
    let place = path.join(PROGRAM);
    let text = str::from_utf8(&text).map_err(|e| PackageError::NotText {
        path: place.clone(),
        at: u64::try_from(e.valid_up_to()).unwrap_or(u64::MAX),
    })?;
    let program =
        mil::text::read(text).map_err(|source| PackageError::Text { path: place, source })?;
    mil::verify::program(&program)?;
    let metadata = if path.join(METADATA).exists() {
        let bytes = file(path, METADATA, MAX_METADATA_BYTES)?;
        Metadata::read(&bytes).map_err(|e| PackageError::Manifest {
            path: path.join(METADATA),
            what: e.to_string(),
        })?
    } else {
        Metadata::default()
    };
    let mut description = describe::program(&program);
    metadata.complete(&mut description);
    let specification_version =
        metadata.specification_version.unwrap_or_else(|| describe::specification_version(&program));
    Ok(Model { specification_version, description, program })
}

fn file(folder: &Path, name: &str, most: u64) -> Result<Vec<u8>, PackageError> {
    let path = file_inside(folder, name)
        .ok_or_else(|| PackageError::Outside { path: folder.to_owned(), name: name.to_owned() })?;
    read_file(&path, most)
}
