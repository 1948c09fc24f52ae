//! Two artifacts on the same tokens: differences of means with intervals by bootstrap.
//!
//! The windows are drawn anew, as many as there are, each with all of its tokens, and the difference of the means is
//! taken over what was drawn; the interval is that of the middle 95 % of [`DRAWS`] such differences (Efron's percentile
//! interval over blocks). So what the tokens of a window share counts once, and what makes a token hard for both
//! artifacts does not count at all.

use std::collections::BTreeMap;

use crate::base::split_mix64::SplitMix64;
use crate::eval::{results::Interval, results::Paired};
use crate::eval::{tokens::Token, tokens::Tokens};

/// How often windows are drawn.
const DRAWS: usize = 2000;

/// Figures of `b` less those of `a`, on the tokens that both scored; nothing with fewer than two windows of them.
///
/// The same tokens give the same intervals.
pub fn paired(a: (&str, &Tokens), b: (&str, &Tokens)) -> Option<Paired> {
    let at = |token: &Token| (token.window, token.position);
    let known: BTreeMap<(u32, u32), &Token> = a.1.rows.iter().map(|t| (at(t), t)).collect();
    let mut windows: BTreeMap<u32, Sums> = BTreeMap::new();
    for second in &b.1.rows {
        if let Some(first) = known.get(&at(second)) {
            windows.entry(second.window).or_default().add(first, second);
        }
    }
    let windows: Vec<Sums> = windows.into_values().collect();
    if windows.len() < 2 {
        return None;
    }
    let all = Sums::of(windows.iter());
    let mut chance = SplitMix64::new(0);
    let n = windows.len();
    let mut draw = || {
        let drawn = (0..n).map(|_| &windows[((chance.unit() * n as f64) as usize).min(n - 1)]);
        Sums::of(drawn)
    };
    let draws: Vec<Sums> = (0..DRAWS).map(|_| draw()).collect();
    let interval = |f: fn(&Sums) -> f64, unit: &str| {
        let mut values: Vec<f64> = draws.iter().map(|sums| f(sums) / sums.n).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[DRAWS / 40], values[DRAWS - 1 - DRAWS / 40]);
        Interval { value: f(&all) / all.n, low, high, unit: unit.to_owned() }
    };
    Some(Paired {
        a: a.0.to_owned(),
        b: b.0.to_owned(),
        n: all.n as u64,
        windows: n as u64,
        divergence: interval(|s| s.divergence, "nats"),
        log_perplexity: interval(|s| s.nll, "nats"),
        same_top: interval(|s| s.same_top, "1"),
    })
}

/// Sums of differences over tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: f64,
    divergence: f64,
    nll: f64,
    same_top: f64,
}

impl Sums {
    fn add(&mut self, a: &Token, b: &Token) {
        let share = |token: &Token| f64::from(u8::from(token.same_top));
        self.n += 1.0;
        self.divergence += b.divergence - a.divergence;
        self.nll += b.nll - a.nll;
        self.same_top += share(b) - share(a);
    }

    fn of<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        parts.fold(Self::default(), |all, part| Self {
            n: all.n + part.n,
            divergence: all.divergence + part.divergence,
            nll: all.nll + part.nll,
            same_top: all.same_top + part.same_top,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of windows of four with a divergence and a log-likelihood for each.
    fn tokens(n: u32, f: impl Fn(u32) -> (f64, f64)) -> Tokens {
        let row = |i: u32| {
            let (divergence, nll) = f(i);
            Token {
                window: i / 4,
                position: 1 + i % 4,
                nll,
                reference_nll: 1.0,
                divergence,
                hidden: 0.0,
                same_sampled: 0.5,
                confidence: 0.5,
                same_top: divergence < 0.5,
            }
        };
        Tokens { rows: (0..n).map(row).collect(), non_finite: 0 }
    }

    #[test]
    fn what_both_share_does_not_count() {
        let hard = |i: u32| f64::from(i * 37 % 101);
        let a = tokens(400, |i| (hard(i), hard(i)));
        let b = tokens(400, |i| (hard(i) + 0.25, hard(i) - 0.125));
        let found = paired(("a", &a), ("b", &b)).unwrap();
        assert_eq!((found.n, found.windows), (400, 100));
        for (interval, want) in [(&found.divergence, 0.25), (&found.log_perplexity, -0.125)] {
            for end in [interval.value, interval.low, interval.high] {
                assert!((end - want).abs() < 1e-12, "{interval:?}");
            }
        }
        assert_eq!(paired(("a", &a), ("b", &b)), Some(found));
    }

    #[test]
    fn intervals_are_as_wide_as_the_windows_differ() {
        // Window means alternate between 0 and 1: the standard error of their mean is 0.5 / √(n - 1).
        let zero = tokens(1600, |_| (0.0, 0.0));
        let alternating = tokens(1600, |i| (f64::from(i / 4 % 2), 0.0));
        let found = paired(("a", &zero), ("b", &alternating)).unwrap();
        let reach = 1.96 * 0.5 / 399.0_f64.sqrt();
        assert!((found.divergence.value - 0.5).abs() < 1e-12);
        for (end, want) in
            [(found.divergence.low, 0.5 - reach), (found.divergence.high, 0.5 + reach)]
        {
            assert!((end - want).abs() < 0.1 * reach, "{:?}", found.divergence);
        }
        assert!((found.same_top.value + 0.5).abs() < 1e-12);
    }

    #[test]
    fn only_tokens_that_both_scored_count() {
        let a = tokens(40, |_| (0.0, 0.0));
        let mut b = tokens(40, |_| (1.0, 0.0));
        b.rows.retain(|t| t.position != 2);
        let found = paired(("a", &a), ("b", &b)).unwrap();
        assert_eq!((found.n, found.windows), (30, 10));
        for (n, want) in [(0, false), (4, false), (5, true)] {
            let few = tokens(n, |_| (0.0, 0.0));
            assert_eq!(paired(("a", &a), ("few", &few)).is_some(), want, "{n}");
        }
    }
}
