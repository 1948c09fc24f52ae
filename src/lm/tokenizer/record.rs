//! `tokenizer_record.json`: settings that tokenizer.json does not contain.
//!
//! A conversion writes it beside a tokenizer.json that gives the ids of transformers' `AutoTokenizer` without any other
//! file. A folder without it is read as transformers saves it, see `special`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TokenizerError;

/// The file's name.
pub const RECORD: &str = "tokenizer_record.json";

/// The format that is written.
const FORMAT: u32 = 1;

/// Tokenizer properties outside tokenizer.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerRecord {
    /// Version of this format.
    pub format: u32,
    /// Index of the adapter that brought the tokenizer; none where it is the checkpoint's own.
    pub adapter: Option<usize>,
    /// Class in transformers.
    pub class: String,
    /// Version of transformers that loaded it.
    pub transformers: String,
    /// Distinct tokens.
    pub vocabulary: u64,
    /// The largest id.
    pub largest_id: u64,
    /// Its token.
    pub largest_token: String,
    /// Rows of the model's embedding: larger ids cannot be computed.
    #[serde(default)]
    pub vocab_size: Option<u64>,
    /// Tokens with a role (`eos_token`), by role.
    pub special_tokens: BTreeMap<String, SpecialToken>,
    /// Texts that a chat template finds under the names of their roles.
    pub template_tokens: BTreeMap<String, String>,
    /// Most tokens that the model is meant for, where the settings say.
    pub model_max_length: Option<u64>,
    /// The end of a text that is cut off: `right` or `left`.
    pub truncation_side: String,
    /// The end of a text that is padded.
    pub padding_side: String,
    /// True if decoded text loses spaces before punctuation.
    pub clean_up_tokenization_spaces: bool,
    /// True if special tokens inside a text are split like any text.
    pub split_special_tokens: bool,
    /// Chat templates by name; `default` is the usual one.
    pub chat_templates: BTreeMap<String, String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// SHA-256 of the files it was made from, by role and name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// A token with a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialToken {
    /// Its text.
    pub text: String,
    /// Its id; none where the vocabulary does not have it.
    pub id: Option<u32>,
}

impl TokenizerRecord {
    /// The record in `folder`, if there is one.
    pub fn read(folder: &Path) -> Result<Option<Self>, TokenizerError> {
        let path = folder.join(RECORD);
        if !path.is_file() {
            return Ok(None);
        }
        let broken = |what: String| TokenizerError::Broken { path: path.clone(), what };
        let record: Self =
            serde_json::from_slice(&fs_err::read(&path)?).map_err(|e| broken(e.to_string()))?;
        if record.format != FORMAT {
            return Err(broken(format!(
                "format {} is not {FORMAT}, which this version reads",
                record.format
            )));
        }
        Ok(Some(record))
    }

    /// The id of the token with a role.
    pub fn id(&self, role: &str) -> Option<u32> {
        self.special_tokens.get(role)?.id
    }
}
