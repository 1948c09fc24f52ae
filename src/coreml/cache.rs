//! The cache of compiled models: by what is compiled and by the system that compiled it, whole or absent, bounded.
//!
//! `<folder>/<key>/` holds `model.mlmodelc`, `entry.json` and `used`, whose time of change is the time of the last use.
//! The key is the SHA-256 of the digest of the package's files and the system's version with its build, so a changed
//! package or a changed system never meets an old compiled model. `seen/` remembers the digest of a package as long as no
//! file of it was touched, so that gigabytes are not read at every load.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::digest;
use crate::base::error::{ErrorKind, Hint};
use crate::base::fs::{Staging, files_below, write_atomic};

/// The compiled model in its entry.
const MODEL: &str = "model.mlmodelc";

/// What is known about an entry.
const ENTRY: &str = "entry.json";

/// Touched at every use.
const USED: &str = "used";

/// Digests of packages whose files have not been touched since.
const SEEN: &str = "seen";

/// Changes when entries are laid out or keyed in another way.
const FORMAT: u32 = 1;

/// An entry used within this time may be in use now; another process may not have opened all of its files yet.
const IN_USE: Duration = Duration::from_hours(1);

/// Why the cache cannot be used.
#[derive(Debug, Error)]
#[error("compiled model of `{}`: {source}", package.display())]
pub struct CacheError {
    /// The package.
    package: PathBuf,
    /// Description of the error.
    source: io::Error,
}

impl Hint for CacheError {
    fn hint(&self) -> Option<String> {
        self.source.hint()
    }

    fn error_kind(&self) -> ErrorKind {
        self.source.error_kind()
    }
}

/// Cache of compiled models and its size limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
}

/// A compiled model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Path.
    pub path: PathBuf,
    /// True if it was there already.
    pub found: bool,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    /// The package's name, for people who look into the folder.
    package: String,
    system: String,
    bytes: u64,
}

/// Path, length and times of one file.
type Stamp = (String, u64, String);

#[derive(Serialize, Deserialize)]
struct Seen {
    stamps: Vec<Stamp>,
    tree: String,
}

impl Cache {
    /// A cache in `folder` that keeps about `limit` bytes: the least recently used entries leave when a new one comes.
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit }
    }

    /// Path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The compiled model of `package` for `system`; `compile` writes it to the path that it is given when there is
    /// none. An interrupted compilation leaves nothing that could be taken for a model.
    pub fn get<E: From<CacheError>>(
        &self,
        package: &Path,
        system: &str,
        compile: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Compiled, E> {
        let wrong = |source| E::from(CacheError { package: package.to_owned(), source });
        let key = self.key(package, system).map_err(wrong)?;
        let entry = self.folder.join(&key);
        let path = entry.join(MODEL);
        if path.is_dir() && read(&entry).is_some() {
            touch(&entry).map_err(wrong)?;
            return Ok(Compiled { path, found: true });
        }
        let staging = Staging::begin(&entry).map_err(wrong)?;
        compile(&staging.path().join(MODEL))?;
        let record = Record {
            format: FORMAT,
            package: package.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            system: system.to_owned(),
            bytes: size(&staging.path().join(MODEL)).map_err(wrong)?,
        };
        let json = serde_json::to_vec_pretty(&record).expect("a record is plain JSON");
        write_atomic(&staging.path().join(ENTRY), &json)
            .and_then(|()| touch(staging.path()))
            // Whoever compiled the same model meanwhile compiled the same bytes' meaning; the newer one stays.
            .and_then(|()| staging.commit(true))
            .and_then(|()| self.evict(&key, system))
            .map_err(wrong)?;
        Ok(Compiled { path, found: false })
    }

    /// Moves the model that was compiled at `made`, a place of the system's choice, to `into`.
    pub fn adopt(&self, package: &Path, made: &Path, into: &Path) -> Result<(), CacheError> {
        let moved = match fs_err::rename(made, into) {
            // Temporary folders may lie on another disk.
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy(made, into),
            outcome => outcome,
        };
        moved.map_err(|source| CacheError { package: package.to_owned(), source })
    }

    /// What a package's compiled model is called.
    fn key(&self, package: &Path, system: &str) -> io::Result<String> {
        let place = package.canonicalize()?;
        let name = digest::of_bytes(place.as_os_str().as_encoded_bytes());
        let note = self.folder.join(SEEN).join(format!("{name}.json"));
        let stamps = stamps(&place)?;
        let known: Option<Seen> =
            fs_err::read(&note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let tree = match known {
            Some(seen) if seen.stamps == stamps => seen.tree,
            _ => {
                let tree = tree(&place)?;
                let seen = Seen { stamps, tree: tree.clone() };
                write_atomic(&note, &serde_json::to_vec(&seen).expect("a note is plain JSON"))?;
                tree
            }
        };
        Ok(digest::of_bytes(format!("{FORMAT}\0{tree}\0{system}").as_bytes()))
    }

    /// Removes entries beyond the limit, but not `keep`.
    fn evict(&self, keep: &str, system: &str) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs_err::read_dir(&self.folder)? {
            let entry = entry?;
            let Some(record) = read(&entry.path()) else { continue };
            let used = fs_err::metadata(entry.path().join(USED)).and_then(|m| m.modified());
            entries.push(Entry {
                key: entry.file_name().to_string_lossy().into_owned(),
                ours: record.system == system,
                bytes: record.bytes,
                idle: used.ok().and_then(|used| used.elapsed().ok()).unwrap_or_default(),
            });
        }
        for key in leaving(entries, self.limit, keep) {
            match fs_err::remove_dir_all(self.folder.join(key)) {
                // Another process removed it first.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

/// Age and size of a cache entry.
struct Entry {
    key: String,
    /// True if this system compiled it.
    ours: bool,
    bytes: u64,
    /// Time since its last use.
    idle: Duration,
}

/// The entries that have to leave: those of other systems first, then the longest unused, until `limit` holds.
fn leaving(mut entries: Vec<Entry>, limit: u64, keep: &str) -> Vec<String> {
    let mut total = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
    entries.retain(|entry| entry.key != keep && entry.idle >= IN_USE);
    entries.sort_by(|a, b| {
        a.ours.cmp(&b.ours).then(b.idle.cmp(&a.idle)).then_with(|| a.key.cmp(&b.key))
    });
    let mut out = Vec::new();
    for entry in entries {
        if total <= limit {
            break;
        }
        total = total.saturating_sub(entry.bytes);
        out.push(entry.key);
    }
    out
}

/// The digest of a package's files.
fn tree(package: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for file in files_below(package)? {
        let (digest, _) = digest::of_file(&package.join(&file))?;
        files.push((file, digest));
    }
    Ok(digest::of_tree(&files))
}

/// What the system notes of each file: path, length, and the times of its last changes.
fn stamps(package: &Path) -> io::Result<Vec<Stamp>> {
    let stamp = |file: String| {
        let metadata = fs_err::metadata(package.join(&file))?;
        let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
        let modified = modified.unwrap_or_default().as_nanos();
        Ok((file, metadata.len(), format!("{modified} {}", changed(&metadata))))
    };
    files_below(package)?.into_iter().map(stamp).collect()
}

/// The time and the file that a name stands for, which no program can set back.
#[cfg(unix)]
fn changed(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!("{}.{:09} {}", metadata.ctime(), metadata.ctime_nsec(), metadata.ino())
}

#[cfg(not(unix))]
fn changed(_metadata: &std::fs::Metadata) -> String {
    String::new()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for file in files_below(from)? {
        let target = to.join(&file);
        fs_err::create_dir_all(target.parent().expect("a file stands in a folder"))?;
        fs_err::copy(from.join(&file), target)?;
    }
    fs_err::remove_dir_all(from)
}

fn read(entry: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs_err::read(entry.join(ENTRY)).ok()?).ok()?;
    (record.format == FORMAT).then_some(record)
}

fn touch(entry: &Path) -> io::Result<()> {
    write_atomic(&entry.join(USED), b"")
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for file in files_below(folder)? {
        total += fs_err::metadata(folder.join(file))?.len();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package, a cache, and how often something was compiled.
    struct Bench {
        root: tempfile::TempDir,
        compiled: std::cell::Cell<u32>,
    }

    impl Bench {
        fn new() -> Self {
            let bench = Self { root: tempfile::tempdir().unwrap(), compiled: 0.into() };
            bench.write("x.mlpackage/Manifest.json", "{}");
            bench.write("x.mlpackage/Data/weights/weight.bin", "12345678");
            bench
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }

        fn cache(&self, limit: u64) -> Cache {
            Cache::new(self.root.path().join("compiled"), limit)
        }

        fn get(&self, cache: &Cache, system: &str) -> Result<Compiled, CacheError> {
            let package = self.root.path().join("x.mlpackage");
            cache.get(&package, system, |into| {
                self.compiled.set(self.compiled.get() + 1);
                fs_err::create_dir_all(into).unwrap();
                fs_err::write(into.join("model.mil"), "program").unwrap();
                Ok(())
            })
        }

        fn entries(&self) -> usize {
            let listed = fs_err::read_dir(self.root.path().join("compiled")).unwrap();
            listed.filter(|entry| entry.as_ref().unwrap().file_name() != SEEN).count()
        }
    }

    #[test]
    fn one_compilation_for_each_package_and_system() {
        let bench = Bench::new();
        let cache = bench.cache(1 << 30);
        let first = bench.get(&cache, "macOS 15.1 (24B83)").unwrap();
        assert_eq!(fs_err::read_to_string(first.path.join("model.mil")).unwrap(), "program");
        assert!(!first.found);
        let again = bench.get(&cache, "macOS 15.1 (24B83)").unwrap();
        assert_eq!(again, Compiled { found: true, ..first });
        assert!(!bench.get(&cache, "macOS 15.2 (24C101)").unwrap().found);
        bench.write("x.mlpackage/Data/weights/weight.bin", "12345679");
        assert!(!bench.get(&cache, "macOS 15.2 (24C101)").unwrap().found);
        assert_eq!((bench.compiled.get(), bench.entries()), (3, 3));
    }

    #[test]
    fn a_digest_is_remembered_until_a_file_is_touched() {
        let bench = Bench::new();
        let cache = bench.cache(1 << 30);
        let package = bench.root.path().join("x.mlpackage");
        let key = || cache.key(&package, "s").unwrap();
        let first = key();
        let notes = || {
            let folder = bench.root.path().join("compiled").join(SEEN);
            fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let [note] = notes().try_into().unwrap();
        // What is remembered is what is used: another digest in its place gives another key.
        let text = fs_err::read_to_string(&note).unwrap();
        let seen: Seen = serde_json::from_str(&text).unwrap();
        fs_err::write(&note, text.replace(&seen.tree, &digest::of_bytes(b""))).unwrap();
        assert_ne!(key(), first);
        // The same bytes written again are read again.
        bench.write("x.mlpackage/Data/weights/weight.bin", "12345678");
        assert_eq!(key(), first);
        bench.write("x.mlpackage/Data/weights/weight.bin", "12345679");
        assert_ne!(key(), first);
        fs_err::write(&note, "no JSON").unwrap();
        bench.write("x.mlpackage/Data/weights/weight.bin", "12345678");
        assert_eq!(key(), first);
        assert_eq!(notes().len(), 1);
    }

    #[test]
    fn what_was_not_finished_is_not_taken() {
        let bench = Bench::new();
        let cache = bench.cache(1 << 30);
        let package = bench.root.path().join("x.mlpackage");
        let failed: Result<Compiled, CacheError> = cache.get(&package, "s", |into| {
            fs_err::create_dir_all(into).unwrap();
            let source = io::Error::other("no");
            Err(CacheError { package: package.clone(), source })
        });
        assert!(failed.unwrap_err().to_string().ends_with("x.mlpackage`: no"));
        assert_eq!(bench.entries(), 0);
        // An entry that lost its record is made anew.
        let made = bench.get(&cache, "s").unwrap();
        fs_err::remove_file(made.path.with_file_name(ENTRY)).unwrap();
        assert!(!bench.get(&cache, "s").unwrap().found);
        assert!(bench.get(&cache, "s").unwrap().found);
    }

    #[test]
    fn entries_leave_by_system_and_last_use() {
        let hours = Duration::from_hours;
        let entry = |key: &str, ours, bytes, idle| Entry { key: key.to_owned(), ours, bytes, idle };
        let entries = || {
            vec![
                entry("new", true, 40, hours(0)),
                entry("busy", true, 30, Duration::from_mins(1)),
                entry("old", true, 20, hours(90)),
                entry("recent", true, 20, hours(2)),
                entry("foreign", false, 10, hours(3)),
            ]
        };
        let cases: &[(u64, &[&str])] = &[
            (120, &[]),
            (119, &["foreign"]),
            (105, &["foreign", "old"]),
            (80, &["foreign", "old", "recent"]),
            // The entry in use and the new one stay whatever the limit.
            (0, &["foreign", "old", "recent"]),
        ];
        for (limit, want) in cases {
            assert_eq!(leaving(entries(), *limit, "new"), *want, "{limit}");
        }
    }

    #[test]
    fn an_unused_entry_leaves_the_disk() {
        let bench = Bench::new();
        let cache = bench.cache(10);
        let first = bench.get(&cache, "old").unwrap();
        let used = fs_err::File::open(first.path.with_file_name(USED)).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        used.file().set_modified(long_ago).unwrap();
        let second = bench.get(&cache, "new").unwrap();
        assert!(!first.path.exists() && second.path.exists());
    }
}
