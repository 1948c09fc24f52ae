//! An interpreter on this machine: finding it, and asking it what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::EnvError;

/// X.Y of the Python this binary is linked with.
pub(super) const LINKED_VERSION: Option<&str> = option_env!("COREMILL_BUILD_PYTHON_VERSION");
/// The interpreter this binary was built against.
pub(super) const BUILD_PYTHON: Option<&str> = option_env!("COREMILL_BUILD_PYTHON");

const PROBE: &str = include_str!("probe.py");

/// What an interpreter says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Host {
    /// X.Y.Z.
    pub(super) version: String,
    /// The interpreter itself.
    pub(super) executable: PathBuf,
    /// Where its standard library is rooted; outside of any virtual environment.
    #[serde(default)]
    pub(super) home: PathBuf,
    /// The same for the compiled part of the standard library.
    #[serde(default)]
    pub(super) exec_home: PathBuf,
    /// Its folders of installed packages.
    #[serde(default)]
    pub(super) site: Vec<PathBuf>,
    /// True if it can make virtual environments with pip in them.
    #[serde(default)]
    pub(super) has_ensurepip: bool,
    /// The versions of the packages asked for, as far as installed.
    #[serde(default)]
    pub(super) packages: BTreeMap<String, String>,
}

impl Host {
    /// Asks the interpreter `python`, of which the versions of `packages` are of interest.
    pub(super) fn probe(python: &Path, packages: &[&str]) -> Result<Self, EnvError> {
        let broken = |detail: String| EnvError::Broken { python: python.to_owned(), detail };
        let names = serde_json::to_string(packages).expect("names are strings");
        let output = isolated(python)
            .args(["-c", PROBE, &names])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| broken(e.to_string()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let line =
                text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it wrote nothing");
            return Err(broken(format!("{}: {}", output.status, line.trim())));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| broken(format!("no answer: {e}")))
    }

    /// The interpreter to make environments with: the one this binary was built against, or else one of the same
    /// version on the search path.
    pub(super) fn find(wanted: &str) -> Result<Self, EnvError> {
        let named = format!("python{wanted}");
        let candidates: Vec<&str> = BUILD_PYTHON
            .into_iter()
            .filter(|p| !p.is_empty())
            .chain([named.as_str(), "python3"])
            .collect();
        for candidate in &candidates {
            if let Ok(host) = Self::probe(Path::new(candidate), &[])
                && host.is(wanted)
            {
                return Ok(host);
            }
        }
        let tried = candidates.into_iter().map(|c| format!("`{c}`")).collect();
        Err(EnvError::NoPython { wanted: wanted.to_owned(), tried })
    }

    /// True if it is of the version X.Y.
    pub(super) fn is(&self, wanted: &str) -> bool {
        self.version.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// A command of `python` that neither the user's site folder nor `PYTHON*` variables can change.
pub(super) fn isolated(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg("-I");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_by_their_first_two_numbers() {
        let host = |version: &str| Host {
            version: version.to_owned(),
            executable: PathBuf::new(),
            home: PathBuf::new(),
            exec_home: PathBuf::new(),
            site: Vec::new(),
            has_ensurepip: true,
            packages: BTreeMap::new(),
        };
        for (version, wanted, is) in
            [("3.11.7", "3.11", true), ("3.1.4", "3.11", false), ("3.11.7", "3.1", false)]
        {
            assert_eq!(host(version).is(wanted), is, "{version} {wanted}");
        }
    }

    #[test]
    fn what_does_not_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let silent = script(folder.path(), "silent", "exit 127");
        let chatty = script(folder.path(), "chatty", "echo hello");
        for (python, fact) in [
            (folder.path().join("none"), "No such file"),
            (silent, "exit status: 127: it wrote nothing"),
            (chatty, "no answer"),
        ] {
            let error = Host::probe(&python, &[]).unwrap_err().to_string();
            assert!(error.contains(fact), "{error}");
        }
    }

    fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join(name);
        fs_err::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[cfg(feature = "python")]
    #[test]
    fn the_interpreter_of_the_build_is_found_with_its_library() {
        let wanted = LINKED_VERSION.unwrap();
        let host = Host::find(wanted).unwrap();
        assert!(host.is(wanted));
        assert!(host.home.join("lib").join(format!("python{wanted}")).join("os.py").is_file());
        assert!(!host.site.is_empty());
    }
}
