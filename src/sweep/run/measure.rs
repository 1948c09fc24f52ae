//! Measuring: several variants at the same time, within the memory that they are given.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::eta::Step;
use super::steps::Runner;
use super::{Entry, RunError};
use crate::base::cancel;
use crate::base::fmt;
use crate::eval::results::Paired;
use crate::eval::{Evaluated, Tokens, paired};
use crate::manifest::Artifact;
use crate::sweep::spec::RunSpec;
use crate::sweep::store::{Kind, StoreError};
use crate::sweep::{Measured, StageError, Variant};

/// Memory that measuring a variant takes besides its weights: activations, logits, the reference's answers.
const BESIDES: u64 = 256 << 20;

/// Bytes of memory that measuring a package takes, roughly: the weights as they are and as they are computed with.
pub fn memory_of(fp16_bytes: u64) -> u64 {
    BESIDES.saturating_add(fp16_bytes.saturating_mul(2))
}

/// Number of variants that are evaluated in parallel, if the largest takes `fp16_bytes` in fp16.
pub fn workers(run: &RunSpec, fp16_bytes: u64) -> usize {
    let fit = run.memory.map(|memory| memory / memory_of(fp16_bytes));
    let workers = match (run.workers, fit) {
        (Some(workers), Some(fit)) => workers.min(fit),
        (Some(workers), None) => workers,
        // One variant keeps all cores busy most of the time: a second one fills the gaps.
        (None, Some(fit)) => fit.min(2),
        (None, None) => 1,
    };
    usize::try_from(workers.max(1)).unwrap_or(1)
}

impl Runner<'_> {
    /// What is on record of the artifact; not without the tokens that its figures come from, which pairs are made of.
    pub(super) fn measured(&self, artifact: &Artifact) -> Result<Option<Measured>, StoreError> {
        let key = self.figures_key(artifact);
        let found: Option<Measured> = self.store.get(Kind::Measured, &key)?;
        let whole = |found: &Measured| {
            found.measurements.perplexity.is_none() || self.store.tokens(&key).is_some()
        };
        Ok(found.filter(whole))
    }

    /// The scored tokens of an entry that was measured.
    fn tokens(&self, entry: &Entry) -> Option<Tokens> {
        entry.measured.as_ref()?;
        self.store.tokens(&self.figures_key(&entry.built.as_ref()?.artifact))
    }

    /// All variants that were measured on the same tokens, two by two in the order of the plan.
    pub(super) fn paired(&self, entries: &[Entry]) -> Vec<Paired> {
        let known = |entry: &Entry| Some((entry.variant.name.clone(), self.tokens(entry)?));
        let known: Vec<_> = entries.iter().filter_map(known).collect();
        let pairs =
            known.iter().enumerate().flat_map(|(i, a)| known[i + 1..].iter().map(move |b| (a, b)));
        pairs.filter_map(|(a, b)| paired((&a.0, &a.1), (&b.0, &b.1))).collect()
    }

    /// Figures of `b` less those of `a`, where both were measured on the same tokens.
    pub(super) fn pair(&self, a: &Entry, b: &Entry) -> Option<Paired> {
        let (first, second) = (self.tokens(a)?, self.tokens(b)?);
        paired((&a.variant.name, &first), (&b.variant.name, &second))
    }

    /// Finds or makes the figures of each entry that has a package.
    ///
    /// The first that is measured is alone: what it asks of the reference is kept for all others.
    pub(super) fn measure_missing(&self, entries: &mut [Entry]) -> Result<(), RunError> {
        let mut missing = Vec::new();
        for entry in &mut *entries {
            if let Some(built) = &entry.built {
                entry.measured = self.measured(&built.artifact)?;
                if entry.measured.is_none() {
                    missing.push(entry);
                    continue;
                }
            }
            let seconds = entry.measured.as_ref().map(|measured| measured.seconds);
            self.step(Step::measure(&entry.variant), seconds);
        }
        let parameters = |entry: &&mut Entry| entry.built.as_ref().map(|b| b.artifact.parameters);
        let fp16_bytes = 2 * missing.iter().filter_map(parameters).max().unwrap_or(0);
        let workers = workers(&self.spec.run, fp16_bytes);
        let begin = missing.len().min(1);
        let rest = missing.split_off(begin);
        let together = workers.min(rest.len()).max(1);
        self.pace(|pace| pace.together(Step::Measure, together as u64));
        self.measure_all(missing, 1)?;
        self.measure_all(rest, workers)
    }

    fn measure_all(&self, entries: Vec<&mut Entry>, workers: usize) -> Result<(), RunError> {
        let jobs: Vec<(&Variant, &Artifact)> = entries
            .iter()
            .filter_map(|entry| Some((&entry.variant, &entry.built.as_ref()?.artifact)))
            .collect();
        let outcomes: Vec<Mutex<Option<Outcome>>> = jobs.iter().map(|_| Mutex::default()).collect();
        let (next, workers) = (AtomicUsize::new(0), workers.min(jobs.len()));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((variant, artifact)) = jobs.get(at) else { break };
                let outcome = self.measure(variant, artifact);
                // What ends the run keeps the others from beginning more.
                if matches!(outcome, Err(_) | Ok(Err(StageError::Cancelled(_)))) {
                    next.store(jobs.len(), Ordering::Relaxed);
                }
                *outcomes[at].lock().expect("nobody panics with it") = Some(outcome);
            }
        };
        if workers <= 1 {
            work();
        } else {
            thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(work);
                }
            });
        }
        let outcomes: Vec<Option<Outcome>> = outcomes
            .into_iter()
            .map(|outcome| outcome.into_inner().expect("nobody panics with it"))
            .collect();
        let mut end = None;
        for (entry, outcome) in entries.into_iter().zip(outcomes) {
            let settled = match outcome {
                None => continue,
                Some(Err(error)) => Err(error),
                Some(Ok(Err(error))) => self.fail(entry, "evaluate", &error),
                Some(Ok(Ok(measured))) => {
                    entry.measured = Some(measured);
                    Ok(())
                }
            };
            end = end.or(settled.err());
        }
        end.map_or(Ok(()), Err)
    }

    fn measure(&self, variant: &Variant, artifact: &Artifact) -> Outcome {
        cancel::check()?;
        let began = self.clock.elapsed();
        let progress = self.progress.part(&variant.name);
        let step = Step::measure(variant);
        self.pace(|pace| pace.begin(step, 1));
        let evaluated = self.stages.evaluate(variant, &self.package(variant), &*progress);
        let took = self.since(began);
        // What failed took no time that says anything of the others.
        self.step(step, evaluated.is_ok().then_some(took.as_secs_f64()));
        let Evaluated { measurements, tokens } = match evaluated {
            Ok(evaluated) => evaluated,
            Err(error) => return Ok(Err(error)),
        };
        self.progress.note(&format!("{}: evaluated, {}", variant.name, fmt::duration(took)));
        let measured = Measured { measurements, seconds: took.as_secs_f64() };
        let key = self.figures_key(artifact);
        if let Some(tokens) = tokens {
            self.store.put_tokens(&key, &tokens)?;
        }
        self.store.put(Kind::Measured, &key, &measured)?;
        Ok(Ok(measured))
    }
}

/// Figures, why there are none, or why the run ends.
type Outcome = Result<Result<Measured, StageError>, RunError>;
