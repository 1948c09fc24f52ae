//! The calls whose values are compared: a text through `init`, sentences through `encode`, inputs through any function.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::first::first;
use super::{MakeCalls, Precisions, Watched, compare};
use crate::base::progress::{Progress, Unit};
use crate::eval::error::EvalError;
use crate::eval::results::Overflow;
use crate::eval::{text::WindowConfig, text::Windows};
use crate::interp::{Function, Model, Options, Precision, State, Tensor};
use crate::lm::Artifact;
use crate::lm::Decoder;
use crate::lm::Engine;
use crate::lm::LmError;
use crate::lm::Role;
use crate::lm::Tokenizer;
use crate::lm::chunks::chunks;
use crate::lm::encode;
use crate::lm::{Prepared, Sentence};
use crate::runtime::{Loaded, RuntimeError, Value, Values};

/// A text to feed.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The text.
    pub text: &'a str,
    /// Tokens in a window; without it, the sequence length.
    pub window: Option<usize>,
    /// Windows at most.
    pub max_windows: usize,
}

/// Sentences to embed.
pub type Sentences<'a> = &'a [Sentence];

/// An artifact loaded in both precisions.
struct Both {
    declared: Engine,
    f32: Engine,
}

impl Both {
    fn load(artifact: &Artifact) -> Result<Self, EvalError> {
        let engine = |precision| -> Result<Engine, EvalError> {
            let load = |package: &crate::package::Package| -> Result<Box<dyn Loaded>, EvalError> {
                let model = Model::load(package.program(), &package.blobs(), Options { precision });
                Ok(Box::new(model.map_err(|e| RuntimeError::of(&e))?))
            };
            let loaded = artifact.packages().iter().map(load).collect::<Result<_, _>>()?;
            Ok(Engine::new(artifact.layout(), artifact.places().clone(), loaded))
        };
        Ok(Self { declared: engine(Precision::Declared)?, f32: engine(Precision::F32)? })
    }

    fn of(&self, precision: Precision) -> &Engine {
        match precision {
            Precision::Declared => &self.declared,
            Precision::F32 => &self.f32,
        }
    }
}

/// What the function of `role` computes.
fn watched(artifact: &Artifact, role: Role) -> Result<Vec<Watched>, EvalError> {
    let missing = LmError::NoRole { missing: role.name() };
    let (package, source) = artifact.function(role).ok_or(missing)?;
    let place = &artifact.places()[&role];
    let options = Options { precision: Precision::Declared };
    let model = Model::load(package.program(), &package.blobs(), options);
    let model = model.map_err(|e| RuntimeError::of(&e))?;
    let planned = model.function(&place.function).map_err(|e| RuntimeError::of(&e))?;
    Ok(Watched::of(planned, source))
}

/// The values of `init` over windows of a text.
pub fn of_decoder(
    artifact: &Artifact,
    tokenizer: &Tokenizer,
    text: Text<'_>,
    progress: &dyn Progress,
) -> Result<Precisions, EvalError> {
    let both = Both::load(artifact)?;
    let layout = both.declared.decoder()?;
    let window = text.window.unwrap_or(layout.capacity);
    let cut = WindowConfig { window, stride: window, max_windows: text.max_windows };
    let windows = Windows::of(text.text, tokenizer, cut, layout.capacity)?.tokens;
    let calls = windows.len() * chunks(0, window, layout.chunk, layout.capacity).len();
    let mut make = |precision, taps: &[&str], each: &mut dyn FnMut(Values)| {
        progress.begin(pass(precision), Some(windows.len() as u64), Unit::Items);
        for tokens in &windows {
            let mut decoder = Decoder::new(both.of(precision))?;
            decoder.prefill_with(tokens, taps, &mut |_, values| {
                each(std::mem::take(values));
                Ok(())
            })?;
            progress.advance(1);
        }
        progress.end();
        Ok(())
    };
    compare(Role::Init.name(), &watched(artifact, Role::Init)?, calls, &mut make)
}

/// The values of `encode` over sentences.
pub fn of_encoder(
    artifact: &Artifact,
    tokenizer: &Tokenizer,
    sentences: Sentences<'_>,
    progress: &dyn Progress,
) -> Result<Precisions, EvalError> {
    let both = Both::load(artifact)?;
    let layout = both.declared.encoder()?;
    let prepare = |(i, s): (usize, &Sentence)| s.prepare(i, tokenizer, layout);
    let prepared = sentences.iter().enumerate().map(prepare).collect::<Result<Vec<_>, _>>()?;
    let mut make = |precision, taps: &[&str], each: &mut dyn FnMut(Values)| {
        progress.begin(pass(precision), Some(prepared.len() as u64), Unit::Items);
        for sentence in &prepared {
            each(encode(both.of(precision), sentence, taps)?);
            progress.advance(1);
        }
        progress.end();
        Ok(())
    };
    compare(Role::Encode.name(), &watched(artifact, Role::Encode)?, prepared.len(), &mut make)
}

/// The first value of `init` that breaks while it takes `tokens`.
pub(in crate::eval) fn first_of_decoder(
    artifact: &Artifact,
    tokens: &[u32],
) -> Result<Option<Overflow>, EvalError> {
    let both = Both::load(artifact)?;
    let layout = both.declared.decoder()?;
    let calls = chunks(0, tokens.len(), layout.chunk, layout.capacity).len();
    let mut make = |precision, taps: &[&str], each: &mut dyn FnMut(Values)| {
        let mut decoder = Decoder::new(both.of(precision))?;
        decoder.prefill_with(tokens, taps, &mut |_, values| {
            each(std::mem::take(values));
            Ok(())
        })?;
        Ok(())
    };
    first(Role::Init.name(), &watched(artifact, Role::Init)?, calls, &mut make)
}

/// The first value of `encode` that breaks while it takes a sentence.
pub(in crate::eval) fn first_of_encoder(
    artifact: &Artifact,
    sentence: &Prepared,
) -> Result<Option<Overflow>, EvalError> {
    let both = Both::load(artifact)?;
    let mut make = |precision, taps: &[&str], each: &mut dyn FnMut(Values)| {
        each(encode(both.of(precision), sentence, taps)?);
        Ok(())
    };
    first(Role::Encode.name(), &watched(artifact, Role::Encode)?, 1, &mut make)
}

/// The values of one call of any function; each function comes with the states it begins with.
pub fn of_function(
    watched: &[Watched],
    declared: (&Function, &State),
    f32: (&Function, &State),
    inputs: &[(&str, Tensor)],
) -> Result<Precisions, EvalError> {
    let mut make = |precision, taps: &[&str], each: &mut dyn FnMut(Values)| {
        let (function, state) = match precision {
            Precision::Declared => declared,
            Precision::F32 => f32,
        };
        let outputs = function.run(inputs, &mut state.clone(), taps);
        let outputs = outputs.map_err(|e| RuntimeError::of(&e))?;
        let value = |(name, tensor): (&str, &Tensor)| -> (String, Value) {
            (name.to_owned(), Arc::new(tensor.clone()))
        };
        each(outputs.iter().map(value).collect::<BTreeMap<_, _>>());
        Ok(())
    };
    let make: &mut MakeCalls<'_> = &mut make;
    compare(declared.0.name(), watched, 1, make)
}

fn pass(precision: Precision) -> &'static str {
    match precision {
        Precision::Declared => "as declared",
        Precision::F32 => "in f32",
    }
}
