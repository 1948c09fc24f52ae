//! `.mlpackage` folders: opened with everything checked, written whole or not at all; `.mlmodelc` folders: opened.
//!
//! Layout: `Manifest.json` names the items; `Data/com.apple.CoreML/model.mlmodel` is the protobuf `Model`;
//! `Data/com.apple.CoreML/weights/weight.bin` holds the blobs.

mod bundle;
mod compiled;
mod describe;
mod draft;
mod error;
mod inside;
mod io_constraints;
mod items;
mod metadata;
mod model;
mod open;

pub use bundle::{Bundle, BundleError, Part, Settings};
pub use draft::{Draft, DraftError, FileRecord};
pub use error::PackageError;
pub use io_constraints::{DescriptionError, Feature};
pub use items::WEIGHT_FILE;
pub use model::Model;
pub use open::Package;
