//! Execution of variants on other machines.

use super::{StageError, Variant};
use crate::base::progress::Progress;

/// Machines that make and measure variants, and leave packages and records in the sweep's output folder.
pub trait Engine: Sync {
    /// Brings what other machines have made so far into the output folder, and theirs what is there.
    fn exchange(&self) -> Result<(), StageError>;

    /// Makes and measures `variants`, each by itself, and calls `ended` after each; gives what became of them, in their
    /// order. The error is what keeps all of them from being made.
    fn make(
        &self,
        variants: &[&Variant],
        progress: &dyn Progress,
        ended: &dyn Fn(),
    ) -> Result<Vec<Result<(), StageError>>, StageError>;
}
