//! Runs a conversion from its request to the finished packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::error::ConvertError;
use super::join::join;
use super::origin::WeightOrigin;
use super::request::Request;
use super::skeleton::{ExportedFunction, ModelInfo, Placeholder, SkeletonInfo};
use super::write_weights::write_weights;
use crate::base::cancel;
use crate::base::fs::{PARTIAL, sweep_stale};
use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::base::progress::{Progress, Unit};
use crate::package::{FileRecord, Model, Package};
use crate::python::Interpreter;
use crate::source::adapter::{Adapter, ModelChanges};
use crate::source::checkpoint::Checkpoint;
use crate::source::dtype::Float;
use crate::source::llm2vec::{self, Llm2Vec};
use crate::source::weights::{WeightRequest, Weights};

/// A package written by a conversion.
#[derive(Debug)]
pub struct Converted {
    /// Path of the package.
    pub path: PathBuf,
    /// Model with final blob offsets.
    pub model: Model,
    /// Files with digests.
    pub files: Vec<FileRecord>,
    /// Model information.
    pub facts: ModelInfo,
}

/// Runs the conversion. Returns the package, or one package per function for targets without multifunction packages
/// (`NAME.init.mlpackage`, `NAME.decode.mlpackage`).
pub fn run(
    request: &Request,
    python: &Interpreter,
    progress: &dyn Progress,
) -> Result<Vec<Converted>, ConvertError> {
    check(request)?;
    let mut weights = open(request)?;
    let scratch = Scratch::new(request)?;
    progress.begin("export graph", None, Unit::Items);
    let skeleton = export(request, &weights, python, scratch.path())?;
    progress.end();
    compute_initial_products(&mut weights, request, python, scratch.path(), progress)?;
    cancel::check()?;

    let mut parts = Vec::new();
    for function in &skeleton.functions {
        let path = scratch.path().join(format!("{}.mlpackage", function.name));
        let package = Package::open(&path)
            .map_err(|error| ConvertError::Skeleton { function: function.name.clone(), error })?;
        parts.push((function.name.clone(), package));
    }
    let placeholders: BTreeMap<u64, &Placeholder> =
        skeleton.placeholders.iter().map(|p| (p.id, p)).collect();
    let origin = |function: &str, id: u64| {
        let placeholder = placeholders.get(&id).ok_or(ConvertError::UnknownPlaceholder { id })?;
        WeightOrigin::of(placeholder, function, request, &weights)
    };
    let together = request.target.has_functions() || parts.len() == 1;
    let groups: Vec<(PathBuf, &[(String, Package)])> = if together {
        vec![(request.output.clone(), &parts)]
    } else {
        parts.chunks(1).map(|part| (sibling(&request.output, &part[0].0), part)).collect()
    };
    let mut converted = Vec::new();
    for (path, parts) in groups {
        let joined = join(parts, &origin)?;
        let (model, files) = write_weights(joined, &weights, &path, request.replace, progress)?;
        converted.push(Converted { path, model, files, facts: skeleton.facts.clone() });
    }
    Ok(converted)
}

/// Opens the checkpoint and its adapters and runs all checks that need no Python.
pub(super) fn open(request: &Request) -> Result<Weights, ConvertError> {
    let checkpoint = Checkpoint::open(&request.model)?;
    checkpoint.check(&request.allow)?;
    check_lengths(request, &checkpoint)?;
    if !request.llm2vec.is_empty() {
        if let Some(module) = checkpoint.modules().first() {
            return Err(ConvertError::TwoEncoders { class: module.class.clone() });
        }
        Llm2Vec::of(&request.llm2vec)?;
        llm2vec::trained_as(checkpoint.model_dir(), &request.llm2vec)?;
    }
    let mut adapters = Vec::new();
    for path in request.lora.iter().chain(&request.llm2vec) {
        adapters.push(Adapter::open(path)?);
    }
    let shares = request.encode_adapters == EncodeAdapters::Branches;
    if shares {
        for adapter in &adapters[request.lora.len()..] {
            adapter.check_branches()?;
        }
    }
    let weights = Weights::new(checkpoint, adapters, request.lora.len())?;
    if shares && !request.llm2vec.is_empty() && shared_changes(request, &weights)?.layers.is_some()
    {
        let adapter = request.llm2vec[0].clone();
        return Err(ConvertError::ReplicatedLayers { adapter });
    }
    Ok(weights)
}

/// Returns the model changes of the chat adapters.
fn shared_changes(request: &Request, weights: &Weights) -> Result<ModelChanges, ConvertError> {
    let chat: Vec<usize> = (0..request.lora.len()).collect();
    Ok(weights.changes(&chat)?)
}

/// Returns the model changes of the encode adapters, for `encode` with separate weights.
fn encode_changes(request: &Request, weights: &Weights) -> Result<ModelChanges, ConvertError> {
    let chat = request.lora.len();
    let own: Vec<usize> = (chat..chat + request.llm2vec.len()).collect();
    Ok(weights.changes(&own)?)
}

/// Computes with PEFT, one weight at a time, the initial low-rank products that initialisations such as `PiSSA` subtract
/// from the base weights. The factors are written to `scratch`.
pub(super) fn compute_initial_products(
    weights: &mut Weights,
    request: &Request,
    python: &Interpreter,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<(), ConvertError> {
    let chat = request.lora.len();
    let mut wanted = Vec::new();
    for index in 0..chat + request.llm2vec.len() {
        let first = if index < chat { 0 } else { chat };
        let before: Vec<usize> = (first..index).collect();
        wanted.push((index, before.clone(), weights.pairs_to_initialize(index, &before)?));
    }
    let total: usize = wanted.iter().map(|(_, _, pairs)| pairs.len()).sum();
    if total == 0 {
        return Ok(());
    }
    progress.begin("initialise adapters", Some(total as u64), Unit::Items);
    for (index, before, pairs) in wanted {
        for pair in pairs {
            cancel::check()?;
            let branch = weights.fit(index)?.branches()[pair].clone();
            let config = weights.adapter(index)?.config();
            let weight = scratch.join("weight.safetensors");
            let out = scratch.join(format!("initial-product-{index}-{pair}.safetensors"));
            let request = json!({
                "op": "initial_product",
                "weight": weight,
                "out": out,
                "init": branch.init.name(),
                "rank": branch.rank,
                "alpha": config.alpha(&branch.module),
                "use_rslora": config.use_rslora,
                "in_out": branch.in_out,
            });
            let pour = WeightRequest {
                tensor: branch.weight(),
                transpose: false,
                adapters: &before,
                out: Float::F32,
            };
            weights.save(&pour, &weight)?;
            python.call(&request)?;
            fs_err::remove_file(&weight)?;
            weights.set_initial_product(index, pair, &out);
            progress.advance(1);
        }
    }
    progress.end();
    Ok(())
}

/// Returns `out/x.init.mlpackage` for `out/x.mlpackage` and `init`.
pub(super) fn sibling(output: &Path, function: &str) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}.{function}.mlpackage"))
}

pub(super) fn check(request: &Request) -> Result<(), ConvertError> {
    if request.kv_cache == KvCacheForm::State && !request.target.has_functions() {
        return Err(ConvertError::NoStates { target: request.target.to_string() });
    }
    match existing_output(&request.output, request.target) {
        Some(path) if !request.replace => Err(ConvertError::Exists { path }),
        _ => Ok(()),
    }
}

/// Checks that the length fits the model's positions and, for a decoder, is a multiple of the prompt chunk.
fn check_lengths(request: &Request, checkpoint: &Checkpoint) -> Result<(), ConvertError> {
    let (seq_len, chunk) = (request.seq_len, request.prompt_chunk.max(1));
    let step = if checkpoint.is_decoder() { chunk } else { 1 };
    let as_usize = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    checkpoint.check_seq_len(as_usize(seq_len), as_usize(step))?;
    if seq_len.is_multiple_of(step) {
        return Ok(());
    }
    let positions = checkpoint.config().max_positions.map_or(u64::MAX, |n| n as u64);
    Err(ConvertError::Chunk { seq_len, chunk, positions })
}

/// Returns an existing path that a conversion to `output` would write to.
pub fn existing_output(output: &Path, target: Target) -> Option<PathBuf> {
    let mut places = vec![output.to_owned()];
    if !target.has_functions() {
        places.extend(["init", "decode", "encode"].map(|function| sibling(output, function)));
    }
    places.into_iter().find(|path| path.exists())
}

/// Returns the chat adapters that `encode` subtracts from the shared weights, so that it works on the base that its own
/// adapters were trained on: all of them if each consists of low-rank pairs only, otherwise none.
fn unmerged_adapters<'a>(request: &'a Request, weights: &Weights) -> &'a [PathBuf] {
    let shares = !request.llm2vec.is_empty() && request.encode_adapters == EncodeAdapters::Branches;
    let mut chat = (0..request.lora.len()).map(|i| weights.adapter(i));
    let plain = chat.all(|adapter| adapter.is_ok_and(Adapter::is_plain));
    if shares && plain { &request.lora } else { &[] }
}

/// True if `encode` works on the base without the chat adapters.
pub fn encodes_over_base(request: &Request) -> Result<bool, ConvertError> {
    Ok(is_over_base(request, &open(request)?))
}

/// [`encodes_over_base`] for opened weights.
pub(super) fn is_over_base(request: &Request, weights: &Weights) -> bool {
    request.encode_adapters == EncodeAdapters::Merge
        || unmerged_adapters(request, weights).len() == request.lora.len()
}

fn export(
    request: &Request,
    weights: &Weights,
    python: &Interpreter,
    out: &Path,
) -> Result<SkeletonInfo, ConvertError> {
    let answer = python.call(&skeleton_fields(request, weights, "skeleton", Some(out))?)?;
    Ok(serde_json::from_value(answer)?)
}

/// Returns the request of the Python operation `op`: `skeleton` with the folder `out`, or `plan`.
pub(super) fn skeleton_fields(
    request: &Request,
    weights: &Weights,
    op: &str,
    out: Option<&Path>,
) -> Result<serde_json::Value, ConvertError> {
    // Without a list Python exports the checkpoint's functions: `init` and `decode`, or `encode`.
    let functions = (!request.llm2vec.is_empty()).then_some(["init", "decode", "encode"]);
    Ok(json!({
        "op": op,
        "model": request.model,
        "out": out,
        "seq_len": request.seq_len,
        "prompt_chunk": request.prompt_chunk,
        "kv_cache": request.kv_cache,
        "target": request.target,
        "functions": functions,
        "encode_adapters": request.llm2vec,
        "unmerge_adapters": unmerged_adapters(request, weights),
        "changes": shared_changes(request, weights)?,
        "encode_changes": encode_changes(request, weights)?,
        "encode_mode": request.encode_adapters,
        "allow_unused": request.allow.unused_tensors,
        "untied_head": weights.checkpoint().is_untied(),
    }))
}

/// Converts with the weights in torch and coremltools and adapters merged by PEFT. Slow and memory-hungry; the
/// independent reference of [`run`].
pub fn run_full(
    request: &Request,
    python: &Interpreter,
    progress: &dyn Progress,
) -> Result<Vec<Converted>, ConvertError> {
    check(request)?;
    let weights = open(request)?;
    let scratch = Scratch::new(request)?;
    let whole = scratch.path().join("whole.mlpackage");
    let functions = (!request.llm2vec.is_empty()).then_some(["init", "decode", "encode"]);
    progress.begin("convert in Python", None, Unit::Items);
    let answer = python.call(&json!({
        "op": "convert_full",
        "model": request.model,
        "out": whole,
        "seq_len": request.seq_len,
        "prompt_chunk": request.prompt_chunk,
        "kv_cache": request.kv_cache,
        "target": request.target,
        "functions": functions,
        "merge_adapters": request.lora,
        "encode_adapters": request.llm2vec,
        "unmerge_adapters": unmerged_adapters(request, &weights),
        "changes": shared_changes(request, &weights)?,
        "encode_changes": encode_changes(request, &weights)?,
        "encode_mode": request.encode_adapters,
        "allow_unused": request.allow.unused_tensors,
        "untied_head": weights.checkpoint().is_untied(),
    }))?;
    progress.end();
    let facts: ModelInfo = serde_json::from_value(answer["facts"].clone())?;
    let functions: Vec<ExportedFunction> = serde_json::from_value(answer["functions"].clone())?;
    let written: Vec<(PathBuf, PathBuf)> = if whole.exists() {
        vec![(whole, request.output.clone())]
    } else {
        let at = |function: &ExportedFunction| {
            (sibling(&whole, &function.name), sibling(&request.output, &function.name))
        };
        functions.iter().map(at).collect()
    };
    let no_adapters = |_: &str, id: u64| Err(ConvertError::UnknownPlaceholder { id });
    let mut converted = Vec::new();
    for (from, path) in written {
        // Copied through a draft, so that the output is complete or absent and its files have digests.
        let package = Package::open(&from)
            .map_err(|error| ConvertError::Skeleton { function: "whole".to_owned(), error })?;
        let joined = super::join::copy(&package, &no_adapters)?;
        let (model, files) = write_weights(joined, &weights, &path, request.replace, progress)?;
        converted.push(Converted { path, model, files, facts: facts.clone() });
    }
    Ok(converted)
}

/// Temporary folder for skeletons, removed at the end unless `keep_tmp`.
pub(super) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(super) fn new(request: &Request) -> Result<Self, ConvertError> {
        fs_err::create_dir_all(&request.tmp)?;
        sweep_stale(&request.tmp)?;
        // The prefix marks what a killed run leaves as incomplete; kept folders are not hidden.
        let prefix = if request.keep_tmp { "coremill-skeleton-" } else { PARTIAL };
        let mut dir = tempfile::TempDir::with_prefix_in(prefix, &request.tmp)?;
        dir.disable_cleanup(request.keep_tmp);
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}
