//! Variants made by the nodes of a Ray cluster, each a task that runs this program.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::base::error::Hint as _;
use crate::base::fmt;
use crate::base::progress::{Progress, Unit};
use crate::pipeline::Failure;
use crate::pipeline::Session;
use crate::python::{self, Cluster, ClusterError, End, Event, Extra, Job};
use crate::sweep::{Engine, EngineSpec, Spec, StageError, Variant};

/// A cluster that is given single variants of a sweep.
pub(crate) struct Ray {
    cluster: Cluster,
    job: Job,
}

impl Ray {
    /// The cluster that `spec` names, where it names one. `text` is the spec's, whose paths are relative to `folder`.
    pub(crate) fn of(
        spec: &Spec,
        text: &str,
        path: &Path,
        session: &Session,
    ) -> Result<Option<Self>, Failure> {
        if spec.run.engine != EngineSpec::Ray {
            return Ok(None);
        }
        if spec.output.fresh && spec.run.storage.is_some() {
            return Err(Failure::input("`--fresh` does not reach what is in the storage")
                .hint("name another place, or remove what is there"));
        }
        let settings = session.python_settings();
        let environment = python::ensure_with(Extra::Ray, &settings, &*session.progress)?;
        let absolute = |path: &Path| -> Result<PathBuf, Failure> {
            fs_err::create_dir_all(path)?;
            Ok(fs_err::canonicalize(path)?)
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let spec_folder = absolute(folder.unwrap_or(Path::new(".")))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let job = Job {
            address: spec.run.address.clone().unwrap_or_else(|| "auto".to_owned()),
            storage: spec.run.storage.clone(),
            folder: absolute(&spec.output.dir)?,
            program: std::env::current_exe()?,
            version: format!("coremill {}", env!("CARGO_PKG_VERSION")),
            cores: spec.run.cores,
            memory: spec.run.memory,
            alone: spec.evaluate.latency.is_some_and(|n| n > 0),
            spec: text.to_owned(),
            spec_name: name,
            arguments: vec![
                "--spec-folder".to_owned(),
                spec_folder.to_string_lossy().into_owned(),
                "--set".to_owned(),
                // The whole table: nodes make what they are told themselves.
                "run={}".to_owned(),
            ],
            tasks: Vec::new(),
        };
        let cluster = Cluster::new(&environment, &session.settings.cache_dir.join("ray.log"));
        Ok(Some(Self { cluster, job }))
    }
}

impl Engine for Ray {
    fn exchange(&self) -> Result<(), StageError> {
        if self.job.storage.is_none() {
            return Ok(());
        }
        self.cluster.run(&self.job, &mut drop).map_err(|error| stage_error(&error))
    }

    fn make(
        &self,
        variants: &[&Variant],
        progress: &dyn Progress,
        ended: &dyn Fn(),
    ) -> Result<Vec<Result<(), StageError>>, StageError> {
        let tasks: Vec<String> = variants.iter().map(|variant| variant.name.clone()).collect();
        let job = Job { tasks: tasks.clone(), ..self.job.clone() };
        let watch = Watch { progress, ended, state: RefCell::default() };
        self.cluster.run(&job, &mut |event| watch.see(event)).map_err(|e| stage_error(&e))?;
        let mut state = watch.state.into_inner();
        if self.job.alone && state.processors.len() > 1 {
            let all: Vec<String> = state.processors.into_iter().collect();
            progress.note(&format!("times are of different processors: {}", all.join(", ")));
        }
        let untold = || {
            Err(StageError::Failed { message: "the cluster does not say".to_owned(), hint: None })
        };
        let outcome = |name: &String| state.outcomes.remove(name).unwrap_or_else(untold);
        Ok(tasks.iter().map(outcome).collect())
    }
}

/// Who tells what the cluster's tasks do.
struct Watch<'a> {
    progress: &'a dyn Progress,
    ended: &'a dyn Fn(),
    state: RefCell<State<'a>>,
}

#[derive(Default)]
struct State<'a> {
    at_work: BTreeMap<String, AtWork<'a>>,
    outcomes: BTreeMap<String, Result<(), StageError>>,
    processors: BTreeSet<String>,
}

/// A task that a node is at.
struct AtWork<'a> {
    listener: Box<dyn Progress + 'a>,
    /// The stage that it is in, and the units of that which are done.
    stage: Option<(String, u64)>,
}

impl AtWork<'_> {
    fn see(&mut self, stage: String, done: u64, total: Option<u64>) {
        if let Some((current, before)) = &mut self.stage
            && *current == stage
        {
            self.listener.advance(done.saturating_sub(*before));
            *before = done.max(*before);
            return;
        }
        self.end();
        self.listener.begin(&stage, total, Unit::Items);
        self.listener.advance(done);
        self.stage = Some((stage, done));
    }

    fn end(&mut self) {
        if self.stage.take().is_some() {
            self.listener.end();
        }
    }
}

impl Watch<'_> {
    fn see(&self, event: Event) {
        let state = &mut *self.state.borrow_mut();
        let note = |line: String| self.progress.note(&line);
        match event {
            Event::Nodes { nodes, cores } => note(format!("cluster: {nodes} nodes, {cores} cores")),
            Event::Note { text } => note(format!("cluster: {text}")),
            Event::Started { name, host, attempt: 1 } => {
                note(format!("{name}: started on {host}"));
                let listener = self.progress.part(&name);
                state.at_work.insert(name, AtWork { listener, stage: None });
            }
            Event::Started { name, host, .. } => {
                note(format!("{name}: its worker was lost, started again on {host}"));
            }
            Event::Progress { name, stage, done, total } => {
                if let Some(task) = state.at_work.get_mut(&name) {
                    task.see(stage, done, total);
                }
            }
            Event::Ended { name, outcome, message, hint, host, processor, seconds } => {
                if let Some(mut task) = state.at_work.remove(&name) {
                    task.end();
                }
                state.processors.extend(processor);
                let message = message.unwrap_or_else(|| "it does not say why".to_owned());
                let outcome = match outcome {
                    End::Done => {
                        let time = std::time::Duration::from_secs_f64(seconds.unwrap_or(0.0));
                        let host = host.unwrap_or_default();
                        note(format!("{name}: made on {host}, {}", fmt::duration(time)));
                        Ok(())
                    }
                    End::Failed => Err(StageError::Failed { message, hint }),
                    End::Lost => Err(StageError::Failed {
                        message: format!("its worker was lost: {message}"),
                        hint: Some("run the same command again".to_owned()),
                    }),
                };
                state.outcomes.insert(name, outcome);
                (self.ended)();
            }
            // The driver's last words are not passed on.
            Event::Error { .. } | Event::Over => {}
        }
    }
}

fn stage_error(error: &ClusterError) -> StageError {
    match error {
        ClusterError::Cancelled(cancelled) => StageError::Cancelled(*cancelled),
        error => StageError::Failed { message: error.to_string(), hint: error.hint() },
    }
}
