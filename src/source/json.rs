//! `json`: the JSON files of a checkpoint, with errors that name what people find in their place.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::io;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::lfs;
use crate::base::error::{ErrorKind, Hint};

/// What is wrong with a JSON file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Pointer(#[from] lfs::Pointer),
    #[error("`{file}` is empty")]
    Empty { file: PathBuf },
    #[error("`{file}` is an HTML page, not JSON")]
    Html { file: PathBuf },
    #[error("`{file}` is cut off: {reason}")]
    Truncated { file: PathBuf, reason: String },
    #[error("`{file}` is not valid JSON: {reason}")]
    Bad { file: PathBuf, reason: String },
    #[error("`{file}` cannot be read: {reason}")]
    Data { file: PathBuf, reason: String },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Pointer(e) => e.hint(),
            Self::Html { .. } => Some(
                "a web page was saved in place of the file: download the file itself, with a token if the \
                 repository asks for one"
                    .to_owned(),
            ),
            Self::Empty { .. } | Self::Truncated { .. } => {
                Some("the download or copy is not complete: fetch the file again".to_owned())
            }
            Self::Io(e) => e.hint(),
            Self::Bad { .. } | Self::Data { .. } => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

/// Reads a JSON file; a byte-order mark before the text is skipped.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Error> {
    let bytes = fs_err::read(file)?;
    lfs::check(file, &bytes)?;
    parse(file, &bytes)
}

/// Parses the text of `file`.
pub(crate) fn parse<T: DeserializeOwned>(file: &Path, bytes: &[u8]) -> Result<T, Error> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let file = file.to_owned();
    let start = text.trim_ascii_start();
    if start.is_empty() {
        return Err(Error::Empty { file });
    }
    if start.first() == Some(&b'<') {
        return Err(Error::Html { file });
    }
    serde_json::from_slice(text).map_err(|e| {
        // A file that is cut off may hold an unexpected key before its end.
        let e = serde_json::from_slice::<IgnoredAny>(text).err().unwrap_or(e);
        let reason = e.to_string();
        match e.classify() {
            Category::Eof => Error::Truncated { file, reason },
            Category::Data => Error::Data { file, reason },
            Category::Syntax | Category::Io => Error::Bad { file, reason },
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_stands_in_place_of_json_is_named() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123456789\n";
        let cases = [
            ("", "is empty"),
            (" \n", "is empty"),
            ("<!doctype html><html></html>", "is an HTML page, not JSON"),
            (pointer, "is a Git LFS pointer to 123456789 bytes, not the file itself"),
            ("{\"a\": 1", "is cut off: EOF while parsing"),
            ("{\"a\": nope}", "is not valid JSON: expected"),
            ("[]", "cannot be read: invalid type: sequence, expected a map"),
        ];
        for (text, want) in cases {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("config.json");
            fs_err::write(&file, text).unwrap();
            let error = read::<serde_json::Map<String, Value>>(&file).unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
        let value: Value = parse(Path::new("x"), b"\xef\xbb\xbf{\"a\": 1}").unwrap();
        assert_eq!(value, serde_json::json!({"a": 1}));
    }
}
