//! `lfs`: Git LFS pointers, the short texts that stand in a clone where the files themselves were not fetched.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use crate::base::error::Hint;

const FIRST_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// A pointer in place of a file.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` is a Git LFS pointer{}, not the file itself", size(*.bytes))]
pub struct Pointer {
    /// The file.
    pub file: PathBuf,
    /// Length of the file that it points to.
    pub bytes: Option<u64>,
}

impl Hint for Pointer {
    fn hint(&self) -> Option<String> {
        Some("run `git lfs pull` in the clone, or download the file from the hub".to_owned())
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |n| format!(" to {n} bytes"))
}

/// Fails if `start`, the beginning of `file`, is a pointer.
pub(crate) fn check(file: &Path, start: &[u8]) -> Result<(), Pointer> {
    if !start.starts_with(FIRST_LINE) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(start);
    let bytes = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
    Err(Pointer { file: file.to_owned(), bytes })
}
