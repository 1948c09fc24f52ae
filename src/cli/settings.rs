//! Settings of a session from the environment.

use std::env;
use std::path::{Path, PathBuf};

use crate::pipeline::Settings;

/// Reads the environment. Returns the settings and the path of `config.toml`; `cache_dir` overrides the environment.
pub(crate) fn from_env(cache_dir: Option<&Path>) -> (Settings, PathBuf) {
    let path = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let text =
        |name: &str| env::var_os(name).and_then(|v| v.into_string().ok()).filter(|v| !v.is_empty());
    let home = path("HOME").unwrap_or_else(env::temp_dir);
    let caches = if cfg!(target_os = "macos") {
        home.join("Library/Caches")
    } else {
        path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"))
    };
    let configs = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let settings = Settings {
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
    };
    (settings, configs.join("coremill/config.toml"))
}
