//! Sweeps on a Ray cluster: a driver in a Python process of its own, told one job, that tells what becomes of its tasks.
//!
//! Not in this process, since Ray ends the process whose cluster is gone, and not in the environment that all work runs
//! in, since few need it: Ray is an extra.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Environment;
use super::host::isolated;
use crate::base::cancel::{self, Cancelled};
use crate::base::error::{ErrorKind, Hint};

const DRIVER: &str = include_str!("cluster.py");
/// How often a request to stop is looked for.
const WATCH: Duration = Duration::from_millis(100);
/// How long a driver that is asked to end may take to tell its cluster.
const FAREWELL: Duration = Duration::from_secs(10);

/// A driver to be started.
#[derive(Debug, Clone)]
pub struct Cluster {
    python: PathBuf,
    log: PathBuf,
}

/// What a cluster is to do: `coremill sweep` for single variants.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Job {
    /// `HOST:PORT` on a node of the cluster, `ray://HOST:PORT` elsewhere, or `auto`.
    pub address: String,
    /// What fsspec calls the place through which nodes exchange files; where there is none they share the folder.
    pub storage: Option<String>,
    /// The sweep's output folder.
    pub folder: PathBuf,
    /// This program; nodes look for it at this path, then on their search paths.
    pub program: PathBuf,
    /// What its `--version` says, on all nodes the same.
    pub version: String,
    /// Cores of each task; where nothing is said, the tasks' share of all.
    pub cores: Option<u64>,
    /// Bytes of memory of each task.
    pub memory: Option<u64>,
    /// True if tasks are timed, so that a machine takes one at a time.
    pub alone: bool,
    /// The spec.
    pub spec: String,
    /// The file name of the spec, for messages.
    pub spec_name: String,
    /// More arguments of `coremill sweep`.
    pub arguments: Vec<String>,
    /// The names of the variants; none where files are exchanged only.
    pub tasks: Vec<String>,
}

/// Events of a driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The cluster was joined.
    Nodes {
        /// Its nodes that are alive.
        nodes: u64,
        /// Their cores.
        cores: u64,
    },
    /// Something that stays.
    Note {
        /// It.
        text: String,
    },
    /// A task began; again where its worker or its node was lost.
    Started {
        /// The variant.
        name: String,
        /// The machine.
        host: String,
        /// 1 for the first time.
        attempt: u64,
    },
    /// Progress of a task.
    Progress {
        /// The variant.
        name: String,
        /// What is done to it.
        stage: String,
        /// Units of the stage done.
        done: u64,
        /// Of how many, where known.
        total: Option<u64>,
    },
    /// A task is over.
    Ended {
        /// The variant.
        name: String,
        /// How.
        outcome: End,
        /// Why it failed.
        message: Option<String>,
        /// Suggested remedy.
        hint: Option<String>,
        /// The machine.
        host: Option<String>,
        /// The machine's processor.
        processor: Option<String>,
        /// Duration.
        seconds: Option<f64>,
    },
    /// Nothing more can be done.
    Error {
        /// Why.
        message: String,
        /// Suggested remedy.
        hint: Option<String>,
    },
    /// All is done.
    Over,
}

/// Outcome of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The variant was made and measured.
    Done,
    /// It could not be.
    Failed,
    /// Its worker or its node was lost more often than is tried again.
    Lost,
}

/// Why a cluster did not do its job.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The driver says why.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// Suggested remedy.
        hint: Option<String>,
    },
    /// The driver ended without a word, as it does where the cluster goes away.
    #[error("the cluster was lost: {detail}")]
    Lost {
        /// The last line that it wrote.
        detail: String,
        /// The file with all that it wrote.
        log: PathBuf,
    },
    /// The driver cannot be started or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Hint for ClusterError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Lost { log, .. } => Some(format!(
                "run the same command again to go on from here; the driver's log is `{}`",
                log.display()
            )),
            Self::Io(_) | Self::Cancelled(_) => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } | Self::Lost { .. } => ErrorKind::Environment,
            Self::Io(e) => e.error_kind(),
            Self::Cancelled(e) => e.error_kind(),
        }
    }
}

impl Cluster {
    /// A driver in `environment`, which has Ray, that writes what it does not tell into the file `log`.
    pub fn new(environment: &Environment, log: &Path) -> Self {
        Self { python: environment.python.clone(), log: log.to_owned() }
    }

    /// Has the cluster do `job` and tells `each` what happens, until all is done.
    pub fn run(&self, job: &Job, each: &mut dyn FnMut(Event)) -> Result<(), ClusterError> {
        cancel::check()?;
        if let Some(parent) = self.log.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let log = fs_err::File::create(&self.log)?;
        let mut child = isolated(&self.python)
            .args(["-u", "-c", DRIVER])
            .env("RAY_USAGE_STATS_ENABLED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.file().try_clone()?)
            .spawn()?;
        let outcome = self.attend(&mut child, job, each);
        // The driver ends with its standard input, and tells its cluster so.
        drop(child.stdin.take());
        let mut waited = Duration::ZERO;
        while child.try_wait()?.is_none() {
            if waited > FAREWELL {
                child.kill()?;
            }
            thread::sleep(WATCH);
            waited += WATCH;
        }
        outcome
    }

    fn attend(
        &self,
        child: &mut Child,
        job: &Job,
        each: &mut dyn FnMut(Event),
    ) -> Result<(), ClusterError> {
        let mut request = serde_json::to_vec(job).expect("plain data is JSON");
        request.push(b'\n');
        let stdin = child.stdin.as_mut().expect("it is piped");
        match stdin.write_all(&request) {
            // A driver that is gone says why in its log.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody listens any more where the run is over.
            read.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        loop {
            cancel::check()?;
            let line = match lines.recv_timeout(WATCH) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    // Ctrl-C reaches the driver, too, and may end it before this process looks.
                    cancel::check()?;
                    return Err(self.lost());
                }
            };
            match serde_json::from_str(&line) {
                Ok(Event::Over) => return Ok(()),
                Ok(Event::Error { message, hint }) => {
                    return Err(ClusterError::Refused { message, hint });
                }
                Ok(event) => each(event),
                Err(error) => {
                    let detail = format!("the driver said `{line}`: {error}");
                    return Err(ClusterError::Lost { detail, log: self.log.clone() });
                }
            }
        }
    }

    fn lost(&self) -> ClusterError {
        let text = fs_err::read(&self.log).unwrap_or_default();
        let detail = last_words(&String::from_utf8_lossy(&text));
        ClusterError::Lost { detail, log: self.log.clone() }
    }
}

/// The first sentence of the last line of a log, without Ray's stamp of time, processes and place.
fn last_words(log: &str) -> String {
    let last = log.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let line = last.unwrap_or("its driver ended without a word");
    let stamped = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let fact = stamped.map_or(line, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, f)| f));
    fact.split(". ").next().unwrap_or(fact).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_short() {
        for (log, want) in [
            ("", "its driver ended without a word"),
            ("a\nKeyError: 'x'\n\n", "KeyError: 'x'"),
            (
                "x\n[2026-01-01 10:00:00,000 E 17 18] rpc_client.h:204: Failed to connect. It is gone.",
                "Failed to connect",
            ),
            ("[1, 2] is no address", "is no address"),
        ] {
            assert_eq!(last_words(log), want, "{log}");
        }
    }

    #[test]
    fn events_are_read() {
        let ended = |outcome, message: Option<&str>| Event::Ended {
            name: "a".to_owned(),
            outcome,
            message: message.map(str::to_owned),
            hint: None,
            host: None,
            processor: None,
            seconds: None,
        };
        let cases = [
            (r#"{"event": "nodes", "nodes": 2, "cores": 8}"#, Event::Nodes { nodes: 2, cores: 8 }),
            (r#"{"event": "ended", "name": "a", "outcome": "done"}"#, ended(End::Done, None)),
            (
                r#"{"event": "ended", "name": "a", "outcome": "lost", "message": "m"}"#,
                ended(End::Lost, Some("m")),
            ),
            (
                r#"{"event": "progress", "name": "a", "stage": "s", "done": 1, "total": null}"#,
                Event::Progress {
                    name: "a".to_owned(),
                    stage: "s".to_owned(),
                    done: 1,
                    total: None,
                },
            ),
            (r#"{"event": "over"}"#, Event::Over),
        ];
        for (line, want) in cases {
            assert_eq!(serde_json::from_str::<Event>(line).unwrap(), want, "{line}");
        }
    }
}
