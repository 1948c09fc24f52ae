//! A conversion from its request to the finished packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::error::ConvertError;
use super::join::join;
use super::origin::Origin;
use super::pour::pour;
use super::request::{AdapterMode, KvForm, Request, Target};
use super::table::{Drawn, Facts, Placeholder, Table};
use crate::base::cancel;
use crate::base::fs::{PARTIAL, sweep_stale};
use crate::base::progress::{Progress, Unit};
use crate::package::{FileRecord, Model, Package};
use crate::python::Interpreter;
use crate::source::adapter::{Adapter, ModelChanges};
use crate::source::checkpoint::Checkpoint;
use crate::source::dtype::Float;
use crate::source::llm2vec::{self, Llm2Vec};
use crate::source::weights::{Pour, Weights};

/// One package that a conversion wrote.
#[derive(Debug)]
pub struct Converted {
    /// Where it stands.
    pub path: PathBuf,
    /// Its model, weights in place.
    pub model: Model,
    /// Its files with their digests.
    pub files: Vec<FileRecord>,
    /// What the checkpoint's configuration says.
    pub facts: Facts,
}

/// Converts as `request` says and gives the packages written: one, or one per function where the target's packages
/// hold a single function each (`NAME.init.mlpackage`, `NAME.decode.mlpackage`).
pub fn run(
    request: &Request,
    python: &Interpreter,
    progress: &dyn Progress,
) -> Result<Vec<Converted>, ConvertError> {
    check(request)?;
    let mut weights = open(request)?;
    let scratch = Scratch::new(request)?;
    progress.begin("draw graph", None, Unit::Items);
    let table = draw(request, &weights, python, scratch.path())?;
    progress.end();
    take_out(&mut weights, request, python, scratch.path(), progress)?;
    cancel::check()?;

    let mut parts = Vec::new();
    for drawn in &table.functions {
        let path = scratch.path().join(format!("{}.mlpackage", drawn.name));
        let package = Package::open(&path)
            .map_err(|error| ConvertError::Skeleton { function: drawn.name.clone(), error })?;
        parts.push((drawn.name.clone(), package));
    }
    let placeholders: BTreeMap<u64, &Placeholder> =
        table.placeholders.iter().map(|p| (p.id, p)).collect();
    let origin = |function: &str, id: u64| {
        let placeholder = placeholders.get(&id).ok_or(ConvertError::UnknownPlaceholder { id })?;
        Origin::of(placeholder, function, request, &weights)
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
        let (model, files) = pour(joined, &weights, &path, request.replace, progress)?;
        converted.push(Converted { path, model, files, facts: table.facts.clone() });
    }
    Ok(converted)
}

/// The checkpoint with its adapters, everything checked that can be before Python starts.
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
    let shares = request.encode_adapters == AdapterMode::Branches;
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

/// What the chat adapters make of the model that functions share.
fn shared_changes(request: &Request, weights: &Weights) -> Result<ModelChanges, ConvertError> {
    let chat: Vec<usize> = (0..request.lora.len()).collect();
    Ok(weights.changes(&chat)?)
}

/// What the adapters of `encode` make of the model, where it has weights of its own.
fn encode_changes(request: &Request, weights: &Weights) -> Result<ModelChanges, ConvertError> {
    let chat = request.lora.len();
    let own: Vec<usize> = (chat..chat + request.llm2vec.len()).collect();
    Ok(weights.changes(&own)?)
}

/// Has PEFT compute what the initialisations of adapters take out of the weights they start from, one weight after the
/// other, and puts the factors into `scratch`.
pub(super) fn take_out(
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
        wanted.push((index, before.clone(), weights.initialised(index, &before)?));
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
            let out = scratch.join(format!("taken-out-{index}-{pair}.safetensors"));
            let request = json!({
                "op": "taken_out",
                "weight": weight,
                "out": out,
                "init": branch.init.name(),
                "rank": branch.rank,
                "alpha": config.alpha(&branch.module),
                "use_rslora": config.use_rslora,
                "in_out": branch.in_out,
            });
            let pour = Pour {
                tensor: branch.weight(),
                transpose: false,
                adapters: &before,
                out: Float::F32,
            };
            weights.save(&pour, &weight)?;
            python.call(&request)?;
            fs_err::remove_file(&weight)?;
            weights.set_taken_out(index, pair, &out);
            progress.advance(1);
        }
    }
    progress.end();
    Ok(())
}

/// `out/x.mlpackage` and `init` as `out/x.init.mlpackage`.
pub(super) fn sibling(output: &Path, function: &str) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}.{function}.mlpackage"))
}

pub(super) fn check(request: &Request) -> Result<(), ConvertError> {
    if request.kv_cache == KvForm::State && !request.target.has_functions() {
        return Err(ConvertError::NoStates { target: request.target.to_string() });
    }
    match standing(&request.output, request.target) {
        Some(path) if !request.replace => Err(ConvertError::Exists { path }),
        _ => Ok(()),
    }
}

/// Lengths within the model's positions, and for a decoder a multiple of the prompt chunk.
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

/// What stands where a conversion to `output` would write a package.
pub fn standing(output: &Path, target: Target) -> Option<PathBuf> {
    let mut places = vec![output.to_owned()];
    if !target.has_functions() {
        places.extend(["init", "decode", "encode"].map(|function| sibling(output, function)));
    }
    places.into_iter().find(|path| path.exists())
}

/// The chat adapters that `encode` takes out of the weights it shares, so that it works on the base that its own
/// adapters were trained on: all of them, if each is nothing but low-rank products.
fn undone<'a>(request: &'a Request, weights: &Weights) -> &'a [PathBuf] {
    let shares = !request.llm2vec.is_empty() && request.encode_adapters == AdapterMode::Branches;
    let mut chat = (0..request.lora.len()).map(|i| weights.adapter(i));
    let plain = chat.all(|adapter| adapter.is_ok_and(Adapter::is_plain));
    if shares && plain { &request.lora } else { &[] }
}

/// Whether the function `encode` works on the base alone, not on the base with the chat adapters merged.
pub fn encodes_over_base(request: &Request) -> Result<bool, ConvertError> {
    let undone = undone(request, &open(request)?).len();
    Ok(request.encode_adapters == AdapterMode::Merge || undone == request.lora.len())
}

fn draw(
    request: &Request,
    weights: &Weights,
    python: &Interpreter,
    out: &Path,
) -> Result<Table, ConvertError> {
    let answer = python.call(&skeleton_fields(request, weights, "skeleton", Some(out))?)?;
    Ok(serde_json::from_value(answer)?)
}

/// The fields of the operation `op`, which makes skeletons in the folder `out` or only plans them.
pub(super) fn skeleton_fields(
    request: &Request,
    weights: &Weights,
    op: &str,
    out: Option<&Path>,
) -> Result<serde_json::Value, ConvertError> {
    // Without a list Python draws what the checkpoint has: `init` and `decode`, or `encode`.
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
        "undo_adapters": undone(request, weights),
        "changes": shared_changes(request, weights)?,
        "encode_changes": encode_changes(request, weights)?,
        "encode_mode": request.encode_adapters,
        "allow_unused": request.allow.unused_tensors,
        "untied_head": weights.checkpoint().is_untied(),
    }))
}

/// Converts the plain way: real weights through torch and coremltools, adapters merged by peft. Slow and large; it is
/// what [`run`] is tested against, and the way to what it does not do.
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
        "undo_adapters": undone(request, &weights),
        "changes": shared_changes(request, &weights)?,
        "encode_changes": encode_changes(request, &weights)?,
        "encode_mode": request.encode_adapters,
        "allow_unused": request.allow.unused_tensors,
        "untied_head": weights.checkpoint().is_untied(),
    }))?;
    progress.end();
    let facts: Facts = serde_json::from_value(answer["facts"].clone())?;
    let functions: Vec<Drawn> = serde_json::from_value(answer["functions"].clone())?;
    let written: Vec<(PathBuf, PathBuf)> = if whole.exists() {
        vec![(whole, request.output.clone())]
    } else {
        let at =
            |drawn: &Drawn| (sibling(&whole, &drawn.name), sibling(&request.output, &drawn.name));
        functions.iter().map(at).collect()
    };
    let no_adapters = |_: &str, id: u64| Err(ConvertError::UnknownPlaceholder { id });
    let mut converted = Vec::new();
    for (from, path) in written {
        // Copied through a draft, so that the output is whole or absent and its files have their digests.
        let package = Package::open(&from)
            .map_err(|error| ConvertError::Skeleton { function: "whole".to_owned(), error })?;
        let joined = super::join::copy(&package, &no_adapters)?;
        let (model, files) = pour(joined, &weights, &path, request.replace, progress)?;
        converted.push(Converted { path, model, files, facts: facts.clone() });
    }
    Ok(converted)
}

/// A folder for skeletons, gone at the end unless it is to be kept.
pub(super) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(super) fn new(request: &Request) -> Result<Self, ConvertError> {
        fs_err::create_dir_all(&request.tmp)?;
        sweep_stale(&request.tmp)?;
        // What a killed run leaves is known as half-written by its name; what is kept for a look is not hidden.
        let prefix = if request.keep_tmp { "coremill-skeleton-" } else { PARTIAL };
        let mut dir = tempfile::TempDir::with_prefix_in(prefix, &request.tmp)?;
        dir.disable_cleanup(request.keep_tmp);
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}
