//! Sweeps: a source, the plan of its evaluation, and the stages on this machine or a Ray cluster.

pub mod estimate;
mod local;
mod ray;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use self::local::LocalPipeline;
use self::ray::Ray;
use self::source::Source;
use super::job::Found;
use super::reference::{self, ReferenceSource};
use super::{Failure, Session, texts};
use crate::base::clock::Clock as _;
use crate::base::digest;
use crate::convert::Preflight;
use crate::eval::reference::Reference;
use crate::eval::{Plan, PromptPlan, Repeat, TOP_K, TextPlan, defaults};
use crate::lm::Sentence;
use crate::report::{self, Report};
use crate::sweep::{self, Run, Spec};

/// A specification with the text and path that it was read from.
#[derive(Debug)]
pub struct LoadedSpec {
    /// The specification.
    pub spec: Spec,
    /// Its text, after overrides.
    pub text: String,
    /// Its path; relative paths in it refer to the directory of this path.
    pub path: std::path::PathBuf,
}

/// A sweep whose source was found and checked.
pub struct PreparedSweep<'a> {
    loaded: &'a LoadedSpec,
    session: &'a Session,
    source: Source,
    /// Estimates and warnings of the conversion.
    pub expected: Preflight,
}

impl std::fmt::Debug for PreparedSweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedSweep").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Finds and checks the source of a sweep; `token` is an access token of the hub.
pub fn prepare<'a>(
    loaded: &'a LoadedSpec,
    token: Option<&str>,
    session: &'a Session,
) -> Result<PreparedSweep<'a>, Failure> {
    let source = Source::of(&loaded.spec, token, session)?;
    let expected = source::preflight(&source, &loaded.spec.output.dir)?;
    Ok(PreparedSweep { loaded, session, source, expected })
}

impl PreparedSweep<'_> {
    /// Returns the variants with their estimated sizes.
    pub fn variants(&self) -> Result<Vec<estimate::Expected>, Failure> {
        estimate::variants(&self.loaded.spec, &self.source, &self.expected)
    }

    /// Runs the sweep; `command` is recorded in the report.
    pub fn run(&self, command: Vec<String>) -> Result<(Run, Report), Failure> {
        let Self { loaded, session, source, expected } = self;
        let spec = &loaded.spec;
        let plan = plan(spec, session)?;
        let engine = Ray::of(spec, &loaded.text, &loaded.path, session)?;
        let reference = reference_of(source, &plan, spec.run.references.as_deref(), session)?;
        let crowded = sweep::workers(&spec.run, expected.package_bytes) > 1;
        let pipeline = LocalPipeline::new(source, plan, reference, session, crowded, engine);
        let finished = sweep::run(spec, &pipeline, &session.clock, &*session.progress)?;
        let (name, repository, revision) = source.names();
        let origin = report::Origin {
            tool: source.tool(session)?,
            command,
            environment: environment(),
            created: session.clock.unix_seconds(),
            spec_sha256: Some(digest::of_bytes(loaded.text.as_bytes())),
            source: name,
            repository,
            revision,
        };
        let report = Report::of(&finished, origin);
        Ok((finished, report))
    }
}

fn plan(spec: &Spec, session: &Session) -> Result<Plan, Failure> {
    let text_of = |asked: &Path| texts::read(&asked.to_string_lossy(), session);
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let asked = &spec.evaluate;
    let text = match &asked.text {
        None => None,
        Some(asked_text) => Some(TextPlan {
            text: text_of(asked_text)?,
            window: asked.window.map(count),
            stride: asked.stride.map(count),
            max_windows: count(asked.windows.unwrap_or(defaults::WINDOWS)),
            calibration: asked.calibration.as_deref().map(text_of).transpose()?,
            top_k: asked.top_k.map_or(TOP_K, count),
            noise_floor: asked.noise_floor,
        }),
    };
    let prompts = (!asked.prompts.is_empty()).then(|| asked.prompts.read()).transpose()?;
    let sentences = (!asked.sentences.is_empty()).then(|| asked.sentences.read()).transpose()?;
    Ok(Plan {
        text,
        prompts: prompts.map(|lines| PromptPlan {
            prompts: lines.into_iter().map(|line| line.text).collect(),
            max_tokens: count(asked.max_new_tokens.unwrap_or(defaults::MAX_TOKENS)),
            chat_template: asked.chat_template,
            probe: false,
            explain: false,
        }),
        sentences: sentences.map(|lines| {
            let sentence = |line: sweep::Sentence| Sentence {
                instruction: line.instruction.or_else(|| asked.instruction.clone()),
                prompt_name: None,
                text: line.text,
            };
            lines.into_iter().map(sentence).collect()
        }),
        latency: asked.latency.filter(|&n| n > 0).map(|n| Repeat { warm_up: defaults::WARM_UP, n }),
    })
}

/// What answers for the source; nothing where nothing is asked that would be compared or run.
fn reference_of<'a>(
    source: &Source,
    plan: &Plan,
    kept: Option<&Path>,
    session: &'a Session,
) -> Result<Option<Box<dyn Reference + 'a>>, Failure> {
    let Plan { text, prompts, sentences, latency } = plan;
    if text.is_none() && prompts.is_none() && sentences.is_none() && latency.is_none() {
        return Ok(None);
    }
    let dirs = |found: &[Found]| found.iter().map(|f| f.dir.clone()).collect();
    let reference_source = match source {
        Source::Job(job) => ReferenceSource::Checkpoint {
            model: job.model.dir.clone(),
            lora: dirs(&job.lora),
            llm2vec: dirs(&job.llm2vec),
        },
        Source::Package { path, .. } => ReferenceSource::Package(path.clone()),
    };
    reference::reference(&reference_source, kept, session).map(Some)
}

fn environment() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = [
        ("os", Some(std::env::consts::OS.to_owned())),
        ("arch", Some(std::env::consts::ARCH.to_owned())),
        ("cores", Some(cores.to_string())),
        ("processor", processor()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The processor's name, where Linux tells it.
fn processor() -> Option<String> {
    let told = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let name = told.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(name.trim_start_matches([' ', '\t', ':']).to_owned())
}
