//! Opening a package, or a compiled model: the manifest, the model, and its blob files on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::PackageError;
use super::compiled;
use super::inside::{file_inside, inner_path, read};
use super::items::{AUTHOR, DATA, Items, MANIFEST};
use super::model::Model;
use crate::blob::{Blob, Reader};
use crate::mil::{BlobRef, Blobs, ConstError, Program};

/// A model file larger than this is refused: the weights are in blobs, and protobuf itself ends at 2 GiB.
const MAX_MODEL_BYTES: u64 = 2 << 30;

/// A manifest names a few files.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// An open package.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    model: Model,
    files: Arc<BlobFiles>,
}

impl Package {
    /// Opens the package or the compiled model at `path` and reads its program; blobs are mapped when asked for.
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        let manifest = path.join(MANIFEST);
        if manifest.is_file() {
            return Self::open_package(path, &manifest);
        }
        let folder = path.to_owned();
        if path.join(compiled::PROGRAM).is_file() {
            let model = compiled::read(path)?;
            let files = Arc::new(BlobFiles { folder: folder.clone(), open: Mutex::default() });
            return Ok(Self { path: folder, model, files });
        }
        Err(match compiled::other_kind(path) {
            Some(kind) => PackageError::Compiled { path: folder, kind },
            None if is_compiled(path) => PackageError::NoProgram { path: folder },
            None => PackageError::NotPackage { path: folder },
        })
    }

    fn open_package(path: &Path, manifest: &Path) -> Result<Self, PackageError> {
        let manifest = manifest.to_owned();
        let wrong = |what: String| PackageError::Manifest { path: manifest.clone(), what };
        let items: Items = serde_json::from_slice(&read(&manifest, MAX_MANIFEST_BYTES)?)
            .map_err(|e| wrong(e.to_string()))?;
        let root = items.item_info_entries.get(&items.root_model_identifier).ok_or_else(|| {
            wrong(format!("root model `{}` is not among the items", items.root_model_identifier))
        })?;
        let leads_out = || wrong(format!("item path `{}` leads out of the package", root.path));
        inner_path(&root.path).ok_or_else(leads_out)?;
        let file = file_inside(path, &format!("{DATA}/{}", root.path)).ok_or_else(leads_out)?;
        let model = Model::from_bytes(&read(&file, MAX_MODEL_BYTES)?)?;
        let folder = file.parent().map_or_else(|| path.join(DATA).join(AUTHOR), Path::to_owned);
        let files = Arc::new(BlobFiles { folder, open: Mutex::default() });
        Ok(Self { path: path.to_owned(), model, files })
    }

    /// Path of the package.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model: description and program.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.model.program
    }

    /// The blobs that the program refers to.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::<BlobFiles>::clone(&self.files)
    }
}

/// Blob files of one package, opened once each.
#[derive(Debug)]
struct BlobFiles {
    folder: PathBuf,
    open: Mutex<BTreeMap<String, Reader>>,
}

impl Blobs for BlobFiles {
    fn blob(&self, at: &BlobRef) -> Result<Blob, ConstError> {
        let mut open = self.open.lock().expect("no panic while a blob file is opened");
        if let Some(reader) = open.get(&at.file) {
            return Ok(reader.blob(at.offset)?);
        }
        let inside = at
            .file
            .strip_prefix("@model_path/")
            .and_then(|inner| file_inside(&self.folder, inner))
            .ok_or_else(|| ConstError::Outside { name: at.file.clone() })?;
        let reader = Reader::open(&inside)?;
        let blob = reader.blob(at.offset)?;
        open.insert(at.file.clone(), reader);
        Ok(blob)
    }
}

/// True if a path is named as compiled models are.
fn is_compiled(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "mlmodelc")
}
