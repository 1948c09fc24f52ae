//! `convert`.
