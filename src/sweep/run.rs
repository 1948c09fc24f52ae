//! A sweep at work: every variant built, measured and judged, every finished step kept at once.
//!
//! A run that is killed at any moment and started again ends with the same results: packages and records are written
//! whole, a record is written after what it speaks of, and a step without its record is done again. Verdicts are never
//! kept, so that other gates need no new measurement.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::spec::{EncodeAdapters, EvaluateSpec, Keep, KvCacheForm, Spec};
use super::stages::{Built, Identity, Measured, StageError, Stages};
use super::store::{Key, Kind, Store, StoreError};
use super::texts::{Sentence, TextError};
use super::{Plan, Variant};
use crate::base::cancel::{self, Cancelled};
use crate::base::clock::Clock;
use crate::base::error::{Blame, Hint};
use crate::base::fs::{sweep_stale, write_atomic};
use crate::base::progress::Progress;
use crate::base::{digest, fmt};
use crate::eval::results::Paired;
use crate::eval::{Evaluated, paired};
use crate::gate::{Outcome, Subject, Verdict};
use crate::manifest::Artifact;

/// The folder of records inside the output folder.
const RESULTS: &str = "results";

/// A sweep that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What all of it rests on.
    pub identity: Identity,
    /// The variants in the order of the plan.
    pub entries: Vec<Entry>,
    /// The variants two by two, on the tokens that both scored.
    pub paired: Vec<Paired>,
}

/// What became of one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The variant.
    pub variant: Variant,
    /// How it ended.
    pub status: Status,
    /// The package that was written.
    pub built: Option<Built>,
    /// What was measured on it.
    pub measured: Option<Measured>,
    /// What the gates say.
    pub verdicts: Vec<Verdict>,
    /// Whether package and manifest stand in the output folder.
    pub kept: bool,
    /// What failed.
    pub failure: Option<Failure>,
}

/// How a variant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was measured and judged.
    Judged(Outcome),
    /// It could not be made or measured.
    Failed,
}

/// A step that failed; it is tried again by the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The variant.
    pub variant: String,
    /// The step: `baseline`, `compress`, `evaluate` or `manifest`.
    pub stage: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How many runs ended so.
    pub attempts: u32,
}

/// Why a sweep cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// It was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Something that all variants need failed.
    #[error("{stage}: {error}")]
    Stage {
        /// The step.
        stage: &'static str,
        /// Why.
        error: StageError,
    },
    /// A record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text of the evaluation.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Cancelled(e) => StageError::Cancelled(*e).hint(),
            Self::Stage { error, .. } => error.hint(),
            Self::Store(_) | Self::Text(_) | Self::Io(_) => None,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Cancelled(e) => e.blame(),
            Self::Stage { error, .. } => error.blame(),
            Self::Store(StoreError::Io(e)) | Self::Io(e) => e.blame(),
            Self::Text(_) => Blame::Input,
        }
    }
}

impl Run {
    /// The smallest variant that passes all gates; between equals the one that diverges less.
    pub fn best(&self) -> Option<&Entry> {
        best(&self.entries).map(|i| &self.entries[i])
    }
}

/// Takes every variant of `spec` through `stages`; what earlier runs finished is not done again.
pub fn run(
    spec: &Spec,
    stages: &dyn Stages,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Run, RunError> {
    let fatal = |stage| move |error| fatal(stage, error);
    let identity = stages.identity().map_err(fatal("sources"))?;
    let folder = &spec.output.dir;
    sweep_stale(folder)?;
    let runner = Runner {
        spec,
        stages,
        clock,
        progress,
        store: Store::open(&folder.join(RESULTS))?,
        evaluation: Evaluation::of(spec)?,
        identity: &identity,
        plan: spec.plan(),
    };
    let mut entries = Vec::new();
    for (i, variant) in runner.plan.variants.iter().enumerate() {
        progress.note(&format!("{}/{} {}", i + 1, runner.plan.variants.len(), variant.name));
        entries.push(runner.variant(variant)?);
        runner.prune(&mut entries, false)?;
    }
    runner.prune(&mut entries, true)?;
    let paired = runner.paired(&entries);
    Ok(Run { identity, entries, paired })
}

struct Runner<'a> {
    spec: &'a Spec,
    stages: &'a dyn Stages,
    clock: &'a dyn Clock,
    progress: &'a dyn Progress,
    store: Store,
    evaluation: Evaluation,
    identity: &'a Identity,
    plan: Plan,
}

/// What the bytes of a package rest on.
#[derive(Serialize)]
struct BuildParts<'a> {
    identity: &'a Identity,
    recipe: &'a str,
    seq_len: u64,
    prompt_chunk: Option<u64>,
    kv_cache: KvCacheForm,
    target: &'a str,
    encode_adapters: EncodeAdapters,
}

/// What its figures rest on.
#[derive(Serialize)]
struct MeasureParts<'a> {
    identity: &'a Identity,
    artifact: &'a str,
    evaluation: &'a Evaluation,
}

/// The evaluation of a spec with its texts as digests: where a file stands does not matter.
#[derive(Serialize)]
struct Evaluation {
    text: Option<String>,
    window: u64,
    stride: u64,
    windows: Option<u64>,
    prompts: Vec<Sentence>,
    max_new_tokens: Option<u64>,
    sentences: Vec<Sentence>,
    instruction: Option<String>,
    latency: Option<u64>,
}

impl Evaluation {
    fn of(spec: &Spec) -> Result<Self, RunError> {
        let seq_len = spec.model.seq_len;
        let evaluate = &spec.evaluate;
        let EvaluateSpec { windows, max_new_tokens, latency, .. } = *evaluate;
        Ok(Self {
            text: evaluate.text.as_deref().map(digest::of_file).transpose()?.map(|(sha, _)| sha),
            window: evaluate.window(seq_len),
            stride: evaluate.stride(seq_len),
            windows,
            prompts: evaluate.prompts.read()?,
            max_new_tokens,
            sentences: evaluate.sentences.read()?,
            instruction: evaluate.instruction.clone(),
            latency,
        })
    }
}

/// A step that failed while the others go on, or an error that ends the run.
enum Stop {
    Failed(&'static str, StageError),
    Run(RunError),
}

impl<E: Into<RunError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

impl Runner<'_> {
    fn variant(&self, variant: &Variant) -> Result<Entry, RunError> {
        let mut entry = Entry {
            variant: variant.clone(),
            status: Status::Failed,
            built: None,
            measured: None,
            verdicts: Vec::new(),
            kept: false,
            failure: None,
        };
        let key = self.build_key(variant);
        match self.steps(variant, &key, &mut entry) {
            Ok(()) => {
                self.store.remove(Kind::Failed, &key)?;
                Ok(entry)
            }
            Err(Stop::Run(error)) => Err(error),
            Err(Stop::Failed(_, StageError::Cancelled(cancelled))) => Err(cancelled.into()),
            Err(Stop::Failed(stage, error)) => {
                let before: Option<Failure> = self.store.get(Kind::Failed, &key)?;
                let failure = Failure {
                    variant: variant.name.clone(),
                    stage: stage.to_owned(),
                    message: error.to_string(),
                    hint: error.hint(),
                    attempts: before.map_or(0, |f| f.attempts) + 1,
                };
                self.store.put(Kind::Failed, &key, &failure)?;
                if stage == "baseline" {
                    return Err(fatal("baseline", error));
                }
                self.progress.note(&format!("{}: {stage} failed: {error}", variant.name));
                entry.failure = Some(failure);
                Ok(entry)
            }
        }
    }

    fn steps(&self, variant: &Variant, key: &Key, entry: &mut Entry) -> Result<(), Stop> {
        let package = self.package(variant);
        let mut built: Option<Built> = self.store.get(Kind::Built, key)?;
        if let Some(Built { artifact, .. }) = &built {
            let ready = match self.measured(artifact)? {
                Some(_) => self.spec.output.keep != Keep::All || artifact.stands_at(&package),
                // What is about to be measured must be what the record speaks of, to the last byte.
                None => is_whole(artifact, &package),
            };
            built = built.filter(|_| ready);
        }
        let built = match built {
            Some(built) => built,
            None => self.build(variant, key)?,
        };
        let artifact = built.artifact.clone();
        entry.built = Some(built);
        let figures = match self.measured(&artifact)? {
            Some(found) => found,
            None => self.measure(variant, &artifact)?,
        };
        let subject = Subject {
            size_bytes: Some(artifact.size_bytes),
            largest_file: artifact.files.iter().map(|file| file.size).max(),
            ..Subject::of(&figures.measurements)
        };
        entry.verdicts = self.spec.gates.judge(&subject, variant.bits);
        entry.measured = Some(figures);
        if artifact.stands_at(&package) {
            self.describe(variant, entry)?;
        }
        entry.status = Status::Judged(Outcome::of(&entry.verdicts));
        Ok(())
    }

    /// Writes the package of `variant` and its record. Bytes that are on record already keep the time they took first.
    fn build(&self, variant: &Variant, key: &Key) -> Result<Built, Stop> {
        cancel::check()?;
        let package = self.package(variant);
        let began = self.clock.elapsed();
        let artifact = if variant.is_baseline() {
            self.stages.baseline(&package).map_err(|e| Stop::Failed("baseline", e))?
        } else {
            let baseline = self.ensure_baseline()?;
            let compress = |from: &Path| self.stages.compress(variant, from, &package);
            compress(&baseline).map_err(|e| Stop::Failed("compress", e))?
        };
        let took = self.clock.elapsed().saturating_sub(began);
        self.progress.note(&format!(
            "{}: {}, {}",
            variant.name,
            fmt::bytes(artifact.size_bytes),
            fmt::duration(took)
        ));
        let before: Option<Built> = self.store.get(Kind::Built, key)?;
        if let Some(before) = before.filter(|before| before.artifact == artifact) {
            return Ok(before);
        }
        let built = Built { artifact, seconds: took.as_secs_f64() };
        self.store.put(Kind::Built, key, &built)?;
        Ok(built)
    }

    /// The baseline's package, made again if it was dropped.
    fn ensure_baseline(&self) -> Result<PathBuf, Stop> {
        let baseline = &self.plan.variants[0];
        let package = self.package(baseline);
        let key = self.build_key(baseline);
        let built: Option<Built> = self.store.get(Kind::Built, &key)?;
        if !built.is_some_and(|built| built.artifact.stands_at(&package)) {
            self.build(baseline, &key)?;
        }
        Ok(package)
    }

    /// What is on record of the artifact; not without the tokens that its figures come from, which pairs are made of.
    fn measured(&self, artifact: &Artifact) -> Result<Option<Measured>, StoreError> {
        let key = self.measure_key(artifact);
        let found: Option<Measured> = self.store.get(Kind::Measured, &key)?;
        let whole = |found: &Measured| {
            found.measurements.perplexity.is_none() || self.store.tokens(&key).is_some()
        };
        Ok(found.filter(whole))
    }

    /// All variants that were measured on the same tokens, two by two in the order of the plan.
    fn paired(&self, entries: &[Entry]) -> Vec<Paired> {
        let tokens = |entry: &Entry| {
            let artifact = &entry.built.as_ref()?.artifact;
            entry.measured.as_ref()?;
            Some((entry.variant.name.clone(), self.store.tokens(&self.measure_key(artifact))?))
        };
        let known: Vec<_> = entries.iter().filter_map(tokens).collect();
        let pairs =
            known.iter().enumerate().flat_map(|(i, a)| known[i + 1..].iter().map(move |b| (a, b)));
        pairs.filter_map(|(a, b)| paired((&a.0, &a.1), (&b.0, &b.1))).collect()
    }

    fn measure(&self, variant: &Variant, artifact: &Artifact) -> Result<Measured, Stop> {
        cancel::check()?;
        let began = self.clock.elapsed();
        let evaluated = self.stages.evaluate(variant, &self.package(variant));
        let Evaluated { measurements, tokens } =
            evaluated.map_err(|e| Stop::Failed("evaluate", e))?;
        let took = self.clock.elapsed().saturating_sub(began);
        self.progress.note(&format!("{}: evaluated, {}", variant.name, fmt::duration(took)));
        let measured = Measured { measurements, seconds: took.as_secs_f64() };
        let key = self.measure_key(artifact);
        if let Some(tokens) = tokens {
            self.store.put_tokens(&key, &tokens)?;
        }
        self.store.put(Kind::Measured, &key, &measured)?;
        Ok(measured)
    }

    /// Writes the manifest beside the package, unless the very same stands there.
    fn describe(&self, variant: &Variant, entry: &mut Entry) -> Result<(), Stop> {
        let (Some(built), Some(measured)) = (&entry.built, &entry.measured) else { return Ok(()) };
        let manifest = self
            .stages
            .manifest(
                variant,
                &self.package(variant),
                &built.artifact,
                &measured.measurements,
                &entry.verdicts,
            )
            .map_err(|e| Stop::Failed("manifest", e))?;
        let path = self.spec.output.dir.join(variant.manifest());
        let bytes = manifest.to_bytes();
        if fs_err::read(&path).ok().as_ref() != Some(&bytes) {
            write_atomic(&path, &bytes)?;
        }
        entry.kept = true;
        Ok(())
    }

    /// Removes packages that need not stay; while variants are still to come, the baseline and the best so far do.
    fn prune(&self, entries: &mut [Entry], over: bool) -> Result<(), RunError> {
        let keep = self.spec.output.keep;
        if keep == Keep::All {
            return Ok(());
        }
        let best = if keep == Keep::Best { best(entries) } else { None };
        for (i, entry) in entries.iter_mut().enumerate() {
            let stays = best == Some(i) || (!over && entry.variant.is_baseline());
            if !stays {
                self.drop(&entry.variant)?;
                entry.kept = false;
            } else if over && !entry.kept {
                // An earlier run dropped it under other gates.
                let variant = entry.variant.clone();
                let key = self.build_key(&variant);
                let made = self.build(&variant, &key).map(|_| ());
                match made.and_then(|()| self.describe(&variant, entry)) {
                    Ok(()) => {}
                    Err(Stop::Run(error)) => return Err(error),
                    Err(Stop::Failed(stage, error)) => return Err(fatal(stage, error)),
                }
            }
        }
        if over && best != Some(0) {
            // Restoring the best may have brought the baseline back.
            self.drop(&self.plan.variants[0])?;
        }
        Ok(())
    }

    /// The manifest goes first: one without its package would be a lie.
    fn drop(&self, variant: &Variant) -> Result<(), RunError> {
        let manifest = self.spec.output.dir.join(variant.manifest());
        if manifest.exists() {
            fs_err::remove_file(manifest)?;
        }
        let package = self.package(variant);
        if package.exists() {
            fs_err::remove_dir_all(package)?;
        }
        Ok(())
    }

    fn package(&self, variant: &Variant) -> PathBuf {
        self.spec.output.dir.join(variant.package())
    }

    fn build_key(&self, variant: &Variant) -> Key {
        let model = &self.spec.model;
        Key::of(&BuildParts {
            identity: self.identity,
            recipe: &variant.recipe,
            seq_len: model.seq_len,
            prompt_chunk: model.prompt_chunk,
            kv_cache: model.kv_cache,
            target: &model.target,
            encode_adapters: model.encode_adapters,
        })
    }

    fn measure_key(&self, artifact: &Artifact) -> Key {
        let evaluation = &self.evaluation;
        Key::of(&MeasureParts { identity: self.identity, artifact: &artifact.sha256, evaluation })
    }
}

/// Whether the package at `package` is `artifact`, every byte read.
fn is_whole(artifact: &Artifact, package: &Path) -> bool {
    artifact.stands_at(package)
        && Artifact::read(package, artifact.parameters).is_ok_and(|a| a.sha256 == artifact.sha256)
}

fn fatal(stage: &'static str, error: StageError) -> RunError {
    match error {
        StageError::Cancelled(cancelled) => cancelled.into(),
        error => RunError::Stage { stage, error },
    }
}

fn best(entries: &[Entry]) -> Option<usize> {
    let rank = |entry: &Entry| {
        let size = entry.built.as_ref().map_or(u64::MAX, |b| b.artifact.size_bytes);
        let perplexity = entry.measured.as_ref().and_then(|m| m.measurements.perplexity.as_ref());
        (size, perplexity.map_or(f64::INFINITY, |p| p.divergence.value))
    };
    let passing = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.status == Status::Judged(Outcome::Pass));
    let smaller = |a: &(usize, &Entry), b: &(usize, &Entry)| {
        let (a, b) = (rank(a.1), rank(b.1));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    passing.min_by(smaller).map(|(i, _)| i)
}
