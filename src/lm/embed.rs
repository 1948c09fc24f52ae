//! Calls `encode` on sentences in parallel.

use rayon::prelude::*;

use crate::base::cancel;
use crate::lm::LmError;
use crate::lm::layout::Role;
use crate::lm::tokenizer::Tokenizer;
use crate::lm::{engine::Engine, engine::take};
use crate::lm::{sentences::Prepared, sentences::Sentence};
use crate::runtime::Values;

/// The embedding of a sentence, padded to the length that `encode` takes.
pub fn embed(engine: &Engine, sentence: &Prepared) -> Result<Vec<f32>, LmError> {
    Ok(take(&mut encode(engine, sentence, &[])?, "embedding")?.to_f32())
}

/// A sentence's embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Tokens that `encode` saw.
    pub tokens: usize,
    /// Tokens that the package is too short for.
    pub left_out: usize,
    /// The elements, all finite.
    pub vector: Vec<f32>,
}

impl Embedded {
    /// The same at length 1, or nothing where it has no direction.
    pub fn normalized(mut self) -> Option<Self> {
        let length = self.vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        self.vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        (length > 0.0).then_some(self)
    }
}

/// Embeds sentences on all cores, each in a call of its own, and gives the results in their order; `first` is the index
/// of the first in errors.
pub fn embed_all(
    engine: &Engine,
    tokenizer: &Tokenizer,
    first: usize,
    sentences: &[Sentence],
) -> Vec<Result<Embedded, LmError>> {
    let one = |(i, sentence): (usize, &Sentence)| {
        let index = first + i;
        let prepared = sentence.prepare(index, tokenizer, engine.encoder()?)?;
        let vector = embed(engine, &prepared)?;
        if vector.iter().all(|x| x.is_finite()) {
            Ok(Embedded { tokens: prepared.ids.len(), left_out: prepared.left_out, vector })
        } else {
            Err(LmError::Embedding { index, text: sentence.text.clone() })
        }
    };
    sentences.par_iter().enumerate().map(one).collect()
}

/// The outputs of `encode` for a sentence and the values named in `taps`.
pub(crate) fn encode(
    engine: &Engine,
    sentence: &Prepared,
    taps: &[&str],
) -> Result<Values, LmError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::testing::Fake;
    use crate::lm::tokenizer::letters;

    #[test]
    fn sentences_side_by_side_come_out_in_order() {
        let engine = Fake::state(16, 4).engine();
        let tokenizer = letters();
        let text = |i: usize| "AbCdEfGhIjK"[i % 7..=i % 11].to_owned();
        let texts = (0..100).filter(|i| i % 7 <= i % 11).map(text);
        let sentences: Vec<Sentence> = texts.map(|text| Sentence::plain(&text)).collect();
        assert!(sentences.len() > 50);
        let got = embed_all(&engine, &tokenizer, 0, &sentences);
        for (i, (got, sentence)) in got.into_iter().zip(&sentences).enumerate() {
            let prepared = sentence.prepare(i, &tokenizer, engine.encoder().unwrap()).unwrap();
            let got = got.unwrap();
            assert_eq!(got.tokens, sentence.text.len());
            assert_eq!(got.vector, embed(&engine, &prepared).unwrap());
        }
    }

    #[test]
    fn embeddings_of_length_1() {
        let cases = [
            (vec![3.0, -4.0], Some(vec![0.6, -0.8])),
            // Squares that f32 does not hold.
            (vec![0.0, 1e-30], Some(vec![0.0, 1.0])),
            (vec![0.0, 0.0], None),
        ];
        for (vector, want) in cases {
            let got = Embedded { tokens: 1, left_out: 0, vector }.normalized();
            assert_eq!(got.map(|e| e.vector), want);
        }
    }

    #[test]
    fn what_cannot_be_embedded_is_told_by_its_index() {
        let (inf, small) = (f32::INFINITY, 0.0);
        for (bias, text, want) in [
            (small, "", "sentence 8 has no tokens within the sequence length 16"),
            (inf, "A", "embedding of sentence 8 (`A`) is zero or not finite"),
        ] {
            let mut fake = Fake::state(16, 4);
            fake.bias = bias;
            let engine = fake.engine();
            let sentence = Sentence::plain(text);
            let mut got = embed_all(&engine, &letters(), 8, &[sentence]);
            assert_eq!(got.remove(0).unwrap_err().to_string(), want);
        }
    }
}
