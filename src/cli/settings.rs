//! The environment, read once.

use std::env;
use std::path::{Path, PathBuf};

/// What the environment says, beside the arguments.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "only the hub asks for some of it"))]
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
    /// The user's configuration, which need not be there.
    pub(crate) config_file: PathBuf,
    /// The hub's own cache, which `huggingface_hub` uses too; below `--cache-dir` where that is given.
    pub(crate) hub_cache: PathBuf,
}

impl Settings {
    /// Reads the environment; `cache_dir` is what the command line says.
    pub(crate) fn from_env(cache_dir: Option<&Path>) -> Self {
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
        let configs = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        Self {
            config_file: configs.join("coremill/config.toml"),
            hub_cache: match cache_dir {
                Some(dir) => dir.join("hub"),
                None => path("HF_HUB_CACHE")
                    .or_else(|| path("HF_HOME").map(|home| home.join("hub")))
                    .unwrap_or_else(|| home.join(".cache/huggingface/hub")),
            },
            cache_dir: cache_dir
                .map(Path::to_owned)
                .or_else(|| path("COREMILL_CACHE_DIR"))
                .unwrap_or_else(|| caches.join("coremill")),
            python: path("COREMILL_PYTHON"),
            hf_endpoint: text("HF_ENDPOINT"),
            hf_token: text("HF_TOKEN"),
            offline: text("COREMILL_OFFLINE").is_some_and(|v| v != "0"),
        }
    }
}
