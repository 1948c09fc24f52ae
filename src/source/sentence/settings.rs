//! `Settings`: a JSON object whose keys are taken one by one; what is left over is refused by name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Error;
use crate::source::json;

/// The keys of a file that nobody has read yet.
pub(super) struct Settings {
    file: PathBuf,
    map: Map<String, Value>,
}

impl Settings {
    /// The object in `file`; nothing where there is no such file.
    pub(super) fn open(file: &Path) -> Result<Option<Self>, Error> {
        if !file.is_file() {
            return Ok(None);
        }
        Ok(Some(Self { file: file.to_owned(), map: json::read(file)? }))
    }

    /// The object `map`, part of `file`.
    pub(super) fn of(file: &Path, map: Map<String, Value>) -> Self {
        Self { file: file.to_owned(), map }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The value of `key`, which counts as read; `null` is nothing.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Error> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn count(&mut self, key: &str) -> Result<Option<usize>, Error> {
        let positive = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.typed(key, "a number", |value| positive(value).filter(|&n| n > 0))
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Self>, Error> {
        let map = self.typed(key, "an object", |value| value.as_object().cloned())?;
        Ok(map.map(|map| Self::of(&self.file, map)))
    }

    /// Refuses `key` where it has a value.
    pub(super) fn refuse(&mut self, key: &str, advice: &str) -> Result<(), Error> {
        let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        match self.take(key).filter(|value| !empty(value)) {
            Some(value) => Err(self.unsupported(key, &value, Some(advice.to_owned()))),
            None => Ok(()),
        }
    }

    /// Refuses whatever was not read and has a value.
    pub(super) fn end(mut self) -> Result<(), Error> {
        let left = std::mem::take(&mut self.map);
        match left.into_iter().find(|(_, value)| !value.is_null()) {
            Some((key, value)) => Err(self.unsupported(&key, &value, None)),
            None => Ok(()),
        }
    }

    pub(super) fn unsupported(&self, key: &str, value: &Value, advice: Option<String>) -> Error {
        Error::Unsupported {
            file: self.file.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            advice,
        }
    }

    fn typed<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let reason = || format!("`{key}` is {value}, not {wanted}");
        let bad = || Error::Bad { file: self.file.clone(), reason: reason() };
        read(&value).ok_or_else(bad).map(Some)
    }
}
