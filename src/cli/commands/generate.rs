//! `generate`: continues a prompt.

use serde_json::json;

use super::bench::tokenizer_folder;
use super::context::Context;
use super::{HOLDS, Outcome, backend};
use crate::cli::args::GenerateArgs;
use crate::eval::{Artifact, Decoder, Engine, Request, Sampling, Stop, Tokenizer, generate};

pub(super) fn run(args: &GenerateArgs, context: &Context) -> Outcome {
    let artifact = Artifact::open(&args.package)?;
    let tokenizer = Tokenizer::open(&tokenizer_folder(&artifact, args.tokenizer.as_deref()))?;
    let chosen = backend::runtime(&args.backend, &[&args.package], None, context)?;
    let engine = Engine::load(&artifact, chosen.runtime.as_ref(), &context.clock)?;
    let mut decoder = Decoder::new(&engine)?;
    let prompt = tokenizer.encode(&args.prompt)?;
    let request = Request {
        prompt: &prompt,
        max_tokens: usize::try_from(args.max_tokens).unwrap_or(usize::MAX),
        sampling: Sampling::new(args.temperature, args.seed),
        eos: tokenizer.eos(),
    };
    let generated = generate(&mut decoder, &request, &mut |_| {})?;
    let text = tokenizer.decode(&generated.tokens)?;
    let usage = decoder.usage();
    let answer = json!({
        "text": text,
        "backend": chosen.choice,
        "tokens": generated.tokens,
        "prompt_tokens": prompt,
        "stop": match generated.stop { Stop::Eos => "eos", Stop::Length => "length" },
        "kv_cache": {
            "capacity": engine.decoder()?.capacity,
            "resident": decoder.resident().len(),
            "evictions": usage.evictions,
        },
    });
    context.printer.answer(&answer, &format!("{}{text}", args.prompt))?;
    Ok(HOLDS)
}
