//! Every figure of a variant under one name each: the columns of the CSV and of the table of all figures.

use std::collections::BTreeSet;

use super::{Report, Variant};
use crate::eval::{
    results::Bucket, results::Figure, results::KvCache, results::Latency, results::Percentiles,
    results::Perplexity, results::Similarity, results::Spread, results::Transcript,
    results::Transcripts,
};

/// Takes a figure from a variant.
type Get = dyn Fn(&Variant) -> Option<Figure>;

/// A figure that variants may have.
pub(super) struct Field {
    /// Its name, which never changes.
    pub(super) key: String,
    /// Whether it has a standard error and a number of observations.
    pub(super) estimate: bool,
    get: Box<Get>,
}

impl Field {
    /// The figure of `variant`.
    pub(super) fn of(&self, variant: &Variant) -> Option<Figure> {
        (self.get)(variant)
    }
}

/// All fields: the fixed ones, in an order that never changes but at its end, then those that depend on what the report
/// holds: ranges of the reference's confidence, prompts, components.
pub(super) fn fields(report: &Report) -> Vec<Field> {
    let mut list = List(Vec::new());
    package(&mut list);
    perplexity(&mut list);
    others(&mut list);
    times(&mut list);
    list.number("predicted_divergence", "nats", |v| v.predicted?.divergence);
    list.number("predicted_relative_error", "1", |v| Some(v.predicted?.relative_error));
    buckets(&mut list, report);
    prompts(&mut list, report);
    let components: BTreeSet<_> =
        report.variants.iter().flat_map(|v| v.components.keys()).collect();
    for name in components {
        let name = name.clone();
        list.whole(&format!("bytes_{name}"), "bytes", move |v| v.components.get(&name).copied());
    }
    list.0
}

/// The divergence of the tokens of which the reference is so sure, range by range: `confidence_25_50_divergence`.
fn buckets(list: &mut List, report: &Report) {
    let all = report.variants.iter().filter_map(perplexity_of).flat_map(|p| &p.buckets);
    let ranges: BTreeSet<_> = all.map(|b| (range(b), [b.from, b.to].map(f64::to_bits))).collect();
    for (name, ends) in ranges {
        let name = |what: &str| format!("confidence_{}_{what}", name.1);
        list.figure(&name("divergence"), move |v| Some(&bucket_of(v, ends)?.divergence));
        list.number(&name("median"), "nats", move |v| Some(bucket_of(v, ends)?.median));
        list.figure(&name("same_top"), move |v| Some(&bucket_of(v, ends)?.same_top));
    }
}

fn bucket_of(variant: &Variant, ends: [u64; 2]) -> Option<&Bucket> {
    let found = |b: &&Bucket| [b.from, b.to].map(f64::to_bits) == ends;
    perplexity_of(variant)?.buckets.iter().find(found)
}

/// The ends of a range of probabilities in percent, as what sorts and as it stands in a name: `25_50`, `99.9_100`.
fn range(bucket: &Bucket) -> (i64, String) {
    // The ends are decimal numbers; what binary fractions add to their hundredfold is not.
    let percent = |end: f64| (end * 1e8).round() / 1e6;
    let order = (percent(bucket.from) * 1e6) as i64;
    (order, format!("{}_{}", percent(bucket.from), percent(bucket.to)))
}

/// Where each transcript leaves the reference's, and how near a tie that was: `transcript_1_margin`.
fn prompts(list: &mut List, report: &Report) {
    let most = report.variants.iter().filter_map(transcripts_of).map(|t| t.prompts.len()).max();
    for at in 0..most.unwrap_or(0) {
        let name = |what: &str| format!("transcript_{}_{what}", at + 1);
        list.whole(&name("first_divergence"), "tokens", move |v| {
            prompt_of(v, at)?.first_divergence
        });
        list.number(&name("margin"), "logits", move |v| prompt_of(v, at)?.margin);
    }
}

fn prompt_of(variant: &Variant, at: usize) -> Option<&Transcript> {
    transcripts_of(variant)?.prompts.get(at)
}

struct List(Vec<Field>);

impl List {
    fn push(
        &mut self,
        key: &str,
        estimate: bool,
        get: impl Fn(&Variant) -> Option<Figure> + 'static,
    ) {
        self.0.push(Field { key: key.to_owned(), estimate, get: Box::new(get) });
    }

    /// An estimate with its error.
    fn figure(&mut self, key: &str, get: impl Fn(&Variant) -> Option<&Figure> + 'static) {
        self.push(key, true, move |v| get(v).cloned());
    }

    /// A number alone.
    fn number(
        &mut self,
        key: &str,
        unit: &'static str,
        get: impl Fn(&Variant) -> Option<f64> + 'static,
    ) {
        self.push(key, false, move |v| {
            get(v).map(|value| Figure { value, unit: unit.to_owned(), n: 0, standard_error: None })
        });
    }

    /// A whole number.
    fn whole(
        &mut self,
        key: &str,
        unit: &'static str,
        get: impl Fn(&Variant) -> Option<u64> + 'static,
    ) {
        self.number(key, unit, move |v| get(v).map(|n| n as f64));
    }

    /// The order statistics of a distribution.
    fn spread(
        &mut self,
        key: &str,
        unit: &'static str,
        get: impl Fn(&Variant) -> Option<&Spread> + Copy + 'static,
    ) {
        for (name, at) in ORDER {
            self.number(&format!("{key}_{name}"), unit, move |v| at(get(v)?));
        }
    }

    /// The order statistics of a call's times.
    fn call(&mut self, key: &str, get: impl Fn(&Variant) -> Option<&Percentiles> + Copy + 'static) {
        let name = |what: &str| format!("{key}_{what}");
        self.push(&name("p50"), true, move |v| {
            let times = get(v)?;
            let (value, standard_error) = (times.p50?, times.median_error);
            Some(Figure { value, unit: "ms".to_owned(), n: times.n, standard_error })
        });
        self.number(&name("p90"), "ms", move |v| get(v)?.p90);
        self.number(&name("p99"), "ms", move |v| get(v)?.p99);
        self.number(&name("mean"), "ms", move |v| Some(get(v)?.mean));
        self.whole(&name("n"), "1", move |v| Some(get(v)?.n));
        self.whole(&name("warm_up"), "1", move |v| Some(get(v)?.warm_up));
    }
}

/// An order statistic: its name, and where it stands.
pub(super) type Order = (&'static str, fn(&Spread) -> Option<f64>);

/// The order statistics, from the largest down.
pub(super) const ORDER: [Order; 13] = [
    ("max", |s| Some(s.max)),
    ("p99_9", |s| s.p99_9),
    ("p99", |s| s.p99),
    ("p95", |s| Some(s.p95)),
    ("p90", |s| Some(s.p90)),
    ("p75", |s| Some(s.p75)),
    ("p50", |s| Some(s.p50)),
    ("p25", |s| Some(s.p25)),
    ("p10", |s| Some(s.p10)),
    ("p5", |s| Some(s.p5)),
    ("p1", |s| s.p1),
    ("p0_1", |s| s.p0_1),
    ("min", |s| Some(s.min)),
];

fn package(list: &mut List) {
    list.whole("size_bytes", "bytes", |v| v.size_bytes);
    list.whole("largest_file_bytes", "bytes", |v| v.largest_file_bytes);
    list.whole("weight_bytes", "bytes", |v| v.weight_bytes);
    list.whole("parameters", "1", |v| v.parameters);
    list.number("bits_per_weight", "bits", |v| v.bits_per_weight);
}

fn perplexity_of(variant: &Variant) -> Option<&Perplexity> {
    variant.measurements.perplexity.as_ref()
}

fn perplexity(list: &mut List) {
    list.figure("perplexity", |v| Some(&perplexity_of(v)?.value));
    list.figure("reference_perplexity", |v| Some(&perplexity_of(v)?.reference));
    list.figure("perplexity_increase", |v| Some(&perplexity_of(v)?.increase));
    list.figure("perplexity_difference", |v| perplexity_of(v)?.difference.as_ref());
    list.figure("log_perplexity_ratio", |v| perplexity_of(v)?.log_ratio.as_ref());
    list.number("perplexity_correlation", "1", |v| perplexity_of(v)?.correlation);
    list.figure("divergence", |v| Some(&perplexity_of(v)?.divergence));
    list.figure("divergence_bound", |v| perplexity_of(v)?.divergence_bound.as_ref());
    list.spread("divergence", "nats", |v| perplexity_of(v)?.divergence_spread.as_ref());
    list.figure("same_top", |v| Some(&perplexity_of(v)?.same_top));
    list.figure("same_sampled", |v| perplexity_of(v)?.same_sampled.as_ref());
    list.figure("probability_change_mean", |v| {
        Some(&perplexity_of(v)?.probability_change.as_ref()?.mean)
    });
    list.figure("probability_change_rms", |v| {
        Some(&perplexity_of(v)?.probability_change.as_ref()?.rms)
    });
    list.spread("probability_change", "1", |v| {
        Some(&perplexity_of(v)?.probability_change.as_ref()?.spread)
    });
    list.figure("noise_divergence", |v| Some(&perplexity_of(v)?.noise_floor.as_ref()?.divergence));
    list.figure("noise_increase", |v| Some(&perplexity_of(v)?.noise_floor.as_ref()?.increase));
    list.figure("noise_same_top", |v| Some(&perplexity_of(v)?.noise_floor.as_ref()?.same_top));
    list.whole("window", "tokens", |v| Some(perplexity_of(v)?.window));
    list.whole("stride", "tokens", |v| Some(perplexity_of(v)?.stride));
    list.whole("windows", "1", |v| Some(perplexity_of(v)?.windows));
    list.whole("non_finite", "tokens", |v| Some(perplexity_of(v)?.non_finite));
    list.whole("top_k", "tokens", |v| perplexity_of(v)?.top_k);
}

fn transcripts_of(variant: &Variant) -> Option<&Transcripts> {
    variant.measurements.transcripts.as_ref()
}

fn similarity_of(variant: &Variant) -> Option<&Similarity> {
    variant.measurements.similarity.as_ref()
}

fn others(list: &mut List) {
    list.whole("transcripts", "1", |v| Some(transcripts_of(v)?.prompts.len() as u64));
    list.whole("transcripts_equal", "1", |v| Some(transcripts_of(v)?.equal));
    list.figure("transcripts_agreement", |v| Some(&transcripts_of(v)?.agreement));
    list.figure("cosine_mean", |v| Some(&similarity_of(v)?.mean));
    list.figure("cosine_minimum", |v| Some(&similarity_of(v)?.minimum));
    list.number("cosine_p1", "1", |v| similarity_of(v)?.p1);
    list.figure("neighbour_recall", |v| Some(&similarity_of(v)?.neighbours.as_ref()?.recall));
    list.figure("neighbour_spearman", |v| Some(&similarity_of(v)?.neighbours.as_ref()?.spearman));
    list.whole("neighbours_k", "1", |v| Some(similarity_of(v)?.neighbours.as_ref()?.k));
}

fn latency_of(variant: &Variant) -> Option<&Latency> {
    variant.measurements.latency.as_ref()
}

fn kv_cache_of(variant: &Variant) -> Option<&KvCache> {
    variant.measurements.kv_cache.as_ref()
}

fn times(list: &mut List) {
    list.figure("load_ms", |v| Some(&latency_of(v)?.load));
    list.call("init_ms", |v| latency_of(v)?.init.as_ref());
    list.call("decode_ms", |v| latency_of(v)?.decode.as_ref());
    list.call("encode_ms", |v| latency_of(v)?.encode.as_ref());
    list.figure("decode_energy", |v| latency_of(v)?.decode_energy.as_ref());
    list.whole("cache_bytes", "bytes", |v| Some(kv_cache_of(v)?.bytes));
    list.whole("cache_capacity", "positions", |v| Some(kv_cache_of(v)?.capacity));
    list.whole("cache_peak_resident", "positions", |v| Some(kv_cache_of(v)?.peak_resident));
    list.number("cache_residency", "1", |v| Some(kv_cache_of(v)?.residency));
    list.whole("cache_evictions", "tokens", |v| Some(kv_cache_of(v)?.evictions));
    list.whole("peak_memory_bytes", "bytes", |v| v.measurements.peak_memory);
    list.number("convert_seconds", "s", |v| v.timings.convert);
    list.number("compress_seconds", "s", |v| v.timings.compress);
    list.number("evaluate_seconds", "s", |v| v.timings.evaluate);
}
