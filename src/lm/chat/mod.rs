//! Chat templates: messages into the text of a prompt, as transformers renders the model's own Jinja template.

mod conversation;
mod environment;
mod json;
mod methods;

use std::sync::Arc;

use thiserror::Error;

use crate::base::error::Hint;
use crate::lm::tokenizer::Tokenizer;
pub use conversation::Conversation;

/// The time of now in a format of `strftime`, for templates that state the date; none for a format that is not one.
pub type Now = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// An error of rendering a chat template.
#[derive(Debug, Error)]
pub enum ChatError {
    /// A tokenizer without a template.
    #[error("the model has no chat template")]
    NoTemplate,
    /// A template that is not there.
    #[error("the model has no chat template `{asked}`; it has {}", known.join(", "))]
    NoSuch {
        /// The name that was asked for.
        asked: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Messages that are none.
    #[error("{what}")]
    Messages {
        /// Description of the error.
        what: String,
    },
    /// A failure that the template itself raises.
    #[error("the chat template refuses these messages: {message}")]
    Raised {
        /// The template's own words.
        message: String,
    },
    /// A template that does not parse or run.
    #[error("the chat template failed: {what}")]
    Template {
        /// Description of the error with the line number.
        what: String,
    },
}

impl Hint for ChatError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoTemplate => Some(
                "leave `--chat` out and write the prompt as the model was trained on it, or convert a checkpoint with a \
                 `chat_template`"
                    .to_owned(),
            ),
            Self::Messages { .. } => Some(
                "messages are a JSON list such as `[{\"role\": \"user\", \"content\": \"Hello\"}]`".to_owned(),
            ),
            _ => None,
        }
    }
}

/// The text of the prompt for `conversation`, by the template `name` or the one that transformers would choose.
pub fn render(
    tokenizer: &Tokenizer,
    conversation: &Conversation,
    name: Option<&str>,
    now: Now,
) -> Result<String, ChatError> {
    let templates = tokenizer.chat_templates();
    let tool_use = || conversation.has_tools().then(|| templates.get("tool_use")).flatten();
    let template = match name {
        Some(name) => templates.get(name),
        None => tool_use().or_else(|| templates.get("default")),
    };
    match template {
        Some(template) => {
            environment::render(template, tokenizer.template_tokens(), conversation, now)
        }
        None if templates.is_empty() => Err(ChatError::NoTemplate),
        None => Err(ChatError::NoSuch {
            asked: name.unwrap_or("default").to_owned(),
            known: templates.keys().map(|name| format!("`{name}`")).collect(),
        }),
    }
}

/// A date that does not move, for prompts that are compared between runs: 1 January 2025, 00:00.
pub fn fixed_now() -> Now {
    Arc::new(|format| {
        let parts = [
            ("%Y-%m-%d", "2025-01-01"),
            ("%H:%M:%S", "00:00:00"),
            ("%d", "01"),
            ("%m", "01"),
            ("%Y", "2025"),
            ("%y", "25"),
            ("%b", "Jan"),
            ("%B", "January"),
            ("%a", "Wed"),
            ("%A", "Wednesday"),
            ("%H", "00"),
            ("%I", "12"),
            ("%M", "00"),
            ("%S", "00"),
            ("%p", "AM"),
            ("%j", "001"),
        ];
        Some(parts.iter().fold(format.to_owned(), |text, (from, to)| text.replace(from, to)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Goldens {
        tokens: BTreeMap<String, String>,
        // As text: the order of keys is part of what templates print.
        conversations: BTreeMap<String, String>,
        #[serde(rename = "goldens")]
        by_template: BTreeMap<String, BTreeMap<String, Golden>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Golden {
        Text(String),
        Raised(String),
    }

    #[test]
    fn templates_render_as_in_transformers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates");
        let goldens = fs_err::read_to_string(folder.join("goldens.json")).unwrap();
        let Goldens { tokens, conversations, by_template } =
            serde_json::from_str(&goldens).unwrap();
        let mut wrong = Vec::new();
        for (name, cases) in &by_template {
            let template = fs_err::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
            for (case, want) in cases {
                let conversation = Conversation::parse(&conversations[case]).unwrap();
                let got = environment::render(&template, &tokens, &conversation, fixed_now());
                let same = match (&got, want) {
                    (Ok(got), Golden::Text(want)) => got == want,
                    (Err(ChatError::Raised { message }), Golden::Raised(want)) => message == want,
                    // Python and Rust say differently that a value does not fit.
                    (Err(ChatError::Template { .. }), Golden::Raised(_)) => true,
                    _ => false,
                };
                if !same {
                    let want = match want {
                        Golden::Text(text) | Golden::Raised(text) => text,
                    };
                    wrong.push(format!("{name} {case}:\n{got:?}\nwant {want:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        assert!(by_template.len() >= 12);
    }

    #[test]
    fn messages_are_checked() {
        let cases = [
            ("[", "messages are not JSON"),
            ("{\"a\": 1}", "the object has no `messages`"),
            ("[1]", "message 0 is a number, not an object"),
            ("[]", "there is no message"),
        ];
        for (text, want) in cases {
            let error = Conversation::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
        let system = r#"[{"role": "system", "content": "x"}]"#;
        assert!(Conversation::parse(system).unwrap().with_system("y").is_err());
        assert!(Conversation::looks_like_messages(system));
        assert!(!Conversation::looks_like_messages("[1, 2]"));
        assert!(!Conversation::looks_like_messages("{\"a\": 1}"));
    }
}
