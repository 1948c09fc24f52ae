//! The time, passed in, so that records of a run are reproducible.

use std::time::Duration;

/// A source of wall-clock time.
pub trait Clock: Send + Sync {
    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> i64;
    /// Time since some fixed moment of this process, never going back.
    fn elapsed(&self) -> Duration;
}

/// A clock that stands still, for tests and for records that must not depend on time.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub i64);

impl Clock for FixedClock {
    fn unix_seconds(&self) -> i64 {
        self.0
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}
