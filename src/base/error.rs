//! `Hint`: the advice that goes with an error, kept apart from the fact.

/// An error that may know what the reader can do about it.
///
/// The message of an error states the fact, the place and the values; the hint is printed on a line of its own.
pub trait Hint {
    /// One sentence without a full stop, or nothing when there is no advice to give.
    fn hint(&self) -> Option<String>;
}
