//! Integration tests, one binary.

mod package;
