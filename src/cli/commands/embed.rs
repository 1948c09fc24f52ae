//! `embed`: sentences into vectors, told as they are made.

use super::context::Context;
use super::embeddings::{Line, Sink};
use super::sentences::{Batch, Item, Sentences};
use super::{Outcome, SUCCESS, backend};
use crate::cli::args::EmbedArgs;
use crate::lm::LmError;
use crate::lm::{Artifact, Engine, embed_all};
use crate::pipeline::Failure;
use crate::pipeline::open_tokenizer::open_tokenizer;

pub(super) fn run(args: &EmbedArgs, context: &Context) -> Outcome {
    let mut sink = Sink::new(args.output.as_deref(), context)?;
    let sentences = Sentences::of(args)?;
    let artifact = Artifact::open(&args.package)?;
    let tokenizer = open_tokenizer(&artifact, args.tokenizer.as_deref(), context)?;
    let chosen = backend::runtime(&args.backend, &[&args.package], None, context)?;
    let engine = Engine::load(&artifact, chosen.runtime.as_ref(), &context.clock)?;
    engine.encoder()?;
    let mut index = 0;
    loop {
        let Batch { items, last } = sentences.next()?;
        let (places, texts): (Vec<_>, Vec<_>) =
            items.into_iter().map(|Item { place, id, sentence }| ((place, id), sentence)).unzip();
        let embedded = embed_all(&engine, &tokenizer, index, &texts);
        for (((place, id), sentence), embedded) in places.into_iter().zip(texts).zip(embedded) {
            let text = sentence.text;
            let zero = || LmError::Embedding { index, text: text.clone() };
            let scaled = |e: crate::lm::Embedded| {
                if args.normalize { e.normalized().ok_or_else(zero) } else { Ok(e) }
            };
            let embedded = embedded.and_then(scaled).map_err(|error| place.attribute(error))?;
            let (tokens, left_out, embedding) =
                (embedded.tokens, embedded.left_out, embedded.vector);
            if left_out > 0 {
                let what = place.tell(&format!(
                    "{left_out} of {} tokens do not fit the package's sequence length {tokens} and are left out",
                    tokens + left_out
                ));
                context.printer.warn(&what);
            }
            if sink.put(Line { index, id, text, tokens, embedding })?.is_break() {
                return Ok(SUCCESS);
            }
            index += 1;
        }
        if let Some(outcome) = last {
            outcome?;
            break;
        }
    }
    if index == 0 {
        return Err(Failure::input("there is no sentence to embed"));
    }
    sink.end()?;
    Ok(SUCCESS)
}
