//! Calls `encode` on prepared sentences.

use super::engine::{Engine, take};
use super::error::EvalError;
use super::layout::Role;
use super::runtime::Values;
use super::sentences::Prepared;
use crate::base::cancel;

/// The embedding of a sentence, padded to the length that `encode` takes.
pub fn embed(engine: &Engine, sentence: &Prepared) -> Result<Vec<f32>, EvalError> {
    Ok(take(&mut encode(engine, sentence, &[])?, "embedding")?.to_f32())
}

/// The outputs of `encode` for a sentence and the values named in `taps`.
pub(super) fn encode(
    engine: &Engine,
    sentence: &Prepared,
    taps: &[&str],
) -> Result<Values, EvalError> {
    cancel::check()?;
    let layout = engine.encoder()?;
    let padded = |elements: Vec<i32>| {
        let mut elements = elements;
        elements.resize(layout.seq_len, 0);
        engine.ints(&[1, layout.seq_len], elements)
    };
    let mut inputs = Values::from([
        ("input_ids".to_owned(), padded(sentence.ids.iter().map(|&id| id as i32).collect())),
        ("attention_mask".to_owned(), padded(vec![1; sentence.ids.len()])),
    ]);
    if layout.pool_mask {
        let pool = sentence.pool.iter().map(|&p| i32::from(p)).collect();
        inputs.insert("pool_mask".to_owned(), padded(pool));
    }
    let mut state = engine.state(Role::Encode)?;
    engine.run(Role::Encode, inputs, &mut state, taps)
}
