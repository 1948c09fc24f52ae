//! Prompts and sentences of a spec: written in it, or in a JSON file of their own.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::spec::either::{TextOrList, TextOrTable};
use crate::base::error::Hint;

/// Texts given in the spec, or the file that holds them as a JSON array.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "TextOrList<Sentence>")]
pub enum Lines {
    /// A JSON file.
    File(PathBuf),
    /// The texts themselves.
    Inline(Vec<Sentence>),
}

/// A text to embed or to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TextOrTable<Full>")]
pub struct Sentence {
    /// The text.
    pub text: String,
    /// Instruction before the text; excluded from the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Texts of the same pair should lie close together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<u64>,
}

/// A text with its instruction and pair.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    text: String,
    instruction: Option<String>,
    pair: Option<u64>,
}

/// Why the texts cannot be read.
#[derive(Debug, Error)]
pub enum TextError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its content.
    #[error("`{}` is no list of texts: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Description of the problem.
        error: serde_json::Error,
    },
}

impl Hint for TextError {
    fn hint(&self) -> Option<String> {
        None
    }
}

impl From<TextOrTable<Full>> for Sentence {
    fn from(written: TextOrTable<Full>) -> Self {
        match written {
            TextOrTable::Text(text) => Self { text, instruction: None, pair: None },
            TextOrTable::Table(Full { text, instruction, pair }) => {
                Self { text, instruction, pair }
            }
        }
    }
}

impl From<TextOrList<Sentence>> for Lines {
    fn from(written: TextOrList<Sentence>) -> Self {
        match written {
            TextOrList::Text(path) => Self::File(path.into()),
            TextOrList::List(sentences) => Self::Inline(sentences),
        }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

impl Lines {
    /// The texts.
    pub fn read(&self) -> Result<Vec<Sentence>, TextError> {
        match self {
            Self::Inline(sentences) => Ok(sentences.clone()),
            Self::File(path) => {
                let bytes = fs_err::read(path)?;
                serde_json::from_slice(&bytes)
                    .map_err(|error| TextError::Json { path: path.clone(), error })
            }
        }
    }

    /// True if there is nothing to read.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Inline(sentences) if sentences.is_empty())
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Self::File(path) = self {
            *path = super::spec::resolve(folder, path);
        }
    }
}
