//! `sweep`.
