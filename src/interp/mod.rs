//! `interp`.
