//! Cosines between an artifact's embeddings and the reference's.

use super::error::EvalError;
use super::results::{Figure, Similarity};
use super::sentences::Sentence;
use super::stats::Mean;

/// Compares embeddings sentence by sentence; `reference` says what the second ones are.
pub(super) fn compare(
    sentences: &[Sentence],
    artifact: &[Vec<f32>],
    expected: &[Vec<f32>],
    reference: String,
) -> Result<Similarity, EvalError> {
    let mut cosines = Vec::new();
    for (index, (a, b)) in artifact.iter().zip(expected).enumerate() {
        if a.len() != b.len() {
            return Err(EvalError::Width { index, actual: a.len(), expected: b.len() });
        }
        cosines.push(cosine(a, b));
    }
    let mean = Mean::of(&cosines).ok_or(EvalError::Nothing { what: "sentences" })?;
    // NaN, from an embedding that is not finite or zero, is the worst there is.
    let worst = cosines.iter().enumerate().min_by(|a, b| rank(*a.1).total_cmp(&rank(*b.1)));
    let (worst, &minimum) = worst.expect("there is a mean, so there is a sentence");
    if !minimum.is_finite() {
        return Err(EvalError::Embedding { index: worst, text: sentences[worst].text.clone() });
    }
    let n = cosines.len() as u64;
    Ok(Similarity {
        mean: mean.figure("1"),
        minimum: Figure { value: minimum, unit: "1".to_owned(), n, standard_error: None },
        worst: sentences[worst].text.clone(),
        reference,
        ..Similarity::default()
    })
}

fn rank(cosine: f64) -> f64 {
    if cosine.is_nan() { f64::NEG_INFINITY } else { cosine }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences() -> Vec<Sentence> {
        let one = |text: &str| Sentence { instruction: None, text: text.to_owned() };
        ["equal", "scaled", "at 45 degrees"].map(one).to_vec()
    }

    #[test]
    fn the_worst_sentence_is_named() {
        let a = [vec![1.0, 2.0], vec![2.0, 4.0], vec![1.0, 0.0]];
        let b = [vec![1.0, 2.0], vec![1.0, 2.0], vec![3.0, 3.0]];
        let got = compare(&sentences(), &a, &b, "r".to_owned()).unwrap();
        let half = 0.5_f64.sqrt();
        assert!((got.minimum.value - half).abs() < 1e-12);
        assert!((got.mean.value - (2.0 + half) / 3.0).abs() < 1e-12);
        assert_eq!((got.worst.as_str(), got.mean.n), ("at 45 degrees", 3));
    }

    #[test]
    fn embeddings_that_cannot_be_compared() {
        let a = [vec![1.0, 2.0], vec![f32::NAN, 4.0], vec![1.0, 0.0]];
        let b = [vec![1.0, 2.0], vec![1.0, 2.0], vec![3.0, 3.0]];
        let cases = [
            (&a[..], &b[..], "embedding of sentence 1 (`scaled`) is zero or not finite"),
            (&[vec![0.0, 0.0]], &b[..1], "embedding of sentence 0 (`equal`) is zero or not finite"),
            (&a[..1], &[vec![1.0]], "sentence 0: embedding of 2 elements, the reference's has 1"),
            (&[], &[], "list of sentences is empty"),
        ];
        for (a, b, want) in cases {
            let error = compare(&sentences(), a, b, String::new()).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
    }
}
