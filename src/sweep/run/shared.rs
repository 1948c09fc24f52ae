//! Packages that other sweeps made: taken from the cache before anything is made, put there once it is.

use super::steps::Runner;
use super::{RunError, fatal};
use crate::base::fmt;
use crate::sweep::store::Kind;
use crate::sweep::{Built, Variant};

impl Runner<'_> {
    /// Brings the package of `variant` from the cache, if it is there and whole, with its record.
    pub(super) fn recall(&self, variant: &Variant) -> Result<Option<Built>, RunError> {
        let Some(cache) = &self.cache else { return Ok(None) };
        if variant.is_baseline() {
            let beside = self.stages.beside(&self.spec.output.dir);
            beside.map_err(|error| fatal("baseline", error))?;
        }
        let key = self.key(variant);
        let Some(built) = cache.take(&key, &self.package(variant))? else { return Ok(None) };
        self.store.put(Kind::Built, &key, &built)?;
        let size = fmt::bytes(built.artifact.size_bytes);
        self.progress.note(&format!("{}: {size}, from the cache", variant.name));
        Ok(Some(built))
    }

    /// Puts the package of `variant` into the cache. What cannot be kept there is told and does no other harm.
    pub(super) fn share(&self, variant: &Variant, built: &Built) {
        let Some(cache) = &self.cache else { return };
        let package = self.package(variant);
        if !built.artifact.stands_at(&package) {
            return;
        }
        if let Err(error) = cache.put(&self.key(variant), built, &package) {
            self.progress.note(&format!("{}: not kept in the cache: {error}", variant.name));
        }
    }
}
