//! Sampling of the next token from logits: greedy, or random among the tokens kept by a filter, reproducible for a
//! given seed.

mod filter;

use thiserror::Error;

use crate::base::error::Hint;
use crate::base::split_mix64::SplitMix64;
pub use filter::Filter;

/// Sampling method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The token with the largest logit, the lowest of equals.
    Greedy,
    /// Random sampling.
    SplitMix64(Draw),
}

/// A draw whose numbers have been checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    temperature: f64,
    filter: Filter,
    seed: u64,
}

/// Invalid sampling parameters.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum SamplingError {
    /// The temperature.
    #[error("temperature {0} is not a finite number of at least 0")]
    Temperature(f64),
    /// Top-k.
    #[error("top-k 0 leaves no token")]
    TopK,
    /// Top-p.
    #[error("top-p {0} is not above 0 and at most 1")]
    TopP(f64),
    /// Min-p.
    #[error("min-p {0} is not at least 0 and at most 1")]
    MinP(f64),
}

impl Hint for SamplingError {
    fn hint(&self) -> Option<String> {
        let advice = match self {
            Self::Temperature(_) => {
                "0 takes the likeliest token, 1 draws from the model's own distribution"
            }
            Self::TopK => {
                "leave `--top-k` out to draw from all tokens, or take 0 as `--temperature`"
            }
            Self::TopP(_) => {
                "1 leaves all tokens, 0.9 the likeliest with nine tenths of the chance"
            }
            Self::MinP(_) => {
                "0 leaves all tokens, 0.1 those at least a tenth as likely as the likeliest"
            }
        };
        Some(advice.to_owned())
    }
}

impl Sampling {
    /// [`Sampling::Greedy`] at temperature 0; above, chance among the tokens that `filter` leaves of logits divided by
    /// the temperature.
    pub fn new(temperature: f64, filter: Filter, seed: u64) -> Result<Self, SamplingError> {
        let Filter { top_k, top_p, min_p } = filter;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(SamplingError::Temperature(temperature));
        }
        if top_k == Some(0) {
            return Err(SamplingError::TopK);
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplingError::TopP(top_p));
        }
        if !(0.0..=1.0).contains(&min_p) {
            return Err(SamplingError::MinP(min_p));
        }
        let draw = Draw { temperature, filter, seed };
        Ok(if temperature > 0.0 { Self::SplitMix64(draw) } else { Self::Greedy })
    }

    /// A sampler at its beginning.
    pub fn start(self) -> Sampler {
        let seed = if let Self::SplitMix64(draw) = self { draw.seed } else { 0 };
        Sampler { sampling: self, chance: SplitMix64::new(seed), kept: Vec::new() }
    }
}

/// Chooses token after token.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    chance: SplitMix64,
    /// Result of the last filter; its buffer is reused.
    kept: Vec<(u32, f64)>,
}

impl Sampler {
    /// The next token; `logits` are finite, or -inf where a token is ruled out.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let Sampling::SplitMix64(draw) = self.sampling else { return top(logits) as u32 };
        draw.filter.keep(logits, draw.temperature, &mut self.kept);
        by_chance(&self.kept, self.chance.unit()).unwrap_or_else(|| top(logits) as u32)
    }
}

/// Index of the largest logit, the lowest of equals; NaN is passed over.
pub(crate) fn top(logits: &[f32]) -> usize {
    // Many maxima side by side, then the place of theirs: both loops are vectors.
    let mut largest = [f32::NEG_INFINITY; 32];
    for run in logits.chunks(largest.len()) {
        for (most, &logit) in largest.iter_mut().zip(run) {
            *most = if logit > *most { logit } else { *most };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit >= largest).unwrap_or(0)
}

/// The largest logit less the second largest; 0 where there is no second.
pub(super) fn margin(logits: &[f32]) -> f32 {
    let best = top(logits);
    let others = logits.iter().enumerate().filter(|&(i, _)| i != best).map(|(_, &logit)| logit);
    others.reduce(f32::max).map_or(0.0, |second| logits[best] - second)
}

/// The token at `unit` of the way through the weights.
fn by_chance(kept: &[(u32, f64)], unit: f64) -> Option<u32> {
    let mut left = unit * kept.iter().map(|(_, weight)| weight).sum::<f64>();
    let at = kept.iter().find(|(_, weight)| {
        left -= weight;
        left < 0.0
    });
    // Rounding may leave a crumb over behind the last.
    at.or(kept.last()).map(|&(token, _)| token)
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
        let draw = |t, filter, seed| {
            let mut sampler = Sampling::new(t, filter, seed).unwrap().start();
            (0..4000).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1.0, Filter::ALL, 7), draw(1.0, Filter::ALL, 7));
        assert_ne!(draw(1.0, Filter::ALL, 7), draw(1.0, Filter::ALL, 8));
        // A filter that leaves everything changes nothing.
        let all = Filter { top_k: Some(4), top_p: 0.9999, min_p: 1e-9 };
        assert_eq!(draw(1.0, Filter::ALL, 7), draw(1.0, all, 7));
        let two = Filter { top_k: Some(2), ..Filter::ALL };
        for (t, filter) in
            [(0.5, Filter::ALL), (1.0, Filter::ALL), (2.0, Filter::ALL), (1.0, two), (2.0, two)]
        {
            let drawn = draw(t, filter, 7);
            let left_out = |token: usize| filter == two && token == 0;
            let weigh = |(token, &l): (usize, &f32)| {
                if left_out(token) { 0.0 } else { (f64::from(l) / t).exp() }
            };
            let weights: Vec<f64> = logits.iter().enumerate().map(weigh).collect();
            for (token, weight) in weights.iter().enumerate() {
                let expected = weight / weights.iter().sum::<f64>();
                let share = drawn.iter().filter(|&&d| d as usize == token).count() as f64 / 4000.0;
                // Four standard errors of a share of 4000.
                let bound = 4.0 * (expected * (1.0 - expected) / 4000.0).sqrt();
                assert!((share - expected).abs() <= bound, "{t} {token}: {share} {expected}");
            }
        }
        assert!(draw(0.0, Filter::ALL, 1).iter().all(|&token| token == 2));
        // So cold that all weights but one are 0.
        assert!(draw(1e-300, Filter::ALL, 1).iter().all(|&token| token == 2));
    }

    #[test]
    fn the_ends_of_chance() {
        let kept = [(3, 0.5), (5, 1.0), (9, 0.25)];
        for (unit, want) in [(0.0, 3), (0.285, 3), (0.286, 5), (0.857, 5), (0.858, 9), (1.0, 9)] {
            assert_eq!(by_chance(&kept, unit), Some(want), "{unit}");
        }
        assert_eq!(by_chance(&[], 0.5), None);
    }

    #[test]
    fn numbers_that_nothing_can_be_drawn_with() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let with = |top_k, top_p, min_p| Filter { top_k, top_p, min_p };
        let cases = [
            (0.0, Filter::ALL, None),
            (1e300, with(Some(usize::MAX), f64::MIN_POSITIVE, 1.0), None),
            (-1.0, Filter::ALL, Some("temperature -1 is not a finite number of at least 0")),
            (nan, Filter::ALL, Some("temperature NaN is not a finite number of at least 0")),
            (inf, Filter::ALL, Some("temperature inf is not a finite number of at least 0")),
            (1.0, with(Some(0), 1.0, 0.0), Some("top-k 0 leaves no token")),
            (1.0, with(None, 0.0, 0.0), Some("top-p 0 is not above 0 and at most 1")),
            (1.0, with(None, 1.01, 0.0), Some("top-p 1.01 is not above 0 and at most 1")),
            (1.0, with(None, nan, 0.0), Some("top-p NaN is not above 0 and at most 1")),
            // Wrong numbers are told even where nothing is drawn.
            (0.0, with(None, -0.5, 0.0), Some("top-p -0.5 is not above 0 and at most 1")),
            (1.0, with(None, 1.0, -0.1), Some("min-p -0.1 is not at least 0 and at most 1")),
            (1.0, with(None, 1.0, nan), Some("min-p NaN is not at least 0 and at most 1")),
        ];
        for (temperature, filter, want) in cases {
            let error = Sampling::new(temperature, filter, 0).err();
            assert_eq!(error.map(|e| e.to_string()).as_deref(), want, "{temperature} {filter:?}");
            assert!(error.is_none_or(|e| e.hint().is_some()));
        }
    }
}
