//! Folders that share their files: by hard links where the file system has them, by copies where it has not.

use std::io;
use std::path::Path;

use super::fs::files_below;

/// Gives every file below `from` the same place below the folder `to`; what cannot be linked is copied.
///
/// A linked file is one file with two names: who writes into one of them changes both. What this program writes goes to new
/// files that are renamed into place, so it never does.
pub fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    for file in files_below(from)? {
        let (from, to) = (from.join(&file), to.join(&file));
        if let Some(folder) = to.parent() {
            fs_err::create_dir_all(folder)?;
        }
        match fs_err::hard_link(&from, &to) {
            // Another file system, one without links, or one whose count of them is at its end.
            Err(e) if e.kind() != io::ErrorKind::NotFound => drop(fs_err::copy(&from, &to)?),
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs::write_atomic;

    #[test]
    fn linked_folders_are_equal_until_one_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("a"), root.path().join("b"));
        for (file, text) in [("x", "1"), ("deep/er/y", "2")] {
            write_atomic(&from.join(file), text.as_bytes()).unwrap();
        }
        link_tree(&from, &to).unwrap();
        assert_eq!(files_below(&to).unwrap(), ["deep/er/y", "x"]);
        // A file that is renamed into place is another one.
        write_atomic(&from.join("x"), b"3").unwrap();
        assert_eq!(fs_err::read_to_string(to.join("x")).unwrap(), "1");
        // One that is written into is the same.
        fs_err::write(from.join("deep/er/y"), "4").unwrap();
        assert_eq!(fs_err::read_to_string(to.join("deep/er/y")).unwrap(), "4");
        let absent = link_tree(&root.path().join("c"), &to).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_cannot_be_linked_is_copied() {
        // Memory is another file system than the disk, where it is there at all.
        let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        fs_err::write(disk.path().join("x"), "1").unwrap();
        link_tree(disk.path(), memory.path()).unwrap();
        assert_eq!(fs_err::read_to_string(memory.path().join("x")).unwrap(), "1");
    }
}
