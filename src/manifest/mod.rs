//! `manifest`.
