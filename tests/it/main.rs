//! Integration tests, one binary.

mod compress;
mod interp;
mod package;
