//! Runtime options of commands that run packages.

use clap::Args;

use crate::coreml::ComputeUnits;
use crate::runtime::BackendChain;

/// Runtime options.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// Runtime: `auto`, `coreml`, `interp`, or a list in order of preference [default: `backend` of config.toml, otherwise
    /// auto].
    #[arg(long, value_name = "LIST")]
    pub backend: Option<BackendChain>,
    /// Compute units of Core ML: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE [default: `compute_units` of config.toml,
    /// otherwise ALL].
    #[arg(long, value_name = "UNITS")]
    pub compute_units: Option<ComputeUnits>,
}

/// Backend of `verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyBackend {
    /// Comparison with a reference on the first available runtime.
    Reference(BackendChain),
    /// Comparison of two runtimes with each other.
    Both,
}

/// Parses `verify --backend`.
pub(super) fn verify_backend(text: &str) -> Result<VerifyBackend, String> {
    if text == "both" {
        Ok(VerifyBackend::Both)
    } else {
        text.parse().map(VerifyBackend::Reference)
    }
}
