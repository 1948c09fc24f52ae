//! Variants made on other machines: the baseline first, then all that are missing; what failed there is not made here.

use std::cell::Cell;

use super::eta::Step;
use super::steps::Runner;
use super::{Entry, Failure, RunError, fatal};
use crate::sweep::engine::Engine;
use crate::sweep::store::Kind;
use crate::sweep::{StageError, Variant};

impl Runner<'_> {
    /// Has the stages' engine, where there is one, make what no record speaks of.
    pub(super) fn dispatch(&self, entries: &mut [Entry]) -> Result<(), RunError> {
        let Some(engine) = self.stages.engine() else { return Ok(()) };
        engine.exchange().map_err(|error| fatal("engine", error))?;
        // All others are compressed from the baseline, and find what it asked of the reference.
        let (baseline, rest) = entries.split_at_mut(1);
        self.send(engine, baseline)?;
        if let [Entry { variant, failure: Some(Failure { message, hint, .. }), .. }] = baseline
            && self.ready(variant)?.is_none()
        {
            let error = StageError::Failed { message: message.clone(), hint: hint.clone() };
            return Err(RunError::Stage { stage: "baseline", error });
        }
        self.send(engine, rest)
    }

    fn send(&self, engine: &dyn Engine, entries: &mut [Entry]) -> Result<(), RunError> {
        let mut missing = Vec::new();
        for entry in entries {
            if !self.is_done(&entry.variant)? {
                let before = self.attempts(&entry.variant)?;
                missing.push((entry, before));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.pace(|pace| pace.expect(Step::Elsewhere, missing.len() as u64));
        let variants: Vec<Variant> = missing.iter().map(|(e, _)| e.variant.clone()).collect();
        let all: Vec<&Variant> = variants.iter().collect();
        // However many machines there are, this is how often they end one.
        let before_it = Cell::new(self.clock.elapsed());
        let ended = || {
            let took = self.since(before_it.replace(self.clock.elapsed()));
            self.step(Step::Elsewhere, Some(took.as_secs_f64()));
        };
        let outcomes =
            engine.make(&all, self.progress, &ended).map_err(|error| fatal("engine", error))?;
        for ((entry, before), outcome) in missing.into_iter().zip(outcomes) {
            let error = match outcome {
                Ok(()) if self.is_done(&entry.variant)? => continue,
                Ok(()) => StageError::Failed {
                    message: "it was made, but not from this machine's sources by this machine's versions"
                        .to_owned(),
                    hint: Some(
                        "model, adapters, texts and the Python environment must be the same on all nodes"
                            .to_owned(),
                    ),
                },
                Err(error) => error,
            };
            // What failed over there is on record already.
            if self.attempts(&entry.variant)? > before {
                entry.failure = self.store.get(Kind::Failed, &self.key(&entry.variant))?;
            } else {
                self.fail(entry, "engine", &error)?;
            }
        }
        Ok(())
    }

    /// True if package and figures are on record.
    fn is_done(&self, variant: &Variant) -> Result<bool, RunError> {
        let Some(built) = self.ready(variant)? else { return Ok(false) };
        Ok(self.measured(&built.artifact)?.is_some())
    }

    fn attempts(&self, variant: &Variant) -> Result<u32, RunError> {
        let failure: Option<Failure> = self.store.get(Kind::Failed, &self.key(variant))?;
        Ok(failure.map_or(0, |failure| failure.attempts))
    }
}
