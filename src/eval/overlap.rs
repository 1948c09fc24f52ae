//! How much of one text stands in another: the guard against evaluating on the text that was calibrated on.

use std::collections::BTreeSet;

/// Tokens of the runs that are compared.
pub const RUN: usize = 8;

/// The share of all runs of [`RUN`] tokens in `text` that stand in `other` too; 0 where `text` is shorter than a run.
pub fn shared(text: &[u32], other: &[u32]) -> f64 {
    let known: BTreeSet<&[u32]> = other.windows(RUN).collect();
    let runs = text.windows(RUN);
    let n = runs.len();
    if n == 0 {
        return 0.0;
    }
    runs.filter(|run| known.contains(run)).count() as f64 / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let text: Vec<u32> = (0..20).collect();
        let half: Vec<u32> = (0..10).chain(100..120).collect();
        let shuffled: Vec<u32> = (0..20).rev().collect();
        for (a, b, want) in [
            (&text, &text, 1.0),
            (&text, &shuffled, 0.0),
            // Of the 13 runs of the text, those that start at 0, 1 and 2.
            (&text, &half, 3.0 / 13.0),
            (&text[..7].to_vec(), &text, 0.0),
        ] {
            assert!((shared(a, b) - want).abs() < 1e-12);
        }
    }
}
