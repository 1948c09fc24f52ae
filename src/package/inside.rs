//! Paths inside a package: names that programs and manifests give may not lead out of its folder.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::PackageError;

/// `path` if it is relative and stays below where it starts.
pub(super) fn inner_path(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    let normal = path.components().all(|c| matches!(c, Component::Normal(_)));
    (normal && path.components().next().is_some()).then_some(path)
}

/// The file `inner` of the folder `root`, if it lies there when links are followed.
///
/// A download of the hub is a folder of links: `…/snapshots/REVISION/X` points into `…/blobs`, which is inside too.
/// A file that does not exist is given as named, for the error that opening it will be.
pub(super) fn file_inside(root: &Path, inner: &str) -> Option<PathBuf> {
    let file = root.join(inner_path(inner)?);
    let (Ok(root), Ok(real)) = (root.canonicalize(), file.canonicalize()) else {
        return Some(file);
    };
    let of_hub = |root: &Path| {
        let snapshots =
            root.ancestors().find(|a| a.file_name().is_some_and(|n| n == "snapshots"))?;
        Some(snapshots.with_file_name("blobs"))
    };
    let inside =
        real.starts_with(&root) || of_hub(&root).is_some_and(|blobs| real.starts_with(blobs));
    inside.then_some(file)
}

/// The bytes of a file of at most `most`; a pipe or a device, which may never end, is none.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, PackageError> {
    let about = fs_err::metadata(path)?;
    if !about.is_file() {
        return Err(PackageError::NotFile { path: path.to_owned() });
    }
    let check = |size: u64| {
        let large = || PackageError::TooLarge { path: path.to_owned(), size, most };
        if size > most { Err(large()) } else { Ok(()) }
    };
    check(about.len())?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let mut file = fs_err::File::open(path)?.take(most.saturating_add(1));
    check(u64::try_from(file.read_to_end(&mut bytes)?).unwrap_or(u64::MAX))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../x", "/etc/passwd", "a/../../x", "", ".", "./x"] {
            assert_eq!(inner_path(name), None, "{name}");
        }
        assert_eq!(inner_path("weights/weight.bin"), Some(Path::new("weights/weight.bin")));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_before_they_are_judged() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for dir in ["hub/snapshots/rev/x.mlmodelc/weights", "hub/blobs", "other"] {
            fs_err::create_dir_all(at(dir)).unwrap();
        }
        for file in ["hub/blobs/1", "other/2"] {
            fs_err::write(at(file), "").unwrap();
        }
        let root = at("hub/snapshots/rev/x.mlmodelc");
        fs_err::write(root.join("weights/own"), "").unwrap();
        symlink(root.join("weights/own"), root.join("weights/own_link")).unwrap();
        symlink(at("hub/blobs/1"), root.join("weights/hub_link")).unwrap();
        symlink(at("other/2"), root.join("weights/out_link")).unwrap();
        symlink(at("other"), root.join("out_folder")).unwrap();
        let cases = [
            ("weights/own", true),
            ("weights/own_link", true),
            ("weights/hub_link", true),
            ("weights/absent", true),
            ("weights/out_link", false),
            ("out_folder/2", false),
        ];
        for (inner, want) in cases {
            assert_eq!(file_inside(&root, inner).is_some(), want, "{inner}");
        }
    }
}
