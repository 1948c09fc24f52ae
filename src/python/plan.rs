//! Environments made once for each lock, Python version and platform, and found again after that.
//!
//! A virtual environment cannot be moved, so it is made where it will stay. What makes it whole is the marker file,
//! written last: a folder without one was left by a killed run and is made anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err::File;

use super::env::{Environment, Extra, Origin, Settings, shelf};
use super::host::{Host, isolated};
use super::install::{Install, Patience, wait, watch};
use super::{EnvError, lock, machine};
use crate::base::fmt;
use crate::base::fs::write_atomic;
use crate::base::progress::Progress;

/// The marker's name in the environment's folder.
const MARKER: &str = "coremill.json";
/// Free bytes that making the environment needs. Measured on Linux: 5.6 GiB installed, 8.7 GiB at the peak, when the
/// downloads lie beside it; pip may keep another 3 GiB in a cache of its own.
const NEEDED: u64 = 9 << 30;
/// The same for an extra. Measured on Linux: 340 MiB installed for `ray`, which is the larger.
const NEEDED_EXTRA: u64 = 1 << 30;

/// An environment to be found or made.
pub(super) struct Plan {
    shelf: PathBuf,
    key: String,
    /// X.Y.
    linked: String,
    /// The text of the lock.
    lock: String,
    /// The packages whose versions are recorded.
    names: Vec<String>,
    needed: u64,
    offline: bool,
    /// An environment whose packages this one sees, too.
    base: Option<Environment>,
    patience: Patience,
}

impl Plan {
    pub(super) fn main(settings: &Settings, linked: &str) -> Result<Self, EnvError> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        if !matches!((os, arch), ("linux", "x86_64") | ("macos", "aarch64")) {
            return Err(EnvError::Platform { os: os.to_owned(), arch: arch.to_owned() });
        }
        Ok(Self {
            shelf: shelf(settings),
            key: lock::key(lock::MAIN, linked, &platform()),
            linked: linked.to_owned(),
            lock: lock::MAIN.to_owned(),
            names: lock::wanted().into_keys().collect(),
            needed: NEEDED,
            offline: settings.offline,
            base: None,
            patience: Patience::USUAL,
        })
    }

    pub(super) fn extra(
        extra: Extra,
        settings: &Settings,
        linked: &str,
        base: Environment,
    ) -> Self {
        let both = format!("{}\0{}", base.python.display(), extra.lock());
        Self {
            shelf: shelf(settings),
            key: format!("{}-{}", extra.name(), lock::key(&both, linked, &platform())),
            linked: linked.to_owned(),
            lock: extra.lock().to_owned(),
            names: lock::wanted().into_keys().collect(),
            needed: NEEDED_EXTRA,
            offline: settings.offline,
            base: Some(base),
            patience: Patience::USUAL,
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.shelf.join(&self.key)
    }

    /// Where pip unpacks, on the disk whose space was checked.
    fn scratch(&self) -> PathBuf {
        self.shelf.join(format!("{}.tmp", self.key))
    }

    /// Removes what is not a whole environment.
    fn clear(&self) -> std::io::Result<()> {
        for folder in [self.folder(), self.scratch()] {
            if folder.exists() {
                fs_err::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }

    pub(super) fn ensure(&self, progress: &dyn Progress) -> Result<Environment, EnvError> {
        if let Some(environment) = self.load() {
            return Ok(environment);
        }
        if self.offline {
            return Err(EnvError::Offline { folder: self.folder() });
        }
        fs_err::create_dir_all(&self.shelf)?;
        let held = self.hold(progress)?;
        let environment = match self.load() {
            Some(made_meanwhile) => made_meanwhile,
            None => self.make(&held, progress)?,
        };
        drop(held);
        Ok(environment)
    }

    /// The environment, if it is whole: its marker is there, and the interpreter it was made with still is.
    pub(super) fn load(&self) -> Option<Environment> {
        let text = fs_err::read(self.folder().join(MARKER)).ok()?;
        let environment: Environment = serde_json::from_slice(&text).ok()?;
        let whole = environment.python.exists()
            && environment.home.is_dir()
            && environment.site.iter().all(|folder| folder.is_dir())
            && same_place(&environment.shelf, &self.shelf);
        whole.then_some(environment)
    }

    /// Waits until no other run is making this environment. The lock goes with the process, however it ends, and with
    /// the children that work on the environment: they get it as their standard input, so that a pip that outlives a
    /// killed run is waited for.
    fn hold(&self, progress: &dyn Progress) -> Result<File, EnvError> {
        let file = File::create(self.shelf.join(format!("{}.lock", self.key)))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
                Err(std::fs::TryLockError::WouldBlock) => {
                    if !told {
                        progress.note("waiting for another coremill that is setting up Python");
                        told = true;
                    }
                    wait(Duration::from_millis(500))?;
                }
            }
        }
    }

    fn make(&self, held: &File, progress: &dyn Progress) -> Result<Environment, EnvError> {
        let host = Host::find(&self.linked)?;
        if !host.has_ensurepip {
            return Err(EnvError::NoVenv { python: host.executable, version: self.linked.clone() });
        }
        let folder = self.folder();
        if folder.exists() {
            progress.note(&format!("removing `{}`, which was left unfinished", folder.display()));
        }
        self.clear()?;
        let free = machine::free_bytes(&self.shelf)?;
        if free < self.needed {
            return Err(EnvError::Space { folder: self.shelf.clone(), free, needed: self.needed });
        }
        progress.note(&format!(
            "making a Python {} environment in `{}` (needs up to {} and a network, once)",
            host.version,
            folder.display(),
            fmt::bytes(self.needed)
        ));
        let outcome = self.fill(&host, &folder, held, progress);
        if outcome.is_err() {
            self.clear()?;
        }
        outcome
    }

    fn fill(
        &self,
        host: &Host,
        folder: &Path,
        held: &File,
        progress: &dyn Progress,
    ) -> Result<Environment, EnvError> {
        let scratch = self.scratch();
        fs_err::create_dir(&scratch)?;
        let log = self.shelf.join(format!("{}.log", self.key));
        self.venv(host, folder, held, &log)?;
        let python = folder.join("bin").join("python");
        Install {
            python: &python,
            folder,
            lock: &self.lock,
            n_packages: lock::pins(&self.lock).len() as u64,
            scratch: &scratch,
            log: &log,
            held,
            complete: self.base.is_none(),
            patience: self.patience,
        }
        .run(progress)?;
        fs_err::remove_dir_all(&scratch)?;
        let bare = Host::probe(&python, &[])?;
        if let (Some(base), Some(site)) = (&self.base, bare.site.first()) {
            let lines: Vec<String> =
                base.site.iter().map(|f| format!("{}\n", f.display())).collect();
            fs_err::write(site.join("coremill-base.pth"), lines.concat())?;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let whole = Host::probe(&python, &names)?;
        let origin = Origin::Managed { key: self.key.clone() };
        let environment = Environment::of(whole, origin, Vec::new(), &self.shelf);
        let text = serde_json::to_vec_pretty(&environment).expect("an environment has only text");
        write_atomic(&folder.join(MARKER), &text)?;
        Ok(environment)
    }

    /// Makes the empty virtual environment.
    fn venv(&self, host: &Host, folder: &Path, held: &File, log: &Path) -> Result<(), EnvError> {
        let out = File::create(log)?;
        let child = isolated(&host.executable)
            .args(["-m", "venv"])
            .arg(folder)
            .stdin(held.file().try_clone()?)
            .stdout(out.file().try_clone()?)
            .stderr(out.file().try_clone()?)
            .spawn()?;
        if watch(child, || {})? {
            return Ok(());
        }
        let text = fs_err::read_to_string(log)?;
        if text.contains("ensurepip is not available") {
            return Err(EnvError::NoVenv {
                python: host.executable.clone(),
                version: self.linked.clone(),
            });
        }
        let detail =
            text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it wrote nothing");
        Err(EnvError::Venv { python: host.executable.clone(), detail: detail.trim().to_owned() })
    }
}

/// Free bytes that making the environment needs.
pub(super) const fn needed() -> u64 {
    NEEDED
}

/// True if two paths lead to one folder; a cache may be reached through links.
fn same_place(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    a == b || real(a).is_some_and(|a| Some(a) == real(b))
}

fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
#[cfg(feature = "python")]
mod python_tests {
    use std::process::Command;

    use super::super::env::own;
    use super::super::host::LINKED_VERSION;
    use super::*;
    use crate::base::digest;
    use crate::base::error::Hint as _;
    use crate::base::progress::Silent;

    const WHEEL: &str = "
import sys, time, zipfile
time.time = lambda: 1e9
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('tiny.py', 'ANSWER = 42\\n')
    info = 'tiny-1.0.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
";

    /// A plan for an environment with one package that needs no network.
    fn plan(shelf: &Path) -> Plan {
        let linked = LINKED_VERSION.unwrap();
        let wheel = shelf.join("tiny-1.0-py3-none-any.whl");
        let host = Host::find(linked).unwrap();
        let made = Command::new(host.executable).args(["-c", WHEEL]).arg(&wheel).status().unwrap();
        assert!(made.success());
        let (digest, _) = digest::of_file(&wheel).unwrap();
        Plan {
            shelf: shelf.to_owned(),
            key: "0123456789abcdef".to_owned(),
            linked: linked.to_owned(),
            lock: format!("tiny @ file://{} --hash=sha256:{digest}\n", wheel.display()),
            names: vec!["tiny".to_owned()],
            needed: 1 << 20,
            offline: false,
            base: None,
            patience: Patience { attempts: 1, first_pause: Duration::ZERO },
        }
    }

    fn names(shelf: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(shelf).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_environment_is_made_once_and_remade_when_a_run_was_killed() {
        let shelf = tempfile::tempdir().unwrap();
        let plan = plan(shelf.path());
        let made = plan.ensure(&Silent).unwrap();
        assert_eq!(made.packages["tiny"], "1.0");
        assert_eq!(made.origin, Origin::Managed { key: plan.key.clone() });
        assert!(made.python.starts_with(plan.folder()));

        let offline = Plan { offline: true, ..self::plan(shelf.path()) };
        assert_eq!(offline.ensure(&Silent).unwrap(), made, "found again without a network");

        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("linked");
        fs_err::os::unix::fs::symlink(shelf.path(), &link).unwrap();
        let linked = Plan { offline: true, shelf: link, ..self::plan(shelf.path()) };
        assert_eq!(
            linked.ensure(&Silent).unwrap(),
            made,
            "found through a link, and not made anew"
        );

        let leftover = plan.folder().join("leftover");
        fs_err::write(&leftover, "").unwrap();
        fs_err::create_dir(plan.scratch()).unwrap();
        fs_err::remove_file(plan.folder().join(MARKER)).unwrap();
        let error = offline.ensure(&Silent).unwrap_err();
        assert!(matches!(error, EnvError::Offline { .. }), "{error}");
        assert_eq!(plan.ensure(&Silent).unwrap(), made);
        assert!(!leftover.exists(), "the unfinished folder is made anew");
        assert!(!plan.scratch().exists(), "what pip unpacked is gone");

        let dev =
            Plan { key: "dev".to_owned(), base: Some(made.clone()), ..self::plan(shelf.path()) };
        let dev = dev.ensure(&Silent).unwrap();
        assert_ne!(dev.python, made.python);
        assert!(dev.site[0].join("coremill-base.pth").is_file());
    }

    #[test]
    fn a_failed_set_up_leaves_its_log_and_nothing_else() {
        let shelf = tempfile::tempdir().unwrap();
        let good = plan(shelf.path());
        let before = names(shelf.path());
        let zeros = "0".repeat(64);
        let cases = [
            (
                format!("{} --hash=sha256:{zeros}\n", good.lock.split(" --hash").next().unwrap()),
                1,
                "SHA-256",
            ),
            (
                format!("tiny @ file:///nowhere/tiny-1.0-py3-none-any.whl --hash=sha256:{zeros}\n"),
                1,
                "pip failed",
            ),
            (good.lock, u64::MAX, "needs"),
        ];
        for (lock, needed, fact) in cases {
            let plan = Plan { lock, needed, ..plan(shelf.path()) };
            let error = plan.ensure(&Silent).unwrap_err();
            assert!(error.to_string().contains(fact), "{error}");
            assert!(error.hint().is_some());
            let added =
                names(shelf.path()).into_iter().filter(|n| !before.contains(n)).collect::<Vec<_>>();
            assert!(
                added.iter().all(|n| [".lock", ".log"].iter().any(|end| n.ends_with(end))),
                "{added:?}"
            );
        }
    }

    #[test]
    fn two_runs_make_one_environment() {
        let shelf = tempfile::tempdir().unwrap();
        let plan = plan(shelf.path());
        let made: Vec<Environment> = std::thread::scope(|scope| {
            let runs = [(); 2].map(|()| scope.spawn(|| plan.ensure(&Silent).unwrap()));
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(made[0], made[1]);
    }

    #[test]
    fn ones_own_interpreter_is_checked() {
        let cache = tempfile::tempdir().unwrap();
        let plan = plan(cache.path());
        let python = plan.ensure(&Silent).unwrap().python;
        let error = own(&python, LINKED_VERSION.unwrap(), cache.path()).unwrap_err();
        assert!(matches!(error, EnvError::NoPackages { .. }), "{error}");
        assert!(error.to_string().contains("lacks coremltools==9.0, numpy==2.2.6"), "{error}");
        let error = own(&python, "3.99", cache.path()).unwrap_err();
        assert!(matches!(error, EnvError::WrongVersion { .. }), "{error}");
    }
}
