//! Converts a checkpoint: preflight, tokenizer, export, compression, validation, manifest.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempDir;

use super::job::{self, About, Found, Job};
use super::reference::{self, INTERP, ReferenceSource};
use super::{Failure, Session, texts};
use crate::base::clock::Clock as _;
use crate::base::fs::{PARTIAL, files_below, write_atomic};
use crate::compress::{self, Options, Recipe};
use crate::convert::{self, Converted, ModelInfo, Preflight};
use crate::coreml::ComputeUnits;
use crate::eval::results::Measurements;
use crate::eval::{Plan, PromptPlan, Repeat, TOP_K, TextPlan, defaults};
use crate::gate::{Gates, Subject, Verdict};
use crate::lm::{Sentence, Tokenizer, TokenizerRecord};
use crate::manifest::{Artifact, manifest_path};
use crate::package::{FileRecord, Package};
use crate::python::{self, EnvState};

/// Conversion engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvertEngine {
    /// Python exports the graph, this program writes the weights.
    Native,
    /// coremltools converts the model with its weights.
    Coremltools,
}

/// Options of a conversion beside its [`Job`].
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Output package.
    pub output: PathBuf,
    /// Overwrites an existing output.
    pub force: bool,
    /// Directory for intermediate files; the directory of the output if `None`.
    pub tmp: Option<PathBuf>,
    /// Keeps intermediate files.
    pub keep_tmp: bool,
    /// Compression recipe.
    pub recipe: Recipe,
    /// Target compute units.
    pub compute_units: ComputeUnits,
    /// Conversion engine.
    pub engine: ConvertEngine,
    /// Version of the artifact.
    pub version: semver::Version,
    /// Comparison with the source model after the conversion.
    pub validation: Option<Validation>,
}

impl ConvertOptions {
    /// Options with the defaults of the command line: fp16, no validation.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            force: false,
            tmp: None,
            keep_tmp: false,
            recipe: Recipe::plain(),
            compute_units: ComputeUnits::All,
            engine: ConvertEngine::Native,
            version: semver::Version::new(0, 1, 0),
            validation: None,
        }
    }
}

/// Options of the comparison with the source model.
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// Text for perplexity and divergence: a file or a named text.
    pub text: Option<String>,
    /// Number of windows of the text.
    pub windows: u64,
}

/// A package written by a conversion.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertedPackage {
    /// Path of the package.
    pub package: PathBuf,
    /// Path of its manifest.
    pub manifest: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Mean bits per weight.
    pub bits_per_weight: f64,
    /// Information on the model.
    pub facts: ModelInfo,
}

/// Result of a conversion.
#[derive(Debug)]
pub struct Conversion {
    /// The packages: one, or one per function for targets before iOS18.
    pub packages: Vec<ConvertedPackage>,
    /// Duration without validation in seconds.
    pub seconds: f64,
    /// Figures of the validation.
    pub measurements: Measurements,
    /// Verdicts of the default gates on these figures.
    pub verdicts: Vec<Verdict>,
}

/// A conversion whose input was checked.
#[derive(Debug)]
pub struct PreparedConversion<'a> {
    job: &'a Job,
    options: &'a ConvertOptions,
    session: &'a Session,
    request: convert::Request,
    /// Estimates and warnings.
    pub expected: Preflight,
}

/// Checks the input of a conversion without Python.
///
/// # Errors
/// Fails if the output exists and may not be replaced, or if the checkpoint cannot be converted.
pub fn prepare<'a>(
    job: &'a Job,
    options: &'a ConvertOptions,
    session: &'a Session,
) -> Result<PreparedConversion<'a>, Failure> {
    if options.compute_units != ComputeUnits::CpuOnly {
        compress::check_group_sizes(&options.recipe)?;
    }
    let tmp = options.tmp.clone().unwrap_or_else(|| folder_of(&options.output));
    let request = job.request(&options.output, options.force, &tmp, options.keep_tmp);
    let existing = convert::existing_output(&options.output, job.target);
    if let Some(path) = existing.filter(|_| !options.force) {
        return Err(convert::ConvertError::Exists { path }.into());
    }
    let expected = convert::preflight(&request)?;
    Ok(PreparedConversion { job, options, session, request, expected })
}

impl PreparedConversion<'_> {
    /// Runs all checks of the conversion that write nothing, with Python if its environment exists.
    pub fn dry_run(mut self) -> Result<Preflight, Failure> {
        let session = self.session;
        let state = python::doctor(&session.python_settings()).environment;
        if !matches!(state, EnvState::Ready { .. }) {
            let what = "the model and its weights were not checked: Python is not set up yet (`coremill setup`)";
            self.expected.warnings.push(what.to_owned());
            return Ok(self.expected);
        }
        let plan = convert::dry_run(&self.request, session.python()?, &*session.progress)?;
        if let Some(record) = &mut self.expected.checkpoint {
            record.tensors.unused = plan.unused;
        }
        self.expected.warnings.extend(self.job.check_tokenizer(session)?);
        Ok(self.expected)
    }

    /// Converts, compresses and validates, and writes the manifests.
    ///
    /// # Errors
    /// The packages and manifests remain if only the validation fails.
    pub fn run(self) -> Result<Conversion, Failure> {
        let Self { job, options, session, mut request, .. } = self;
        fs_err::create_dir_all(&request.tmp)?;
        // Holds the tokenizer, and the fp16 package of a compressing conversion.
        let staging = TempDir::with_prefix_in(PARTIAL, &request.tmp)?;
        if !options.recipe.is_plain() {
            request.output = staging.path().join("fp16.mlpackage");
        }
        let started = session.clock.elapsed();
        // Before the weights: a tokenizer that cannot be shipped is refused at once.
        let tokenizer = staging.path().join("tokenizer");
        job.write_tokenizer(&tokenizer, session)?;
        let record = TokenizerRecord::read(&tokenizer)?;
        for warning in record.iter().flat_map(|record| &record.warnings) {
            session.warn(warning);
        }
        let (python, progress) = (session.python()?, &*session.progress);
        let converted = match options.engine {
            ConvertEngine::Native => convert::run(&request, python, progress)?,
            ConvertEngine::Coremltools => convert::run_full(&request, python, progress)?,
        };
        let finished: Vec<Finished> = converted
            .into_iter()
            .map(|one| finish(one, options, session))
            .collect::<Result<_, _>>()?;
        put_tokenizer(&tokenizer, &sidecar(&options.output))?;
        let seconds = session.clock.elapsed().saturating_sub(started).as_secs_f64();

        let validated = match &options.validation {
            Some(validation) => validate(validation, job, options, &finished, session),
            None => Ok((Measurements::default(), Vec::new())),
        };
        // The package and its manifest remain if the validation fails.
        let (measurements, verdicts, failure) = match validated {
            Ok((found, verdicts)) => (found, verdicts, None),
            Err(failure) => (Measurements::default(), Vec::new(), Some(failure)),
        };
        let mut packages = Vec::new();
        for one in finished {
            let about = About {
                name: &name_of(&one.path),
                version: &options.version,
                recipe: &options.recipe.to_string(),
                facts: Some(&one.facts),
                measurements: &measurements,
                verdicts: &verdicts,
            };
            let manifest = manifest_path(&one.path);
            job.manifest(&about, &one.path, &one.artifact, session)?.write(&manifest)?;
            packages.push(ConvertedPackage {
                package: one.path,
                manifest,
                bytes: one.artifact.size_bytes,
                bits_per_weight: one.artifact.bits_per_weight(),
                facts: one.facts,
            });
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Conversion { packages, seconds, measurements, verdicts }),
        }
    }
}

/// A package at its final path.
struct Finished {
    path: PathBuf,
    artifact: Artifact,
    facts: ModelInfo,
}

fn finish(
    one: Converted,
    options: &ConvertOptions,
    session: &Session,
) -> Result<Finished, Failure> {
    if options.recipe.is_plain() {
        let artifact = job::artifact(&one.path, one.files)?;
        return Ok(Finished { path: one.path, artifact, facts: one.facts });
    }
    // `fp16.init.mlpackage` becomes `NAME.init.mlpackage` for targets with one function per package.
    let staged = one.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let role = staged.strip_prefix("fp16").unwrap_or(".mlpackage");
    let path = options.output.with_file_name(format!("{}{role}", name_of(&options.output)));
    let package = Package::open(&one.path)?;
    let settings = Options { replace: options.force, ..Options::default() };
    let compressed =
        compress::run(&package, &options.recipe, &path, &settings, &*session.progress)?;
    let files: Vec<FileRecord> = compressed.files;
    let artifact = job::artifact(&path, files)?;
    Ok(Finished { path, artifact, facts: one.facts })
}

/// Compares the package with the source model, measures latency and applies the default gates.
fn validate(
    validation: &Validation,
    job: &Job,
    options: &ConvertOptions,
    packages: &[Finished],
    session: &Session,
) -> Result<(Measurements, Vec<Verdict>), Failure> {
    let dirs = |found: &[Found]| found.iter().map(|f| f.dir.clone()).collect();
    let source = ReferenceSource::Checkpoint {
        model: job.model.dir.clone(),
        lora: dirs(&job.lora),
        llm2vec: dirs(&job.llm2vec),
    };
    let reference = reference::reference(&source, None, session)?;
    let text = validation.text.as_deref();
    let plan = Plan {
        text: text
            .map(|name| text_plan(name, validation.windows, job, options, session))
            .transpose()?,
        prompts: Some(PromptPlan {
            prompts: PROBES.map(str::to_owned).to_vec(),
            max_tokens: 16,
            chat_template: true,
            probe: true,
            explain: true,
        }),
        sentences: Some(PROBES.map(Sentence::plain).to_vec()),
        latency: Some(Repeat { warm_up: defaults::WARM_UP, n: 20 }),
    };
    let progress = &*session.progress;
    let output = &options.output;
    let found = reference::evaluate(output, None, &plan, &*reference, &INTERP, session, progress)?;
    let found = found.measurements;
    let sizes = || packages.iter().flat_map(|p| &p.artifact.files).map(|file| file.size);
    let subject = Subject {
        size_bytes: Some(sizes().sum()),
        largest_file: sizes().max(),
        ..Subject::of(&found)
    };
    let verdicts = Gates::default().judge(&subject, fewest_bits(&options.recipe));
    Ok((found, verdicts))
}

/// Plans several windows even for a short text, so that a standard error can be estimated.
fn text_plan(
    name: &str,
    windows: u64,
    job: &Job,
    options: &ConvertOptions,
    session: &Session,
) -> Result<TextPlan, Failure> {
    let text = texts::read(name, session)?;
    let tokens = Tokenizer::open(&sidecar(&options.output))?.encode_plain(&text)?.len();
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (most, windows) = (count(job.seq_len).min(WINDOW), count(windows));
    Ok(TextPlan {
        text,
        window: Some((tokens / windows).clamp(2, most.max(2))),
        stride: None,
        max_windows: windows,
        calibration: None,
        top_k: TOP_K,
        noise_floor: false,
    })
}

/// Maximum window size of the validation text in tokens.
const WINDOW: usize = 256;

/// Prompts and sentences of the validation.
const PROBES: [&str; 4] = [
    "In the beginning",
    "The history of the world is",
    "A compiler is a program that",
    "Once upon a time there was a king who",
];

/// Returns the smallest number of bits per weight that a recipe uses.
pub fn fewest_bits(recipe: &Recipe) -> u32 {
    let bits = recipe.rules().iter().map(|(_, scheme)| scheme.bits());
    bits.min().unwrap_or(16)
}

fn name_of(package: &Path) -> String {
    package.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Replaces the tokenizer directory `to` with the files of `from`.
fn put_tokenizer(from: &Path, to: &Path) -> Result<(), Failure> {
    let files = files_below(from)?;
    for old in if to.is_dir() { files_below(to)? } else { Vec::new() } {
        if !files.contains(&old) {
            fs_err::remove_file(to.join(old))?;
        }
    }
    for file in files {
        write_atomic(&to.join(&file), &fs_err::read(from.join(&file))?)?;
    }
    Ok(())
}

/// Returns the tokenizer directory of a package.
fn sidecar(package: &Path) -> PathBuf {
    package.with_file_name(format!("{}.tokenizer", name_of(package)))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
