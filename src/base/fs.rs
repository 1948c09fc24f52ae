//! Files and folders that are either whole or absent.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

/// The prefix of everything half-written; [`remove_stale_temp`] recognises it.
pub const PARTIAL: &str = ".coremill-partial-";

/// Writes `bytes` to a sibling of `path` and renames it over `path`.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = StagedFile::begin(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file under construction beside its destination: [`commit`](Self::commit) renames it into place, dropping it
/// removes it.
#[derive(Debug)]
pub struct StagedFile {
    file: NamedTempFile,
    destination: PathBuf,
}

impl StagedFile {
    /// Starts a file that will become `destination`.
    pub fn begin(destination: &Path) -> io::Result<Self> {
        let parent = parent_of(destination);
        fs_err::create_dir_all(&parent)?;
        let file = NamedTempFile::with_prefix_in(PARTIAL, &parent)
            .map_err(|e| in_place(&e, destination))?;
        Ok(Self { file, destination: destination.to_owned() })
    }

    /// Makes the file appear at its destination, in place of what stood there.
    pub fn commit(self) -> io::Result<()> {
        let Self { file, destination } = self;
        file.as_file().sync_all().map_err(|e| in_place(&e, &destination))?;
        open_permissions(file.path(), 0o644).map_err(|e| in_place(&e, &destination))?;
        file.persist(&destination).map_err(|e| in_place(&e.error, &destination))?;
        Ok(())
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|e| in_place(&e, &self.destination))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|e| in_place(&e, &self.destination))
    }
}

impl Seek for StagedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to).map_err(|e| in_place(&e, &self.destination))
    }
}

/// A folder under construction beside its destination: [`commit`](Self::commit) renames it into place,
/// dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    dir: TempDir,
    destination: PathBuf,
}

impl Staging {
    /// Starts a folder that will become `destination`, and removes what killed runs have left beside it; see
    /// [`remove_stale_temp`].
    pub fn begin(destination: &Path) -> io::Result<Self> {
        let parent = parent_of(destination);
        fs_err::create_dir_all(&parent)?;
        // Remains that cannot be removed are in nobody's way.
        drop(remove_stale_temp(&parent));
        let dir =
            TempDir::with_prefix_in(PARTIAL, &parent).map_err(|e| in_place(&e, destination))?;
        Ok(Self { dir, destination: destination.to_owned() })
    }

    /// Where to write the folder's content.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the folder appear at its destination in one step.
    ///
    /// With `replace`, what stood there before goes only once the new folder is complete; without it, something
    /// standing there is an error of kind [`io::ErrorKind::AlreadyExists`] and stays.
    pub fn commit(self, replace: bool) -> io::Result<()> {
        let Self { dir, destination } = self;
        if destination.exists() {
            if !replace {
                let text = format!("`{}` exists", destination.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            let old = TempDir::with_prefix_in(PARTIAL, parent_of(&destination))?;
            open_permissions(dir.path(), 0o755)?;
            fs_err::rename(&destination, old.path().join("old"))?;
            fs_err::rename(dir.keep(), &destination)?;
            return old.close();
        }
        open_permissions(dir.path(), 0o755)?;
        fs_err::rename(dir.keep(), &destination)
    }
}

/// Removes what killed runs left half-written in `folder`; gives the number of things removed.
///
/// Only entries in which nothing was touched for an hour go, so that a run at work beside this one keeps its own.
pub fn remove_stale_temp(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    if !folder.is_dir() {
        return Ok(0);
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let partial = entry.file_name().to_string_lossy().starts_with(PARTIAL);
        if partial && is_stale(&entry)? {
            if entry.file_type()?.is_dir() {
                fs_err::remove_dir_all(entry.path())?;
            } else {
                fs_err::remove_file(entry.path())?;
            }
            removed += 1;
        }
    }
    Ok(removed)
}

/// True if neither the entry nor anything below it was touched for an hour. A folder itself is not touched where a file
/// deep in it grows.
pub fn is_stale(entry: &fs_err::DirEntry) -> io::Result<bool> {
    if entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age.as_secs() <= 3600) {
        return Ok(false);
    }
    if entry.file_type()?.is_dir() {
        for inner in fs_err::read_dir(entry.path())? {
            if !is_stale(&inner?)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Free bytes for this user on the disk that `path` is or will be on.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let mut place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    while !place.exists() {
        place = parent_of(&place);
    }
    let found = rustix::fs::statvfs(&place)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// All files below `folder`, as paths relative to it with `/` between parts, in order.
pub fn files_below(folder: &Path) -> io::Result<Vec<String>> {
    fn walk(folder: &Path, prefix: &str, out: &mut Vec<String>) -> io::Result<()> {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), &format!("{name}/"), out)?;
            } else {
                out.push(name);
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(folder, "", &mut out)?;
    out.sort();
    Ok(out)
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn in_place(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write `{}`: {error}", path.display()))
}

/// `tempfile` makes files and folders for the owner alone; an artifact is as readable as any other.
#[cfg(unix)]
fn open_permissions(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn open_permissions(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_staging_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let destination = root.path().join("out/a.mlpackage");
        let staging = Staging::begin(&destination).unwrap();
        fs_err::write(staging.path().join("x"), "1").unwrap();
        drop(staging);
        assert!(files_below(root.path()).unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        write_atomic(&root.path().join("file"), b"1").unwrap();
        Staging::begin(&root.path().join("folder")).unwrap().commit(false).unwrap();
        for (name, want) in [("file", 0o644), ("folder", 0o755)] {
            let mode = fs_err::metadata(root.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, want, "{name}");
        }
    }

    #[test]
    fn commit_replaces_only_when_asked() {
        let root = tempfile::tempdir().unwrap();
        let destination = root.path().join("a");
        for (text, replace, want) in [("1", false, "1"), ("2", false, "1"), ("3", true, "3")] {
            let staging = Staging::begin(&destination).unwrap();
            fs_err::write(staging.path().join("x"), text).unwrap();
            let outcome = staging.commit(replace);
            assert_eq!(outcome.is_ok(), text == want);
            assert_eq!(fs_err::read_to_string(destination.join("x")).unwrap(), want);
            assert_eq!(files_below(root.path()).unwrap(), ["a/x"]);
        }
    }

    #[test]
    fn what_killed_runs_left_goes_once_nothing_in_it_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        // Folder, whether it is old, whether the file deep in it is, and whether both go.
        let cases = [
            (".coremill-partial-old", true, true, true),
            (".coremill-partial-growing", true, false, false),
            (".coremill-partial-new", false, true, false),
            ("other", true, true, false),
        ];
        for (name, old_folder, old_file, _) in cases {
            let deep = root.path().join(name).join("Data");
            fs_err::create_dir_all(&deep).unwrap();
            fs_err::write(deep.join("weight.bin"), "1").unwrap();
            let touch = |path: &Path| fs_err::File::open(path).unwrap().set_modified(old).unwrap();
            for (path, aged) in [
                (deep.join("weight.bin"), old_file),
                (deep.clone(), old_folder),
                (root.path().join(name), old_folder),
            ] {
                if aged {
                    touch(&path);
                }
            }
        }
        drop(Staging::begin(&root.path().join("next")).unwrap());
        for (name, _, _, goes) in cases {
            assert_eq!(!root.path().join(name).exists(), goes, "{name}");
        }
    }

    #[test]
    fn write_atomic_makes_parents_and_replaces() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("b/c.json");
        for text in ["one", "two"] {
            write_atomic(&path, text.as_bytes()).unwrap();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(files_below(root.path()).unwrap(), ["b/c.json"]);
    }
}
