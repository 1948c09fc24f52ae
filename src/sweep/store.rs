//! Results on disk: each finished step of a sweep is one JSON file, written whole, under the digest of what it rests on.
//!
//! Layout: `FOLDER/built/KEY.json`, `FOLDER/measured/KEY.json` with `KEY.tokens.safetensors`, `FOLDER/failed/KEY.json`. A key
//! is the full SHA-256 over everything that could change the result, so a result found under it is the result. Failures
//! stand apart: they are told of, and tried again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::digest;
use crate::base::fs::{remove_stale_temp, write_atomic};
use crate::eval::Tokens;

/// The version of the records' form; records of another one are made again.
const SCHEMA_VERSION: u32 = 1;

/// Digest of all inputs of a result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A package was written.
    Built,
    /// A package was measured.
    Measured,
    /// A step failed.
    Failed,
}

/// Why a record cannot be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The records of a sweep.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

#[derive(Serialize)]
struct Written<'a, T> {
    schema_version: u32,
    key: &'a str,
    result: &'a T,
}

#[derive(Deserialize)]
struct Read<T> {
    schema_version: u32,
    key: String,
    result: T,
}

impl Key {
    /// The key of a result that rests on `parts`, which must have ordered fields only.
    pub fn of(parts: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(parts).expect("plain data is JSON");
        Self(digest::of_bytes(&bytes))
    }

    /// The key that `text` shows, if it has the form of one.
    pub fn read(text: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 64 && digits(text)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Measured => "measured",
            Self::Failed => "failed",
        }
    }
}

impl Store {
    /// The store in `folder`, which appears with the first record; what killed runs left half-written goes.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        for kind in [Kind::Built, Kind::Measured, Kind::Failed] {
            remove_stale_temp(&folder.join(kind.folder()))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The record under `key`. One that cannot be read, or stands under a key not its own, counts as absent.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &Key) -> Result<Option<T>, StoreError> {
        let bytes = match fs_err::read(self.path(kind, key)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let read: Option<Read<T>> = serde_json::from_slice(&bytes).ok();
        let own = |read: &Read<T>| read.schema_version == SCHEMA_VERSION && read.key == key.0;
        Ok(read.filter(own).map(|read| read.result))
    }

    /// Puts a record under `key`, in place of one that stands there.
    pub fn put<T: Serialize>(&self, kind: Kind, key: &Key, result: &T) -> Result<(), StoreError> {
        let written = Written { schema_version: SCHEMA_VERSION, key: &key.0, result };
        let mut bytes = serde_json::to_vec_pretty(&written).expect("plain data is JSON");
        bytes.push(b'\n');
        Ok(write_atomic(&self.path(kind, key), &bytes)?)
    }

    /// Puts the scored tokens of a measurement beside its record, before it.
    pub fn put_tokens(&self, key: &Key, tokens: &Tokens) -> Result<(), StoreError> {
        Ok(write_atomic(&self.tokens_path(key), &tokens.to_bytes())?)
    }

    /// The scored tokens of a measurement; those that cannot be read count as absent.
    pub fn tokens(&self, key: &Key) -> Option<Tokens> {
        let bytes = fs_err::read(self.tokens_path(key)).ok()?;
        Tokens::from_bytes(&bytes).ok()
    }

    fn tokens_path(&self, key: &Key) -> PathBuf {
        self.path(Kind::Measured, key).with_extension("tokens.safetensors")
    }

    /// Removes the record under `key`, if there is one.
    pub fn remove(&self, kind: Kind, key: &Key) -> Result<(), StoreError> {
        match fs_err::remove_file(self.path(kind, key)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Path of the record for `key`.
    pub fn path(&self, kind: Kind, key: &Key) -> PathBuf {
        self.folder.join(kind.folder()).join(format!("{key}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn keys_are_whole_digests_of_all_parts() {
        let key = Key::of(&("a", 1));
        assert_eq!(key.to_string().len(), 64);
        assert_eq!(key, Key::of(&("a", 1)));
        for other in [Key::of(&("a", 2)), Key::of(&("b", 1)), Key::of(&("a", "1"))] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn records_are_found_under_their_own_key_and_kind() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("results")).unwrap();
        let (key, other) = (Key::of(&"one"), Key::of(&"two"));
        let value = BTreeMap::from([("x".to_owned(), 0.1 + 0.2)]);
        let get = |kind, key| store.get::<BTreeMap<String, f64>>(kind, key).unwrap();
        assert_eq!(get(Kind::Built, &key), None);
        store.put(Kind::Built, &key, &value).unwrap();
        assert_eq!(get(Kind::Built, &key).as_ref(), Some(&value));
        assert_eq!(get(Kind::Measured, &key), None);
        assert_eq!(get(Kind::Built, &other), None);
        store.remove(Kind::Built, &key).unwrap();
        store.remove(Kind::Built, &key).unwrap();
        assert_eq!(get(Kind::Built, &key), None);
    }

    #[test]
    fn a_record_that_is_not_whole_or_not_its_own_counts_as_absent() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let key = Key::of(&1);
        store.put(Kind::Built, &key, &"value").unwrap();
        let path = store.path(Kind::Built, &key);
        let good = fs_err::read_to_string(&path).unwrap();
        for (name, text) in [
            ("cut short", good[..good.len() / 2].to_owned()),
            ("empty", String::new()),
            ("another key", good.replace(&key.to_string(), &Key::of(&2).to_string())),
            ("another form", good.replace("\"schema_version\": 1", "\"schema_version\": 0")),
            ("another type", good.replace("\"value\"", "7")),
        ] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(store.get::<String>(Kind::Built, &key).unwrap(), None, "{name}");
        }
        fs_err::write(&path, good).unwrap();
        assert_eq!(store.get::<String>(Kind::Built, &key).unwrap().unwrap(), "value");
    }
}
