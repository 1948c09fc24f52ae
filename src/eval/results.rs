//! The figures of one artifact: plain data, the same in memory, in `report.json` and in the manifest.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A number with what is needed to read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// The value; `null` in JSON where it is not a finite number, and NaN when read back.
    #[serde(deserialize_with = "null_is_nan")]
    #[schemars(with = "Option<f64>")]
    pub value: f64,
    /// The unit, such as `nats`, `ms`, `bytes` or `1` for a ratio.
    pub unit: String,
    /// How many observations it rests on.
    pub n: u64,
    /// One standard error of the value, where it is an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
}

/// Standard errors on each side of an estimate in its 95 % interval, by the normal distribution.
pub const STANDARD_ERRORS: f64 = 1.96;

impl Figure {
    /// Half the width of the 95 % interval of an estimate.
    pub fn half_width(&self) -> Option<f64> {
        self.standard_error.map(|error| error * STANDARD_ERRORS)
    }

    /// The 95 % interval of an estimate whose value and error are finite.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let half = self.half_width()?;
        let ends = [self.value - half, self.value + half];
        ends.iter().all(|end| end.is_finite()).then_some(ends)
    }
}

/// Perplexity of the artifact and of its reference on the same tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Perplexity {
    /// exp of the mean negative log-likelihood over the scored tokens.
    pub value: Figure,
    /// The same of the reference on the same tokens.
    pub reference: Figure,
    /// What the reference is: `f32`, or a package; where nothing is said, f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_kind: Option<String>,
    /// value / reference - 1; its standard error comes from the paired per-token differences.
    pub increase: Figure,
    /// Mean Kullback-Leibler divergence from the reference per token, over the reference's top K and one bin for the
    /// rest: a lower bound of the full divergence.
    pub divergence: Figure,
    /// Share of tokens at which artifact and reference prefer the same token.
    pub same_top: Figure,
    /// Length of each window in tokens; the first token of a window is not scored.
    pub window: u64,
    /// Tokens between the starts of two windows.
    pub stride: u64,
    /// Windows scored.
    pub windows: u64,
    /// Tokens scored whose log-likelihood is not finite; they make the evaluation invalid.
    pub non_finite: u64,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// value - reference; its standard error has the covariance of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Figure>,
    /// ln(value / reference), nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_ratio: Option<Figure>,
    /// Correlation of ln value and ln reference as estimates, from the sums of the windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<f64>,
    /// Tokens of the reference that the divergence knows one by one at each position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u64>,
    /// By how much the mean divergence may be larger at most for what one bin for the rest hides, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence_bound: Option<Figure>,
    /// Order statistics of the divergence, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence_spread: Option<Spread>,
    /// The same of tokens that the reference is more or less sure of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<Bucket>,
    /// How the probability of the token that follows changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability_change: Option<ProbabilityChange>,
    /// Σ p q over the reference's top K: how often both would draw the same token, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_sampled: Option<Figure>,
    /// What the reference measures against itself with noise of the size of fp16 rounding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<NoiseFloor>,
}

/// Order statistics over all scored tokens, by nearest rank; a percentile is given only where there are so many tokens
/// that it is not the extreme itself (99 and 1 from 200, 99.9 and 0.1 from 2,000).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Largest.
    pub max: f64,
    /// 99.9th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_9: Option<f64>,
    /// 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// 95th percentile.
    pub p95: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 75th percentile.
    pub p75: f64,
    /// Median.
    pub p50: f64,
    /// 25th percentile.
    pub p25: f64,
    /// 10th percentile.
    pub p10: f64,
    /// 5th percentile.
    pub p5: f64,
    /// 1st percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p1: Option<f64>,
    /// 0.1th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p0_1: Option<f64>,
    /// Smallest.
    pub min: f64,
}

/// Tokens at which the probability of the reference's first choice lies within `from..to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// Lower end, which belongs to it.
    pub from: f64,
    /// Upper end, which does not, but for 1.
    pub to: f64,
    /// Mean divergence there, nats.
    pub divergence: Figure,
    /// Its median.
    pub median: f64,
    /// Share of tokens with the same first choice.
    pub same_top: Figure,
}

/// How the probability of the token that follows changes: the artifact's less the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbabilityChange {
    /// Mean.
    pub mean: Figure,
    /// Square root of the mean square.
    pub rms: Figure,
    /// Order statistics.
    pub spread: Spread,
}

/// What the reference measures against itself when it is computed with noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoiseFloor {
    /// What was done to it, in words.
    pub how: String,
    /// Mean divergence, nats.
    pub divergence: Figure,
    /// Increase of the perplexity.
    pub increase: Figure,
    /// Share of tokens with the same first choice.
    pub same_top: Figure,
}

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The unit.
    pub unit: String,
}

/// Two artifacts on the same tokens: figures of `b` less those of `a`, with intervals by block bootstrap over windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paired {
    /// The first artifact.
    pub a: String,
    /// The second one.
    pub b: String,
    /// Tokens that both scored.
    pub n: u64,
    /// Windows: the blocks that are drawn.
    pub windows: u64,
    /// Difference of the mean divergences, nats.
    pub divergence: Interval,
    /// ln(perplexity of b / perplexity of a), nats.
    pub log_perplexity: Interval,
    /// Difference of the shares of tokens with the reference's first choice.
    pub same_top: Interval,
}

/// Greedy transcripts against the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transcripts {
    /// One per prompt.
    pub prompts: Vec<Transcript>,
    /// Prompts whose transcript equals the reference's to the end.
    pub equal: u64,
    /// Mean share of the reference's tokens before the first divergence.
    pub agreement: Figure,
    /// True if the prompts are a user's messages in the model's chat template.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chat_template: bool,
    /// The logits along the reference's transcripts, where they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<Logits>,
}

/// The artifact's logits beside the reference's after every token of the prompts and the reference's continuations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logits {
    /// √(Σ (x − r)² / Σ r²) over the reference's `top_k` likeliest tokens, x and r less their means at each position.
    pub error: Figure,
    /// Share of positions at which artifact and reference prefer the same token.
    pub same_top: Figure,
    /// Tokens of the reference that are compared at each position.
    pub top_k: u64,
    /// Positions whose logits are not finite; they make the comparison invalid.
    pub non_finite: u64,
}

/// One greedy transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transcript {
    /// The prompt.
    pub prompt: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// What the artifact wrote.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What the reference wrote.
    pub reference_text: String,
    /// The reference's tokens.
    pub reference_tokens: Vec<u32>,
    /// Index of the first token that differs, if one does.
    pub first_divergence: Option<u64>,
    /// The reference's logit margin between its first and second choice at that token: small means a near tie.
    pub margin: Option<f64>,
    /// The reference's largest logit there less that of the artifact's token, or less its fifth where that is above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<f64>,
    /// The largest magnitude of the reference's five largest logits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<f64>,
}

/// Logit margin below which two choices of the reference count as tied.
///
/// Logits of a language model reach 8 to 32, where neighbouring fp16 values lie 1/128 to 1/64 apart; the roundings of a
/// forward pass add up to several of those steps. A tenth is 6 to 13 steps.
///
/// Where the size of the logits is known, [`near_tie`] is used instead.
pub const NEAR_TIE: f64 = 0.1;

/// The same for logits of which the largest has the magnitude `peak`: ten steps of 2⁻¹⁰, fp16's relative step.
///
/// It is a tenth at 10. Logits of a small random model are below 1 and would all be tied at a tenth; those of GPT-2 lie near
/// -100, where fp16 itself has steps of 1/16.
pub fn near_tie(peak: Option<f64>) -> f64 {
    peak.map_or(NEAR_TIE, |peak| peak.abs() / 100.0)
}

impl Transcript {
    /// What the reference's logits lose by the artifact's token at the first difference; infinite where that is not known.
    pub fn lost(&self) -> f64 {
        self.lost.or(self.margin).unwrap_or(f64::INFINITY)
    }

    /// True if the first difference is a near tie of the reference's, which rounding decides.
    pub fn is_tied(&self) -> bool {
        self.lost() < near_tie(self.peak)
    }
}

/// Embeddings against the reference's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Similarity {
    /// Mean cosine.
    pub mean: Figure,
    /// Smallest cosine.
    pub minimum: Figure,
    /// The sentence with the smallest cosine.
    pub worst: String,
    /// What the reference is: the checkpoint itself, or the LLM2Vec checkpoint on the base it was trained on.
    pub reference: String,
    /// 1st percentile of the cosines, from 200 sentences on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p1: Option<f64>,
    /// Do sentences keep their neighbours, from three sentences on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<Neighbours>,
}

/// Agreement of nearest neighbours with the reference; mean cosines can hide changes of rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbours {
    /// How many neighbours are looked at.
    pub k: u64,
    /// Mean share of a sentence's `k` nearest by the reference that are among its `k` nearest here.
    pub recall: Figure,
    /// Spearman's rank correlation of the cosines of all pairs.
    pub spearman: Figure,
}

/// Times of calls, where and how often they were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// The runtime that was timed: `interp` or `coreml`.
    pub runtime: String,
    /// Opening the package and planning its functions, milliseconds.
    pub load: Figure,
    /// One `init` call of a full chunk.
    pub init: Option<Percentiles>,
    /// One `decode` step.
    pub decode: Option<Percentiles>,
    /// One `encode` call.
    pub encode: Option<Percentiles>,
    /// Energy that the processor took for a `decode` step on the mean, joules, with whatever else ran; where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_energy: Option<Figure>,
}

/// Order statistics of a sample of times in milliseconds; a percentile is given only where `n` supports it
/// (p50 from 5, p90 from 20, p99 from 200 observations).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Observations, warm-up excluded.
    pub n: u64,
    /// Calls before the first observation.
    pub warm_up: u64,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Mean.
    pub mean: f64,
    /// One standard error of the median, where there is one: 1.2533 · 1.4826 · MAD / √n, with the median absolute deviation
    /// as the measure of spread that a few slow calls do not move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_error: Option<f64>,
}

impl Spread {
    /// The statistics of `values`; nothing where there are none.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let (min, max) = (*values.first()?, *values.last()?);
        let at = |thousandths: usize| values[nearest_rank(n, thousandths)];
        let from = |least: usize, thousandths: usize| (n >= least).then(|| at(thousandths));
        Some(Self {
            max,
            p99_9: from(2_000, 999),
            p99: from(200, 990),
            p95: at(950),
            p90: at(900),
            p75: at(750),
            p50: at(500),
            p25: at(250),
            p10: at(100),
            p5: at(50),
            p1: from(200, 10),
            p0_1: from(2_000, 1),
            min,
        })
    }
}

/// Index of the smallest of `n` sorted observations that at least this share, in thousandths, does not exceed.
fn nearest_rank(n: usize, thousandths: usize) -> usize {
    (n * thousandths).div_ceil(1000).max(1) - 1
}

impl Percentiles {
    /// The statistics of `times` by nearest rank (the smallest observation that at least the given share does not
    /// exceed), or nothing where there are none.
    pub fn of(mut times: Vec<f64>, warm_up: u64) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let n = times.len();
        let at = |percent: usize, least: usize| {
            (n >= least).then(|| times[nearest_rank(n, percent * 10)])
        };
        let mean = if n == 0 { return None } else { times.iter().sum::<f64>() / n as f64 };
        let p50 = at(50, 5);
        let median_error = p50.map(|median| {
            let mut away: Vec<f64> = times.iter().map(|x| (x - median).abs()).collect();
            away.sort_by(f64::total_cmp);
            1.2533 * 1.4826 * away[nearest_rank(n, 500)] / (n as f64).sqrt()
        });
        let (p90, p99) = (at(90, 20), at(99, 200));
        Some(Self { n: n as u64, warm_up, p50, p90, p99, mean, median_error })
    }
}

/// What the key/value cache holds and held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KvCache {
    /// `state` or `io`.
    pub form: String,
    /// Bytes of the cache, used or not.
    pub bytes: u64,
    /// Positions there are.
    pub capacity: u64,
    /// Most positions in use at once during the evaluation.
    pub peak_resident: u64,
    /// `peak_resident / capacity`.
    pub residency: f64,
    /// Tokens that had to leave the cache to make room.
    pub evictions: u64,
}

/// Everything measured on one artifact; what was not asked for, or does not apply, is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurements {
    /// Language modelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Perplexity>,
    /// Greedy generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcripts: Option<Transcripts>,
    /// Embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
    /// Times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<KvCache>,
    /// Largest resident memory of the process while evaluating, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The first value that fp16 does not hold, where something was not finite or a transcript differed and one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
}

/// The first value of a function that overflows its type or is not a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overflow {
    /// The function.
    pub function: String,
    /// The value's name, which is the operation's.
    pub value: String,
    /// The kind of operation that computes it.
    pub operation: String,
    /// Its layer, by the names of the weights up to there; absent outside the layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// The last weight that is used up to there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Its declared type.
    pub dtype: String,
    /// Elements compared.
    pub elements: u64,
    /// Elements that are infinite and finite in f32.
    pub overflows: u64,
    /// Elements that are no number.
    pub nans: u64,
    /// The largest magnitude in f32.
    pub largest: f64,
    /// True if it is no number in f32 either, so that no rounding is to blame.
    pub in_f32: bool,
}

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { function, value, operation, dtype, elements, overflows, nans, .. } = self;
        let place = match (self.layer, &self.weight) {
            (Some(layer), _) => format!("layer {layer} of `{function}`"),
            (None, Some(weight)) => format!("`{function}`, after `{weight}`"),
            (None, None) => format!("`{function}`"),
        };
        let what = match (overflows, nans) {
            (0, nans) => format!("{nans} of {elements} elements are NaN"),
            (n, _) => format!("{n} of {elements} elements overflow"),
        };
        write!(f, "`{value}` (`{operation}`) in {place}: {what}")?;
        if self.in_f32 {
            f.write_str(", in f32 too")
        } else {
            write!(f, " {dtype}, the largest is {:.3e} in f32", self.largest)
        }
    }
}

/// JSON has no NaN and no infinities: `serde_json` writes them as `null`.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_given_where_n_supports_them() {
        let of = |n: u32| Percentiles::of((1..=n).rev().map(f64::from).collect(), 2);
        let cases = [
            (4, None, None, None, 2.5, None),
            // Away from 3 by 0, 1, 1, 2, 2: the median of these is 1.
            (5, Some(3.0), None, None, 3.0, Some(1.0)),
            (20, Some(10.0), Some(18.0), None, 10.5, Some(5.0)),
            (200, Some(100.0), Some(180.0), Some(198.0), 100.5, Some(50.0)),
        ];
        assert_eq!(of(0), None);
        for (n, p50, p90, p99, mean, deviation) in cases {
            let root = f64::from(n).sqrt();
            let median_error = deviation.map(|deviation: f64| 1.2533 * 1.4826 * deviation / root);
            let want =
                Percentiles { n: u64::from(n), warm_up: 2, p50, p90, p99, mean, median_error };
            assert_eq!(of(n), Some(want));
        }
    }

    #[test]
    fn spreads_are_given_where_n_supports_them() {
        let of = |n: u32| Spread::of((1..=n).rev().map(f64::from).collect());
        assert_eq!(of(0), None);
        let few = of(10).unwrap();
        assert_eq!((few.min, few.p5, few.p50, few.p95, few.max), (1.0, 1.0, 5.0, 10.0, 10.0));
        assert_eq!((few.p1, few.p99, few.p0_1, few.p99_9), (None, None, None, None));
        let many = of(2000).unwrap();
        assert_eq!((many.p1, many.p99), (Some(20.0), Some(1980.0)));
        assert_eq!((many.p0_1, many.p99_9), (Some(2.0), Some(1998.0)));
        assert_eq!((many.p25, many.p75, many.p10, many.p90), (500.0, 1500.0, 200.0, 1800.0));
    }

    #[test]
    fn figures_come_back_as_they_were_written() {
        for value in [0.0, -1.5, 0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE, 16.984_321_987_654_32] {
            let figure = Figure { value, unit: "1".to_owned(), n: 3, standard_error: Some(value) };
            let text = serde_json::to_string(&figure).unwrap();
            assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure, "{text}");
        }
        for value in [f64::NAN, f64::INFINITY] {
            let figure = Figure { value, unit: "1".to_owned(), n: 3, standard_error: None };
            let text = serde_json::to_string(&figure).unwrap();
            assert_eq!(text, r#"{"value":null,"unit":"1","n":3}"#);
            assert!(serde_json::from_str::<Figure>(&text).unwrap().value.is_nan());
        }
    }
}
