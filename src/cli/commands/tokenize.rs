//! `tokenize`: texts into tokens and back, as the runtime does it.

use std::io::BufRead as _;

use serde::Deserialize;
use serde_json::json;

use super::context::Context;
use super::{Outcome, SUCCESS, chat};
use crate::cli::args::TokenizeArgs;
use crate::lm::{Artifact, Tokenizer};
use crate::pipeline::Failure;
use crate::pipeline::input;
use crate::pipeline::open_tokenizer::{self, open_tokenizer};
use crate::source::tokenizer;

/// A line of a file: a text alone or in an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Object { text: String },
}

pub(super) fn run(args: &TokenizeArgs, context: &Context) -> Outcome {
    let tokenizer = if tokenizer::is_in(&args.source) {
        open_tokenizer::in_folder(&args.source, &args.source, context)?
    } else {
        open_tokenizer(&Artifact::open(&args.source)?, None, context)?
    };
    for text in &args.text {
        if !tell(text, &tokenizer, args, context)? {
            return Ok(SUCCESS);
        }
    }
    let Some(file) = &args.file else { return Ok(SUCCESS) };
    for (index, line) in input::open(file)?.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{}:{}", input::name(file), index + 1);
        let Ok(Line::Text(text) | Line::Object { text }) = serde_json::from_str(&line) else {
            let fact = format!("{place}: neither a text nor an object with `text`");
            let hint = "write each text as a JSON string on a line of its own";
            return Err(Failure::input(fact).hint(hint));
        };
        let told = tell(&text, &tokenizer, args, context).map_err(|failure| Failure {
            message: format!("{place}: {}", failure.message),
            ..failure
        })?;
        if !told {
            break;
        }
    }
    Ok(SUCCESS)
}

/// Prints the tokens of one text; says whether somebody reads on.
fn tell(
    given: &str,
    tokenizer: &Tokenizer,
    args: &TokenizeArgs,
    context: &Context,
) -> Result<bool, Failure> {
    let text =
        if args.chat { chat::prompt(tokenizer, given, &args.template)? } else { given.to_owned() };
    // A template writes the special tokens itself.
    let plain = args.chat || args.no_special_tokens;
    let ids = if plain { tokenizer.encode_plain(&text)? } else { tokenizer.encode(&text)? };
    let tokens: Vec<String> =
        ids.iter().map(|&id| tokenizer.token(id).unwrap_or_default()).collect();
    let line = if context.printer.json() {
        let answer = json!({
            "text": text,
            "ids": ids,
            "tokens": tokens,
            "decoded": tokenizer.decode(&ids)?,
            "decoded_with_special": tokenizer.decode_with_special(&ids)?,
        });
        answer.to_string()
    } else {
        let one = |(id, token): (&u32, &String)| format!("{id}\t{token:?}");
        ids.iter().zip(&tokens).map(one).collect::<Vec<_>>().join("\n")
    };
    Ok(context.printer.line(&line)?.is_continue())
}
