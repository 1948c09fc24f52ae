//! The bench that packages are measured on: runtime, tokenizer, reference.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::context::{Context, StartError};
use crate::base::error::Hint as _;
use crate::cli::failure::Failure;
use crate::eval::reference::{Cached, Checkpoint, Identity, PythonReference};
use crate::eval::reference::{Reference, ReferenceError};
use crate::eval::results::Measurements;
use crate::eval::runtime::{Interp, Runtime};
use crate::eval::{self, Artifact, Bench, Plan, Tokenizer};
use crate::interp::Precision;

/// What conversions and sweeps measure on: what they find is the same on every machine, and a sweep that is resumed may
/// be on another.
pub(super) const INTERP: Interp = Interp { precision: Precision::Declared };

/// What packages are compared with: a checkpoint and the adapters that they have.
#[derive(Debug, Clone)]
pub(super) struct Against {
    /// The checkpoint.
    pub(super) model: PathBuf,
    /// Adapters merged for `init` and `decode`.
    pub(super) lora: Vec<PathBuf>,
    /// Adapters of `encode`, on the base they were trained on.
    pub(super) llm2vec: Vec<PathBuf>,
}

/// The source model in f32, computed by Python when an answer is not in the cache; Python starts only then.
pub(super) fn reference<'a>(
    against: &Against,
    context: &'a Context,
) -> Result<impl Reference + use<'a>, Failure> {
    let versions = context.environment()?.packages.clone();
    let identity = Identity::of(&against.model, &against.lora, &against.llm2vec, versions)?;
    let ask = move |request: &Value| match context.python() {
        Ok(python) => python.call(request).map_err(ReferenceError::from),
        Err(StartError::Python(e)) => Err(e.into()),
        Err(error) => Err(ReferenceError::Failed {
            message: error.to_string(),
            advice: error.hint(),
            blame: error.blame(),
        }),
    };
    let checkpoint = Checkpoint {
        folder: absolute(&against.model),
        adapters: against.lora.iter().map(|path| absolute(path)).collect(),
        encode_adapters: against.llm2vec.iter().map(|path| absolute(path)).collect(),
    };
    let cache = context.settings.cache_dir.join("references");
    let python = PythonReference::new(ask, checkpoint, identity, &cache.join("scratch"));
    Ok(Cached::new(python, &cache))
}

/// Measures the package at `path` as `plan` says.
pub(super) fn measure(
    path: &Path,
    tokenizer: Option<&Path>,
    plan: &Plan,
    reference: &dyn Reference,
    runtime: &dyn Runtime,
    context: &Context,
) -> Result<Measurements, Failure> {
    let artifact = Artifact::open(path)?;
    let tokenizer = Tokenizer::open(&tokenizer_folder(&artifact, tokenizer))?;
    let bench = Bench {
        runtime,
        tokenizer: &tokenizer,
        reference,
        clock: &context.clock,
        progress: &*context.progress,
    };
    Ok(eval::evaluate(&artifact, plan, &bench)?)
}

/// The tokenizer asked for, the package's own, or the one that its folder shares.
pub(super) fn tokenizer_folder(artifact: &Artifact, asked: Option<&Path>) -> PathBuf {
    if let Some(folder) = asked {
        return folder.to_owned();
    }
    let own = artifact.tokenizer_folder();
    let shared = own.with_file_name("tokenizer");
    if own.is_dir() || !shared.is_dir() { own } else { shared }
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
