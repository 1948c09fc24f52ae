//! The Python sources that travel inside the binary.
//!
//! They are laid out as files in the cache, in a folder named by their digest, rather than imported from memory: so a
//! traceback shows its lines, `inspect` and torch find source text, and byte code is kept between runs.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest;
use crate::base::fs::Staging;

/// A package of Python sources.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    /// Its import name.
    pub(super) name: &'static str,
    /// Path below the package's folder, and text.
    pub(super) files: &'static [(&'static str, &'static str)],
}

/// coremill's own package: every `.py` file below `python/coremill`, as the build script found them.
pub(super) const COREMILL: Package =
    Package { name: "coremill", files: include!(concat!(env!("OUT_DIR"), "/python_sources.rs")) };

impl Package {
    /// Makes the sources lie below `shelf`; gives the folder to add to `sys.path`.
    pub(super) fn lay_out(self, shelf: &Path) -> io::Result<PathBuf> {
        let root = shelf.join(format!("src-{}", self.digest()));
        if self.lies_in(&root) {
            return Ok(root);
        }
        let staging = Staging::begin(&root)?;
        for (path, text) in self.files {
            let file = staging.path().join(self.name).join(path);
            let parent = file.parent().expect("a file of a package has a folder");
            fs_err::create_dir_all(parent)?;
            fs_err::write(&file, text)?;
        }
        match staging.commit(true) {
            // Another run may have laid out the same files at this very moment.
            Err(_) if self.lies_in(&root) => Ok(root),
            outcome => outcome.map(|()| root),
        }
    }

    fn digest(self) -> String {
        let mut hasher = digest::Hasher::default();
        for (path, text) in self.files {
            for part in [self.name, path, text] {
                hasher.update(part.as_bytes());
                hasher.update(&[0]);
            }
        }
        let mut digest = hasher.finish();
        digest.truncate(16);
        digest
    }

    fn lies_in(self, root: &Path) -> bool {
        let same = |(path, text): &(&str, &str)| {
            fs_err::read(root.join(self.name).join(path))
                .is_ok_and(|bytes| bytes == text.as_bytes())
        };
        !self.files.is_empty() && self.files.iter().all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs::files_below;

    #[test]
    fn sources_are_laid_out_once_and_mended() {
        let shelf = tempfile::tempdir().unwrap();
        let package =
            Package { name: "stub", files: &[("__init__.py", ""), ("deep/a.py", "x = 1\n")] };
        let root = package.lay_out(shelf.path()).unwrap();
        let files = ["stub/__init__.py", "stub/deep/a.py"];
        assert_eq!(files_below(&root).unwrap(), files);
        fs_err::write(root.join("stub/deep/a.py"), "x = 2\n").unwrap();
        assert_eq!(package.lay_out(shelf.path()).unwrap(), root);
        assert_eq!(fs_err::read_to_string(root.join("stub/deep/a.py")).unwrap(), "x = 1\n");
        let other = Package { name: "stub", files: &[("__init__.py", "y = 1\n")] };
        assert_ne!(other.lay_out(shelf.path()).unwrap(), root);
    }
}
