//! A package under construction: weights first, then the model, then it appears at its place.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::items::{AUTHOR, DATA, Items, MANIFEST, MODEL, WEIGHTS};
use super::model::Model;
use crate::base::digest;
use crate::base::error::{ErrorKind, Hint};
use crate::base::fs::Staging;
use crate::blob::{Writer, WriterError, Written};

/// Why a package cannot be written.
#[derive(Debug, Error)]
pub enum DraftError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something stands at the destination.
    #[error("`{}` exists", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// The blob file.
    #[error(transparent)]
    Blob(#[from] WriterError),
}

impl Hint for DraftError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(e) => e.hint(),
            Self::Blob(e) => e.hint(),
            Self::Exists { .. } => {
                Some("pass `--force` to replace it, or choose another output".to_owned())
            }
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Blob(_) => ErrorKind::Environment,
            Self::Exists { .. } => ErrorKind::Input,
        }
    }
}

/// One file of a finished package.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileRecord {
    /// Path inside the package, `/` between parts.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: String,
}

/// A package being written beside its destination; dropping it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    staging: Staging,
    destination: PathBuf,
    replace: bool,
}

impl Draft {
    /// Starts a package that will stand at `destination`; with `replace`, in place of what stands there.
    pub fn begin(destination: &Path, replace: bool) -> Result<Self, DraftError> {
        if destination.exists() && !replace {
            return Err(DraftError::Exists { path: destination.to_owned() });
        }
        let staging = Staging::begin(destination)?;
        fs_err::create_dir_all(staging.path().join(DATA).join(AUTHOR))?;
        Ok(Self { staging, destination: destination.to_owned(), replace })
    }

    /// Starts the blob file, which will hold `count` blobs.
    pub fn weights(&self, count: u32) -> Result<Writer, DraftError> {
        let folder = self.staging.path().join(DATA).join(AUTHOR).join(WEIGHTS);
        fs_err::create_dir_all(&folder)?;
        Ok(Writer::create(&folder.join("weight.bin"), count)?)
    }

    /// Writes model and manifest and makes the package appear; `weights` is what the blob writer gave at its end.
    ///
    /// Gives all files of the package in path order.
    pub fn finish(
        self,
        model: &Model,
        weights: Option<Written>,
    ) -> Result<Vec<FileRecord>, DraftError> {
        let items = Items::standard(weights.is_some());
        let mut manifest = serde_json::to_vec_pretty(&items).expect("plain strings are JSON");
        manifest.push(b'\n');
        let model = model.to_bytes();
        let mut files = Vec::new();
        for (path, bytes) in
            [(format!("{DATA}/{AUTHOR}/{MODEL}"), &model), (MANIFEST.to_owned(), &manifest)]
        {
            let place = self.staging.path().join(&path);
            fs_err::write(place, bytes)?;
            files.push(FileRecord {
                path,
                size: bytes.len() as u64,
                sha256: digest::of_bytes(bytes),
            });
        }
        if let Some(Written { sha256, size }) = weights {
            let path = format!("{DATA}/{AUTHOR}/{WEIGHTS}/weight.bin");
            files.push(FileRecord { path, size, sha256 });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let Self { staging, destination, replace } = self;
        staging.commit(replace).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => DraftError::Exists { path: destination },
            _ => e.into(),
        })?;
        Ok(files)
    }
}
