//! The Python environment that work is done in: coremill's own, with an extra, or the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::host::{Host, LINKED_VERSION};
use super::plan::Plan;
use super::{EnvError, lock};
use crate::base::progress::Progress;

/// Choice of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// coremill's cache folder.
    pub cache_dir: PathBuf,
    /// An interpreter whose environment is used as it is (`COREMILL_PYTHON`).
    pub python_override: Option<PathBuf>,
    /// True if the network may not be used.
    pub offline: bool,
}

/// A Python environment that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its interpreter.
    pub python: PathBuf,
    /// Its version, X.Y.Z.
    pub version: String,
    /// Where the standard library is rooted.
    pub home: PathBuf,
    /// Where the compiled part of the standard library is rooted.
    pub exec_home: PathBuf,
    /// Its folders of installed packages.
    pub site: Vec<PathBuf>,
    /// The versions of the packages that coremill imports.
    pub packages: BTreeMap<String, String>,
    /// Who made it.
    pub origin: Origin,
    /// Where packages differ from the lock; only one's own interpreter can have some.
    pub mismatches: Vec<String>,
    /// The folder in the cache for what goes with all environments.
    pub shelf: PathBuf,
}

/// Who made an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// coremill, from its lock; the key names lock, Python version and platform.
    Managed {
        /// The folder's name.
        key: String,
    },
    /// The user, by `COREMILL_PYTHON`.
    Own,
}

/// The environment to work with: the user's own, the one made earlier, or a new one.
pub fn ensure(settings: &Settings, progress: &dyn Progress) -> Result<Environment, EnvError> {
    let linked = LINKED_VERSION.ok_or(EnvError::Disabled)?;
    if let Some(python) = &settings.python_override {
        let environment = own(python, linked, &shelf(settings))?;
        for mismatch in &environment.mismatches {
            progress.note(mismatch);
        }
        return Ok(environment);
    }
    Plan::main(settings, linked)?.ensure(progress)
}

/// The environment of [`ensure`] where it is complete already; nothing is made.
pub fn ready(settings: &Settings) -> Option<Environment> {
    existing(settings).ok()?.1
}

/// Packages that only some work needs. Each extra is a virtual environment of its own that sees the packages of
/// [`ensure`]'s, so that those stay what they are and nobody waits for what is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// What the Python tests need: pytest and test data.
    Dev,
    /// What sweeps on a Ray cluster need: Ray, and fsspec with S3.
    Ray,
}

impl Extra {
    /// The extra's name in folders.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Ray => "ray",
        }
    }

    pub(super) const fn lock(self) -> &'static str {
        match self {
            Self::Dev => lock::DEV,
            Self::Ray => lock::RAY,
        }
    }
}

/// [`ensure`]'s environment with an extra.
pub fn ensure_with(
    extra: Extra,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Environment, EnvError> {
    let base = ensure(settings, progress)?;
    let linked = LINKED_VERSION.ok_or(EnvError::Disabled)?;
    Plan::extra(extra, settings, linked, base).ensure(progress)
}

/// What [`ensure`] would find without making anything.
pub(super) fn existing(settings: &Settings) -> Result<(PathBuf, Option<Environment>), EnvError> {
    let linked = LINKED_VERSION.ok_or(EnvError::Disabled)?;
    if let Some(python) = &settings.python_override {
        return Ok((python.clone(), Some(own(python, linked, &shelf(settings))?)));
    }
    let plan = Plan::main(settings, linked)?;
    Ok((plan.folder(), plan.load()))
}

pub(super) fn shelf(settings: &Settings) -> PathBuf {
    settings.cache_dir.join("python")
}

/// Checks the user's own interpreter.
pub(super) fn own(python: &Path, linked: &str, shelf: &Path) -> Result<Environment, EnvError> {
    let wanted = lock::wanted();
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let host = Host::probe(python, &names)?;
    if !host.is(linked) {
        return Err(EnvError::WrongVersion {
            python: python.to_owned(),
            found: host.version,
            wanted: linked.to_owned(),
        });
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(name, _)| !host.packages.contains_key(*name))
        .map(|(name, versions)| {
            format!("{name}=={}", versions.first().expect("a pin has a version"))
        })
        .collect();
    if !missing.is_empty() {
        return Err(EnvError::NoPackages { python: python.to_owned(), missing });
    }
    let mismatches = mismatches(&wanted, &host.packages);
    Ok(Environment::of(host, Origin::Own, mismatches, shelf))
}

fn mismatches(
    wanted: &BTreeMap<String, Vec<String>>,
    found: &BTreeMap<String, String>,
) -> Vec<String> {
    let differs = |(name, version): (&String, &String)| {
        let locked = wanted.get(name)?;
        let text =
            || format!("{name} is {version}, coremill is tested with {}", locked.join(" or "));
        (!locked.contains(version)).then(text)
    };
    found.iter().filter_map(differs).collect()
}

impl Environment {
    pub(super) fn of(host: Host, origin: Origin, mismatches: Vec<String>, shelf: &Path) -> Self {
        let Host { version, executable, home, exec_home, site, has_ensurepip: _, packages } = host;
        Self {
            python: executable,
            version,
            home,
            exec_home,
            site,
            packages,
            origin,
            mismatches,
            shelf: shelf.to_owned(),
        }
    }

    /// The interpreter that this crate's tests were built against, with whatever it has.
    #[cfg(all(test, feature = "python"))]
    pub(super) fn bare(shelf: &Path) -> Self {
        let linked = LINKED_VERSION.expect("the feature is on");
        let host = Host::find(linked).expect("the interpreter of the build runs");
        Self::of(host, Origin::Own, Vec::new(), shelf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mismatches_are_told_and_alternatives_are_none() {
        let wanted = BTreeMap::from([
            ("numpy".to_owned(), vec!["2.2.6".to_owned()]),
            ("scikit-learn".to_owned(), vec!["1.5.1".to_owned(), "1.5.2".to_owned()]),
        ]);
        let found = |numpy: &str, sklearn: &str| {
            BTreeMap::from([
                ("numpy".to_owned(), numpy.to_owned()),
                ("scikit-learn".to_owned(), sklearn.to_owned()),
            ])
        };
        assert!(mismatches(&wanted, &found("2.2.6", "1.5.2")).is_empty());
        assert_eq!(
            mismatches(&wanted, &found("2.4.0", "1.6.0")),
            [
                "numpy is 2.4.0, coremill is tested with 2.2.6",
                "scikit-learn is 1.6.0, coremill is tested with 1.5.1 or 1.5.2"
            ]
        );
    }
}
