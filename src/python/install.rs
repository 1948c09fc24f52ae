//! Fills a virtual environment with pip, patiently.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use fs_err::File;

use super::EnvError;
use super::host::isolated;
use super::pip::{Failure, classify};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};

/// How often, and after which pause, a failed download is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) attempts: u32,
    /// The pause after the first attempt; it triples each time.
    pub(super) first_pause: Duration,
}

impl Patience {
    /// pip itself makes five quick attempts for each file, so these bridge outages of about a minute.
    pub(super) const USUAL: Self = Self { attempts: 4, first_pause: Duration::from_secs(4) };

    /// The pauses between attempts.
    fn pauses(self) -> impl Iterator<Item = Duration> {
        (0..self.attempts.saturating_sub(1)).map(move |n| self.first_pause * 3_u32.pow(n))
    }
}

/// What is to be installed, and where.
#[derive(Debug)]
pub(super) struct Install<'a> {
    /// The environment's own interpreter.
    pub(super) python: &'a Path,
    /// The environment's folder, for error messages.
    pub(super) folder: &'a Path,
    /// The lock's text.
    pub(super) lock: &'a str,
    /// Number of packages to expect.
    pub(super) n_packages: u64,
    /// A folder for what pip unpacks on the way; it exists and goes afterwards.
    pub(super) scratch: &'a Path,
    /// Where pip's output goes.
    pub(super) log: &'a Path,
    /// The empty file whose lock this run holds; pip holds it, too.
    pub(super) held: &'a File,
    /// True if the lock lists all that its packages need; if not, pip is told to look no further.
    pub(super) complete: bool,
    pub(super) patience: Patience,
}

impl Install<'_> {
    /// Installs, trying again while the network is the reason that it fails.
    pub(super) fn run(&self, progress: &dyn Progress) -> Result<(), EnvError> {
        let requirements = self.scratch.join("requirements.txt");
        fs_err::write(&requirements, self.lock)?;
        fs_err::write(self.log, "")?;
        let mut pauses = self.patience.pauses();
        loop {
            let Some(output) = self.attempt(&requirements, progress)? else { return Ok(()) };
            cancel::check()?;
            let log = self.log.to_owned();
            let detail = match classify(&output) {
                Failure::Network(detail) => detail,
                Failure::Certificate(detail) => return Err(EnvError::Certificate { detail, log }),
                Failure::Hash(package) => return Err(EnvError::Hash { package, log }),
                Failure::NoMatch(requirement) => {
                    return Err(EnvError::NoMatch { requirement, log });
                }
                Failure::DiskFull => {
                    return Err(EnvError::DiskFull { folder: self.folder.to_owned() });
                }
                Failure::Other(detail) => return Err(EnvError::Pip { detail, log }),
            };
            let Some(pause) = pauses.next() else {
                return Err(EnvError::Network { attempts: self.patience.attempts, detail, log });
            };
            progress.note(&format!("{detail}; trying again in {} s", pause.as_secs()));
            wait(pause)?;
        }
    }

    /// One run of pip: nothing when it succeeds, its output when it fails.
    fn attempt(
        &self,
        requirements: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<String>, EnvError> {
        let begin = fs_err::metadata(self.log)?.len();
        let log = fs_err::OpenOptions::new().append(true).open(self.log)?;
        let mut command = isolated(self.python);
        command
            .args(["-m", "pip", "install", "--require-hashes", "--only-binary", ":all:"])
            .args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off"])
            .args(["--no-warn-script-location", "--no-user"]);
        if !self.complete {
            command.arg("--no-deps");
        }
        command
            .arg("-r")
            .arg(requirements)
            .env("TMPDIR", self.scratch)
            .env_remove("PIP_TARGET")
            .env_remove("PIP_PREFIX")
            .env_remove("PIP_USER")
            .stdin(self.held.file().try_clone()?)
            .stdout(log.file().try_clone()?)
            .stderr(log.file().try_clone()?);
        progress.begin("installing Python packages", Some(self.n_packages), Unit::Items);
        let outcome = command.spawn().map_err(EnvError::from).and_then(|child| {
            let mut log = Tail { path: self.log.to_owned(), begin, n_collected: 0 };
            watch(child, || log.report(progress))
        });
        progress.end();
        if outcome? {
            return Ok(None);
        }
        let bytes = fs_err::read(self.log)?;
        let from = usize::try_from(begin).unwrap_or(0).min(bytes.len());
        Ok(Some(String::from_utf8_lossy(&bytes[from..]).into_owned()))
    }
}

/// The part of pip's log that this attempt writes.
struct Tail {
    path: PathBuf,
    begin: u64,
    n_collected: u64,
}

impl Tail {
    fn report(&mut self, progress: &dyn Progress) {
        let bytes = fs_err::read(&self.path).unwrap_or_default();
        let from = usize::try_from(self.begin).unwrap_or(0).min(bytes.len());
        let text = String::from_utf8_lossy(&bytes[from..]);
        let n = text.lines().filter(|l| l.starts_with("Collecting ")).count() as u64;
        progress.advance(n.saturating_sub(self.n_collected));
        self.n_collected = n.max(self.n_collected);
    }
}

/// Waits for `child`, calling `tick` a few times a second, and ends it when the run is asked to stop; tells whether it
/// succeeded.
pub(super) fn watch(mut child: Child, mut tick: impl FnMut()) -> Result<bool, EnvError> {
    loop {
        if let Some(status) = child.try_wait()? {
            tick();
            if !status.success() {
                // Ctrl-C reaches the child, too, and may end it before this process looks.
                cancel::check()?;
            }
            return Ok(status.success());
        }
        if let Err(cancelled) = cancel::check() {
            child.kill()?;
            child.wait()?;
            return Err(cancelled.into());
        }
        tick();
        thread::sleep(Duration::from_millis(100));
    }
}

/// Sleeps, but not through a request to stop.
pub(super) fn wait(pause: Duration) -> Result<(), EnvError> {
    let step = Duration::from_millis(100);
    let mut left = pause;
    while !left.is_zero() {
        cancel::check()?;
        thread::sleep(left.min(step));
        left = left.saturating_sub(step);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let seconds: Vec<u64> = Patience::USUAL.pauses().map(|p| p.as_secs()).collect();
        assert_eq!(seconds, [4, 12, 36]);
    }
}
