//! What every layer may use: files that are whole or absent, digests, hints, progress, a clock, chance from a seed.

pub mod cancel;
pub mod clock;
pub mod did_you_mean;
pub mod digest;
pub mod error;
pub mod fmt;
pub mod fs;
pub mod index;
pub mod links;
pub mod package_options;
pub mod progress;
pub(crate) mod simd;
pub mod split_mix64;
#[cfg(test)]
pub(crate) mod testing;
pub mod toml_error;
