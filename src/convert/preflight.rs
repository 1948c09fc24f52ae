//! Estimates the size, memory and time of a conversion and checks its input, without Python.

use serde::Serialize;

use super::error::ConvertError;
use super::request::Request;
use super::run;
use crate::base::fmt;
use crate::base::package_options::{EncodeAdapters, KvCacheForm};
use crate::source::llm2vec::Llm2Vec;
use crate::source::record::{AdapterRecord, CheckpointRecord};

/// Estimates and findings for a conversion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preflight {
    /// Number of parameters.
    pub parameters: u64,
    /// Size of the fp16 package in bytes.
    pub package_bytes: u64,
    /// Peak memory in bytes, without the page cache.
    pub memory_bytes: u64,
    /// Duration in seconds on two cores.
    pub seconds: f64,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Record of the checkpoint; absent if the source is a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointRecord>,
}

/// Memory of the Python libraries and a small graph in bytes. This and the constants below are fitted to two conversions
/// (2.76 million and 8.03 billion parameters) on two cores.
const LIBRARIES: u64 = 480 << 20;
/// Memory of one layer during the export in bytes.
const PER_LAYER: u64 = 8 << 20;
/// Memory for writing weights in bytes: a block of rows in f32, merged and rounded.
const WRITE_BUFFERS: u64 = 64 << 20;
/// Duration of imports and a small graph in seconds.
const SECONDS_FIXED: f64 = 9.0;
/// Duration of exporting one layer of all functions in seconds.
const SECONDS_PER_LAYER: f64 = 1.2;
/// Throughput of writing weights with digests in bytes per second.
const BYTES_PER_SECOND: f64 = 400e6;

/// Runs all checks that need no Python and estimates the resources.
pub fn preflight(request: &Request) -> Result<Preflight, ConvertError> {
    run::check(request)?;
    let weights = run::open(request)?;
    let checkpoint = weights.checkpoint();
    let parameters = checkpoint.n_parameters();
    let config = checkpoint.config();
    let layers = config.n_layers as u64;
    let own_encode =
        !request.llm2vec.is_empty() && request.encode_adapters == EncodeAdapters::Merge;
    let copies = if own_encode { 2 } else { 1 };
    let functions = if request.llm2vec.is_empty() { 2 } else { 3 };
    let package_bytes = parameters * 2 * copies + (layers * functions * (48 << 10));
    let free = crate::base::fs::free_bytes(&request.output)?;
    if package_bytes > free {
        return Err(ConvertError::Disk {
            path: request.output.clone(),
            free: fmt::bytes(free),
            needed: fmt::bytes(package_bytes),
        });
    }
    let mut record = CheckpointRecord::of(checkpoint, &request.allow);
    if !request.llm2vec.is_empty() {
        record.llm2vec = Some(Llm2Vec::of(&request.llm2vec)?);
    }
    for index in 0..request.lora.len() + request.llm2vec.len() {
        record.adapters.push(AdapterRecord::of(weights.adapter(index)?));
    }
    let mut warnings = record.warnings.clone();
    if request.kv_cache == KvCacheForm::State && !config.head_dim.is_multiple_of(32) {
        warnings.push(format!(
            "head width {} is no multiple of 32; Core ML refuses such states on some devices (coremltools #2631)",
            config.head_dim
        ));
    }
    if !request.lora.is_empty()
        && !request.llm2vec.is_empty()
        && run::is_over_base(request, &weights)
    {
        warnings.push(
            "`encode` works on the base model: LLM2Vec adapters were trained without the `--lora-checkpoint` adapters, \
             which only `init` and `decode` use"
                .to_owned(),
        );
    }
    if let Err(error) = checkpoint.tokenizer() {
        warnings.push(format!("{error}; text commands will need `--tokenizer`"));
    }
    Ok(Preflight {
        parameters,
        package_bytes,
        memory_bytes: LIBRARIES + layers * PER_LAYER + WRITE_BUFFERS,
        seconds: SECONDS_FIXED
            + layers as f64 * SECONDS_PER_LAYER
            + package_bytes as f64 / BYTES_PER_SECOND,
        warnings,
        checkpoint: Some(record),
    })
}
