//! `Llm2Vec`: how a checkpoint of LLM2Vec makes one vector out of a text.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::error::Hint;

/// The settings of `llm2vec_config.json`, with the defaults of the `llm2vec` package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Llm2Vec {
    /// How the token vectors become one.
    pub pooling_mode: Pooling,
    /// Tokens of a text at most.
    pub max_length: usize,
    /// Tokens of a text at most, before the instruction is counted.
    pub doc_max_length: usize,
    /// Whether the instruction's tokens stay out of the mean.
    pub skip_instruction: bool,
}

/// How token vectors become one, as LLM2Vec names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of the tokens.
    Mean,
    /// The mean with weights that grow with the position.
    WeightedMean,
    /// The last token.
    #[serde(alias = "last_token")]
    EosToken,
    /// The first token.
    BosToken,
}

impl Default for Llm2Vec {
    fn default() -> Self {
        Self {
            pooling_mode: Pooling::Mean,
            max_length: 512,
            doc_max_length: 400,
            skip_instruction: true,
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("`{file}` cannot be read: {reason}")]
    Bad { file: PathBuf, reason: String },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Llm2Vec {
    /// Reads `llm2vec_config.json` of the folder `dir`; the defaults where there is none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join("llm2vec_config.json");
        if !file.is_file() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&fs_err::read(&file)?)
            .map_err(|e| Error::Bad { file, reason: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_package_s_defaults() {
        let cases = [
            (None, Ok((Pooling::Mean, 512, true))),
            (
                Some(r#"{"max_length": 64, "skip_instruction": false}"#),
                Ok((Pooling::Mean, 64, false)),
            ),
            (Some(r#"{"pooling_mode": "last_token"}"#), Ok((Pooling::EosToken, 512, true))),
            (Some(r#"{"pooling_mode": "median"}"#), Err("unknown variant `median`")),
        ];
        for (text, want) in cases {
            let dir = tempfile::tempdir().unwrap();
            if let Some(text) = text {
                fs_err::write(dir.path().join("llm2vec_config.json"), text).unwrap();
            }
            match (Llm2Vec::open(dir.path()), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!((got.pooling_mode, got.max_length, got.skip_instruction), want);
                }
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
                (got, want) => panic!("{got:?} is not {want:?}"),
            }
        }
    }
}
