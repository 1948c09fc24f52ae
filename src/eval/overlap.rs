//! Overlap of two texts: guards against evaluation on the calibration text.

use std::collections::BTreeSet;

/// Tokens of the runs that are compared.
pub const RUN: usize = 8;

/// The largest share that texts with nothing but common phrases in common may have.
pub const MAX_OVERLAP: f64 = 0.01;

/// The share of all runs of [`RUN`] tokens in `text` that stand in `other` too; 0 where `text` is shorter than a run.
pub fn shared(text: &[u32], other: &[u32]) -> f64 {
    of_windows(&[text.to_vec()], other)
}

/// The same of all runs within windows of a text.
pub fn of_windows(windows: &[Vec<u32>], other: &[u32]) -> f64 {
    let known: BTreeSet<&[u32]> = other.windows(RUN).collect();
    let (mut n, mut found) = (0_u64, 0_u64);
    for run in windows.iter().flat_map(|window| window.windows(RUN)) {
        n += 1;
        found += u64::from(known.contains(run));
    }
    if n == 0 { 0.0 } else { found as f64 / n as f64 }
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
        // Runs do not go on from one window to the next.
        let windows = [text[..10].to_vec(), text[10..].to_vec()];
        assert!((of_windows(&windows, &half) - 3.0 / 6.0).abs() < 1e-12);
    }
}
