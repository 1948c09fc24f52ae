//! `Precision` and `Options`: rounding of intermediate values.

/// Rounding of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Rounds each result to its declared type.
    Declared,
    /// Computes in f32 without rounding.
    F32,
}

/// Options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rounding of results.
    pub precision: Precision,
}
