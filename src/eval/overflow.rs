//! Names the first value that overflows where an evaluation finds something that is not finite.

use crate::eval::error::EvalError;
use crate::eval::results::Overflow;
use crate::eval::{precision::first_of_decoder, precision::first_of_encoder};
use crate::lm::Artifact;
use crate::lm::LmError;
use crate::lm::Prepared;

/// `error`, with the first value that breaks while `artifact` takes `tokens` where the error is one of logits that are not
/// finite.
pub(super) fn in_decoder(error: EvalError, artifact: &Artifact, tokens: &[u32]) -> EvalError {
    let EvalError::Lm(LmError::NonFinite { position, .. }) = error else { return error };
    with(error, find(artifact, &tokens[..tokens.len().min(position + 1)]))
}

/// `error`, with the first value that breaks while `artifact` takes the sentence that the error is about.
pub(super) fn in_encoder(
    error: EvalError,
    artifact: &Artifact,
    sentences: &[Prepared],
) -> EvalError {
    let EvalError::Lm(LmError::Embedding { index, .. }) = &error else { return error };
    let sentence = sentences.get(*index);
    let first = sentence.and_then(|sentence| first_of_encoder(artifact, sentence).ok().flatten());
    with(error, first)
}

/// The first value that breaks while `artifact` takes `tokens`. What cannot be looked into has none: the search explains an
/// outcome and must not replace it.
pub(super) fn find(artifact: &Artifact, tokens: &[u32]) -> Option<Overflow> {
    if tokens.is_empty() {
        return None;
    }
    first_of_decoder(artifact, tokens).ok().flatten()
}

/// `error` with its place, where that is known.
pub(super) fn with(error: EvalError, first: Option<Overflow>) -> EvalError {
    match first {
        Some(first) => EvalError::Overflow { error: Box::new(error), first: Box::new(first) },
        None => error,
    }
}
