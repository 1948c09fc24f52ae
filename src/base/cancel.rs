//! A flag that asks long work to stop, set once by Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// The run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

/// Asks all long work in this process to stop at its next [`check`].
pub fn request() {
    CANCELLED.store(true, Ordering::Relaxed);
}

/// True if the run was asked to stop. Loops that cannot fail end early; whoever asked for what they make then has to
/// [`check`] before it is used.
pub fn requested() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// Fails once the run was asked to stop; loops over tensors and tokens call it.
pub fn check() -> Result<(), Cancelled> {
    if requested() { Err(Cancelled) } else { Ok(()) }
}
