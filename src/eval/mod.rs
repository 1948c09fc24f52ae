//! What an artifact is worth, measured on the artifact itself against a reference.

pub mod results;
