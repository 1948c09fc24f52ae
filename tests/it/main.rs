//! Integration tests, one binary.

mod bigram;
mod compress;
mod evaluate;
mod interp;
mod layers;
mod package;
