//! `TokenizerFacts`: whether the ids of `tokenizer.json` fit the model's vocabulary.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::base::error::Hint;

/// What a tokenizer says about its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerFacts {
    /// Distinct ids at most: one above the largest.
    pub n_ids: usize,
    /// Tokens added on top of the model's vocabulary, by their text.
    pub added: BTreeMap<String, usize>,
    /// Ids of the roles (`bos_token`, `eos_token`, ...) of `tokenizer_config.json` that are added tokens.
    pub roles: BTreeMap<String, usize>,
}

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("`{dir}` has no `tokenizer.json`")]
    Missing { dir: PathBuf },
    #[error("`{dir}` has `{file}` but no `tokenizer.json`")]
    SlowOnly { dir: PathBuf, file: &'static str },
    #[error("`{file}` cannot be read: {reason}")]
    Bad { file: PathBuf, reason: String },
    #[error(
        "`{file}` has token id {id} (`{token}`), outside the model's vocabulary of {vocab_size}"
    )]
    TooLarge { file: PathBuf, id: usize, token: String, vocab_size: usize },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("copy the tokenizer of the model into the checkpoint's folder".to_owned())
            }
            Self::SlowOnly { .. } => Some(
                "convert it once: `AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)`"
                    .to_owned(),
            ),
            Self::TooLarge { .. } => Some(
                "the tokenizer belongs to another model, or the model's embedding was not resized for added tokens"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl TokenizerFacts {
    /// Reads the tokenizer of the folder `dir` and checks its ids against `vocab_size`.
    pub fn open(dir: &Path, vocab_size: usize) -> Result<Self, Error> {
        let file = dir.join("tokenizer.json");
        if !file.is_file() {
            let dir = dir.to_owned();
            return Err(match SLOW.iter().find(|name| dir.join(name).is_file()) {
                Some(file) => Error::SlowOnly { dir, file },
                None => Error::Missing { dir },
            });
        }
        let parsed: TokenizerFile = parse(&file)?;
        let mut largest = parsed.model.vocab.largest;
        let mut added = BTreeMap::new();
        for token in parsed.added_tokens {
            if largest.as_ref().is_none_or(|(id, _)| *id < token.id) {
                largest = Some((token.id, token.content.clone()));
            }
            added.insert(token.content, token.id);
        }
        let Some((id, token)) = largest else {
            return Err(Error::Bad { file, reason: "its vocabulary is empty".to_owned() });
        };
        if id >= vocab_size {
            return Err(Error::TooLarge { file, id, token, vocab_size });
        }
        let mut roles = BTreeMap::new();
        let config = dir.join("tokenizer_config.json");
        if config.is_file() {
            let fields: BTreeMap<String, Value> = parse(&config)?;
            for (role, value) in fields.iter().filter(|(role, _)| role.ends_with("_token")) {
                let text = value.as_str().or_else(|| value.get("content")?.as_str());
                if let Some(id) = text.and_then(|text| added.get(text)) {
                    roles.insert(role.clone(), *id);
                }
            }
        }
        Ok(Self { n_ids: id + 1, added, roles })
    }
}

/// Files of tokenizers that only the slow implementations of `transformers` read.
const SLOW: [&str; 4] = ["tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"];

fn parse<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T, Error> {
    serde_json::from_slice(&fs_err::read(file)?)
        .map_err(|e| Error::Bad { file: file.to_owned(), reason: e.to_string() })
}

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
}

/// A vocabulary of which only the largest id is kept: a map of ids, or a list whose places are the ids.
struct Vocab {
    largest: Option<(usize, String)>,
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocab;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids, or a list of tokens with scores")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut largest: Option<(usize, String)> = None;
                while let Some((token, id)) = map.next_entry::<String, usize>()? {
                    if largest.as_ref().is_none_or(|(max, _)| *max < id) {
                        largest = Some((id, token));
                    }
                }
                Ok(Vocab { largest })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                let mut largest = None;
                let mut n = 0;
                while let Some((token, _)) = list.next_element::<(String, IgnoredAny)>()? {
                    largest = Some((n, token));
                    n += 1;
                }
                Ok(Vocab { largest })
            }
        }
        deserializer.deserialize_any(Tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(files: &[(&str, &str)], vocab_size: usize) -> Result<TokenizerFacts, Error> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs_err::write(dir.path().join(name), text).unwrap();
        }
        TokenizerFacts::open(dir.path(), vocab_size)
    }

    const BPE: &str = r#"{"added_tokens": [{"id": 3, "content": "</s>", "special": true}],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 2, "c": 1}, "merges": []}}"#;

    #[test]
    fn ids_and_roles_are_found() {
        let config = r#"{"eos_token": {"content": "</s>"}, "bos_token": "</s>", "pad_token": null, "unk_token": "?"}"#;
        let got = open(&[("tokenizer.json", BPE), ("tokenizer_config.json", config)], 4).unwrap();
        assert_eq!(got.n_ids, 4);
        let want = [("bos_token".to_owned(), 3), ("eos_token".to_owned(), 3)];
        assert_eq!(got.roles, BTreeMap::from(want));
        let unigram = r#"{"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2.0]]}}"#;
        assert_eq!(open(&[("tokenizer.json", unigram)], 2).unwrap().n_ids, 2);
    }

    #[test]
    fn misfits_are_named() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Files<'_>, usize, &str); 5] = [
            (
                &[("tokenizer.json", BPE)],
                3,
                "has token id 3 (`</s>`), outside the model's vocabulary of 3",
            ),
            (
                &[("tokenizer.json", BPE)],
                2,
                "has token id 3 (`</s>`), outside the model's vocabulary of 2",
            ),
            (&[("tokenizer.model", "")], 9, "has `tokenizer.model` but no `tokenizer.json`"),
            (&[], 9, "has no `tokenizer.json`"),
            (&[("tokenizer.json", "{")], 9, "cannot be read: EOF while parsing"),
        ];
        for (files, vocab_size, want) in cases {
            let error = open(files, vocab_size).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
    }
}
