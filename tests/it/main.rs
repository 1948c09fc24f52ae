//! Integration tests, one binary.

mod bigram;
mod cli;
mod compress;
mod evaluate;
mod interp;
mod layers;
mod package;
mod support;
