//! `Llm2Vec`: how a checkpoint of LLM2Vec makes one vector out of a text.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::base::error::Hint;

/// The settings of `llm2vec_config.json`, with the defaults of the `llm2vec` package. It takes no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Llm2Vec {
    /// How the token vectors become one.
    pub pooling_mode: Pooling,
    /// Tokens of template, instruction and text at most.
    pub max_length: usize,
    /// Tokens of the text alone at most.
    pub doc_max_length: usize,
    /// True if the instruction's tokens stay out of the mean.
    pub skip_instruction: bool,
}

/// How token vectors become one, as LLM2Vec names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of the tokens.
    Mean,
    /// The mean with weights that grow with the position.
    WeightedMean,
    /// The last token, after an end of text is put behind the text.
    EosToken,
    /// The last token.
    LastToken,
    /// The token that begins texts.
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

/// What a chat model was trained to see around a user's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Put in front.
    pub before: String,
    /// Put behind.
    pub behind: String,
}

/// The model whose template no end of text follows.
const LLAMA_3_INSTRUCT: &str = "meta-llama/Meta-Llama-3-8B-Instruct";

/// What LLM2Vec puts around instruction and text, by the name of the model in its configuration.
const TEMPLATES: [(&str, &str, &str); 6] = [
    (LLAMA_3_INSTRUCT, "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    ("mistralai/Mistral-7B-Instruct-v0.2", "[INST] ", " [/INST]"),
    ("meta-llama/Llama-2-7b-chat-hf", "[INST] ", " [/INST]"),
    ("google/gemma-2-9b-it", "<bos><start_of_turn>user\n", "<end_of_turn>"),
    ("Qwen/Qwen2-1.5B-Instruct", "<|im_start|>user\n", "<|im_end|>"),
    ("Qwen/Qwen2-7B-Instruct", "<|im_start|>user\n", "<|im_end|>"),
];

impl Template {
    /// The template of the model called `name`, where it has one.
    pub fn of(name: &str) -> Option<Self> {
        let (_, before, behind) = TEMPLATES.iter().find(|(known, ..)| *known == name)?;
        Some(Self { before: (*before).to_owned(), behind: (*behind).to_owned() })
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error("`{key}` in `{file}` is 0")]
    Nothing { file: PathBuf, key: &'static str },
    #[error("the template of `{one}` (`{}`) is not that of `{other}` (`{}`)", of.display(), against.display())]
    Templates { one: String, of: PathBuf, other: String, against: PathBuf },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Templates { .. } => Some(
                "check that the adapters were trained on this model; the name of the model it was is `_name_or_path`"
                    .to_owned(),
            ),
            Self::Io(e) => e.hint(),
            Self::Json(e) => e.hint(),
            Self::Nothing { .. } => None,
        }
    }
}

impl Llm2Vec {
    /// Reads `llm2vec_config.json` of the folder `dir`; the defaults where there is none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join("llm2vec_config.json");
        if !file.is_file() {
            return Ok(Self::default());
        }
        let found: Self = json::read(&file)?;
        for (key, value) in
            [("max_length", found.max_length), ("doc_max_length", found.doc_max_length)]
        {
            if value == 0 {
                return Err(Error::Nothing { file, key });
            }
        }
        Ok(found)
    }

    /// The settings of `adapters`: those of the last, which LLM2Vec loads on the others.
    pub fn of(adapters: &[PathBuf]) -> Result<Self, Error> {
        adapters.last().map_or_else(|| Ok(Self::default()), |last| Self::open(last))
    }

    /// What `eos_token` puts behind the text for a model of the family `model_type` that is called `name`.
    pub fn end(&self, name: Option<&str>, model_type: &str) -> Option<String> {
        if self.pooling_mode != Pooling::EosToken || name == Some(LLAMA_3_INSTRUCT) {
            return None;
        }
        let end = match (name, model_type) {
            (Some("meta-llama/Meta-Llama-3-8B"), _) => "<|end_of_text|>",
            (_, "llama" | "mistral") => " </s>",
            (_, "gemma") => "<eos>",
            (_, "qwen2") => "<|endoftext|>",
            _ => return None,
        };
        Some(end.to_owned())
    }
}

/// The name of the model that LLM2Vec would see: that of the adapters' own configuration, of the base's, or of the
/// model that the adapters say they were trained on; the first that changes anything.
pub fn trained_as(model_dir: &Path, adapters: &[PathBuf]) -> Result<Option<String>, Error> {
    let configs = adapters.iter().map(PathBuf::as_path).chain([model_dir]);
    let configs = configs.map(|dir| (dir.join("config.json"), "_name_or_path"));
    let bases =
        adapters.iter().map(|dir| (dir.join("adapter_config.json"), "base_model_name_or_path"));
    let mut found: Option<(String, PathBuf)> = None;
    let mut first = None;
    for (file, key) in configs.chain(bases) {
        let Some(name) = name_in(&file, key)? else { continue };
        first.get_or_insert_with(|| name.clone());
        let Some(template) = Template::of(&name) else { continue };
        match &found {
            None => found = Some((name, file)),
            Some((one, of)) if Template::of(one).as_ref() != Some(&template) => {
                let (one, of) = (one.clone(), of.clone());
                return Err(Error::Templates { one, of, other: name, against: file });
            }
            Some(_) => {}
        }
    }
    Ok(found.map(|(name, _)| name).or(first))
}

/// The text under `key` in `file`; nothing where the file or the key is missing, or the text is empty.
fn name_in(file: &Path, key: &str) -> Result<Option<String>, Error> {
    if !file.is_file() {
        return Ok(None);
    }
    let fields: Value = json::read(file)?;
    let name = fields.get(key).and_then(Value::as_str).filter(|name| !name.is_empty());
    Ok(name.map(str::to_owned))
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
            (Some(r#"{"pooling_mode": "last_token"}"#), Ok((Pooling::LastToken, 512, true))),
            (Some(r#"{"pooling_mode": "median"}"#), Err("unknown variant `median`")),
            (Some(r#"{"layers": 3}"#), Err("unknown field `layers`")),
            (Some(r#"{"max_length": 0}"#), Err("`max_length` in")),
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

    #[test]
    fn the_template_is_that_of_the_model_that_was_trained() {
        const LLAMA: &str = "meta-llama/Meta-Llama-3-8B-Instruct";
        const QWEN: &str = "Qwen/Qwen2-7B-Instruct";
        // Names in the adapter's configuration, in the base's, and of the adapter's base.
        let cases = [
            ((LLAMA, "", ""), Ok(Some(LLAMA))),
            (("", LLAMA, "x/y"), Ok(Some(LLAMA))),
            (("", "models/mine", QWEN), Ok(Some(QWEN))),
            (("", "x/y", "z"), Ok(Some("x/y"))),
            (("", "", ""), Ok(None)),
            ((QWEN, "", "Qwen/Qwen2-1.5B-Instruct"), Ok(Some(QWEN))),
            ((LLAMA, "", QWEN), Err(())),
        ];
        for ((own, base, named), want) in cases {
            let (model, adapter) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let text = |key: &str, name: &str| format!(r#"{{"{key}": "{name}"}}"#);
            let write = |dir: &Path, file: &str, text: String| {
                fs_err::write(dir.join(file), text).unwrap();
            };
            write(adapter.path(), "config.json", text("_name_or_path", own));
            write(model.path(), "config.json", text("_name_or_path", base));
            write(adapter.path(), "adapter_config.json", text("base_model_name_or_path", named));
            let found = trained_as(model.path(), &[adapter.path().to_owned()]);
            assert_eq!(
                found.map_err(drop),
                want.map(|w| w.map(str::to_owned)),
                "{own} {base} {named}"
            );
        }
    }

    #[test]
    fn an_end_of_text_follows_where_it_is_pooled() {
        let settings = |mode| Llm2Vec { pooling_mode: mode, ..Llm2Vec::default() };
        let eos = settings(Pooling::EosToken);
        let cases = [
            (Some("meta-llama/Meta-Llama-3-8B"), "llama", Some("<|end_of_text|>")),
            (Some(LLAMA_3_INSTRUCT), "llama", None),
            (None, "llama", Some(" </s>")),
            (Some("x/y"), "mistral", Some(" </s>")),
            (None, "qwen2", Some("<|endoftext|>")),
            (None, "gpt2", None),
        ];
        for (name, family, want) in cases {
            assert_eq!(eos.end(name, family).as_deref(), want, "{name:?} {family}");
            assert_eq!(settings(Pooling::LastToken).end(name, family), None);
        }
    }
}
