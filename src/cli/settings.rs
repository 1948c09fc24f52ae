//! The environment, read once.

use std::env;
use std::path::PathBuf;

/// What the environment says, beside the arguments.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where the Python environment, downloads and references are kept.
    pub(crate) cache_dir: PathBuf,
    /// `COREMILL_PYTHON`: an interpreter whose environment is used as it is.
    pub(crate) python: Option<PathBuf>,
    /// `HF_ENDPOINT`: the hub or a mirror.
    pub(crate) hf_endpoint: Option<String>,
    /// `HF_TOKEN`: the hub's token.
    pub(crate) hf_token: Option<String>,
    /// `COREMILL_OFFLINE`: the network may not be used.
    pub(crate) offline: bool,
    /// `HF_HOME` as the hub's tools use it.
    pub(crate) hf_home: Option<PathBuf>,
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn from_env() -> Self {
        let path = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name: &str| {
            env::var_os(name).and_then(|v| v.into_string().ok()).filter(|v| !v.is_empty())
        };
        let home = path("HOME").unwrap_or_else(env::temp_dir);
        let caches = if cfg!(target_os = "macos") {
            home.join("Library/Caches")
        } else {
            path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"))
        };
        Self {
            cache_dir: path("COREMILL_CACHE_DIR").unwrap_or_else(|| caches.join("coremill")),
            python: path("COREMILL_PYTHON"),
            hf_endpoint: text("HF_ENDPOINT"),
            hf_token: text("HF_TOKEN"),
            hf_home: path("HF_HOME"),
            offline: text("COREMILL_OFFLINE").is_some_and(|v| v != "0"),
        }
    }
}
