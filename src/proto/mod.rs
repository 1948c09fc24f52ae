//! `proto`.
