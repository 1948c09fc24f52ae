//! Choosing the next token from logits: the largest, or by chance at a temperature, the same for the same seed.

use crate::base::chance::Chance;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The token with the largest logit, the lowest of equals.
    Greedy,
    /// By chance, logits divided by `t`.
    Temperature {
        /// The temperature, above 0.
        t: f64,
        /// Where chance starts.
        seed: u64,
    },
}

impl Sampling {
    /// [`Sampling::Greedy`] at temperature 0.
    pub fn new(temperature: f64, seed: u64) -> Self {
        if temperature > 0.0 { Self::Temperature { t: temperature, seed } } else { Self::Greedy }
    }

    /// A sampler at its beginning.
    pub fn start(self) -> Sampler {
        let seed = if let Self::Temperature { seed, .. } = self { seed } else { 0 };
        Sampler { sampling: self, chance: Chance::new(seed) }
    }
}

/// Chooses token after token.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    chance: Chance,
}

impl Sampler {
    /// The next token; `logits` are finite, or -inf where a token is ruled out.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        match self.sampling {
            Sampling::Greedy => top(logits) as u32,
            Sampling::Temperature { t, .. } => by_chance(logits, t, self.chance.unit()) as u32,
        }
    }
}

/// Index of the largest logit, the lowest of equals.
pub(super) fn top(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = i;
        }
    }
    best
}

/// The largest logit less the second largest; 0 where there is no second.
pub(super) fn margin(logits: &[f32]) -> f32 {
    let best = top(logits);
    let others = logits.iter().enumerate().filter(|&(i, _)| i != best).map(|(_, &logit)| logit);
    others.reduce(f32::max).map_or(0.0, |second| logits[best] - second)
}

fn by_chance(logits: &[f32], t: f64, unit: f64) -> usize {
    let best = top(logits);
    let largest = f64::from(logits[best]);
    let weight = |&logit: &f32| ((f64::from(logit) - largest) / t).exp();
    let mut left = unit * logits.iter().map(weight).sum::<f64>();
    for (i, logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return i;
        }
    }
    // Rounding left a crumb over.
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_its_margin() {
        let cases: [(&[f32], usize, f32); 4] = [
            (&[1.0, 3.0, 2.5], 1, 0.5),
            (&[3.0, 3.0], 0, 0.0),
            (&[f32::NEG_INFINITY, -1.0], 1, f32::INFINITY),
            (&[7.0], 0, 0.0),
        ];
        for (logits, want, difference) in cases {
            assert_eq!(Sampling::Greedy.start().choose(logits), want as u32);
            assert_eq!(margin(logits).to_bits(), difference.to_bits());
        }
    }

    #[test]
    fn the_same_seed_chooses_the_same_tokens_and_chance_follows_the_softmax() {
        let logits = [0.0_f32, 1.0, 2.0, f32::NEG_INFINITY];
        let draw = |t, seed| {
            let mut sampler = Sampling::new(t, seed).start();
            (0..4000).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1.0, 7), draw(1.0, 7));
        assert_ne!(draw(1.0, 7), draw(1.0, 8));
        for t in [0.5, 1.0, 2.0] {
            let drawn = draw(t, 7);
            let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / t).exp()).collect();
            for (token, weight) in weights.iter().enumerate() {
                let expected = weight / weights.iter().sum::<f64>();
                let share = drawn.iter().filter(|&&d| d as usize == token).count() as f64 / 4000.0;
                // Four standard errors of a share of 4000.
                let bound = 4.0 * (expected * (1.0 - expected) / 4000.0).sqrt();
                assert!((share - expected).abs() <= bound, "{t} {token}: {share} {expected}");
            }
        }
        assert!(draw(0.0, 1).iter().all(|&token| token == 2));
    }
}
