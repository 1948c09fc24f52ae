//! What a conversion will need, told before it begins.

use serde::Serialize;

use super::error::ConvertError;
use super::request::{AdapterMode, KvForm, Request};
use super::run;
use crate::base::fmt;
use crate::source::llm2vec::Llm2Vec;
use crate::source::record::{AdapterRecord, CheckpointRecord};

/// What is expected of a conversion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preflight {
    /// Parameters of the checkpoint.
    pub parameters: u64,
    /// Bytes of the fp16 package.
    pub package_bytes: u64,
    /// Bytes of memory beyond the page cache.
    pub memory_bytes: u64,
    /// Seconds on two cores.
    pub seconds: f64,
    /// What may go wrong later, and what was read otherwise than one might think.
    pub warnings: Vec<String>,
    /// How the checkpoint was read; none where a package is there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointRecord>,
}

/// Memory of the libraries and a small graph. This and the figures below are fitted to two conversions, of 2.76 million
/// and of 8.03 billion parameters, on two cores.
const LIBRARIES: u64 = 480 << 20;
/// Memory that each layer's graph adds while coremltools works on it.
const PER_LAYER: u64 = 8 << 20;
/// Memory of the pour: a block of rows in f32, merged and rounded.
const POUR: u64 = 64 << 20;
/// Seconds of import and of a small graph.
const SECONDS_FIXED: f64 = 9.0;
/// Seconds that each layer's graph adds, all functions.
const SECONDS_PER_LAYER: f64 = 1.2;
/// Bytes of weights poured in a second, digests included.
const BYTES_PER_SECOND: f64 = 400e6;

/// Checks what can be checked before Python starts, and estimates the rest.
pub fn preflight(request: &Request) -> Result<Preflight, ConvertError> {
    run::check(request)?;
    let weights = run::open(request)?;
    let checkpoint = weights.checkpoint();
    let parameters = checkpoint.n_parameters();
    let config = checkpoint.config();
    let layers = config.n_layers as u64;
    let own_encode = !request.llm2vec.is_empty() && request.encode_adapters == AdapterMode::Merge;
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
    if request.kv_cache == KvForm::State && !config.head_dim.is_multiple_of(32) {
        warnings.push(format!(
            "head width {} is no multiple of 32; Core ML refuses such states on some devices (coremltools #2631)",
            config.head_dim
        ));
    }
    if let Err(error) = checkpoint.tokenizer() {
        warnings.push(format!("{error}; text commands will need `--tokenizer`"));
    }
    Ok(Preflight {
        parameters,
        package_bytes,
        memory_bytes: LIBRARIES + layers * PER_LAYER + POUR,
        seconds: SECONDS_FIXED
            + layers as f64 * SECONDS_PER_LAYER
            + package_bytes as f64 / BYTES_PER_SECOND,
        warnings,
        checkpoint: Some(record),
    })
}
