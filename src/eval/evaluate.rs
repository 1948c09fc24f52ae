//! Measures an artifact: everything a plan asks for and the artifact has functions for.

use std::ops::ControlFlow;

use crate::base::cancel;
use crate::base::clock::Clock;
use crate::base::progress::{Progress, Unit};
use crate::eval::error::EvalError;
use crate::eval::overflow;
use crate::eval::overlap;
use crate::eval::perplexity::Scores;
use crate::eval::similarity;
use crate::eval::tokens::Tokens;
use crate::eval::{latency, latency::Repeat};
use crate::eval::{logits, logits::Comparison};
use crate::eval::{
    reference::Continue, reference::EmbedRequest, reference::Reference, reference::TextForm,
    reference::TokenizedText,
};
use crate::eval::{
    results::KvCache, results::Logits, results::Measurements, results::Overflow,
    results::Perplexity, results::Similarity, results::Transcripts,
};
use crate::eval::{text::WindowConfig, text::Windows};
use crate::eval::{transcripts, transcripts::Pair};
use crate::lm::Artifact;
use crate::lm::DecoderLayout;
use crate::lm::Engine;
use crate::lm::Sampling;
use crate::lm::Scorer;
use crate::lm::Sentence;
use crate::lm::Tokenizer;
use crate::lm::embed;
use crate::lm::encode_prompt;
use crate::lm::{CacheUsage, Decoder};
use crate::lm::{Request, generate};
use crate::runtime;
use crate::runtime::Runtime;
use crate::source::embedding::EmbeddingConfig;

/// Tokens of the reference that are kept for each position where nothing else is said and the vocabulary has as many.
pub const TOP_K: usize = 64;

/// Windows at most on which the noise floor is measured: it takes the reference twice for each.
const FLOOR: usize = 8;

/// Metrics to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// A text for perplexity and divergence.
    pub text: Option<TextPlan>,
    /// Prompts to continue.
    pub prompts: Option<PromptPlan>,
    /// Sentences to embed.
    pub sentences: Option<Vec<Sentence>>,
    /// Calls to time.
    pub latency: Option<Repeat>,
}

/// A text and how it is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPlan {
    /// The text.
    pub text: String,
    /// Tokens in a window; without it, the sequence length.
    pub window: Option<usize>,
    /// Tokens between the starts of two windows; without it, those of a window.
    pub stride: Option<usize>,
    /// Windows at most.
    pub max_windows: usize,
    /// What the artifact was calibrated on: a text that shares more than [`overlap::MAX_OVERLAP`] of the scored one is refused.
    pub calibration: Option<String>,
    /// Tokens of the reference that are kept for each position, at most all.
    pub top_k: usize,
    /// True if the reference is measured against itself with noise, which takes it again for some windows.
    pub noise_floor: bool,
}

/// Prompts and how far they are continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptPlan {
    /// The prompts.
    pub prompts: Vec<String>,
    /// Tokens to generate at most for each.
    pub max_tokens: usize,
    /// True if each is a user's message in the model's chat template, where it has one.
    pub chat_template: bool,
    /// True if they are a first look at any artifact: prompts and continuations are shortened to what its cache holds, and the
    /// logits along the reference's continuations are compared.
    pub probe: bool,
    /// True if a value that overflows is searched for where a transcript differs beyond a near tie.
    pub explain: bool,
}

/// Context of an evaluation beside the artifact.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    /// Runtime of the artifact.
    pub runtime: &'a dyn Runtime,
    /// The artifact's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What it is measured against.
    pub reference: &'a dyn Reference,
    /// Clock.
    pub clock: &'a dyn Clock,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

/// What was found of an artifact.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluated {
    /// The figures.
    pub measurements: Measurements,
    /// The scored tokens that those of language modelling come from.
    pub tokens: Option<Tokens>,
}

/// Measures `artifact`. What its functions cannot do is absent from the result.
pub fn evaluate(
    artifact: &Artifact,
    plan: &Plan,
    context: &EvalContext<'_>,
) -> Result<Evaluated, EvalError> {
    runtime::reset_peak();
    let engine = Engine::load(artifact, context.runtime, context.clock)?;
    let mut found = Measurements::default();
    let mut scored = None;
    let mut usage = CacheUsage::default();
    if let Some(layout) = engine.layout().decoder {
        if let Some(text) = &plan.text {
            let scorer = Scorer::new(artifact, &engine, context.runtime)?;
            let Scored { perplexity, tokens, usage: used, overflow } =
                score(artifact, &scorer, layout, text, context)?;
            found.perplexity = Some(perplexity);
            found.overflow = overflow;
            scored = Some(tokens);
            usage = usage.and(used);
        }
        if let Some(prompts) = &plan.prompts {
            let (mut transcripts, sequences, used) =
                transcribe(artifact, &engine, prompts, context)?;
            if found.overflow.is_none()
                && prompts.explain
                && let Some(tokens) = differing(&transcripts, &sequences)
            {
                found.overflow = overflow::find(artifact, tokens);
            }
            if prompts.probe {
                transcripts.logits = along(artifact, &engine, &sequences, context)?;
            }
            found.transcripts = Some(transcripts);
            usage = usage.and(used);
        }
        found.kv_cache = Some(kv_cache(layout, usage));
    }
    if let (Some(sentences), Some(_)) = (&plan.sentences, engine.layout().encoder) {
        found.similarity = Some(compare(artifact, &engine, sentences, context)?);
    }
    if let Some(repeat) = plan.latency {
        cancel::check()?;
        context.progress.begin("latency", None, Unit::Items);
        let times = latency::measure(&engine, context.runtime.name(), repeat, context.clock)?;
        context.progress.end();
        found.latency = Some(times);
    }
    found.peak_memory = runtime::peak_resident();
    Ok(Evaluated { measurements: found, tokens: scored })
}

/// What a text says of an artifact.
struct Scored {
    perplexity: Perplexity,
    tokens: Tokens,
    usage: CacheUsage,
    overflow: Option<Overflow>,
}

fn score(
    artifact: &Artifact,
    scorer: &Scorer<'_>,
    layout: DecoderLayout,
    plan: &TextPlan,
    context: &EvalContext<'_>,
) -> Result<Scored, EvalError> {
    let window = plan.window.unwrap_or(layout.capacity);
    let cut = WindowConfig {
        window,
        stride: plan.stride.unwrap_or(window),
        max_windows: plan.max_windows,
    };
    let windows = Windows::of(&plan.text, context.tokenizer, cut, layout.capacity)?;
    if let Some(calibration) = &plan.calibration {
        let known = context.tokenizer.encode_plain(calibration)?;
        let share = overlap::of_windows(&windows.tokens, &known);
        if share > overlap::MAX_OVERLAP {
            return Err(EvalError::Leak { share });
        }
    }
    check_tokens(
        [(&plan.text, context.tokenizer.encode_plain(&plan.text)?)],
        TextForm::Plain,
        context,
    )?;
    context.progress.begin("reference perplexity", None, Unit::Items);
    let reference =
        context.reference.logits(&windows.tokens, plan.top_k.clamp(1, layout.vocab.max(1)))?;
    context.progress.end();
    reference.check(layout.vocab)?;
    let mut noise = None;
    if plan.noise_floor {
        context.progress.begin("noise floor", None, Unit::Items);
        noise = context.reference.noise(&windows.tokens[..windows.tokens.len().min(FLOOR)])?;
        context.progress.end();
    }
    let mut scores = Scores::new(&windows, &reference);
    let mut usage = CacheUsage::default();
    context.progress.begin("perplexity", Some(windows.tokens.len() as u64), Unit::Items);
    for (w, tokens) in windows.tokens.iter().enumerate() {
        let used = scorer.score(tokens, &mut |first, logits| {
            scores.add(w, first, logits, layout.vocab);
            Ok(())
        })?;
        usage = usage.and(used);
        context.progress.advance(1);
    }
    context.progress.end();
    let overflow = scores.broken().and_then(|tokens| overflow::find(artifact, tokens));
    let (perplexity, tokens) =
        scores.finish().map_err(|error| overflow::with(error, overflow.clone()))?;
    let noise_floor = noise.and_then(|noise| noise.floor(&windows));
    let reference_kind = Some(context.reference.kind());
    let perplexity = Perplexity { reference_kind, noise_floor, ..perplexity };
    Ok(Scored { perplexity, tokens, usage, overflow })
}

/// Fails if the source's own tokenizer gives other tokens to one of `texts`.
fn check_tokens<'a>(
    texts: impl IntoIterator<Item = (&'a String, Vec<u32>)>,
    form: TextForm,
    context: &EvalContext<'_>,
) -> Result<(), EvalError> {
    let pair = |(text, ids): (&String, Vec<u32>)| TokenizedText { text: text.clone(), ids, form };
    Ok(context.reference.check_tokens(&texts.into_iter().map(pair).collect::<Vec<_>>())?)
}

/// The transcripts, and each prompt with the reference's continuation.
fn transcribe(
    artifact: &Artifact,
    engine: &Engine,
    plan: &PromptPlan,
    context: &EvalContext<'_>,
) -> Result<(Transcripts, Vec<Vec<u32>>, CacheUsage), EvalError> {
    let tokenizer = context.tokenizer;
    let chat_template = plan.chat_template && tokenizer.has_chat_template();
    let encode = |prompt: &String| encode_prompt(tokenizer, prompt, chat_template);
    let mut prompts = plan.prompts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let form = if chat_template { TextForm::Chat } else { TextForm::Special };
    check_tokens(plan.prompts.iter().zip(prompts.clone()), form, context)?;
    let mut max_tokens = plan.max_tokens;
    if plan.probe {
        // Past its capacity a cache forgets what the reference still sees.
        let capacity = engine.decoder()?.capacity;
        let longest = capacity.div_ceil(2).max(1);
        for prompt in &mut prompts {
            prompt.truncate(longest);
        }
        let taken = prompts.iter().map(Vec::len).max().unwrap_or(0);
        max_tokens = max_tokens.min(capacity.saturating_sub(taken)).max(1);
    }
    context.progress.begin("reference transcripts", None, Unit::Items);
    let eos = tokenizer.eos().to_vec();
    let request = Continue { prompts: prompts.clone(), max_tokens, eos };
    let references = context.reference.generate(&request)?;
    context.progress.end();
    let sequences: Vec<Vec<u32>> =
        prompts.iter().zip(&references).map(|(p, r)| [&p[..], &r.tokens[..]].concat()).collect();
    context.progress.begin("transcripts", Some(prompts.len() as u64), Unit::Items);
    let mut usage = CacheUsage::default();
    let mut pairs = Vec::new();
    for (i, reference) in references.into_iter().enumerate() {
        let prompt = &prompts[i];
        let mut decoder = Decoder::new(engine)?;
        let request =
            Request { prompt, max_tokens, sampling: Sampling::Greedy, eos: tokenizer.eos() };
        let generated =
            generate(&mut decoder, &request, context.clock, &mut |_| Ok(ControlFlow::Continue(())))
                .map_err(|error| overflow::in_decoder(error.into(), artifact, &sequences[i]))?;
        usage = usage.and(decoder.usage());
        pairs.push(Pair {
            prompt: &plan.prompts[i],
            prompt_tokens: prompt.len(),
            text: tokenizer.decode(&generated.tokens)?,
            tokens: generated.tokens,
            reference_text: tokenizer.decode(&reference.tokens)?,
            reference,
        });
        context.progress.advance(1);
    }
    context.progress.end();
    Ok((transcripts::compare(pairs, chat_template)?, sequences, usage))
}

/// The logits along `sequences`, all cut to the length of the shortest; nothing where that leaves nothing to compare.
fn along(
    artifact: &Artifact,
    engine: &Engine,
    sequences: &[Vec<u32>],
    context: &EvalContext<'_>,
) -> Result<Option<Logits>, EvalError> {
    let DecoderLayout { vocab, capacity, .. } = engine.decoder()?;
    let length = sequences.iter().map(Vec::len).min().unwrap_or(0).min(capacity);
    if length < 2 {
        return Ok(None);
    }
    let windows: Vec<Vec<u32>> = sequences.iter().map(|s| s[..length].to_vec()).collect();
    let top_k = vocab.clamp(1, logits::TOP_K);
    context.progress.begin("reference logits", None, Unit::Items);
    let reference = context.reference.logits(&windows, top_k)?;
    context.progress.end();
    reference.check(vocab)?;
    let scorer = Scorer::new(artifact, engine, context.runtime)?;
    let mut comparison = Comparison::default();
    for (w, tokens) in windows.iter().enumerate() {
        scorer.score(tokens, &mut |first, logits| {
            comparison.add(&reference, w, first, logits, vocab);
            Ok(())
        })?;
    }
    Ok(comparison.finish(top_k))
}

/// What the artifact was fed up to the gravest difference that is no near tie.
fn differing<'a>(transcripts: &Transcripts, sequences: &'a [Vec<u32>]) -> Option<&'a [u32]> {
    let (transcript, tokens) = transcripts
        .prompts
        .iter()
        .zip(sequences)
        .filter(|(t, _)| t.first_divergence.is_some() && !t.is_tied())
        .max_by(|(a, _), (b, _)| a.lost().total_cmp(&b.lost()))?;
    let at = transcript.prompt_tokens + transcript.first_divergence?;
    Some(&tokens[..tokens.len().min(at as usize)])
}

fn compare(
    artifact: &Artifact,
    engine: &Engine,
    sentences: &[Sentence],
    context: &EvalContext<'_>,
) -> Result<Similarity, EvalError> {
    let layout = engine.encoder()?;
    let prepare = |(i, s): (usize, &Sentence)| s.prepare(i, context.tokenizer, layout);
    let prepared = sentences.iter().enumerate().map(prepare).collect::<Result<Vec<_>, _>>()?;
    context.progress.begin("reference embeddings", None, Unit::Items);
    let recipe = context.tokenizer.recipe();
    let request = EmbedRequest {
        sentences: sentences.to_vec(),
        prepared,
        seq_len: layout.seq_len,
        strip: matches!(recipe, Some(EmbeddingConfig::Sentence(recipe)) if recipe.strip),
    };
    let expected = context.reference.embed(&request)?;
    context.progress.end();
    context.progress.begin("embeddings", Some(request.prepared.len() as u64), Unit::Items);
    let mut found = Vec::new();
    for sentence in &request.prepared {
        found.push(embed(engine, sentence)?);
        context.progress.advance(1);
    }
    context.progress.end();
    similarity::compare(sentences, &found, &expected, context.reference.describe())
        .map_err(|error| overflow::in_encoder(error, artifact, &request.prepared))
}

fn kv_cache(layout: DecoderLayout, usage: CacheUsage) -> KvCache {
    KvCache {
        form: layout.cache.name().to_owned(),
        bytes: layout.cache_bytes,
        capacity: layout.capacity as u64,
        peak_resident: usage.peak_resident as u64,
        residency: usage.peak_resident as f64 / layout.capacity as f64,
        evictions: usage.evictions,
    }
}
