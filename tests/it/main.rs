//! Integration tests, one binary.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails where it should")]

mod audit;
mod backends;
mod bigram;
mod cli;
mod compress;
mod engine;
mod evaluate;
mod formats;
mod hostile;
mod interp;
mod interrupted;
mod layers;
#[cfg(feature = "python")]
mod minilm;
mod oracle;
mod package;
#[cfg(feature = "python")]
mod pipeline;
#[cfg(all(feature = "python", target_os = "linux"))]
mod ray;
mod records;
mod support;
mod swept;
mod text;
