//! `Noise`: how far a reference is from itself when every layer's output is changed by no more than fp16 rounds it.
//!
//! A divergence below this floor says nothing about an artifact: two right computations differ as much.

use serde::{Deserialize, Serialize};

use crate::eval::results::NoiseFloor;
use crate::eval::stats::Mean;
use crate::eval::text::Windows;

/// What noise does at every position of W windows of T tokens but the last ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// What was done, in words.
    pub how: String,
    /// Kullback-Leibler divergence over all tokens, nats, [W][T - 1].
    pub divergence: Vec<Vec<f64>>,
    /// Change of the negative log-likelihood of the token that follows, [W][T - 1].
    pub nll_change: Vec<Vec<f64>>,
    /// Flags, [W][T - 1]: true if the top-1 token is unchanged.
    pub same_top: Vec<Vec<bool>>,
}

impl Noise {
    /// The figures on the tokens that are scored of `windows`, the first of which these are.
    pub(in crate::eval) fn floor(&self, windows: &Windows) -> Option<NoiseFloor> {
        let scored = |w: usize| windows.first_scored(w) - 1;
        let mean = |of: &dyn Fn(usize, usize) -> f64| {
            let rows = self.divergence.iter().enumerate();
            Mean::of_groups(
                rows.flat_map(|(w, row)| (scored(w)..row.len()).map(move |t| (w as u32, of(w, t)))),
            )
        };
        let change = mean(&|w, t| self.nll_change[w][t])?;
        Some(NoiseFloor {
            how: self.how.clone(),
            divergence: mean(&|w, t| self.divergence[w][t])?.figure("nats"),
            increase: change.map(change.value.exp_m1(), change.value.exp()).figure("1"),
            same_top: mean(&|w, t| f64::from(u8::from(self.same_top[w][t])))?.figure("1"),
        })
    }

    /// True if all tables are [`windows`][`length` - 1].
    pub(super) fn fits(&self, windows: usize, length: usize) -> bool {
        let even = |lengths: &mut dyn Iterator<Item = usize>| {
            let all: Vec<usize> = lengths.collect();
            all.len() == windows && all.iter().all(|&n| n + 1 == length)
        };
        even(&mut self.divergence.iter().map(Vec::len))
            && even(&mut self.nll_change.iter().map(Vec::len))
            && even(&mut self.same_top.iter().map(Vec::len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::text::WindowConfig;

    #[test]
    fn floors_are_of_the_scored_tokens() {
        let noise = Noise {
            how: "by hand".to_owned(),
            divergence: vec![vec![0.1, 0.2, 0.3], vec![9.0, 0.4, 0.5]],
            nll_change: vec![vec![0.0; 3], vec![9.0, 0.5, 0.75]],
            same_top: vec![vec![true; 3], vec![false, false, true]],
        };
        // The second window shares two tokens with the first.
        let windows = Windows {
            tokens: vec![vec![0; 4]; 3],
            cut: WindowConfig { window: 4, stride: 2, max_windows: 3 },
            text_sha256: String::new(),
        };
        let floor = noise.floor(&windows).unwrap();
        assert!((floor.divergence.value - 0.3).abs() < 1e-12);
        assert!((floor.increase.value - 0.25_f64.exp_m1()).abs() < 1e-12);
        assert!((floor.same_top.value - 0.8).abs() < 1e-12);
        assert_eq!(floor.divergence.n, 5);
        for (n, length, want) in [(2, 4, true), (3, 4, false), (2, 3, false)] {
            assert_eq!(noise.fits(n, length), want);
        }
    }
}
