//! A finished package in figures: its files, their digests, its size.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TensorError;
use crate::base::{digest, fs::files_below};
use crate::package::FileRecord;

/// A package as it stands on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// All files in path order.
    pub files: Vec<FileRecord>,
    /// SHA-256 of the tree.
    pub sha256: String,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// Bytes of the weight files.
    pub weight_bytes: u64,
    /// Weights of the model, each counted once.
    pub parameters: u64,
    /// Bytes of the weights by component (`attention`, `mlp`, `embedding`), where known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, u64>,
    /// The weights one by one, where whoever wrote the package said what they lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorError>,
}

impl Artifact {
    /// The artifact made of `files`, as the writer of a package gives them.
    pub fn from_files(mut files: Vec<FileRecord>, parameters: u64) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let lines: Vec<_> = files.iter().map(|f| (f.path.clone(), f.sha256.clone())).collect();
        let weights = files.iter().filter(|f| f.path.contains("/weights/"));
        Self {
            sha256: digest::of_tree(&lines),
            size_bytes: files.iter().map(|f| f.size).sum(),
            weight_bytes: weights.map(|f| f.size).sum(),
            parameters,
            components: BTreeMap::new(),
            tensors: Vec::new(),
            files,
        }
    }

    /// The artifact at `package`, every file read.
    pub fn read(package: &Path, parameters: u64) -> io::Result<Self> {
        Ok(Self::from_files(records(package)?, parameters))
    }

    /// Bits per weight by the one convention: all bytes of the weights over all weights of the model.
    pub fn bits_per_weight(&self) -> f64 {
        bits_per_weight(self.weight_bytes, self.parameters)
    }

    /// Whether a folder with files of these names and lengths stands at `package`; contents are not read.
    pub fn stands_at(&self, package: &Path) -> bool {
        let listed = files_below(package).unwrap_or_default();
        let same_names = listed.iter().eq(self.files.iter().map(|f| &f.path));
        let same_length = |f: &FileRecord| {
            fs_err::metadata(package.join(&f.path)).is_ok_and(|m| m.len() == f.size)
        };
        same_names && self.files.iter().all(same_length)
    }
}

/// A record of every file below `folder`, in path order.
pub fn records(folder: &Path) -> io::Result<Vec<FileRecord>> {
    let record = |path: String| {
        let (sha256, size) = digest::of_file(&folder.join(&path))?;
        Ok(FileRecord { path, size, sha256 })
    };
    files_below(folder)?.into_iter().map(record).collect()
}

pub(super) fn bits_per_weight(weight_bytes: u64, parameters: u64) -> f64 {
    if parameters == 0 { 0.0 } else { weight_bytes as f64 * 8.0 / parameters as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, size: u64) -> FileRecord {
        FileRecord { path: path.to_owned(), size, sha256: digest::of_bytes(path.as_bytes()) }
    }

    #[test]
    fn figures_follow_from_the_files() {
        let weights = "Data/com.apple.CoreML/weights/weight.bin";
        let files = vec![record(weights, 500), record("Manifest.json", 20)];
        let artifact = Artifact::from_files(files, 1000);
        assert_eq!((artifact.size_bytes, artifact.weight_bytes), (520, 500));
        assert!((artifact.bits_per_weight() - 4.0).abs() < 1e-12);
        assert_eq!(artifact.files[0].path, weights);
    }

    #[test]
    fn a_package_that_changed_does_not_stand() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("a.mlpackage");
        fs_err::create_dir_all(package.join("Data")).unwrap();
        fs_err::write(package.join("Data/a"), "12").unwrap();
        let artifact = Artifact::read(&package, 1).unwrap();
        assert!(artifact.stands_at(&package));
        fs_err::write(package.join("Data/b"), "").unwrap();
        assert!(!artifact.stands_at(&package), "a file too many");
        fs_err::remove_file(package.join("Data/b")).unwrap();
        fs_err::write(package.join("Data/a"), "1").unwrap();
        assert!(!artifact.stands_at(&package), "a file cut short");
        assert!(!artifact.stands_at(&root.path().join("b")));
    }
}
