//! Integration tests, one binary.

mod bigram;
mod compress;
mod evaluate;
mod package;
