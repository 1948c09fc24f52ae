//! `base`.
