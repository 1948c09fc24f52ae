//! `source`.
