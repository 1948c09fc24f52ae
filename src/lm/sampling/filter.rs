//! `Filter`: candidate tokens for sampling: top-k, then top-p, then min-p, as the logits warpers of transformers.

use std::cmp::Ordering;

/// Which tokens may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// The k likeliest tokens and those as likely as the k-th.
    pub top_k: Option<usize>,
    /// Of these, the fewest of the likeliest whose chance reaches this share; of equally likely ones the later stay.
    pub top_p: f64,
    /// Of these, those at least this times as likely as the likeliest.
    pub min_p: f64,
}

/// A token and how many times as likely as the likeliest it is.
type Weighed = (u32, f64);

/// Tokens that are ranked first in the search for the top-p: a model that is sure of itself needs few.
const RANKED: usize = 64;

impl Filter {
    /// Leaves every token.
    pub const ALL: Self = Self { top_k: None, top_p: 1.0, min_p: 0.0 };

    /// Puts into `kept` what is left of `logits` at `temperature`, in rising order; tokens that chance never meets are
    /// left out.
    pub(super) fn keep(self, logits: &[f32], temperature: f64, kept: &mut Vec<Weighed>) {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let floor = self.top_k.map_or(f32::NEG_INFINITY, |k| kth(logits, k));
        let likely = (0..).zip(logits).filter(|&(_, &logit)| logit >= floor);
        let weigh = |logit: f32| ((f64::from(logit) - largest) / temperature).exp();
        kept.clear();
        kept.extend(likely.map(|(token, &logit)| (token, weigh(logit))).filter(|&(_, w)| w > 0.0));
        if self.top_p < 1.0 {
            keep_share(kept, self.top_p);
        }
        kept.retain(|&(_, weight)| weight >= self.min_p);
    }
}

/// The k-th largest logit, or one below all where there are fewer.
fn kth(logits: &[f32], k: usize) -> f32 {
    if k >= logits.len() {
        return f32::NEG_INFINITY;
    }
    let mut logits = logits.to_vec();
    *logits.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// Keeps the fewest of the likeliest whose weights reach `share` of all, ranking no more of them than that takes.
fn keep_share(kept: &mut Vec<Weighed>, share: f64) {
    let enough = share * kept.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut ranked = RANKED;
    loop {
        let all = ranked >= kept.len();
        if !all {
            kept.select_nth_unstable_by(ranked, likelier);
        }
        let head = if all { &mut kept[..] } else { &mut kept[..ranked] };
        head.sort_unstable_by(likelier);
        let mut sum = 0.0;
        let last = head.iter().position(|(_, weight)| {
            sum += weight;
            sum >= enough
        });
        if let Some(last) = last {
            kept.truncate(last + 1);
        }
        if all || last.is_some() {
            break;
        }
        ranked *= 8;
    }
    kept.sort_unstable_by_key(|&(token, _)| token);
}

fn likelier(a: &Weighed, b: &Weighed) -> Ordering {
    b.1.total_cmp(&a.1).then(b.0.cmp(&a.0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// The rules token by token, each by comparing it with every other.
    fn plain(filter: Filter, logits: &[f32], temperature: f64) -> Vec<Weighed> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |&logit: &f32| (f64::from(logit - largest) / temperature).exp();
        let mut kept: Vec<Weighed> = (0..).zip(logits.iter().map(weight)).collect();
        if let Some(k) = filter.top_k {
            let above = |logit: f32| logits.iter().filter(|&&other| other > logit).count();
            kept.retain(|&(token, _)| above(logits[token as usize]) < k);
        }
        if filter.top_p < 1.0 {
            let total: f64 = kept.iter().map(|k| k.1).filter(|w| *w > 0.0).sum();
            let mut ranked = kept.clone();
            ranked.sort_by(likelier);
            let before = |token: u32| {
                ranked.iter().take_while(|k| k.0 != token).fold(0.0, |sum, k| sum + k.1)
            };
            kept.retain(|&(token, _)| before(token) < filter.top_p * total);
        }
        kept.retain(|&(_, weight)| weight >= filter.min_p && weight > 0.0);
        kept
    }

    fn quick(filter: Filter, logits: &[f32], temperature: f64) -> Vec<Weighed> {
        // What was kept before is forgotten.
        let mut kept = vec![(7, 7.0)];
        filter.keep(logits, temperature, &mut kept);
        kept
    }

    #[derive(Deserialize)]
    struct Case {
        logits: Vec<Option<f32>>,
        settings: Settings,
        shares: Vec<f64>,
    }

    #[derive(Deserialize)]
    struct Settings {
        temperature: Option<f64>,
        top_k: Option<usize>,
        top_p: Option<f64>,
        min_p: Option<f64>,
    }

    #[test]
    fn shares_are_those_of_transformers() {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sampling/expected.json");
        let cases: Vec<Case> = serde_json::from_slice(&fs_err::read(file).unwrap()).unwrap();
        assert_eq!(cases.len(), 48);
        for Case { logits, settings, shares } in cases {
            let logits: Vec<f32> =
                logits.into_iter().map(|l| l.unwrap_or(f32::NEG_INFINITY)).collect();
            let Settings { temperature, top_k, top_p, min_p } = settings;
            let filter = Filter { top_k, top_p: top_p.unwrap_or(1.0), min_p: min_p.unwrap_or(0.0) };
            let kept = quick(filter, &logits, temperature.unwrap_or(1.0));
            let total: f64 = kept.iter().map(|k| k.1).sum();
            for (token, want) in (0..).zip(shares) {
                let got = kept.iter().find(|k| k.0 == token).map_or(0.0, |k| k.1 / total);
                // transformers divides and exponentiates in f32.
                assert!(
                    (got - want).abs() < 1e-6,
                    "{filter:?} of {logits:?}: {token} {got} {want}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn the_quick_search_keeps_what_the_rules_say(
            // Few different values, so that many are equal; more of them than are ranked at first.
            eighths in prop::collection::vec(prop_oneof![9 => -40_i8..40, 1 => Just(i8::MIN)], 1..700),
            temperature in prop_oneof![Just(1.0), 0.05_f64..5.0],
            top_k in prop::option::of(1_usize..800),
            top_p in prop_oneof![Just(1.0), 0.001_f64..1.0],
            min_p in prop_oneof![Just(0.0), 0.0_f64..=1.0],
        ) {
            let logit = |e: i8| if e == i8::MIN { f32::NEG_INFINITY } else { f32::from(e) / 8.0 };
            let mut logits: Vec<f32> = eighths.into_iter().map(logit).collect();
            // A model rules out no more than all tokens but one.
            if logits.iter().all(|l| l.is_infinite()) {
                logits[0] = 1.0;
            }
            let filter = Filter { top_k, top_p, min_p };
            let (got, want) = (quick(filter, &logits, temperature), plain(filter, &logits, temperature));
            prop_assert!(!got.is_empty());
            prop_assert_eq!(got, want);
        }
    }
}
