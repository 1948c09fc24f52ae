//! A prompt by the model's chat template: what `generate` and `tokenize` share.

use std::sync::Arc;

use crate::cli::args::TemplateArgs;
use crate::lm::Tokenizer;
use crate::lm::{chat, chat::Conversation, chat::Now};
use crate::pipeline::Failure;

/// The text of the prompt for `given`, a message of the user or messages as JSON.
pub(super) fn prompt(
    tokenizer: &Tokenizer,
    given: &str,
    args: &TemplateArgs,
) -> Result<String, Failure> {
    let mut conversation = if Conversation::looks_like_messages(given) {
        Conversation::parse(given)?
    } else {
        Conversation::user(given)
    };
    if let Some(system) = &args.system {
        conversation = conversation.with_system(system)?;
    }
    for variable in &args.chat_arg {
        let (name, value) = variable.split_once('=').ok_or_else(|| {
            Failure::input(format!("expected NAME=VALUE, found `{variable}`"))
                .hint("for example `--chat-arg enable_thinking=false`")
        })?;
        conversation.set(name, value);
    }
    Ok(chat::render(tokenizer, &conversation, args.chat_template.as_deref(), local_time())?)
}

/// The local time, as transformers gives it to templates that state the date.
fn local_time() -> Now {
    Arc::new(|format| jiff::fmt::strtime::format(format, &jiff::Zoned::now()).ok())
}
