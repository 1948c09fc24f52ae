//! `compress`.
