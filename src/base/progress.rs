//! How far long work has come, told to whoever watches.

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
    /// All works together have come to `done` of `total` steps.
    fn whole(&self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

/// What a stage counts.
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
