//! `generate`: continues a prompt.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::bench::tokenizer_folder;
use super::context::Context;
use super::{HOLDS, Outcome, backend};
use crate::base::clock::Clock as _;
use crate::cli::args::GenerateArgs;
use crate::eval::results::Percentiles;
use crate::eval::{
    Artifact, Decoder, Engine, Generated, Request, Sampling, Stop, Tokenizer, generate,
};

pub(super) fn run(args: &GenerateArgs, context: &Context) -> Outcome {
    let start = context.clock.elapsed();
    let artifact = Artifact::open(&args.package)?;
    let opened = context.clock.elapsed().saturating_sub(start);
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
    let generated =
        generate(&mut decoder, &request, &context.clock, &mut |_| Ok(ControlFlow::Continue(())))?;
    let text = tokenizer.decode(&generated.tokens)?;
    let usage = decoder.usage();
    let answer = json!({
        "text": text,
        "backend": chosen.choice,
        "tokens": generated.tokens,
        "prompt_tokens": prompt,
        "stop": match generated.stop { Stop::Eos => "eos", Stop::Length => "length", Stop::Asked => "stop" },
        "kv_cache": {
            "capacity": engine.decoder()?.capacity,
            "resident": decoder.resident().len(),
            "evictions": usage.evictions,
        },
        "timing": timing(opened + engine.load_time(), prompt.len(), &generated),
    });
    context.printer.answer(&answer, &format!("{}{text}", args.prompt))?;
    Ok(HOLDS)
}

/// The times of a run: seconds once, milliseconds a token.
fn timing(load: Duration, prompt: usize, generated: &Generated) -> Value {
    let seconds = generated.prompt_time.as_secs_f64();
    json!({
        "load_s": load.as_secs_f64(),
        "prompt_s": seconds,
        "prompt_tokens_per_s": prompt as f64 / seconds,
        "decode": generated.steps.as_ref().map(decode),
    })
}

/// Percentiles where there are enough steps for them.
fn decode(steps: &Percentiles) -> Value {
    let known = [("p50_ms", steps.p50), ("p90_ms", steps.p90), ("p99_ms", steps.p99)];
    let mut map = Map::from_iter([
        ("n".to_owned(), json!(steps.n)),
        ("mean_ms".to_owned(), json!(steps.mean)),
        ("tokens_per_s".to_owned(), json!(1e3 / steps.mean)),
    ]);
    map.extend(known.into_iter().filter_map(|(name, ms)| Some((name.to_owned(), json!(ms?)))));
    Value::Object(map)
}
