//! `tokenizer_config.json`: special tokens added before and after a text.
//!
//! Most tokenizers say so in tokenizer.json itself. For the classes of [`CLASSES`] transformers puts a template of its
//! own in place, from `add_bos_token` and `add_eos_token`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use tokenizers::{PostProcessorWrapper, Tokenizer};

/// Classes whose template transformers makes, with what they add unless told otherwise: begin, end.
const CLASSES: [(&str, bool, bool); 5] = [
    ("CodeLlamaTokenizer", true, false),
    ("CohereTokenizer", true, false),
    ("GPTNeoXTokenizer", false, false),
    ("GemmaTokenizer", true, false),
    ("LlamaTokenizer", true, false),
];

/// Fields of `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerConfig {
    tokenizer_class: Option<String>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    pub(super) clean_up_tokenization_spaces: Option<bool>,
    chat_template: Option<Templates>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// The chat templates of a folder as transformers saves it: files win over the settings.
pub(super) fn chat_templates(
    folder: &Path,
    settings: &TokenizerConfig,
) -> std::io::Result<BTreeMap<String, String>> {
    let mut found: BTreeMap<String, String> = match &settings.chat_template {
        Some(Templates::One(text)) => [("default".to_owned(), text.clone())].into(),
        Some(Templates::Named(list)) => {
            list.iter().map(|one| (one.name.clone(), one.template.clone())).collect()
        }
        None => BTreeMap::new(),
    };
    let file = folder.join("chat_template.jinja");
    if file.is_file() {
        found = [("default".to_owned(), fs_err::read_to_string(file)?)].into();
    }
    Ok(found)
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Described { content: text } => text,
        }
    }
}

impl TokenizerConfig {
    /// The special tokens by role, as chat templates see them.
    pub(super) fn tokens(&self) -> BTreeMap<String, String> {
        let named = [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)];
        let named = named
            .into_iter()
            .filter_map(|(role, token)| Some((role.to_owned(), token.as_ref()?.text().to_owned())));
        let others = self.others.iter().filter(|(role, _)| role.ends_with("_token")).filter_map(
            |(role, value)| {
                let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
                Some((role.clone(), text.to_owned()))
            },
        );
        named.chain(others).collect()
    }

    /// The id of the end token.
    pub(super) fn eos(&self, tokenizer: &Tokenizer) -> Option<u32> {
        tokenizer.token_to_id(self.eos_token.as_ref()?.text())
    }

    /// The template that transformers puts in place of the tokenizer's own, for the classes where it does.
    pub(super) fn post_processor(&self, tokenizer: &Tokenizer) -> Option<PostProcessorWrapper> {
        let class = self.tokenizer_class.as_deref()?;
        let class = class.strip_suffix("Fast").unwrap_or(class);
        let (_, begin, end) = CLASSES.into_iter().find(|(name, ..)| *name == class)?;
        let token = |asked: Option<bool>, usual: bool, token: &Option<Token>| {
            let text = token.as_ref().filter(|_| asked.unwrap_or(usual))?.text().to_owned();
            let id = tokenizer.token_to_id(&text)?;
            Some((text, id))
        };
        let begin = token(self.add_bos_token, begin, &self.bos_token);
        let end = token(self.add_eos_token, end, &self.eos_token);
        let special =
            |(text, _): &(String, u32), n: u8| json!({"SpecialToken": {"id": text, "type_id": n}});
        let around = |name: &str, n: u8| {
            let sequence = json!({"Sequence": {"id": name, "type_id": n}});
            let before = begin.iter().map(|token| special(token, n));
            before
                .chain([sequence])
                .chain(end.iter().map(|token| special(token, n)))
                .collect::<Vec<_>>()
        };
        let entry = |(text, id): &(String, u32)| {
            (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}))
        };
        let tokens: serde_json::Map<_, _> = begin.iter().chain(&end).map(entry).collect();
        let single = around("A", 0);
        let pair = [single.clone(), around("B", 1)].concat();
        let template = json!({
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens,
        });
        Some(serde_json::from_value(template).expect("a template of tokens that exist"))
    }
}
