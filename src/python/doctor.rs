//! Capabilities of this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use serde::Serialize;

use super::env::{self, Environment, Settings};
use super::host::{Host, LINKED_VERSION};
use super::{EnvError, machine, plan};
use crate::base::error::Hint as _;
use crate::base::fmt;

/// The findings.
#[derive(Debug, Clone, Serialize)]
pub struct Doctor {
    /// coremill's version.
    pub coremill: &'static str,
    /// The operating system.
    pub os: &'static str,
    /// The processor architecture.
    pub arch: &'static str,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory of the machine in bytes, where the system tells.
    pub memory_total: Option<u64>,
    /// Memory that is free for use in bytes, where the system tells.
    pub memory_available: Option<u64>,
    /// coremill's cache folder.
    pub cache_dir: PathBuf,
    /// Free bytes on the cache folder's disk, where the system tells.
    pub disk_free: Option<u64>,
    /// X.Y of the Python this binary is linked with; none when it was built without Python.
    pub linked_python: Option<&'static str>,
    /// The libpython this process has loaded.
    pub libpython: Option<PathBuf>,
    /// The interpreter in use, or the one an environment would be made with.
    pub interpreter: Option<PathBuf>,
    /// Its version, X.Y.Z.
    pub interpreter_version: Option<String>,
    /// The environment.
    pub environment: EnvState,
    /// The versions of the packages that coremill imports.
    pub packages: BTreeMap<String, String>,
    /// Capabilities of this machine, in the order of use.
    pub can: Vec<Ability>,
}

/// The state of the Python environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EnvState {
    /// It is whole.
    Ready {
        /// Path of its interpreter.
        python: PathBuf,
        /// Packages that differ from the lock.
        mismatches: Vec<String>,
    },
    /// It has not been made yet.
    Absent {
        /// Path at which it would be created.
        folder: PathBuf,
    },
    /// It cannot be used or made.
    Unusable {
        /// The fact.
        reason: String,
        /// The remedy.
        hint: Option<String>,
    },
}

/// One thing coremill does, and whether it does it here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ability {
    /// The thing.
    pub what: &'static str,
    /// True if it works on this machine.
    pub yes: bool,
    /// The reason.
    pub why: String,
}

/// Looks around. Changes nothing and does not start Python in this process.
pub fn doctor(settings: &Settings) -> Doctor {
    let (memory_total, memory_available) = machine::memory();
    let disk_free = machine::free_bytes(&settings.cache_dir).ok();
    let (environment, found) = environment(settings);
    let host = LINKED_VERSION.and_then(|linked| Host::find(linked).ok());
    let (interpreter, interpreter_version, packages) = match (found, &host) {
        (Some(e), _) => (Some(e.python), Some(e.version), e.packages),
        (None, Some(h)) => (Some(h.executable.clone()), Some(h.version.clone()), BTreeMap::new()),
        (None, None) => (None, None, BTreeMap::new()),
    };
    let can = vec![
        set_up(&environment, host.as_ref(), disk_free, settings.offline),
        convert(&environment),
        download(settings.offline),
        Ability {
            what: "run, evaluate and compress packages",
            yes: true,
            why: "the runtime is part of coremill".to_owned(),
        },
        core_ml(),
    ];
    Doctor {
        coremill: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cores: thread::available_parallelism().map_or(1, usize::from),
        memory_total,
        memory_available,
        cache_dir: settings.cache_dir.clone(),
        disk_free,
        linked_python: LINKED_VERSION,
        libpython: machine::loaded_libpython(),
        interpreter,
        interpreter_version,
        environment,
        packages,
        can,
    }
}

fn environment(settings: &Settings) -> (EnvState, Option<Environment>) {
    match env::existing(settings) {
        Ok((_, Some(e))) => {
            let (python, mismatches) = (e.python.clone(), e.mismatches.clone());
            (EnvState::Ready { python, mismatches }, Some(e))
        }
        Ok((folder, None)) => (EnvState::Absent { folder }, None),
        Err(error) => (EnvState::Unusable { reason: error.to_string(), hint: error.hint() }, None),
    }
}

fn set_up(
    environment: &EnvState,
    host: Option<&Host>,
    free: Option<u64>,
    offline: bool,
) -> Ability {
    let what = "set up Python";
    let no = |why: String| Ability { what, yes: false, why };
    let needed = plan::needed();
    match (environment, host) {
        (EnvState::Ready { .. }, _) => Ability { what, yes: true, why: "it is done".to_owned() },
        (EnvState::Unusable { reason, .. }, _) => no(reason.clone()),
        (EnvState::Absent { .. }, None) => {
            let wanted = LINKED_VERSION.unwrap_or_default().to_owned();
            no(EnvError::NoPython { wanted, tried: vec!["the usual places".to_owned()] }
                .to_string())
        }
        (EnvState::Absent { .. }, Some(host)) if !host.has_ensurepip => {
            no(format!("`{}` lacks the module `ensurepip`", host.executable.display()))
        }
        (EnvState::Absent { .. }, _) if free.is_some_and(|free| free < needed) => no(format!(
            "it needs {} on the disk, {} are free",
            fmt::bytes(needed),
            fmt::bytes(free.unwrap_or_default())
        )),
        (EnvState::Absent { .. }, _) if offline => no("the network is switched off".to_owned()),
        (EnvState::Absent { .. }, Some(host)) => Ability {
            what,
            yes: true,
            why: format!("`coremill setup` makes it with `{}`", host.executable.display()),
        },
    }
}

fn convert(environment: &EnvState) -> Ability {
    let what = "convert checkpoints";
    match environment {
        EnvState::Ready { .. } => {
            Ability { what, yes: true, why: "the Python environment is ready".to_owned() }
        }
        EnvState::Absent { .. } => Ability {
            what,
            yes: false,
            why: "the Python environment is made on first need, or by `coremill setup`".to_owned(),
        },
        EnvState::Unusable { reason, .. } => Ability { what, yes: false, why: reason.clone() },
    }
}

fn download(offline: bool) -> Ability {
    let (yes, why) = match (cfg!(feature = "hub"), offline) {
        (false, _) => (false, "this coremill was built without the feature `hub`"),
        (true, true) => (false, "the network is switched off"),
        (true, false) => (true, "built in; needs a network"),
    };
    Ability { what: "download checkpoints", yes, why: why.to_owned() }
}

fn core_ml() -> Ability {
    let yes = cfg!(target_os = "macos");
    let why = if yes {
        "built in; `verify PKG --backend both` compares it with the runtime of coremill"
    } else {
        "the framework exists on macOS only; the runtime of coremill stands in for it"
    };
    Ability { what: "run packages with Core ML itself", yes, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cache_is_told_apart_from_an_unusable_python() {
        let cache = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            cache_dir: cache.path().join("cache"),
            python_override: Some(cache.path().join("no-python")),
            offline: true,
        };
        let found = doctor(&settings);
        assert!(matches!(found.environment, EnvState::Unusable { .. }), "{:?}", found.environment);
        assert!(found.cores > 0 && found.disk_free.is_some_and(|free| free > 0));
        assert!(found.can.iter().any(|a| a.what.starts_with("run, evaluate") && a.yes));

        settings.python_override = None;
        let found = doctor(&settings);
        let convert = found.can.iter().find(|a| a.what == "convert checkpoints").unwrap();
        assert!(!convert.yes);
        if cfg!(feature = "python") {
            assert!(
                matches!(found.environment, EnvState::Absent { .. }),
                "{:?}",
                found.environment
            );
            assert!(found.interpreter.is_some() && found.libpython.is_some());
        }
        assert!(serde_json::to_value(&found).unwrap()["environment"]["state"].is_string());
        assert!(!settings.cache_dir.exists(), "looking around changes nothing");
    }
}
