//! The context that packages are measured on: runtime, tokenizer, reference.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::open_tokenizer::open_tokenizer;
use super::session::{Session, StartError};
use crate::base::error::Hint as _;
use crate::base::progress::Progress;
use crate::eval::{self, EvalContext, Evaluated, Plan};
use crate::eval::{
    reference::Cached, reference::Checkpoint, reference::Identity, reference::PackageReference,
    reference::PythonReference,
};
use crate::eval::{reference::Reference, reference::ReferenceError};
use crate::interp::Precision;
use crate::lm::Artifact;
use crate::pipeline::Failure;
use crate::runtime::{Interp, Runtime};

/// What conversions and sweeps measure on: what they find is the same on every machine, and a sweep that is resumed may
/// be on another.
pub(crate) const INTERP: Interp = Interp { precision: Precision::Declared };

/// Reference source for comparisons.
#[derive(Debug, Clone)]
pub(crate) enum ReferenceSource {
    /// A checkpoint and the adapters that they have.
    Checkpoint {
        /// The checkpoint.
        model: PathBuf,
        /// Adapters merged for `init` and `decode`.
        lora: Vec<PathBuf>,
        /// Adapters of `encode`, on the base they were trained on.
        llm2vec: Vec<PathBuf>,
    },
    /// Another package.
    Package(PathBuf),
}

/// What answers for `source`: the source model in f32, computed by Python, which starts only when an answer is not in the
/// cache; or the package, run here. Answers are kept in the folder `kept`, or in coremill's cache.
pub(crate) fn reference<'a>(
    source: &ReferenceSource,
    kept: Option<&Path>,
    session: &'a Session,
) -> Result<Box<dyn Reference + 'a>, Failure> {
    let cache = kept.map_or_else(|| session.settings.cache_dir.join("references"), Path::to_owned);
    let (model, lora, llm2vec) = match source {
        ReferenceSource::Checkpoint { model, lora, llm2vec } => (model, lora, llm2vec),
        ReferenceSource::Package(path) => {
            let versions = [("coremill", env!("CARGO_PKG_VERSION")), ("runtime", "interp")];
            let versions = versions.map(|(name, v)| (name.to_owned(), v.to_owned())).into();
            let identity = Identity::of(path, &[], &[], versions)?;
            let package = PackageReference::new(path, identity, &INTERP, &session.clock);
            return Ok(Box::new(Cached::new(package, &cache)));
        }
    };
    let versions = session.environment()?.packages.clone();
    let identity = Identity::of(model, lora, llm2vec, versions)?;
    let ask = move |request: &Value| match session.python() {
        Ok(python) => python.call(request).map_err(ReferenceError::from),
        Err(StartError::Python(e)) => Err(e.into()),
        Err(error) => Err(ReferenceError::Failed {
            message: error.to_string(),
            advice: error.hint(),
            blame: error.blame(),
        }),
    };
    let checkpoint = Checkpoint {
        folder: absolute(model),
        adapters: lora.iter().map(|path| absolute(path)).collect(),
        encode_adapters: llm2vec.iter().map(|path| absolute(path)).collect(),
    };
    let python = PythonReference::new(ask, checkpoint, identity, &cache.join("scratch"));
    Ok(Box::new(Cached::new(python, &cache)))
}

/// Measures the package at `path` as `plan` says, and tells `progress`.
pub(crate) fn evaluate(
    path: &Path,
    tokenizer: Option<&Path>,
    plan: &Plan,
    reference: &dyn Reference,
    runtime: &dyn Runtime,
    session: &Session,
    progress: &dyn Progress,
) -> Result<Evaluated, Failure> {
    let artifact = Artifact::open(path)?;
    let tokenizer = open_tokenizer(&artifact, tokenizer, session)?;
    let clock = &session.clock;
    let context = EvalContext { runtime, tokenizer: &tokenizer, reference, clock, progress };
    Ok(eval::evaluate(&artifact, plan, &context)?)
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
