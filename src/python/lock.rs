//! The pinned requirements, embedded: their text, their digest, and the versions they name.

use std::collections::BTreeMap;

use crate::base::digest;

/// The lock of the environment that coremill runs in.
pub(super) const MAIN: &str = include_str!("../../python/requirements.lock");
/// What the Python tests need beside it.
pub(super) const DEV: &str = include_str!("../../python/requirements-dev.lock");
/// What sweeps on a Ray cluster need beside it.
pub(super) const RAY: &str = include_str!("../../python/requirements-ray.lock");
/// The packages that [`MAIN`] exists for; the others are there because these need them.
const WANTED: &str = include_str!("../../python/requirements.in");

/// The folder name of the environment of a lock: lock text, Python version and platform, hashed.
pub(super) fn key(lock: &str, python: &str, platform: &str) -> String {
    let mut digest = digest::of_bytes(format!("{lock}\0{python}\0{platform}").as_bytes());
    digest.truncate(16);
    digest
}

/// Every version a lock names for each package, in order of appearance.
pub(super) fn pins(lock: &str) -> BTreeMap<String, Vec<String>> {
    let mut pins: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lock.lines() {
        if let Some((name, rest)) = line.split_once("==")
            && !line.starts_with([' ', '#'])
        {
            let version = rest.split([' ', ';', '\\']).next().unwrap_or_default();
            pins.entry(name.to_owned()).or_default().push(version.to_owned());
        }
    }
    pins
}

/// The packages coremill itself imports, with the versions the lock allows.
pub(super) fn wanted() -> BTreeMap<String, Vec<String>> {
    let names: Vec<&str> = WANTED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(['=', ' ', ';', '<', '>']).next().unwrap_or_default())
        .collect();
    pins(MAIN).into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_lock_version_and_platform() {
        let base = key("a==1\n", "3.11", "linux-x86_64");
        assert_eq!(base.len(), 16);
        assert_eq!(base, key("a==1\n", "3.11", "linux-x86_64"));
        for (lock, python, platform) in [
            ("a==2\n", "3.11", "linux-x86_64"),
            ("a==1\n", "3.12", "linux-x86_64"),
            ("a==1\n", "3.11", "macos-aarch64"),
            ("a==1\n3", ".11", "linux-x86_64"),
        ] {
            assert_ne!(base, key(lock, python, platform), "{lock:?} {python} {platform}");
        }
    }

    #[test]
    fn pins_are_read_with_their_alternatives() {
        let lock = "# a==0\na==1.0 ; python_full_version < '3.11' \\\n    --hash=sha256:00\na==2.0 \\\nb==3\n";
        let want = [("a", vec!["1.0", "2.0"]), ("b", vec!["3"])];
        let got = pins(lock);
        assert_eq!(got.len(), want.len());
        for (name, versions) in want {
            assert_eq!(got[name], versions);
        }
    }

    #[test]
    fn the_locks_pin_and_hash_everything_and_name_no_index() {
        for lock in [MAIN, DEV, RAY] {
            let requirements = lock.lines().filter(|l| !l.starts_with([' ', '#']));
            for requirement in requirements {
                assert!(requirement.contains("==") && requirement.ends_with('\\'), "{requirement}");
            }
            assert!(!lock.contains("://"), "an address in a lock");
        }
        for (requirement, hash) in MAIN.lines().zip(MAIN.lines().skip(1)) {
            if requirement.contains("==") {
                assert!(hash.starts_with("    --hash=sha256:"), "{requirement}");
            }
        }
    }

    #[test]
    fn what_coremill_imports_is_pinned() {
        let wanted = wanted();
        assert_eq!(wanted["coremltools"], ["9.0"]);
        assert_eq!(wanted["scikit-learn"], ["1.5.1", "1.5.2"]);
        assert_eq!(wanted["transformers"], ["5.20.2", "5.24.0"]);
        let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "coremltools",
                "numpy",
                "peft",
                "safetensors",
                "scikit-learn",
                "sentence-transformers",
                "sentencepiece",
                "tokenizers",
                "torch",
                "transformers"
            ]
        );
    }
}
