//! A conversion from its request to the finished packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::error::ConvertError;
use super::join::join;
use super::pour::pour;
use super::request::{AdapterMode, KvForm, Request};
use super::table::{Facts, Table};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};
use crate::package::{FileRecord, Model, Package};
use crate::python::Interpreter;
use crate::source::{Adapter, Checkpoint, Weights};

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
    let checkpoint = Checkpoint::open(&request.model)?;
    let mut adapters = Vec::new();
    for path in request.lora.iter().chain(&request.llm2vec) {
        let adapter = Adapter::open(path)?;
        adapter.fits(&checkpoint)?;
        adapters.push(adapter);
    }
    let weights = Weights::new(checkpoint, adapters);

    let scratch = Scratch::new(request)?;
    progress.begin("draw graph", None, Unit::Items);
    let table = draw(request, &weights, python, scratch.path())?;
    progress.end();
    cancel::check()?;

    let mut parts = Vec::new();
    for drawn in &table.functions {
        let path = scratch.path().join(format!("{}.mlpackage", drawn.name));
        let package = Package::open(&path)
            .map_err(|error| ConvertError::Skeleton { function: drawn.name.clone(), error })?;
        parts.push((drawn.name.clone(), package));
    }
    let tensors: BTreeMap<u64, &str> =
        table.placeholders.iter().map(|p| (p.id, p.tensor.as_str())).collect();
    let over_base = |function: &str, id: u64| {
        function == "encode"
            && request.encode_adapters == AdapterMode::Merge
            && !request.llm2vec.is_empty()
            && tensors.get(&id).is_some_and(|t| (0..request.lora.len()).any(|i| weights.changes(i, t)))
    };
    let groups: Vec<(PathBuf, &[(String, Package)])> =
        if request.target.has_functions() || parts.len() == 1 {
            vec![(request.output.clone(), &parts)]
        } else {
            parts.chunks(1).map(|part| (sibling(&request.output, &part[0].0), part)).collect()
        };
    let mut converted = Vec::new();
    for (path, parts) in groups {
        let joined = join(parts, &over_base)?;
        let chat = request.lora.len();
        let (model, files) = pour(joined, &table, &weights, chat, &path, request.replace, progress)?;
        converted.push(Converted { path, model, files, facts: table.facts.clone() });
    }
    Ok(converted)
}

/// `out/x.mlpackage` and `init` as `out/x.init.mlpackage`.
pub(super) fn sibling(output: &Path, function: &str) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}.{function}.mlpackage"))
}

fn check(request: &Request) -> Result<(), ConvertError> {
    if request.kv_cache == KvForm::State && !request.target.has_functions() {
        return Err(ConvertError::NoStates { target: request.target.to_string() });
    }
    if request.output.exists() && !request.replace {
        return Err(ConvertError::Exists { path: request.output.clone() });
    }
    Ok(())
}

fn draw(
    request: &Request,
    weights: &Weights,
    python: &Interpreter,
    out: &Path,
) -> Result<Table, ConvertError> {
    let mut functions = Vec::new();
    if weights.checkpoint().is_decoder() {
        functions.extend(["init", "decode"]);
        if !request.llm2vec.is_empty() {
            functions.push("encode");
        }
    } else {
        functions.push("encode");
    }
    let answer = python.call(&json!({
        "op": "skeleton",
        "model": request.model,
        "out": out,
        "seq_len": request.seq_len,
        "prompt_chunk": request.prompt_chunk,
        "kv_cache": request.kv_cache,
        "target": request.target,
        "functions": functions,
        "encode_adapters": request.llm2vec,
        "encode_mode": request.encode_adapters,
    }))?;
    Ok(serde_json::from_value(answer)?)
}

/// A folder for skeletons, gone at the end unless it is to be kept.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new(request: &Request) -> Result<Self, ConvertError> {
        fs_err::create_dir_all(&request.tmp)?;
        let mut dir = tempfile::TempDir::with_prefix_in("coremill-skeleton-", &request.tmp)?;
        dir.disable_cleanup(request.keep_tmp);
        Ok(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}
