//! Cosines between an artifact's embeddings and the reference's, and whether sentences keep their neighbours.

use crate::eval::error::EvalError;
use crate::eval::stats::Mean;
use crate::eval::{results::Figure, results::Neighbours, results::Similarity};
use crate::lm::LmError;
use crate::lm::Sentence;

/// Neighbours that are looked at, where there are more than twice as many sentences.
const NEIGHBOURS: usize = 10;

/// Sentences from which a 1st percentile is not the least of all.
const FOR_P1: usize = 200;

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
        let text = sentences[worst].text.clone();
        return Err(LmError::Embedding { index: worst, text }.into());
    }
    let n = cosines.len() as u64;
    Ok(Similarity {
        mean: mean.figure("1"),
        minimum: Figure { value: minimum, unit: "1".to_owned(), n, standard_error: None },
        worst: sentences[worst].text.clone(),
        reference,
        p1: percentile(&cosines),
        neighbours: neighbours(artifact, expected),
    })
}

/// The 1st percentile by nearest rank.
fn percentile(cosines: &[f64]) -> Option<f64> {
    let mut sorted = cosines.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted.len() >= FOR_P1).then(|| sorted[sorted.len().div_ceil(100) - 1])
}

/// Returns the agreement of both rankings of the sentences; `None` with fewer than three sentences.
fn neighbours(artifact: &[Vec<f32>], expected: &[Vec<f32>]) -> Option<Neighbours> {
    let n = artifact.len();
    if n < 3 {
        return None;
    }
    let k = NEIGHBOURS.min((n - 1) / 2).max(1);
    let (ours, theirs) = (cosines_of_pairs(artifact), cosines_of_pairs(expected));
    let shares: Vec<f64> = (0..n)
        .map(|i| {
            let (a, b) = (nearest(&ours[i], i, k), nearest(&theirs[i], i, k));
            a.iter().filter(|index| b.contains(index)).count() as f64 / k as f64
        })
        .collect();
    let pairs = |cosines: &[Vec<f64>]| -> Vec<f64> {
        (0..n).flat_map(|i| cosines[i][i + 1..].to_vec()).collect()
    };
    let (a, b) = (pairs(&ours), pairs(&theirs));
    let spearman = Figure {
        value: spearman(&a, &b)?,
        unit: "1".to_owned(),
        n: a.len() as u64,
        standard_error: None,
    };
    Some(Neighbours { k: k as u64, recall: Mean::of(&shares)?.figure("1"), spearman })
}

/// The cosine of each two embeddings, [n, n].
fn cosines_of_pairs(embeddings: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let with = |a: &Vec<f32>| embeddings.iter().map(|b| cosine(a, b)).collect();
    embeddings.iter().map(with).collect()
}

/// The `k` sentences nearest to sentence `i`; of equally near ones the first.
fn nearest(cosines: &[f64], i: usize, k: usize) -> Vec<usize> {
    let mut others: Vec<usize> = (0..cosines.len()).filter(|&j| j != i).collect();
    others.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
    others.truncate(k);
    others
}

/// Spearman's rank correlation, equal values sharing the mean of their ranks; nothing where one side is all the same.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let mean = f64::midpoint(a.len() as f64, 1.0);
    let sum = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum()
    };
    let found = sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt();
    found.is_finite().then_some(found)
}

/// Ranks from 1.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&a, &b| values[a].total_cmp(&values[b]).is_eq()) {
        let rank = first as f64 + f64::midpoint(equal.len() as f64, 1.0);
        for &index in equal {
            ranks[index] = rank;
        }
        first += equal.len();
    }
    ranks
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
        ["equal", "scaled", "at 45 degrees"].map(Sentence::plain).to_vec()
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
    fn neighbours_that_stay_and_that_change() {
        let at = |degrees: f32| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            vec![cos, sin]
        };
        let expected: Vec<_> = [0.0, 10.0, 25.0, 60.0, 100.0].map(at).into();
        let same = neighbours(&expected, &expected).unwrap();
        assert_eq!((same.k, same.recall.value, same.spearman.n), (2, 1.0, 10));
        assert!((same.spearman.value - 1.0).abs() < 1e-12);
        // The third moves from the first two to the last two.
        let moved: Vec<_> = [0.0, 10.0, 80.0, 60.0, 100.0].map(at).into();
        let found = neighbours(&moved, &expected).unwrap();
        // Nearest two of each, before and after: 12/13, 02/03, 10/34, 24/24, 32/23.
        assert!((found.recall.value - (0.5 + 0.5 + 0.0 + 1.0 + 1.0) / 5.0).abs() < 1e-12);
        assert!(found.spearman.value < 0.9, "{found:?}");
        assert_eq!(neighbours(&expected[..2], &expected[..2]), None);
        assert_eq!(neighbours(&vec![at(5.0); 4], &expected[..4]), None, "all pairs are alike");
    }

    #[test]
    fn ranks_and_their_correlation() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
        let cases: [(&[f64], &[f64], Option<f64>); 4] = [
            (&[1.0, 2.0, 3.0], &[10.0, 20.0, 21.0], Some(1.0)),
            (&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], Some(-1.0)),
            // 1 - 6 Σd² / (n (n² - 1)) with d = 1, 1, 0.
            (&[1.0, 2.0, 3.0], &[2.0, 1.0, 3.0], Some(0.5)),
            (&[1.0, 2.0, 3.0], &[4.0, 4.0, 4.0], None),
        ];
        for (a, b, want) in cases {
            match (spearman(a, b), want) {
                (Some(found), Some(want)) => assert!((found - want).abs() < 1e-12),
                (found, want) => assert_eq!(found, want),
            }
        }
        let many: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!((percentile(&many), percentile(&many[1..])), (Some(1.0), None));
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
