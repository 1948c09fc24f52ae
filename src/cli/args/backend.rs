//! What runs packages: the options that every running command takes.

use clap::Args;

use crate::coreml::ComputeUnits;
use crate::eval::runtime::BackendChain;

/// What runs packages.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// What runs the package: `auto`, `coreml`, `interp`, or a list in order of preference [default: `backend` of
    /// config.toml, else auto].
    #[arg(long, value_name = "LIST")]
    pub backend: Option<BackendChain>,
    /// What Core ML may compute on: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE [default: `compute_units` of config.toml,
    /// else ALL].
    #[arg(long, value_name = "UNITS")]
    pub compute_units: Option<ComputeUnits>,
}

/// What judges a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// A reference, on the first runtime that can be used.
    By(BackendChain),
    /// Two runtimes, each the other.
    Both,
}

/// What `verify --backend` says.
pub(super) fn judged(text: &str) -> Result<Judged, String> {
    if text == "both" { Ok(Judged::Both) } else { text.parse().map(Judged::By) }
}
