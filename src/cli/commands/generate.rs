//! `generate`: continues a prompt, for people as it is made.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::context::Context;
use super::{Outcome, SUCCESS, backend, chat};
use crate::base::clock::Clock as _;
use crate::cli::args::GenerateArgs;
use crate::eval::results::Percentiles;
use crate::lm::LmError;
use crate::lm::{
    Artifact, Decoder, Engine, Filter, Generated, GeneratedText, Piece, Request, Sampling, Stop,
    generate_text,
};
use crate::pipeline::Failure;
use crate::pipeline::input;
use crate::pipeline::open_tokenizer::open_tokenizer;

pub(super) fn run(args: &GenerateArgs, context: &Context) -> Outcome {
    let filter = Filter { top_k: args.top_k, top_p: args.top_p, min_p: args.min_p };
    let sampling = Sampling::new(args.temperature, filter, args.seed)?;
    if args.stop.iter().any(String::is_empty) {
        return Err(Failure::input("stop text is empty")
            .hint("leave `--stop` out to go on to the end of the text or to `--max-tokens`"));
    }
    let text = prompt(args)?;
    let start = context.clock.elapsed();
    let artifact = Artifact::open(&args.package)?;
    let opened = context.clock.elapsed().saturating_sub(start);
    let tokenizer = open_tokenizer(&artifact, args.tokenizer.as_deref(), context)?;
    let text = if args.chat { chat::prompt(&tokenizer, &text, &args.template)? } else { text };
    let chosen = backend::runtime(&args.backend, &[&args.package], None, context)?;
    let engine = Engine::load(&artifact, chosen.runtime.as_ref(), &context.clock)?;
    let mut decoder = Decoder::new(&engine)?;
    // A chat template writes the special tokens itself, and what it wrote is not part of the answer.
    let prompt =
        if args.chat { tokenizer.encode_plain(&text)? } else { tokenizer.encode(&text)? };
    let rendered = args.chat.then(|| text.clone());
    let text = if args.chat { String::new() } else { text };
    let max_tokens = usize::try_from(args.max_tokens).unwrap_or(usize::MAX);
    let request = Request { prompt: &prompt, max_tokens, sampling, eos: tokenizer.eos() };
    let mut voice = StreamPrinter::new(context, &text, args.no_stream);
    let each = &mut |piece: &Piece| voice.say(piece);
    let spoken =
        generate_text(&mut decoder, &tokenizer, &request, &args.stop, &context.clock, each);
    if spoken.is_ok() || voice.begun {
        voice.end()?;
    }
    let GeneratedText { generated, text: continuation, stop } = spoken?;
    if voice.unheard {
        return Ok(SUCCESS);
    }
    let usage = decoder.usage();
    let mut answer = json!({
        "text": continuation,
        "backend": chosen.choice,
        "tokens": generated.tokens,
        "prompt_tokens": prompt,
        "stop": why(&generated, stop.is_some()),
        "stop_text": stop,
        "kv_cache": {
            "capacity": engine.decoder()?.capacity,
            "resident": decoder.resident().len(),
            "evictions": usage.evictions,
        },
        "timing": timing(opened + engine.load_time(), prompt.len(), &generated),
    });
    if let Some(rendered) = rendered {
        answer["prompt"] = json!(rendered);
    }
    if context.printer.json() || args.no_stream {
        context.printer.answer(&answer, &format!("{text}{continuation}"))?;
    }
    context.printer.note(&summary(prompt.len(), &generated, stop.as_deref()));
    Ok(SUCCESS)
}

/// The text to continue.
fn prompt(args: &GenerateArgs) -> Result<String, Failure> {
    let Some(file) = &args.prompt_file else { return Ok(args.prompt.clone().unwrap_or_default()) };
    let mut text = input::read(file)?;
    if text.ends_with('\n') {
        text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
    }
    Ok(text)
}

/// How pieces are told as they are made.
struct StreamPrinter<'a> {
    context: &'a Context,
    /// What stands in front of the first piece.
    prompt: &'a str,
    /// Pieces are text on a line that goes on.
    plain: bool,
    /// Something was told.
    begun: bool,
    /// Nobody reads any more.
    unheard: bool,
}

impl<'a> StreamPrinter<'a> {
    fn new(context: &'a Context, prompt: &'a str, silent: bool) -> Self {
        let plain = !silent && !context.printer.json();
        Self { context, prompt, plain, begun: false, unheard: false }
    }

    fn say(&mut self, piece: &Piece) -> Result<ControlFlow<()>, LmError> {
        if self.context.printer.json_lines() {
            let line = match piece.token {
                Some(token) => json!({"token": token, "text": piece.text}),
                None => json!({"text": piece.text}),
            };
            self.put(&format!("{line}\n"))
        } else if self.plain {
            self.begin()?;
            self.put(&piece.text)
        } else {
            Ok(ControlFlow::Continue(()))
        }
    }

    /// The prompt waits for the first piece, so that a prompt that cannot be continued is not printed.
    fn begin(&mut self) -> Result<(), LmError> {
        if !std::mem::replace(&mut self.begun, true) {
            let _flow = self.put(self.prompt)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), LmError> {
        if self.plain {
            self.begin()?;
            let _flow = self.put("\n")?;
        }
        Ok(())
    }

    fn put(&mut self, text: &str) -> Result<ControlFlow<()>, LmError> {
        if !self.unheard {
            self.unheard = self.context.printer.piece(text)?.is_break();
        }
        Ok(if self.unheard { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

fn why(generated: &Generated, by_text: bool) -> &'static str {
    if by_text {
        return "stop";
    }
    match generated.stop {
        Stop::Eos => "eos",
        Stop::Length => "length",
        Stop::Asked => "stop",
    }
}

/// The times of a run: seconds once, milliseconds a token.
fn timing(load: Duration, prompt: usize, generated: &Generated) -> Value {
    let seconds = generated.prompt_time.as_secs_f64();
    json!({
        "load_s": load.as_secs_f64(),
        "prompt_s": seconds,
        "prompt_tokens_per_s": prompt as f64 / seconds,
        "decode": Percentiles::of(generated.steps.clone(), 0).as_ref().map(decode),
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

/// The run in a line for people.
fn summary(prompt: usize, generated: &Generated, stop: Option<&str>) -> String {
    let ended = match (stop, generated.stop) {
        (Some(stop), _) => format!("stopped at {stop:?}"),
        (None, Stop::Eos) => "ended by itself".to_owned(),
        (None, Stop::Length) => "stopped at `--max-tokens`".to_owned(),
        // Whoever read the text went away, and nobody is told.
        (None, Stop::Asked) => "stopped".to_owned(),
    };
    let steps = Percentiles::of(generated.steps.clone(), 0);
    let pace = steps.map(|steps| format!(" at {:.1}/s", 1e3 / steps.mean));
    let (n, pace) = (generated.tokens.len(), pace.unwrap_or_default());
    let read = generated.prompt_time.as_secs_f64();
    format!("tokens: {prompt} read in {read:.3} s, {n} written{pace}; {ended}")
}
