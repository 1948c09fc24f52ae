//! Packages that sweeps share: each under the key of what its bytes rest on, linked in and out, checked before it is taken.
//!
//! Layout: `FOLDER/built/KEY.json`, the record, and `FOLDER/packages/KEY-N.mlpackage`, which the record names. A package
//! comes before its record and another one never takes its place: what replaces it has the next N, so that sweeps on one
//! folder need not wait for each other. Who looks for a package that goes at that moment makes it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::pipeline::Built;
use super::store::{Key, Kind, Store, StoreError};
use crate::base::fs::{Staging, is_stale, remove_stale_temp};
use crate::base::links::link_tree;
use crate::manifest::Artifact;

/// A folder of packages.
#[derive(Debug)]
pub(super) struct Cache {
    store: Store,
    packages: PathBuf,
    /// True if what others put there does not count.
    fresh: bool,
    /// Entries that this run added.
    own: Mutex<BTreeSet<Key>>,
}

/// Record of a package.
#[derive(Serialize, Deserialize)]
struct Record {
    built: Built,
    /// The name of its folder.
    package: String,
}

impl Cache {
    /// The packages in `folder`, which appears with the first; what nobody speaks of any more goes. With `fresh`, those that
    /// are there are replaced.
    pub(super) fn open(folder: &Path, fresh: bool) -> Result<Self, StoreError> {
        let packages = folder.join("packages");
        let cache =
            Self { store: Store::open(folder)?, packages, fresh, own: Mutex::new(BTreeSet::new()) };
        remove_stale_temp(&cache.packages)?;
        cache.remove_orphans()?;
        Ok(cache)
    }

    /// Puts the package under `key` at `destination`, in place of what stands there, if it is here and every byte of it is
    /// what its record says.
    pub(super) fn take(&self, key: &Key, destination: &Path) -> Result<Option<Built>, StoreError> {
        if self.fresh && !self.is_own(key) {
            return Ok(None);
        }
        let Some(record) = self.record(key)? else { return Ok(None) };
        let staging = Staging::begin(destination)?;
        match link_tree(&self.packages.join(&record.package), staging.path()) {
            // It was removed by hand, or is being replaced.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            linked => linked?,
        }
        let found = Artifact::read(staging.path(), record.built.artifact.parameters)?;
        if found.sha256 != record.built.artifact.sha256 {
            self.forget(key, &record.package);
            return Ok(None);
        }
        staging.commit(true)?;
        Ok(Some(record.built))
    }

    /// Keeps the package at `package` under `key`, unless it is here.
    pub(super) fn put(&self, key: &Key, built: &Built, package: &Path) -> Result<(), StoreError> {
        let known = self.record(key)?;
        let stands = |known: &Record| {
            (!self.fresh || self.is_own(key))
                && known.built.artifact == built.artifact
                && known.built.artifact.stands_at(&self.packages.join(&known.package))
        };
        if known.as_ref().is_some_and(stands) {
            return Ok(());
        }
        let name = self.link(key, package)?;
        let record = Record { built: built.clone(), package: name };
        self.store.put(Kind::Built, key, &record)?;
        self.own.lock().expect("nobody panics with it").insert(key.clone());
        if let Some(known) = known.filter(|known| known.package != record.package) {
            // What cannot be removed is in nobody's way.
            drop(fs_err::remove_dir_all(self.packages.join(known.package)));
        }
        Ok(())
    }

    /// Links the files of `package` into a folder of a name that is still free, which is given.
    fn link(&self, key: &Key, package: &Path) -> io::Result<String> {
        let mut number = 0_u32;
        loop {
            let name = format!("{key}-{number}.mlpackage");
            let destination = self.packages.join(&name);
            number += 1;
            if destination.exists() {
                continue;
            }
            let staging = Staging::begin(&destination)?;
            link_tree(package, staging.path())?;
            match staging.commit(false) {
                Ok(()) => return Ok(name),
                // Another sweep was first.
                Err(_) if destination.exists() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn record(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let record: Option<Record> = self.store.get(Kind::Built, key)?;
        // Nothing outside the folder is ever removed, whatever a record says.
        Ok(record.filter(|record| key_of(&record.package) == Some(&key.to_string())))
    }

    /// Removes a package that is not what its record says, as long as that speaks of this one.
    fn forget(&self, key: &Key, package: &str) {
        if let Ok(Some(record)) = self.record(key)
            && record.package == package
        {
            // In a folder that cannot be written it stays, and is found damaged again.
            drop(self.store.remove(Kind::Built, key));
            drop(fs_err::remove_dir_all(self.packages.join(package)));
        }
    }

    /// Removes packages that runs left which were killed before the record was written, or while one was replaced.
    fn remove_orphans(&self) -> io::Result<()> {
        if !self.packages.is_dir() {
            return Ok(());
        }
        for entry in fs_err::read_dir(&self.packages)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(key) = key_of(&name).and_then(Key::read) else { continue };
            let named = self.record(&key).ok().flatten().is_some_and(|r| r.package == name);
            if !named && is_stale(&entry).unwrap_or(false) {
                drop(fs_err::remove_dir_all(entry.path()));
            }
        }
        Ok(())
    }

    fn is_own(&self, key: &Key) -> bool {
        self.own.lock().expect("nobody panics with it").contains(key)
    }
}

/// The key in the name of a package's folder, if it is such a name.
fn key_of(name: &str) -> Option<&str> {
    let (key, number) = name.strip_suffix(".mlpackage")?.split_once('-')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(key)
}
