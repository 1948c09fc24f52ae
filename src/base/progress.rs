//! Progress of long work, reported to a listener.

use std::time::Duration;

/// A listener for the steps of a run. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// A stage begins; `total` is its amount of work in `unit`, where known.
    fn begin(&self, stage: &str, total: Option<u64>, unit: Unit);
    /// `amount` more of the current stage is done.
    fn advance(&self, amount: u64);
    /// The current stage has ended.
    fn end(&self);
    /// One line of information that stays.
    fn note(&self, line: &str);
    /// A listener for one of several works that go on at the same time, which is called `name`.
    fn part<'a>(&'a self, name: &str) -> Box<dyn Progress + 'a> {
        let _ = name;
        Box::new(Silent)
    }
    /// All works together have come so far.
    fn whole(&self, whole: Whole) {
        let _ = whole;
    }
}

/// How far all works together have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
    /// Expected duration of the remaining work, if known.
    pub left: Option<Left>,
}

/// The time that steps are expected to take which are not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// All of them.
    pub all: Duration,
    /// Those that have begun.
    pub running: Duration,
}

impl Left {
    /// What is left after so much time in which no step was done: what has begun may take longer than expected, what has not
    /// is still to come.
    pub fn after(self, elapsed: Duration) -> Duration {
        self.all.saturating_sub(elapsed.min(self.running))
    }
}

/// Unit of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes read or written.
    Bytes,
    /// Tensors, tokens, windows or other items.
    Items,
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: Option<u64>, _unit: Unit) {}
    fn advance(&self, _amount: u64) {}
    fn end(&self) {}
    fn note(&self, _line: &str) {}
}
