//! The stages of a sweep, done by the layers of this program.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use super::ray::Ray;
use super::source::{Source, copy_package};
use crate::base::cancel::Cancelled;
use crate::base::digest;
use crate::base::error::{ErrorKind, Hint};
use crate::base::progress::Progress;
use crate::compress::{self, Options, Recipe};
use crate::convert;
use crate::eval::reference::Reference;
use crate::eval::results::Measurements;
use crate::eval::{Evaluated, Plan};
use crate::gate::Verdict;
use crate::manifest::{self, Artifact, Manifest, TensorError};
use crate::package::Package;
use crate::pipeline::Failure;
use crate::pipeline::Session;
use crate::pipeline::job::{self, About};
use crate::pipeline::reference::{self, INTERP};
use crate::sweep::{self, Engine, Pipeline, StageError, Variant};

pub(crate) struct LocalPipeline<'a> {
    source: &'a Source,
    plan: Plan,
    /// Reference of the variants, if a metric needs one.
    reference: Option<Box<dyn Reference + 'a>>,
    session: &'a Session,
    /// Calls are timed while nothing else is measured: whoever times them is the only one.
    quiet: RwLock<()>,
    /// True if several variants are measured at the same time.
    crowded: bool,
    /// The machines that make variants in place of this one.
    engine: Option<Ray>,
}

impl<'a> LocalPipeline<'a> {
    pub(crate) fn new(
        source: &'a Source,
        plan: Plan,
        reference: Option<Box<dyn Reference + 'a>>,
        session: &'a Session,
        crowded: bool,
        engine: Option<Ray>,
    ) -> Self {
        Self { source, plan, reference, session, quiet: RwLock::new(()), crowded, engine }
    }
}

impl Pipeline for LocalPipeline<'_> {
    fn identity(&self) -> Result<sweep::Identity, StageError> {
        let sources = self.source.digests().map_err(as_input)?;
        let tool = self.source.tool(self.session).map_err(failed)?;
        let mut tools = tool.libraries;
        tools.insert(tool.name, tool.version);
        let text = self.plan.text.as_ref();
        let all = [
            ("text", text.map(|text| &text.text)),
            ("calibration", text.and_then(|text| text.calibration.as_ref())),
        ];
        let digest = |(name, text): (&str, Option<&String>)| {
            Some((name.to_owned(), digest::of_bytes(text?.as_bytes())))
        };
        let texts = all.into_iter().filter_map(digest).collect();
        Ok(sweep::Identity { sources, tools, texts })
    }

    fn beside(&self, folder: &Path) -> Result<(), StageError> {
        self.source.write_tokenizer(folder, self.session).map_err(failed)
    }

    fn baseline(&self, package: &Path, progress: &dyn Progress) -> Result<Artifact, StageError> {
        let folder = folder_of(package);
        self.beside(&folder)?;
        let job = match self.source {
            Source::Job(job) => job,
            Source::Package { path, link } => {
                let files = copy_package(path, package, *link).map_err(as_input)?;
                return job::artifact(package, files).map_err(failed);
            }
        };
        let request = job.request(package, true, &folder, false);
        let python = self.session.python().map_err(|e| StageError::failed(&e))?;
        let mut converted =
            convert::run(&request, python, progress).map_err(|e| stage_error(&e))?;
        let one =
            converted.pop().filter(|_| converted.is_empty()).ok_or_else(|| StageError::Input {
                message: format!("target {} takes one function per package", job.target),
                hint: Some("sweep with target iOS18".to_owned()),
            })?;
        job::artifact(&one.path, one.files).map_err(failed)
    }

    fn compress_all(
        &self,
        variants: &[(&Variant, PathBuf)],
        baseline: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<Artifact>, StageError> {
        let recipe = |(variant, _): &(&Variant, PathBuf)| variant.recipe.parse::<Recipe>();
        let recipes: Vec<Recipe> = variants
            .iter()
            .map(recipe)
            .collect::<Result<_, _>>()
            .map_err(|e| StageError::input(&e))?;
        let source = Package::open(baseline).map_err(|e| StageError::input(&e))?;
        let options = Options { replace: true, ..Options::default() };
        let outputs: Vec<(&Recipe, &Path)> =
            recipes.iter().zip(variants).map(|(recipe, (_, path))| (recipe, &**path)).collect();
        let compressed = compress::run_all(&source, &outputs, &options, progress)
            .map_err(|e| stage_error(&e))?;
        let described = |(one, (_, path)): (compress::Compressed, &(&Variant, PathBuf))| {
            let artifact = job::artifact(path, one.files).map_err(failed)?;
            let tensors = one.tensors.iter().map(tensor_error).collect();
            Ok(Artifact { tensors, ..artifact })
        };
        compressed.into_iter().zip(variants).map(described).collect()
    }

    fn engine(&self) -> Option<&dyn Engine> {
        self.engine.as_ref().map(|ray| ray as &dyn Engine)
    }

    fn evaluate(
        &self,
        _variant: &Variant,
        package: &Path,
        progress: &dyn Progress,
    ) -> Result<Evaluated, StageError> {
        let Some(reference) = &self.reference else { return Ok(Evaluated::default()) };
        let measure = |plan: &Plan| {
            reference::evaluate(package, None, plan, &**reference, &INTERP, self.session, progress)
                .map_err(failed)
        };
        if !self.crowded {
            return measure(&self.plan);
        }
        let mut found = {
            let _beside_others = self.quiet.read().expect("nobody panics while measuring");
            measure(&Plan { latency: None, ..self.plan.clone() })?
        };
        // The process's memory says nothing of one of several.
        found.measurements.peak_memory = None;
        if self.plan.latency.is_some() {
            let _alone = self.quiet.write().expect("nobody panics while measuring");
            let plan = Plan { text: None, prompts: None, sentences: None, ..self.plan.clone() };
            found.measurements.latency = measure(&plan)?.measurements.latency;
        }
        Ok(found)
    }

    fn manifest(
        &self,
        variant: &Variant,
        package: &Path,
        artifact: &Artifact,
        measurements: &Measurements,
        verdicts: &[Verdict],
    ) -> Result<Manifest, StageError> {
        let name = format!("{}-{}", self.source.names().0.replace('/', "-"), variant.name);
        let about = About {
            name: &name,
            version: &semver::Version::new(0, 1, 0),
            recipe: &variant.recipe,
            facts: None,
            measurements,
            verdicts,
        };
        self.source.manifest(&about, package, artifact, self.session).map_err(failed)
    }
}

/// Returns the report entry of a weight.
fn tensor_error(audit: &compress::TensorAudit) -> TensorError {
    TensorError {
        name: audit.name.clone(),
        component: audit.component.clone(),
        layer: manifest::layer_of(&audit.name),
        form: audit.form.clone(),
        elements: audit.elements,
        stored_bytes: audit.parts.aligned(),
        bits_per_weight: audit.bits_per_weight,
        relative_error: audit.relative_error,
    }
}

fn failed(failure: Failure) -> StageError {
    if failure.kind == ErrorKind::Interrupt {
        return StageError::Cancelled(Cancelled);
    }
    StageError::Failed { message: failure.message, hint: failure.hint }
}

/// The same of what was given.
fn as_input(failure: Failure) -> StageError {
    match failed(failure) {
        StageError::Failed { message, hint } => StageError::Input { message, hint },
        other => other,
    }
}

fn stage_error<E: std::fmt::Display + Hint>(error: &E) -> StageError {
    match error.error_kind() {
        ErrorKind::Interrupt => StageError::Cancelled(Cancelled),
        ErrorKind::Input => StageError::input(error),
        ErrorKind::Evaluation | ErrorKind::Environment => StageError::failed(error),
    }
}

fn folder_of(package: &Path) -> PathBuf {
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}
