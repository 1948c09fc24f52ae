//! Identity of a reference: digests of files, adapters, versions.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::{cancel, digest, fs};

/// Everything that could change what a reference says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Files of the checkpoint: path and SHA-256.
    pub checkpoint: Vec<(String, String)>,
    /// The same of each adapter, in order.
    pub adapters: Vec<Vec<(String, String)>>,
    /// The same of each adapter of `encode`.
    pub encode_adapters: Vec<Vec<(String, String)>>,
    /// Versions of the tool and of the libraries that compute it.
    pub versions: BTreeMap<String, String>,
}

impl Identity {
    /// Reads and digests all files of the given folders.
    pub fn of(
        checkpoint: &Path,
        adapters: &[PathBuf],
        encode_adapters: &[PathBuf],
        versions: BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let all =
            |folders: &[PathBuf]| folders.iter().map(|f| digests(f)).collect::<io::Result<_>>();
        Ok(Self {
            checkpoint: digests(checkpoint)?,
            adapters: all(adapters)?,
            encode_adapters: all(encode_adapters)?,
            versions,
        })
    }
}

/// Path and SHA-256 of the files below `folder`, hidden ones left out.
fn digests(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    for path in fs::files_below(folder)? {
        if path.split('/').any(|part| part.starts_with('.')) {
            continue;
        }
        cancel::check().map_err(|e| io::Error::new(io::ErrorKind::Interrupted, e))?;
        let (sha256, _) = digest::of_file(&folder.join(&path))?;
        out.push((path, sha256));
    }
    Ok(out)
}
