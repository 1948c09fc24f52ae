//! Estimates of a sweep: package sizes, time and memory.

use serde::Serialize;
use serde_json::json;

use super::source::Source;
use crate::base::fmt;
use crate::compress::{self, Component, MIN_ELEMENTS, Recipe};
use crate::convert::Preflight;
use crate::eval::defaults;
use crate::package::Package;
use crate::pipeline::Failure;
use crate::quant::scheme::{Fit, ScaleGranularity, TableGranularity};
use crate::quant::{Code, Scheme};
use crate::source::checkpoint::Checkpoint;
use crate::sweep::{Spec, Variant, memory_of, workers};

/// Weights compressed in a second by one scheme, on two cores: half of what `pal4-g16` was measured at.
const WEIGHTS_PER_SECOND: f64 = 60e6;
/// Bytes written in a second, digests included.
const BYTES_PER_SECOND: f64 = 400e6;
/// Operations of a forward pass in a second, on two cores.
const OPERATIONS_PER_SECOND: f64 = 50e9;
/// Tokens that are scored, generated or embedded where the spec does not say: a rough size of its texts.
const TOKENS_OF_PROMPT: u64 = 48;

/// A variant before it is made.
#[derive(Debug, Clone, Serialize)]
pub struct Expected {
    /// Name of the variant.
    pub name: String,
    /// Recipe.
    pub recipe: String,
    /// Fewest bits per weight.
    pub bits: u32,
    /// Bytes of its package, about.
    pub bytes: u64,
}

/// A weight's name as recipes know it, and its shape.
type Shape = (String, Vec<u64>);

/// All variants with their sizes, from the shapes of the weights.
pub(super) fn variants(
    spec: &Spec,
    source: &Source,
    whole: &Preflight,
) -> Result<Vec<Expected>, Failure> {
    let shapes = shapes(source)?;
    let one = |variant: &Variant| {
        let recipe: Recipe = variant.recipe.parse()?;
        let mut bytes = whole.package_bytes;
        for (name, shape) in &shapes {
            let scheme = recipe.scheme_for(name, Component::of(name)).unwrap_or(Scheme::FP16);
            let elements: u64 = shape.iter().product();
            bytes = bytes.saturating_sub(2 * elements) + stored(scheme, shape);
        }
        let Variant { name, recipe, bits } = variant.clone();
        Ok(Expected { name, recipe, bits, bytes })
    };
    spec.plan().variants.iter().map(one).collect()
}

fn shapes(source: &Source) -> Result<Vec<Shape>, Failure> {
    match source {
        Source::Package { path, .. } => {
            let package = Package::open(path)?;
            let weights = compress::weights(package.program(), MIN_ELEMENTS);
            Ok(weights.into_iter().map(|weight| (weight.name, weight.shape)).collect())
        }
        Source::Job(job) => {
            let checkpoint = Checkpoint::open(&job.model.dir)?;
            let shape = |(name, entry): (&str, &crate::source::safetensors::Entry)| {
                let shape: Vec<u64> = entry.shape.iter().map(|&n| n as u64).collect();
                (name.replace('.', "_"), shape)
            };
            let large = |(_, shape): &Shape| {
                shape.len() >= 2 && shape.iter().product::<u64>() >= MIN_ELEMENTS
            };
            Ok(checkpoint.tensors().iter().map(shape).filter(large).collect())
        }
    }
}

/// Bytes of a weight of this shape, output channels first: codes, tables and scales.
fn stored(scheme: Scheme, shape: &[u64]) -> u64 {
    let elements: u64 = shape.iter().product();
    let outputs = shape.first().copied().unwrap_or(1);
    let codes = (elements * u64::from(scheme.bits())).div_ceil(8);
    let besides = match scheme.code {
        Code::Float => 0,
        Code::Palettize(p) => {
            let tables = match p.granularity {
                TableGranularity::PerTensor => 1,
                TableGranularity::PerGroupedChannel(size) => outputs.div_ceil(size as u64),
            };
            let entries = match p.fit {
                Fit::Kmeans(bits) | Fit::Uniform(bits) => 1 << bits.get(),
                Fit::Unique => 0,
            };
            tables * entries * p.cluster_dim as u64 * if p.lut8 { 1 } else { 2 }
        }
        Code::Linear(linear) => {
            let blocks = match linear.granularity {
                ScaleGranularity::PerTensor => 1,
                ScaleGranularity::PerChannel => outputs,
                ScaleGranularity::PerBlock(size) => elements.div_ceil(size as u64),
                ScaleGranularity::PerShape(sizes) => {
                    let pairs = shape.iter().zip(sizes.get());
                    pairs
                        .map(|(&n, &size)| if size == 0 { 1 } else { n.div_ceil(size as u64) })
                        .product()
                }
            };
            let offset = u64::from(linear.has_offset());
            blocks * (2 + offset)
        }
    };
    let mask = if scheme.prune.is_some() { elements.div_ceil(8) } else { 0 };
    (codes + besides + mask).next_multiple_of(64) + 64
}

/// Seconds on two cores, very roughly: conversion, compression, evaluation.
fn seconds(spec: &Spec, all: &[Expected], whole: &Preflight) -> [f64; 3] {
    let parameters = whole.parameters as f64;
    let mut schemes: Vec<&str> = all
        .iter()
        .skip(1)
        .flat_map(|v| v.recipe.split(',').map(|rule| rule.rsplit('=').next().unwrap_or(rule)))
        .collect();
    schemes.sort_unstable();
    schemes.dedup();
    let written: u64 = all.iter().skip(1).map(|v| v.bytes).sum();
    let compress =
        schemes.len() as f64 * parameters / WEIGHTS_PER_SECOND + written as f64 / BYTES_PER_SECOND;
    let evaluate = &spec.evaluate;
    let windows = evaluate.windows.unwrap_or(defaults::WINDOWS);
    let scored = match &evaluate.text {
        Some(_) => windows * evaluate.window(spec.model.seq_len.unwrap_or(256)),
        None => 0,
    };
    let count = |lines: &crate::sweep::Lines| lines.read().map_or(0, |lines| lines.len() as u64);
    let tokens = scored
        + count(&evaluate.prompts)
            * (TOKENS_OF_PROMPT + evaluate.max_new_tokens.unwrap_or(defaults::MAX_TOKENS))
        + count(&evaluate.sentences) * TOKENS_OF_PROMPT
        + evaluate.latency.unwrap_or(0) * TOKENS_OF_PROMPT;
    let one = 2.0 * parameters * tokens as f64 / OPERATIONS_PER_SECOND;
    [whole.seconds, compress, one * all.len() as f64]
}

/// The plan with sizes, time and memory, as one JSON value and as lines.
pub fn summary(spec: &Spec, all: &[Expected], whole: &Preflight) -> (serde_json::Value, String) {
    let mut lines = Vec::new();
    for variant in all {
        let Expected { name, recipe, bytes, .. } = variant;
        lines.push(format!("{name:<24} {recipe:<48} about {}", fmt::bytes(*bytes)));
    }
    let [convert, compress, evaluate] = seconds(spec, all, whole);
    let workers = workers(&spec.run, whole.package_bytes);
    let memory = whole.memory_bytes.max(workers as u64 * memory_of(whole.package_bytes));
    let disk: u64 = all.iter().map(|v| v.bytes).sum();
    let time = |seconds: f64| fmt::duration(std::time::Duration::from_secs_f64(seconds));
    lines.push(format!(
        "{} variants of {} parameters into {}: {}; memory {}",
        all.len(),
        fmt::count(whole.parameters),
        spec.output.dir.display(),
        fmt::bytes(disk),
        fmt::bytes(memory),
    ));
    lines.push(format!(
        "on two cores, very roughly: {} to convert, {} to compress, {} to evaluate",
        time(convert),
        time(compress),
        time(evaluate),
    ));
    if let Some(budget) = &spec.budget {
        let size = budget.max_size.map(|max| format!("{max} B"));
        let bits = budget.max_bits_per_weight.map(|max| format!("{max} bits per weight"));
        let limits: Vec<String> = size.into_iter().chain(bits).collect();
        lines.push(format!(
            "then the best within {}, mixed if that is better",
            limits.join(" and ")
        ));
    }
    let answer = json!({
        "variants": all,
        "expected": {
            "parameters": whole.parameters,
            "package_bytes": whole.package_bytes,
            "disk_bytes": disk,
            "memory_bytes": memory,
            "workers": workers,
            "seconds": {"convert": convert, "compress": compress, "evaluate": evaluate},
            "warnings": whole.warnings,
        },
        "output": spec.output.dir,
    });
    (answer, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_by_hand() {
        // 64 rows of 128: 8192 elements.
        for (scheme, want) in [
            ("fp16", 16384),
            // 4096 of codes, 4 tables of 16 entries.
            ("pal4-g16", 4096 + 4 * 16 * 2),
            ("pal8-t", 8192 + 512),
            ("pal4-g16+lut8", 4096 + 64),
            ("int8-c", 8192 + 64 * 2),
            ("int4-b32", 4096 + 256 * 2),
            ("uint8-c", 8192 + 64 * 3),
            ("int4-b0x16", 4096 + 8 * 2),
        ] {
            let scheme: Scheme = scheme.parse().unwrap();
            let want = u64::next_multiple_of(want, 64) + 64;
            assert_eq!(stored(scheme, &[64, 128]), want, "{scheme}");
        }
    }
}
