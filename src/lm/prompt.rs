//! Tokens of a prompt, as plain text or in the model's chat template.

use super::LmError;
use super::chat::{Conversation, fixed_now, render};
use super::tokenizer::Tokenizer;

/// Returns the tokens of `prompt`: as plain text, or as a user message in the chat template with a fixed date.
pub(crate) fn encode_prompt(
    tokenizer: &Tokenizer,
    prompt: &str,
    chat_template: bool,
) -> Result<Vec<u32>, LmError> {
    if !chat_template {
        return Ok(tokenizer.encode(prompt)?);
    }
    let text = render(tokenizer, &Conversation::user(prompt), None, fixed_now())?;
    Ok(tokenizer.encode_plain(&text)?)
}
