//! Errors of the embedded Python, with remedies.

use std::io;
use std::path::PathBuf;

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::base::fmt;

/// Why there is no Python environment to work with.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The binary was built without the feature `python`.
    #[error("this coremill was built without Python")]
    Disabled,
    /// No wheels exist for this machine.
    #[error("coremltools and torch publish no packages for {os} on {arch}")]
    Platform {
        /// The operating system.
        os: String,
        /// The processor architecture.
        arch: String,
    },
    /// No interpreter was found.
    #[error("no Python {wanted} was found: tried {}", tried.join(", "))]
    NoPython {
        /// The version whose libpython this binary is linked with.
        wanted: String,
        /// The interpreters that were tried.
        tried: Vec<String>,
    },
    /// The interpreter did not run.
    #[error("`{}` does not run: {detail}", python.display())]
    Broken {
        /// The interpreter.
        python: PathBuf,
        /// Its message.
        detail: String,
    },
    /// The interpreter does not fit the loaded libpython.
    #[error("`{}` is Python {found}, but this coremill is linked with Python {wanted}", python.display())]
    WrongVersion {
        /// The interpreter.
        python: PathBuf,
        /// Its version.
        found: String,
        /// The version whose libpython this binary is linked with.
        wanted: String,
    },
    /// The interpreter cannot make virtual environments.
    #[error("`{}` cannot make a virtual environment: its module `ensurepip` is missing", python.display())]
    NoVenv {
        /// The interpreter.
        python: PathBuf,
        /// Its version as X.Y.
        version: String,
    },
    /// Making the virtual environment failed.
    #[error("`{} -m venv` failed: {detail}", python.display())]
    Venv {
        /// The interpreter.
        python: PathBuf,
        /// The last line it wrote.
        detail: String,
    },
    /// One's own interpreter lacks packages.
    #[error("`{}` lacks {}", python.display(), missing.join(", "))]
    NoPackages {
        /// The interpreter.
        python: PathBuf,
        /// The missing packages, pinned.
        missing: Vec<String>,
    },
    /// Too little room before starting.
    #[error("`{}` has {} free, the Python environment needs {}", folder.display(), fmt::bytes(*free), fmt::bytes(*needed))]
    Space {
        /// The folder the environment would go to.
        folder: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The disk filled up on the way.
    #[error("the disk filled up while packages were installed into `{}`", folder.display())]
    DiskFull {
        /// The environment's folder.
        folder: PathBuf,
    },
    /// An environment is needed, and the network may not be used.
    #[error("the Python environment `{}` does not exist yet, and the network is switched off", folder.display())]
    Offline {
        /// The environment's folder.
        folder: PathBuf,
    },
    /// The package index could not be reached.
    #[error("packages could not be downloaded in {attempts} attempts: {detail}")]
    Network {
        /// Number of attempts.
        attempts: u32,
        /// The reason pip gave.
        detail: String,
        /// pip's log.
        log: PathBuf,
    },
    /// The index's certificate is not trusted.
    #[error("pip does not trust the certificate of the package index: {detail}")]
    Certificate {
        /// The reason pip gave.
        detail: String,
        /// pip's log.
        log: PathBuf,
    },
    /// A download is not the file that was locked.
    #[error("the download of {package} is not the file the lock names: its SHA-256 differs")]
    Hash {
        /// The package.
        package: String,
        /// pip's log.
        log: PathBuf,
    },
    /// The index has no file for a locked version.
    #[error("the package index has no installable file for {requirement}")]
    NoMatch {
        /// The locked requirement.
        requirement: String,
        /// pip's log.
        log: PathBuf,
    },
    /// pip failed in some other way.
    #[error("pip failed: {detail}")]
    Pip {
        /// The last error line of pip.
        detail: String,
        /// pip's log.
        log: PathBuf,
    },
    /// A file of the cache could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Hint for EnvError {
    fn hint(&self) -> Option<String> {
        let log = |log: &PathBuf| format!("pip's own words are in `{}`", log.display());
        Some(match self {
            Self::Disabled => "rebuild with `cargo build --release --features python`".to_owned(),
            Self::Platform { .. } => {
                "use Linux on x86_64 or macOS on arm64, or point COREMILL_PYTHON at an interpreter that has \
                 coremltools and torch"
                    .to_owned()
            }
            Self::NoPython { wanted, .. } => format!(
                "install it (Debian: `apt-get install python{wanted} python{wanted}-venv`, macOS: \
                 `brew install python@{wanted}`), or rebuild for another one with `PYO3_PYTHON=python3.X cargo build \
                 --release`, X from 10 to 13"
            ),
            Self::Broken { .. } | Self::Venv { .. } => {
                "run it by hand to see why, or point COREMILL_PYTHON at another interpreter".to_owned()
            }
            Self::WrongVersion { python, wanted, .. } => format!(
                "point COREMILL_PYTHON at a Python {wanted}, or rebuild with `PYO3_PYTHON={} cargo build --release`",
                python.display()
            ),
            Self::NoVenv { version, .. } => {
                format!("install it: `apt-get install python{version}-venv`")
            }
            Self::NoPackages { python, missing } => format!(
                "`{} -m pip install {}`, or unset COREMILL_PYTHON to let coremill make its own environment",
                python.display(),
                missing.join(" ")
            ),
            Self::Space { .. } | Self::DiskFull { .. } => {
                "free some space, or choose a cache folder on a larger disk with `--cache-dir`; PIP_NO_CACHE_DIR=1 keeps \
                 pip from storing downloads a second time"
                    .to_owned()
            }
            Self::Offline { .. } => {
                "run `coremill setup` once with a network, or point COREMILL_PYTHON at an interpreter that has the \
                 packages"
                    .to_owned()
            }
            Self::Network { log: path, .. } => format!(
                "check the network and pip's index and proxy settings (`pip config list`), then run `coremill setup`; \
                 {}",
                log(path)
            ),
            Self::Certificate { log: path, .. } => {
                format!("name your certificate bundle in PIP_CERT; {}", log(path))
            }
            Self::Hash { log: path, .. } => {
                format!("a proxy or mirror may change files: try another index; {}", log(path))
            }
            Self::NoMatch { log: path, .. } => format!(
                "the index may be a mirror that lacks it, or this Python may be unsupported (3.10 to 3.13 are); {}",
                log(path)
            ),
            Self::Pip { log: path, .. } => log(path),
            Self::Io(_) | Self::Cancelled(_) => return None,
        })
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled(e) => e.error_kind(),
            _ => ErrorKind::Environment,
        }
    }
}

/// Why Python did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// The binary was built without the feature `python`.
    #[error("this coremill was built without Python")]
    Disabled,
    /// A failure the Python side knows and names.
    #[error("{message}")]
    Known {
        /// A stable name of the failure, e.g. `unsupported_architecture`.
        kind: String,
        /// The fact.
        message: String,
        /// The advice, where there is some.
        hint: Option<String>,
    },
    /// A failure nobody foresaw; the traceback is in the log.
    #[error("Python failed: {message}")]
    Internal {
        /// Type and text of the exception.
        message: String,
        /// The log with the traceback.
        log: PathBuf,
    },
    /// Python did not start.
    #[error("Python did not start: {message}")]
    Start {
        /// Description of the problem.
        message: String,
    },
    /// The request or the answer is not what the bridge carries.
    #[error("the Python side answered out of turn: {message}")]
    Protocol {
        /// Description of the problem.
        message: String,
    },
    /// The log or the package sources could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Hint for PythonError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disabled => EnvError::Disabled.hint(),
            Self::Known { hint, .. } => hint.clone(),
            Self::Internal { log, .. } => Some(format!("the traceback is in `{}`", log.display())),
            Self::Start { .. } | Self::Protocol { .. } => Some(
                "run `coremill doctor` to see which Python and which libpython are in use"
                    .to_owned(),
            ),
            Self::Io(_) | Self::Cancelled(_) => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            // What Python names is about the request; what it does not foresee is its own.
            Self::Known { kind, .. } if kind != "out_of_memory" && kind != "internal" => {
                ErrorKind::Input
            }
            Self::Cancelled(e) => e.error_kind(),
            _ => ErrorKind::Environment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every error reads as the house writes them: lower case unless it starts with a name, no full stop, and a hint
    /// that says what to do.
    #[test]
    fn errors_state_facts_and_hints_say_what_to_do() {
        let log = PathBuf::from("cache/pip.log");
        let python = PathBuf::from("bin/python3");
        let cases: Vec<(EnvError, &str, &str)> = vec![
            (EnvError::Disabled, "built without Python", "--features python"),
            (
                EnvError::Platform { os: "linux".into(), arch: "aarch64".into() },
                "linux on aarch64",
                "COREMILL_PYTHON",
            ),
            (
                EnvError::NoPython { wanted: "3.11".into(), tried: vec!["a".into(), "b".into()] },
                "tried a, b",
                "apt-get install python3.11",
            ),
            (
                EnvError::Broken { python: python.clone(), detail: "exit 127".into() },
                "exit 127",
                "by hand",
            ),
            (
                EnvError::WrongVersion {
                    python: python.clone(),
                    found: "3.13.0".into(),
                    wanted: "3.11".into(),
                },
                "is Python 3.13.0",
                "PYO3_PYTHON=bin/python3",
            ),
            (
                EnvError::NoVenv { python: python.clone(), version: "3.11".into() },
                "ensurepip",
                "apt-get install python3.11-venv",
            ),
            (EnvError::Venv { python: python.clone(), detail: "x".into() }, "-m venv", "by hand"),
            (
                EnvError::NoPackages { python, missing: vec!["torch==2.7.0".into()] },
                "lacks torch==2.7.0",
                "-m pip install torch==2.7.0",
            ),
            (
                EnvError::Space { folder: "cache".into(), free: 1 << 30, needed: 8 << 30 },
                "has 1.00 GiB free, the Python environment needs 8.00 GiB",
                "--cache-dir",
            ),
            (EnvError::DiskFull { folder: "cache".into() }, "filled up", "--cache-dir"),
            (EnvError::Offline { folder: "cache".into() }, "switched off", "coremill setup"),
            (
                EnvError::Network { attempts: 4, detail: "timed out".into(), log: log.clone() },
                "4 attempts: timed out",
                "cache/pip.log",
            ),
            (
                EnvError::Certificate { detail: "x".into(), log: log.clone() },
                "certificate",
                "PIP_CERT",
            ),
            (EnvError::Hash { package: "torch".into(), log: log.clone() }, "SHA-256", "mirror"),
            (EnvError::NoMatch { requirement: "a==1".into(), log: log.clone() }, "a==1", "3.10"),
            (EnvError::Pip { detail: "x".into(), log }, "pip failed", "cache/pip.log"),
        ];
        for (error, fact, advice) in cases {
            let text = error.to_string();
            assert!(text.contains(fact), "{text}");
            assert!(!text.ends_with('.'), "{text}");
            let hint = error.hint().unwrap();
            assert!(hint.contains(advice), "{hint}");
            assert!(!hint.ends_with('.'), "{hint}");
        }
    }
}
