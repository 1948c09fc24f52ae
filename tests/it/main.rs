//! Integration tests, one binary.

mod compress;
mod package;
