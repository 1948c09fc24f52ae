//! What every layer may use: files that are whole or absent, digests, hints, progress, a clock, chance from a seed.

pub mod cancel;
pub mod chance;
pub mod clock;
pub mod digest;
pub mod error;
pub mod fmt;
pub mod fs;
pub mod index;
pub mod links;
pub mod mistake;
pub mod nearest;
pub mod package_options;
pub mod progress;
pub(crate) mod simd;
#[cfg(test)]
pub(crate) mod testing;
