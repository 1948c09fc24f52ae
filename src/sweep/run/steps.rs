//! The steps of a sweep: packages built, several in one go, measured and judged; every finished step kept at once.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::eta::{EtaEstimator, Step};
use super::keys::{self, Evaluation};
use super::{Entry, Failure, RunError, Status, fatal};
use crate::base::cancel;
use crate::base::clock::Clock;
use crate::base::error::Hint as _;
use crate::base::fmt;
use crate::base::fs::{remove_stale_temp, write_atomic};
use crate::base::progress::Progress;
use crate::gate::{Outcome, Subject};
use crate::manifest::Artifact;
use crate::sweep::cache::Cache;
use crate::sweep::spec::{Keep, Spec};
use crate::sweep::store::{Key, Kind, Store, StoreError};
use crate::sweep::{Built, Identity, Pipeline, StageError, Variant};

/// The folder of records inside the output folder.
const RESULTS: &str = "results";

/// State that all steps share.
pub(super) struct Runner<'a> {
    pub(super) spec: &'a Spec,
    pub(super) stages: &'a dyn Pipeline,
    pub(super) clock: &'a dyn Clock,
    pub(super) progress: &'a dyn Progress,
    pub(super) identity: &'a Identity,
    pub(super) store: Store,
    /// Packages that other sweeps have made.
    pub(super) cache: Option<Cache>,
    evaluation: Evaluation,
    /// The fp16 package that all others are compressed from.
    baseline: Variant,
    /// Steps done and to be done: two for each variant.
    pace: Mutex<EtaEstimator>,
}

impl<'a> Runner<'a> {
    /// Nothing done yet; what killed runs left half-written goes.
    pub(super) fn new(
        spec: &'a Spec,
        stages: &'a dyn Pipeline,
        clock: &'a dyn Clock,
        progress: &'a dyn Progress,
        identity: &'a Identity,
    ) -> Result<Self, RunError> {
        let folder = &spec.output.dir;
        remove_stale_temp(folder)?;
        let cache = spec.output.cache.as_deref();
        Ok(Self {
            spec,
            stages,
            clock,
            progress,
            identity,
            store: Store::open(&folder.join(RESULTS))?,
            cache: cache.map(|cache| Cache::open(cache, spec.output.fresh)).transpose()?,
            evaluation: Evaluation::of(spec)?,
            baseline: spec.variants[0].clone(),
            pace: Mutex::default(),
        })
    }

    /// These variants are to come.
    pub(super) fn expect<'v>(&self, variants: impl IntoIterator<Item = &'v Variant>) {
        self.pace(|pace| {
            for variant in variants {
                pace.expect(Step::build(variant), 1);
                pace.expect(Step::measure(variant), 1);
            }
        });
    }

    /// A step is done, or need not be; what it took, where that is known.
    pub(super) fn step(&self, step: Step, seconds: Option<f64>) {
        self.pace(|pace| pace.done(step, seconds));
    }

    /// Counts steps and tells how far all of them have come.
    pub(super) fn pace(&self, count: impl FnOnce(&mut EtaEstimator)) {
        let mut pace = self.pace.lock().expect("counting does not panic");
        count(&mut pace);
        self.progress.whole(pace.whole());
    }

    /// Builds, measures and judges what earlier runs did not finish. A variant that fails says so; the others go on.
    pub(super) fn bring(&self, entries: &mut [Entry]) -> Result<(), RunError> {
        self.build_missing(entries)?;
        self.settle(entries)
    }

    /// Measures and judges what was built.
    pub(super) fn settle(&self, entries: &mut [Entry]) -> Result<(), RunError> {
        self.measure_missing(entries)?;
        entries.iter_mut().try_for_each(|entry| self.judge(entry))
    }

    /// Finds or makes the package of each entry.
    pub(super) fn build_missing(&self, entries: &mut [Entry]) -> Result<(), RunError> {
        let mut missing = Vec::new();
        // What failed on another machine is not made here.
        for entry in entries.iter_mut() {
            let step = Step::build(&entry.variant);
            if entry.failure.is_some() {
                self.step(step, None);
                continue;
            }
            let ready = match self.ready(&entry.variant)? {
                Some(built) => {
                    self.share(&entry.variant, &built);
                    Some(built)
                }
                None => self.recall(&entry.variant)?,
            };
            match ready {
                Some(built) => entry.built = Some(built),
                None if entry.variant.is_baseline() => {
                    self.pace(|pace| pace.begin(step, 1));
                    entry.built = Some(self.build_baseline()?);
                }
                None => {
                    missing.push(entry);
                    continue;
                }
            }
            self.step(step, entry.built.as_ref().map(|built| built.seconds));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let baseline = self.ensure_baseline()?;
        cancel::check()?;
        let variants: Vec<Variant> = missing.iter().map(|entry| entry.variant.clone()).collect();
        self.pace(|pace| pace.begin(Step::Compress, variants.len() as u64));
        let outcomes = self.compress(&variants, &baseline)?;
        for (entry, outcome) in missing.into_iter().zip(outcomes) {
            match outcome {
                Ok(built) => entry.built = Some(built),
                Err(error) => self.fail(entry, "compress", &error)?,
            }
            self.step(Step::Compress, entry.built.as_ref().map(|built| built.seconds));
        }
        Ok(())
    }

    /// Compresses variants in one go, or one by one where that fails, so that only those fail that are at fault.
    fn compress(
        &self,
        variants: &[Variant],
        baseline: &Path,
    ) -> Result<Vec<Result<Built, StageError>>, RunError> {
        let began = self.clock.elapsed();
        let jobs: Vec<_> = variants.iter().map(|v| (v, self.package(v))).collect();
        match self.stages.compress_all(&jobs, baseline, self.progress) {
            Ok(artifacts) => {
                let took = self.since(began);
                // What they have in common is made once: each is put down an even part of the time.
                let each = took / u32::try_from(variants.len()).unwrap_or(u32::MAX).max(1);
                let keep = |(variant, artifact)| Ok(Ok(self.keep(variant, artifact, each)?));
                variants.iter().zip(artifacts).map(keep).collect()
            }
            Err(StageError::Cancelled(cancelled)) => Err(cancelled.into()),
            Err(error) if variants.len() == 1 => Ok(vec![Err(error)]),
            Err(error) => {
                self.progress.note(&format!("compressing one by one: {error}"));
                let mut all = Vec::new();
                for variant in variants {
                    cancel::check()?;
                    all.extend(self.compress(std::slice::from_ref(variant), baseline)?);
                }
                Ok(all)
            }
        }
    }

    /// Records a package that was written. Bytes that are on record already keep the time they took first.
    fn keep(
        &self,
        variant: &Variant,
        artifact: Artifact,
        took: Duration,
    ) -> Result<Built, RunError> {
        let (size, time) = (fmt::bytes(artifact.size_bytes), fmt::duration(took));
        self.progress.note(&format!("{}: {size}, {time}", variant.name));
        let key = self.key(variant);
        let before: Option<Built> = self.store.get(Kind::Built, &key)?;
        let same = before.filter(|before| before.artifact == artifact);
        let built = if let Some(before) = same {
            before
        } else {
            let built = Built { artifact, seconds: took.as_secs_f64() };
            self.store.put(Kind::Built, &key, &built)?;
            built
        };
        self.share(variant, &built);
        Ok(built)
    }

    fn build_baseline(&self) -> Result<Built, RunError> {
        cancel::check()?;
        let variant = &self.baseline;
        let began = self.clock.elapsed();
        let progress = self.progress.part(&variant.name);
        match self.stages.baseline(&self.package(variant), &*progress) {
            Ok(artifact) => self.keep(variant, artifact, self.since(began)),
            Err(StageError::Cancelled(cancelled)) => Err(cancelled.into()),
            Err(error) => {
                self.record_failure(variant, "baseline", &error)?;
                Err(fatal("baseline", error))
            }
        }
    }

    /// Makes the package of one entry again, which an earlier run dropped, with its manifest.
    pub(super) fn restore(&self, entry: &mut Entry) -> Result<(), RunError> {
        let variant = entry.variant.clone();
        if variant.is_baseline() {
            self.ensure_baseline()?;
        } else if self.recall(&variant)?.is_none() {
            let baseline = self.ensure_baseline()?;
            for outcome in self.compress(std::slice::from_ref(&variant), &baseline)? {
                outcome.map_err(|error| fatal("compress", error))?;
            }
        }
        self.describe(entry)?.map_err(|error| fatal("manifest", error))
    }

    /// The baseline's package, made again if it was dropped.
    fn ensure_baseline(&self) -> Result<PathBuf, RunError> {
        let package = self.package(&self.baseline);
        let built: Option<Built> = self.store.get(Kind::Built, &self.key(&self.baseline))?;
        // The baseline of another model of the same shape has the same lengths.
        let stands = built.is_some_and(|built| is_whole(&built.artifact, &package));
        if !stands && self.recall(&self.baseline)?.is_none() {
            self.build_baseline()?;
        }
        Ok(package)
    }

    /// Returns the record of the variant's package if it is still valid.
    pub(super) fn ready(&self, variant: &Variant) -> Result<Option<Built>, RunError> {
        let package = self.package(variant);
        let Some(built) = self.store.get::<Built>(Kind::Built, &self.key(variant))? else {
            return Ok(None);
        };
        // What stands there must be what the record speaks of, to the last byte: the sources may have changed to and fro, and
        // packages of one shape have the same lengths.
        let whole = is_whole(&built.artifact, &package);
        if !whole {
            self.drop(variant)?;
        }
        let figures = self.measured(&built.artifact)?;
        let ready = whole || (figures.is_some() && self.spec.output.keep != Keep::All);
        Ok(Some(built).filter(|_| ready))
    }

    /// Judges an entry that was built and measured, and describes its package where it stands.
    fn judge(&self, entry: &mut Entry) -> Result<(), RunError> {
        let (Some(built), Some(measured)) = (&entry.built, &entry.measured) else { return Ok(()) };
        let artifact = &built.artifact;
        let subject = Subject {
            size_bytes: Some(artifact.size_bytes),
            largest_file: artifact.files.iter().map(|file| file.size).max(),
            ..Subject::of(&measured.measurements)
        };
        entry.verdicts = self.spec.gates.judge(&subject, entry.variant.bits);
        if artifact.stands_at(&self.package(&entry.variant))
            && let Err(error) = self.describe(entry)?
        {
            return self.fail(entry, "manifest", &error);
        }
        entry.status = Status::Judged(Outcome::of(&entry.verdicts));
        self.store.remove(Kind::Failed, &self.key(&entry.variant))?;
        Ok(())
    }

    /// Writes the manifest beside the package, unless the very same stands there.
    fn describe(&self, entry: &mut Entry) -> Result<Result<(), StageError>, RunError> {
        let (Some(built), Some(measured)) = (&entry.built, &entry.measured) else {
            return Ok(Ok(()));
        };
        let (variant, package) = (&entry.variant, self.package(&entry.variant));
        let (artifact, figures) = (&built.artifact, &measured.measurements);
        let manifest =
            match self.stages.manifest(variant, &package, artifact, figures, &entry.verdicts) {
                Ok(manifest) => manifest,
                Err(error) => return Ok(Err(error)),
            };
        let path = self.spec.output.dir.join(variant.manifest());
        let bytes = manifest.to_bytes();
        if fs_err::read(&path).ok().as_ref() != Some(&bytes) {
            write_atomic(&path, &bytes)?;
        }
        entry.kept = true;
        Ok(Ok(()))
    }

    /// A step of `entry` failed, which is recorded apart from results; asked to stop, the run ends.
    pub(super) fn fail(
        &self,
        entry: &mut Entry,
        stage: &'static str,
        error: &StageError,
    ) -> Result<(), RunError> {
        if let StageError::Cancelled(cancelled) = error {
            return Err((*cancelled).into());
        }
        self.progress.note(&format!("{}: {stage} failed: {error}", entry.variant.name));
        entry.failure = Some(self.record_failure(&entry.variant, stage, error)?);
        Ok(())
    }

    fn record_failure(
        &self,
        variant: &Variant,
        stage: &'static str,
        error: &StageError,
    ) -> Result<Failure, StoreError> {
        let key = self.key(variant);
        let before: Option<Failure> = self.store.get(Kind::Failed, &key)?;
        let failure = Failure {
            variant: variant.name.clone(),
            stage: stage.to_owned(),
            message: error.to_string(),
            hint: error.hint(),
            attempts: before.map_or(0, |f| f.attempts) + 1,
        };
        self.store.put(Kind::Failed, &key, &failure)?;
        Ok(failure)
    }

    pub(super) fn package(&self, variant: &Variant) -> PathBuf {
        self.spec.output.dir.join(variant.package())
    }

    pub(super) fn key(&self, variant: &Variant) -> Key {
        keys::of_package(self.spec, self.identity, variant)
    }

    pub(super) fn figures_key(&self, artifact: &Artifact) -> Key {
        keys::of_figures(self.identity, &artifact.sha256, &self.evaluation)
    }

    pub(super) fn since(&self, began: Duration) -> Duration {
        self.clock.elapsed().saturating_sub(began)
    }
}

/// True if the package at `package` is `artifact`, every byte read.
fn is_whole(artifact: &Artifact, package: &Path) -> bool {
    artifact.stands_at(package)
        && Artifact::read(package, artifact.parameters).is_ok_and(|a| a.sha256 == artifact.sha256)
}
