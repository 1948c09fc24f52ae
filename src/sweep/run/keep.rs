//! Selection of the packages to keep: all, those that pass, the best, the Pareto front or none.

use super::steps::Runner;
use super::{Entry, RunError, Status};
use crate::eval::{Candidate, dominated};
use crate::eval::{results::Figure, results::Paired};
use crate::gate::Outcome;
use crate::sweep::Variant;
use crate::sweep::budget::{Search, loss};
use crate::sweep::spec::Keep;

impl Runner<'_> {
    /// Removes packages that need not stay; while variants are still to come, the baseline and the best so far do.
    pub(super) fn prune(
        &self,
        entries: &mut [Entry],
        search: Option<&Search>,
        over: bool,
    ) -> Result<(), RunError> {
        let mut stays: Vec<bool> = match self.spec.output.keep {
            Keep::All => entries.iter().map(|_| true).collect(),
            Keep::Passing => {
                let failed = |entry: &Entry| entry.status == Status::Judged(Some(Outcome::Fail));
                entries.iter().map(|entry| !failed(entry)).collect()
            }
            Keep::None => entries.iter().map(|_| false).collect(),
            Keep::Pareto => front(entries, &self.paired(entries)),
            Keep::Best => {
                // What nothing judged has no best; the smallest stays then, rather than none.
                let best = best(entries, search).or_else(|| smallest_unjudged(entries));
                (0..entries.len()).map(|i| best == Some(i)).collect()
            }
        };
        for (stays, entry) in stays.iter_mut().zip(&*entries) {
            *stays &= entry.rejected.is_none();
        }
        for (&stays, entry) in stays.iter().zip(&mut *entries) {
            if !stays && (over || !entry.variant.is_baseline()) {
                self.drop(&entry.variant)?;
                entry.kept = false;
            } else if over && !entry.kept && matches!(entry.status, Status::Judged(_)) {
                // An earlier run dropped it under other gates.
                self.restore(entry)?;
            }
        }
        if over && !stays.first().copied().unwrap_or(true) {
            // Restoring another may have brought the baseline back.
            self.drop(&entries[0].variant)?;
        }
        Ok(())
    }

    /// The manifest goes first: one without its package would be a lie.
    pub(super) fn drop(&self, variant: &Variant) -> Result<(), RunError> {
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
}

/// The best of those that pass all gates: the smallest, or the least divergent of those that fit a budget.
pub(super) fn best(entries: &[Entry], search: Option<&Search>) -> Option<usize> {
    let size = |entry: &Entry| entry.built.as_ref().map_or(u64::MAX, |b| b.artifact.size_bytes);
    let lost = |entry: &Entry| value(entry).map_or(f64::INFINITY, |figure| figure.value);
    // Within a budget the least divergent is the best whether or not gates are on.
    let judged = |entry: &Entry| match entry.status {
        Status::Judged(outcome) => outcome.map_or(search.is_some(), |o| o == Outcome::Pass),
        Status::Failed => false,
    };
    let passing = entries.iter().enumerate().filter(|(_, e)| judged(e) && e.rejected.is_none());
    match search {
        None => {
            passing.min_by(|(_, a), (_, b)| size(a).cmp(&size(b)).then(lost(a).total_cmp(&lost(b))))
        }
        Some(search) => {
            let fits = |entry: &Entry| {
                entry.built.as_ref().is_some_and(|built| search.fits(&built.artifact))
            };
            passing
                .filter(|(_, entry)| fits(entry))
                .min_by(|(_, a), (_, b)| lost(a).total_cmp(&lost(b)).then(size(a).cmp(&size(b))))
        }
    }
    .map(|(i, _)| i)
}

/// The smallest of entries that no gate judged, where that is all of those that were made.
fn smallest_unjudged(entries: &[Entry]) -> Option<usize> {
    let made = || entries.iter().enumerate().filter(|(_, e)| e.status != Status::Failed);
    if !made().all(|(_, entry)| entry.status == Status::Judged(None)) {
        return None;
    }
    let size = |entry: &Entry| entry.built.as_ref().map_or(u64::MAX, |b| b.artifact.size_bytes);
    made().filter(|(_, e)| e.rejected.is_none()).min_by_key(|(_, e)| size(e)).map(|(i, _)| i)
}

/// Which of the entries no other beats beyond doubt, as the report's front has it.
fn front(entries: &[Entry], pairs: &[Paired]) -> Vec<bool> {
    let losses: Vec<Option<Figure>> = entries.iter().map(value).collect();
    let standing = |i: usize| {
        let (entry, loss) = (&entries[i], losses[i].as_ref()?);
        let size_bytes = entry.built.as_ref()?.artifact.size_bytes;
        Some(Candidate { name: &entry.variant.name, size_bytes, loss })
    };
    let beaten = |i: usize| {
        (0..entries.len()).filter(|&j| j != i).any(|j| {
            let both = standing(i).zip(standing(j));
            both.and_then(|(own, other)| dominated(own, other, pairs)).is_some_and(|told| told.0)
        })
    };
    (0..entries.len())
        .map(|i| matches!(entries[i].status, Status::Judged(_)) && !beaten(i))
        .collect()
}

/// Measured loss of the entry, if any.
pub(super) fn value(entry: &Entry) -> Option<Figure> {
    entry.measured.as_ref().and_then(|measured| loss(&measured.measurements))
}
