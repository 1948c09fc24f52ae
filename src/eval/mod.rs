//! `eval`.
