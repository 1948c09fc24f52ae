//! The tokenizer of an artifact: text to token ids and back, as transformers does it.

mod record;
mod special;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokenizers::normalizers::Sequence;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::{PostProcessor as _, Tokenizer as Inner, TruncationDirection};

use crate::base::error::Hint;
use crate::source::embedding::{self, EmbeddingConfig};
pub use record::{RECORD, SpecialToken, TokenizerRecord};
use special::TokenizerConfig;

/// An error of the tokenizer.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// A folder that holds no tokenizer.
    #[error("`{}` holds no tokenizer.json", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// A file that does not read.
    #[error("`{}`: {what}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Description of the error.
        what: String,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A token that the model has no embedding for.
    #[error(
        "text has the token `{token}` with id {id}, outside the model's vocabulary of {vocab_size}"
    )]
    OutsideVocabulary {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The model's vocabulary.
        vocab_size: u64,
    },
    /// The recipe for embeddings.
    #[error(transparent)]
    Recipe(#[from] embedding::Error),
    /// The tokenizer refused a text or ids.
    #[error("tokenizer failed: {what}")]
    Failed {
        /// Why.
        what: String,
    },
}

impl Hint for TokenizerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "name the folder of the checkpoint or of its tokenizer with `--tokenizer`"
                    .to_owned(),
            ),
            Self::Io(e) => e.hint(),
            Self::OutsideVocabulary { .. } => Some(
                "the tokenizer knows the token, the model does not: leave it out of the text"
                    .to_owned(),
            ),
            Self::Recipe(e) => e.hint(),
            Self::Broken { .. } | Self::Failed { .. } => None,
        }
    }
}

/// An open tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    clean_up: bool,
    eos: Vec<u32>,
    first: Option<u32>,
    trained_as: Option<String>,
    max_seq_length: Option<usize>,
    lower_case: bool,
    record: Option<TokenizerRecord>,
    chat_templates: BTreeMap<String, String>,
    template_tokens: BTreeMap<String, String>,
    recipe: Option<EmbeddingConfig>,
}

/// Fields of `config.json` and `generation_config.json`.
#[derive(Debug, Default, Deserialize)]
struct ModelConfig {
    eos_token_id: Option<Ids>,
    #[serde(rename = "_name_or_path")]
    name: Option<String>,
}

/// Fields of `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: Option<bool>,
}

/// One id or a list of them.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Ids(serde_json::Value);

impl Ids {
    /// The ids that are some: transformers writes -1 for none, and other writers `2.0` for 2.
    fn valid(&self) -> Vec<u32> {
        let id = |value: &serde_json::Value| {
            let number = value.as_f64().filter(|id| id.fract() == 0.0 && *id >= 0.0)?;
            (number <= f64::from(u32::MAX)).then_some(number as u32)
        };
        match &self.0 {
            serde_json::Value::Array(ids) => ids.iter().filter_map(id).collect(),
            one => id(one).into_iter().collect(),
        }
    }
}

impl Tokenizer {
    /// Opens the tokenizer in `folder`: tokenizer.json, and the settings beside it where there are any.
    pub fn open(folder: &Path) -> Result<Self, TokenizerError> {
        Self::open_beside(folder, folder)
    }

    /// The same, with the recipe for embeddings from `own` where `folder` has none.
    pub fn open_beside(folder: &Path, own: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(TokenizerError::Missing { folder: folder.to_owned() });
        }
        let broken = |e: tokenizers::Error| TokenizerError::Broken {
            path: path.clone(),
            what: e.to_string(),
        };
        let mut inner = Inner::from_bytes(fs_err::read(&path)?).map_err(broken)?;
        // Whoever made the file may have left these on; transformers sets them anew for each call.
        inner.with_truncation(None).map_err(broken)?;
        inner.with_padding(None);
        let record = TokenizerRecord::read(folder)?;
        let settings: TokenizerConfig = match &record {
            Some(_) => TokenizerConfig::default(),
            None => json(folder, "tokenizer_config.json")?,
        };
        match &record {
            Some(record) => inner.set_encode_special_tokens(record.split_special_tokens),
            None => {
                if let Some(processor) = settings.post_processor(&inner) {
                    inner.with_post_processor(Some(processor));
                }
            }
        }
        let config: ModelConfig = json(folder, "config.json")?;
        let generation: ModelConfig = json(folder, "generation_config.json")?;
        let own_eos = match &record {
            Some(record) => record.id("eos_token"),
            None => settings.eos(&inner),
        };
        let stated = generation.eos_token_id.or(config.eos_token_id).map(|ids| ids.valid());
        let mut eos =
            stated.filter(|ids| !ids.is_empty()).unwrap_or_else(|| own_eos.into_iter().collect());
        // An adapter that was trained with another end token ends its texts with it.
        if record.as_ref().is_some_and(|record| record.adapter.is_some()) {
            eos.extend(own_eos.filter(|id| !eos.contains(id)));
        }
        let sentence: SentenceConfig = json(folder, "sentence_bert_config.json")?;
        let (chat_templates, template_tokens) = match &record {
            Some(record) => (record.chat_templates.clone(), record.template_tokens.clone()),
            None => (special::chat_templates(folder, &settings)?, settings.tokens()),
        };
        let recipe = match EmbeddingConfig::open(folder)? {
            None => EmbeddingConfig::open(own)?,
            found => found,
        };
        let lower_case = match &recipe {
            Some(EmbeddingConfig::Sentence(recipe)) => recipe.lower_case,
            Some(EmbeddingConfig::Llm2Vec(_)) => false,
            None => sentence.do_lower_case.unwrap_or(false),
        };
        if lower_case {
            // As sentence-transformers does: special tokens in a text are found before.
            let rest = inner.get_normalizer().cloned();
            let rules = std::iter::once(Lowercase.into()).chain(rest).collect();
            inner.with_normalizer(Some(Sequence::new(rules))).map_err(broken)?;
        }
        let mut tokenizer = Self {
            inner,
            clean_up: match &record {
                Some(record) => record.clean_up_tokenization_spaces,
                None => settings.clean_up_tokenization_spaces.unwrap_or(false),
            },
            eos,
            first: None,
            trained_as: config.name,
            max_seq_length: sentence.max_seq_length,
            record,
            chat_templates,
            template_tokens,
            lower_case,
            recipe,
        };
        let (with, plain) = (tokenizer.encode("a")?, tokenizer.encode_plain("a")?);
        tokenizer.first = with.first().filter(|first| plain.first() != Some(first)).copied();
        Ok(tokenizer)
    }

    /// The tokens of `text`, with those that the tokenizer puts around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.known(ids(&self.inner, text, true)?)
    }

    /// The tokens of `text` alone.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.known(ids(&self.inner, text, false)?)
    }

    /// At most `length` tokens of `text` and around it: the text is cut, what is around it stays.
    pub fn encode_within(&self, text: &str, length: usize) -> Result<Vec<u32>, TokenizerError> {
        let all = self.encode(text)?;
        if all.len() <= length {
            return Ok(all);
        }
        let failed = |e: tokenizers::Error| TokenizerError::Failed { what: e.to_string() };
        let around = self.inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        let mut encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        encoding.truncate(length.saturating_sub(around), 0, TruncationDirection::Right);
        let encoding = self.inner.post_process(encoding, None, true).map_err(failed)?;
        self.known(encoding.get_ids().to_vec())
    }

    /// Ids that the model has embeddings for.
    fn known(&self, ids: Vec<u32>) -> Result<Vec<u32>, TokenizerError> {
        let Some(vocab_size) = self.record.as_ref().and_then(|record| record.vocab_size) else {
            return Ok(ids);
        };
        match ids.iter().find(|&&id| u64::from(id) >= vocab_size) {
            Some(&id) => {
                let token = self.token(id).unwrap_or_default();
                Err(TokenizerError::OutsideVocabulary { token, id, vocab_size })
            }
            None => Ok(ids),
        }
    }

    /// The text of `tokens`, special ones left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let text = self.decode_as_is(tokens)?;
        Ok(if self.clean_up { cleaned(&text) } else { text })
    }

    /// The text of `tokens` before it is cleaned up.
    pub(super) fn decode_as_is(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let failed = |e: tokenizers::Error| TokenizerError::Failed { what: e.to_string() };
        self.inner.decode(tokens, true).map_err(failed)
    }

    /// True if text is [`cleaned`].
    pub(super) fn cleans_up(&self) -> bool {
        self.clean_up
    }

    /// The text of `tokens` with special ones, not cleaned up.
    pub fn decode_with_special(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let failed = |e: tokenizers::Error| TokenizerError::Failed { what: e.to_string() };
        self.inner.decode(tokens, false).map_err(failed)
    }

    /// The token with an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Chat templates by name; `default` is the usual one.
    pub fn chat_templates(&self) -> &BTreeMap<String, String> {
        &self.chat_templates
    }

    /// True if there is a usual chat template.
    pub fn has_chat_template(&self) -> bool {
        self.chat_templates.contains_key("default")
    }

    /// Texts that a chat template finds under the names of their roles.
    pub fn template_tokens(&self) -> &BTreeMap<String, String> {
        &self.template_tokens
    }

    /// Record of the conversion; `None` for a folder saved by transformers.
    pub fn record(&self) -> Option<&TokenizerRecord> {
        self.record.as_ref()
    }

    /// Tokens that end a text.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The token that the tokenizer puts before every text, where it does.
    pub fn first_token(&self) -> Option<u32> {
        self.first
    }

    /// Tokens there are.
    pub fn n_tokens(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The way from a text to the tokens of `encode`, where a conversion resolved it.
    pub fn recipe(&self) -> Option<&EmbeddingConfig> {
        self.recipe.as_ref()
    }

    /// True if `token` is one of those that stand for no text.
    pub fn is_special(&self, token: u32) -> bool {
        self.inner.get_added_tokens_decoder().get(&token).is_some_and(|added| added.special)
    }

    /// The name of the model in its configuration, where it has one.
    pub fn trained_as(&self) -> Option<&str> {
        self.trained_as.as_deref()
    }

    /// The most tokens that sentence-transformers gives the model, where its settings say.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.max_seq_length
    }

    /// True if sentence-transformers lower-cases text first.
    pub fn lower_case(&self) -> bool {
        self.lower_case
    }
}

fn ids(inner: &Inner, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
    let encoding = inner.encode_fast(text, special);
    let encoding = encoding.map_err(|e| TokenizerError::Failed { what: e.to_string() })?;
    Ok(encoding.get_ids().to_vec())
}

/// A JSON file's content, or the default where there is no such file.
fn json<T: DeserializeOwned + Default>(folder: &Path, name: &str) -> Result<T, TokenizerError> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(T::default());
    }
    let bytes = fs_err::read(&path)?;
    // A byte-order mark, which some editors write, is no part of the JSON.
    serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
        .map_err(|e| TokenizerError::Broken { path, what: e.to_string() })
}

/// transformers' `clean_up_tokenization`: no spaces before punctuation and English contractions.
pub(super) fn cleaned(text: &str) -> String {
    const RULES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A tokenizer of words, with `<s>` 0 and `</s>` 1, and the given files beside it.
#[cfg(test)]
pub(crate) fn words(files: &[(&str, &str)]) -> Tokenizer {
    let words = ["<s>", "</s>", "<unk>", "a", "king", "of", "Judah", "'s", "."];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(i, w)| ((*w).to_owned(), i.into())).collect();
    let added: Vec<_> = (0..2)
        .map(|id| {
            serde_json::json!({"id": id, "content": words[id], "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "added_tokens": added, "normalizer": null, "decoder": null,
        "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    for (name, text) in files {
        fs_err::write(folder.path().join(name), text).unwrap();
    }
    Tokenizer::open(folder.path()).unwrap()
}

/// A tokenizer of 50 tokens, each a letter of its own.
#[cfg(test)]
pub(crate) fn letters() -> Tokenizer {
    let letters = ('A'..='Z').chain('a'..='x');
    let vocab: serde_json::Map<_, _> =
        letters.zip(0..50).map(|(c, id): (char, u32)| (c.to_string(), id.into())).collect();
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "truncation": null, "padding": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    fs_err::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    Tokenizer::open(folder.path()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_follow_the_settings() {
        const TOKENS: &str = r#""bos_token": "<s>", "eos_token": {"content": "</s>"}"#;
        let llama =
            |rest: &str| format!(r#"{{"tokenizer_class": "LlamaTokenizer", {TOKENS}{rest}}}"#);
        let cases = [
            (String::new(), vec![3, 4], None),
            // Other classes keep what tokenizer.json says.
            (format!(r#"{{"add_bos_token": true, {TOKENS}}}"#), vec![3, 4], None),
            (llama(""), vec![0, 3, 4], Some(0)),
            (llama(r#", "add_bos_token": false"#), vec![3, 4], None),
            (llama(r#", "add_eos_token": true"#), vec![0, 3, 4, 1], Some(0)),
            (llama(r#", "add_bos_token": false, "add_eos_token": true"#), vec![3, 4, 1], None),
        ];
        for (config, want, first) in cases {
            let files = [("tokenizer_config.json", config.as_str())];
            let tokenizer = words(if config.is_empty() { &[] } else { &files });
            assert_eq!(tokenizer.encode("a king").unwrap(), want, "{config}");
            assert_eq!(tokenizer.encode_plain("a king").unwrap(), [3, 4]);
            assert_eq!(tokenizer.first_token(), first, "{config}");
        }
    }

    #[test]
    fn the_end_token_comes_from_the_most_specific_file() {
        let generation = ("generation_config.json", r#"{"eos_token_id": [1, 8]}"#);
        let config = ("config.json", r#"{"eos_token_id": 5, "_name_or_path": "x/y"}"#);
        let tokens = ("tokenizer_config.json", r#"{"eos_token": "</s>"}"#);
        let cases: [(&[_], &[u32]); 4] = [
            (&[generation, config, tokens], &[1, 8]),
            (&[config, tokens], &[5]),
            (&[tokens], &[1]),
            (&[], &[]),
        ];
        for (files, want) in cases {
            assert_eq!(words(files).eos(), want);
        }
        assert_eq!(words(&[config]).trained_as(), Some("x/y"));
    }

    #[test]
    fn text_is_cut_and_what_is_around_it_stays() {
        let config = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
            "add_eos_token": true}"#;
        let tokenizer = words(&[("tokenizer_config.json", config)]);
        for (length, want) in
            [(9, vec![0, 3, 4, 5, 6, 1]), (6, vec![0, 3, 4, 5, 6, 1]), (4, vec![0, 3, 4, 1])]
        {
            assert_eq!(tokenizer.encode_within("a king of Judah", length).unwrap(), want);
        }
    }

    #[test]
    fn decoding_leaves_special_tokens_out_and_cleans_up_when_told() {
        let ids = [0, 4, 7, 8, 1];
        assert_eq!(words(&[]).decode(&ids).unwrap(), "king 's .");
        let clean = ("tokenizer_config.json", r#"{"clean_up_tokenization_spaces": true}"#);
        assert_eq!(words(&[clean]).decode(&ids).unwrap(), "king's.");
    }

    #[test]
    fn folders_without_a_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tokenizer::open(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("holds no tokenizer.json"));
        fs_err::write(folder.path().join("tokenizer.json"), "{").unwrap();
        let error = Tokenizer::open(folder.path()).unwrap_err();
        assert!(matches!(error, TokenizerError::Broken { .. }), "{error}");
    }
}
