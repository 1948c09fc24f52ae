//! `config.toml`: what the user wants where no argument says otherwise. Every key is known, or an error in its line.

use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::base::toml_error::TomlError;
use crate::coreml::ComputeUnits;
use crate::pipeline::Failure;
use crate::runtime::BackendChain;

/// The user's choices; without a file, the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Runtimes: `auto`, a runtime, or a list in order of preference.
    pub(crate) backend: BackendChain,
    /// Compute units that Core ML may use.
    pub(crate) compute_units: ComputeUnits,
    /// GiB of compiled models that are kept.
    pub(crate) compiled_cache_gib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backend: BackendChain::default(),
            compute_units: ComputeUnits::default(),
            // A few models of some billion parameters, and small beside the disk of a Mac that runs them.
            compiled_cache_gib: 16,
        }
    }
}

impl Config {
    /// Reads the file at `path`; where there is none, nothing is wanted.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        match fs_err::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&path.display().to_string(), &text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e.into()),
        }
    }

    fn parse(name: &str, text: &str) -> Result<Self, TomlError> {
        toml::from_str(text).map_err(|e| TomlError::toml(name, text, &e))
    }

    /// Bytes of compiled models that are kept.
    pub(crate) fn compiled_cache_bytes(&self) -> u64 {
        u64::from(self.compiled_cache_gib) << 30
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Hint as _;
    use crate::runtime::Backend;

    fn parse(text: &str) -> Result<Config, TomlError> {
        Config::parse("config.toml", text)
    }

    #[test]
    fn every_key_has_a_default() {
        assert_eq!(parse("").unwrap(), Config::default());
        let given = "backend = [\"interp\", \"coreml\"]\ncompute_units = \"CPU_AND_NE\"\ncompiled_cache_gib = 2\n";
        let config = parse(given).unwrap();
        assert_eq!(config.backend.backends(), [Backend::Interp, Backend::CoreMl]);
        assert_eq!(config.compute_units, ComputeUnits::CpuAndNe);
        assert_eq!(config.compiled_cache_bytes(), 2 << 30);
        assert_eq!(
            parse("backend = \"coreml,interp\"").unwrap().backend.to_string(),
            "coreml,interp"
        );
    }

    #[test]
    fn mistakes_are_named_in_their_line() {
        let mut out = Vec::new();
        for text in [
            "bakend = \"interp\"",
            "# mine\nbackend = \"cormel\"",
            "backend = [\"coreml\", \"coreml\"]",
            "backend = 3",
            "compute_units = \"CPU_AND_GPUS\"",
            "compiled_cache_gib = -1",
            "backend = ",
        ] {
            let mistake = parse(text).unwrap_err();
            let hint = mistake.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            out.push(format!("{mistake}{hint}"));
        }
        insta::assert_snapshot!(out.join("\n\n"));
    }
}
