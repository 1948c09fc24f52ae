//! `TokenizerFacts`: what a folder's tokenizer files say, and whether their ids fit the model's vocabulary.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{json, lfs};
use crate::base::error::Hint;

/// What a folder's tokenizer files say, as far as it is known without `transformers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerFacts {
    /// The files that decide what the tokenizer is.
    pub files: Vec<String>,
    /// Class in `transformers`, where the settings name one.
    pub class: Option<String>,
    /// One above the largest id; none where only `transformers` reads the vocabulary (SentencePiece).
    pub n_ids: Option<usize>,
    /// Tokens added on top of the model's vocabulary, by their text.
    pub added: BTreeMap<String, usize>,
    /// Ids of the roles (`bos_token`, `eos_token`, ...) of `tokenizer_config.json` that are added tokens.
    pub roles: BTreeMap<String, usize>,
    /// Names of the chat templates.
    pub chat_templates: Vec<String>,
    /// Most tokens of a text, where the settings say.
    pub model_max_length: Option<u64>,
}

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error("`{dir}` has no tokenizer")]
    Missing { dir: PathBuf },
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
            Self::Json(e) => e.hint(),
            Self::Missing { .. } => {
                Some("copy the tokenizer of the model into the checkpoint's folder".to_owned())
            }
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
        if !is_in(dir) {
            return Err(Error::Missing { dir: dir.to_owned() });
        }
        for file in files(dir)? {
            check_pointer(&dir.join(file))?;
        }
        let (largest, added) = ids(dir)?;
        if let Some((file, id, token)) = &largest
            && *id >= vocab_size
        {
            let (file, id, token) = (file.clone(), *id, token.clone());
            return Err(Error::TooLarge { file, id, token, vocab_size });
        }
        let config = dir.join("tokenizer_config.json");
        let fields: BTreeMap<String, Value> =
            if config.is_file() { parse(&config)? } else { BTreeMap::new() };
        let mut roles = BTreeMap::new();
        for (role, value) in fields.iter().filter(|(role, _)| role.ends_with("_token")) {
            let text = value.as_str().or_else(|| value.get("content")?.as_str());
            if let Some(id) = text.and_then(|text| added.get(text)) {
                roles.insert(role.clone(), *id);
            }
        }
        Ok(Self {
            files: files(dir)?,
            class: fields.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned),
            n_ids: largest.map(|(_, id, _)| id + 1),
            added,
            roles,
            chat_templates: templates(dir, fields.get("chat_template"))?,
            model_max_length: fields.get("model_max_length").and_then(Value::as_u64),
        })
    }
}

/// Fails if `file` is a Git LFS pointer.
fn check_pointer(file: &Path) -> Result<(), Error> {
    // Pointers are shorter than this.
    let mut start = Vec::new();
    fs_err::File::open(file)?.take(1024).read_to_end(&mut start)?;
    lfs::check(file, &start).map_err(json::Error::from)?;
    Ok(())
}

/// Files that hold a vocabulary; a folder with one of them has a tokenizer.
const VOCABULARIES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tekken.json",
    "tiktoken.model",
    "vocab.json",
    "vocab.txt",
];

/// Files that change what a vocabulary is used for.
const SETTINGS: [&str; 6] = [
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "config.json",
];

/// The folder of chat templates that have names.
pub(crate) const TEMPLATES: &str = "additional_chat_templates";

/// True if a folder has a tokenizer.
pub fn is_in(dir: &Path) -> bool {
    VOCABULARIES.iter().any(|name| dir.join(name).is_file())
}

/// The files of `dir` that decide what its tokenizer is, by path below it.
pub fn files(dir: &Path) -> io::Result<Vec<String>> {
    let names = VOCABULARIES.iter().chain(&SETTINGS).map(|name| (*name).to_owned());
    let mut found: Vec<String> = names.filter(|name| dir.join(name).is_file()).collect();
    found.extend(named_templates(dir)?.into_iter().map(|name| format!("{TEMPLATES}/{name}.jinja")));
    found.sort();
    Ok(found)
}

/// The names of the templates that lie in a folder of their own.
fn named_templates(dir: &Path) -> io::Result<Vec<String>> {
    let folder = dir.join(TEMPLATES);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".jinja")).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// The names of all chat templates; a file wins over the settings.
fn templates(dir: &Path, stated: Option<&Value>) -> io::Result<Vec<String>> {
    let mut names = named_templates(dir)?;
    if dir.join("chat_template.jinja").is_file() {
        names.push("default".to_owned());
    } else {
        match stated {
            Some(Value::String(_)) => names.push("default".to_owned()),
            Some(Value::Array(list)) => {
                let named = list.iter().filter_map(|one| one.get("name")?.as_str());
                names.extend(named.map(str::to_owned));
            }
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The largest id of a vocabulary: the file that has it, the id, its token.
type Largest = Option<(PathBuf, usize, String)>;

/// The largest id, and the ids of added tokens, of the first vocabulary that can be read here.
fn ids(dir: &Path) -> Result<(Largest, BTreeMap<String, usize>), Error> {
    let file = dir.join("tokenizer.json");
    let mut added = BTreeMap::new();
    if file.is_file() {
        let parsed: TokenizerFile = parse(&file)?;
        let mut largest = parsed.model.vocab.largest;
        for token in parsed.added_tokens {
            if largest.as_ref().is_none_or(|(id, _)| *id < token.id) {
                largest = Some((token.id, token.content.clone()));
            }
            added.insert(token.content, token.id);
        }
        let Some((id, token)) = largest else {
            return Err(Error::Bad { file, reason: "its vocabulary is empty".to_owned() });
        };
        return Ok((Some((file, id, token)), added));
    }
    let file = dir.join("vocab.json");
    if file.is_file() {
        let vocab: Vocab = parse(&file)?;
        return Ok((vocab.largest.map(|(id, token)| (file, id, token)), added));
    }
    let file = dir.join("vocab.txt");
    if file.is_file() {
        let text = fs_err::read_to_string(&file)?;
        let last = text.lines().enumerate().last();
        return Ok((last.map(|(id, token)| (file, id, token.to_owned())), added));
    }
    Ok((None, added))
}

fn parse<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, Error> {
    json::read(file).map_err(|error| match error {
        json::Error::Bad { file, reason } | json::Error::Data { file, reason } => {
            Error::Bad { file, reason }
        }
        other => other.into(),
    })
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
        assert_eq!(got.n_ids, Some(4));
        let want = [("bos_token".to_owned(), 3), ("eos_token".to_owned(), 3)];
        assert_eq!(got.roles, BTreeMap::from(want));
        let unigram = r#"{"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2.0]]}}"#;
        assert_eq!(open(&[("tokenizer.json", unigram)], 2).unwrap().n_ids, Some(2));
    }

    #[test]
    fn a_folder_without_tokenizer_json_has_facts_too() {
        let got = open(&[("vocab.txt", "[PAD]\na\n##b\n"), ("merges.txt", "")], 3).unwrap();
        assert_eq!(
            (got.n_ids, got.files),
            (Some(3), vec!["merges.txt".to_owned(), "vocab.txt".to_owned()])
        );
        let config = r#"{"tokenizer_class": "LlamaTokenizer", "model_max_length": 4096,
            "chat_template": [{"name": "rag", "template": ""}, {"name": "default", "template": ""}]}"#;
        let got = open(&[("tokenizer.model", ""), ("tokenizer_config.json", config)], 3).unwrap();
        assert_eq!((got.n_ids, got.model_max_length), (None, Some(4096)));
        assert_eq!(got.chat_templates, ["default", "rag"]);
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
            (&[("vocab.json", "{\"a\": 9}")], 9, "has token id 9 (`a`), outside"),
            (&[("merges.txt", "")], 9, "has no tokenizer"),
            (&[("tokenizer.json", "{")], 9, "is cut off: EOF while parsing"),
        ];
        for (files, vocab_size, want) in cases {
            let error = open(files, vocab_size).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
    }
}
