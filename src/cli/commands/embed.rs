//! `embed`: sentences into vectors.

use serde_json::json;

use super::bench::tokenizer_folder;
use super::context::Context;
use super::{HOLDS, Outcome, backend};
use crate::cli::args::EmbedArgs;
use crate::cli::failure::Failure;
use crate::eval::{Artifact, Engine, Sentence, Tokenizer, embed};

/// Elements of a vector that the form for people shows.
const SHOWN: usize = 6;

pub(super) fn run(args: &EmbedArgs, context: &Context) -> Outcome {
    let mut texts = args.text.clone();
    if let Some(file) = &args.file {
        let content = fs_err::read_to_string(file)?;
        texts.extend(content.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    }
    if texts.is_empty() {
        return Err(Failure::input("there is no sentence to embed"));
    }
    let artifact = Artifact::open(&args.package)?;
    let tokenizer = Tokenizer::open(&tokenizer_folder(&artifact, args.tokenizer.as_deref()))?;
    let chosen = backend::runtime(&args.backend, &[&args.package], None, context)?;
    let engine = Engine::load(&artifact, chosen.runtime.as_ref(), &context.clock)?;
    let layout = engine.encoder()?;
    let mut answers = Vec::new();
    let mut lines = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        crate::base::cancel::check()?;
        let sentence = Sentence { instruction: args.instruction.clone(), text };
        let prepared = sentence.prepare(index, &tokenizer, layout)?;
        let vector = embed(&engine, &prepared)?;
        let shown: Vec<_> = vector.iter().take(SHOWN).map(|x| format!("{x:.4}")).collect();
        lines.push(format!("[{}, …] {} · {}", shown.join(", "), vector.len(), sentence.text));
        answers.push(json!({
            "text": sentence.text,
            "tokens": prepared.ids.len(),
            "embedding": vector,
        }));
    }
    context.printer.answer(&answers, &lines.join("\n"))?;
    Ok(HOLDS)
}
