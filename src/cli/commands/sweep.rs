//! `sweep`: one model, many variants, each built, run, measured and judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::bench::{self, Against, INTERP};
use super::context::Context;
use super::convert::fewest_bits;
use super::job::{self, About, Found, Job};
use super::{HOLDS, Outcome};
use crate::base::clock::Clock as _;
use crate::base::error::{Blame, Hint as _};
use crate::base::{digest, fmt};
use crate::cli::args::SweepArgs;
use crate::cli::failure::Failure;
use crate::compress::{self, Options, Recipe};
use crate::convert::{self, AdapterMode, KvForm};
use crate::eval::reference::Reference;
use crate::eval::results::Measurements;
use crate::eval::{Evaluated, Plan, PromptPlan, Repeat, Sentence, TextPlan};
use crate::gate::Verdict;
use crate::manifest::{self, Artifact, Manifest, TensorError};
use crate::package::Package;
use crate::report::{self, Report};
use crate::source::adapter::Adapter;
use crate::source::checkpoint::Checkpoint;
use crate::sweep::{self, Place, Spec, StageError, Stages, Variant};

/// Windows of the text that are scored where the spec says nothing.
const WINDOWS: u64 = 16;
/// Tokens of a transcript where the spec says nothing.
const MAX_TOKENS: u64 = 32;
/// Calls before the first that is timed.
const WARM_UP: u64 = 3;

pub(super) fn run(args: &SweepArgs, context: &Context) -> Outcome {
    let text = fs_err::read_to_string(&args.spec)?;
    let parse = |recipe: &str| {
        recipe.parse::<Recipe>().map(|r| fewest_bits(&r)).map_err(|e| match e.hint() {
            Some(hint) => format!("{e}; {hint}"),
            None => e.to_string(),
        })
    };
    let spec = Spec::parse(&text, &args.spec, &parse)?;
    let job = job_of(&spec, context)?;
    if args.fresh {
        forget(&spec)?;
    }
    let request =
        job.request(&spec.output.dir.join("fp16.mlpackage"), true, &spec.output.dir, false);
    let expected = convert::preflight(&request)?;
    if args.dry_run {
        return planned(&spec, &expected, context);
    }
    for warning in &expected.warnings {
        context.printer.warn(warning);
    }
    let work = Work { job: &job, plan: plan(&spec)?, reference: against(&job, context)?, context };
    let finished = sweep::run(&spec, &work, &context.clock, &*context.progress)?;
    let origin = report::Origin {
        tool: job::tool(context)?,
        command: std::env::args().collect(),
        environment: environment(),
        created: context.clock.unix_seconds(),
        spec_sha256: Some(digest::of_bytes(text.as_bytes())),
        source: job.model.name.clone(),
        repository: job.model.repository.clone(),
        revision: job.model.revision.clone(),
    };
    let drawn = Report::of(&finished, origin);
    let place = spec.output.dir.join("report.json");
    crate::base::fs::write_atomic(&place, report::json(&drawn).as_bytes())?;
    let table = report::table(&drawn, context.printer.width(), context.printer.colored());
    context.printer.answer(&drawn, &table)?;
    context.printer.note(&format!("report: {}", place.display()));
    Ok(drawn.exit_code())
}

fn planned(spec: &Spec, expected: &convert::Preflight, context: &Context) -> Outcome {
    let variants = spec.plan().variants;
    let mut lines = Vec::new();
    for variant in &variants {
        let bytes = expected.package_bytes * u64::from(variant.bits) / 16;
        lines.push(format!(
            "{:<24} {:<48} about {}",
            variant.name,
            variant.recipe,
            fmt::bytes(bytes)
        ));
    }
    lines.push(format!(
        "{} variants of {} parameters into {}; memory {}",
        variants.len(),
        fmt::count(expected.parameters),
        spec.output.dir.display(),
        fmt::bytes(expected.memory_bytes),
    ));
    let listed: Vec<_> = variants
        .iter()
        .map(|v| json!({"name": v.name, "recipe": v.recipe, "bits": v.bits}))
        .collect();
    let answer = json!({"variants": listed, "expected": expected, "output": spec.output.dir});
    context.printer.answer(&answer, &lines.join("\n"))?;
    Ok(HOLDS)
}

fn job_of(spec: &Spec, context: &Context) -> Result<Job, Failure> {
    let find = |place: &Place| match place {
        Place::Path(path) if !path.is_dir() => {
            Err(Failure::input(format!("`{}` is no folder", path.display()))
                .hint("paths of a spec are relative to the spec's own folder"))
        }
        Place::Path(path) => job::find(&path.to_string_lossy(), None, None, context),
        Place::Repository { repository, revision } => {
            job::find(repository, revision.as_deref(), None, context)
        }
    };
    let all = |places: &[Place]| places.iter().map(find).collect::<Result<Vec<_>, _>>();
    let model = &spec.model;
    Ok(Job {
        model: find(&model.place)?,
        lora: all(&model.lora)?,
        llm2vec: all(&model.llm2vec)?,
        encode_adapters: match model.encode_adapters {
            sweep::EncodeAdapters::Branches => AdapterMode::Branches,
            sweep::EncodeAdapters::Merge => AdapterMode::Merge,
        },
        seq_len: model.seq_len,
        prompt_chunk: model.prompt_chunk.unwrap_or(job::PROMPT_CHUNK),
        kv_cache: match model.kv_cache {
            sweep::KvCacheForm::State => KvForm::State,
            sweep::KvCacheForm::Io => KvForm::Io,
        },
        target: model.target.parse().map_err(Failure::input)?,
    })
}

fn plan(spec: &Spec) -> Result<Plan, Failure> {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let asked = &spec.evaluate;
    let text = match &asked.text {
        None => None,
        Some(path) => Some(TextPlan {
            text: fs_err::read_to_string(path)?,
            window: asked.window.map(count),
            stride: asked.stride.map(count),
            max_windows: count(asked.windows.unwrap_or(WINDOWS)),
            calibration: None,
        }),
    };
    let prompts = (!asked.prompts.is_empty()).then(|| asked.prompts.read()).transpose()?;
    let sentences = (!asked.sentences.is_empty()).then(|| asked.sentences.read()).transpose()?;
    Ok(Plan {
        text,
        prompts: prompts.map(|lines| PromptPlan {
            prompts: lines.into_iter().map(|line| line.text).collect(),
            max_tokens: count(asked.max_new_tokens.unwrap_or(MAX_TOKENS)),
        }),
        sentences: sentences.map(|lines| {
            let sentence = |line: sweep::Sentence| Sentence {
                instruction: line.instruction.or_else(|| asked.instruction.clone()),
                text: line.text,
            };
            lines.into_iter().map(sentence).collect()
        }),
        latency: asked.latency.filter(|&n| n > 0).map(|n| Repeat { warm_up: WARM_UP, n }),
    })
}

fn against<'a>(job: &Job, context: &'a Context) -> Result<Box<dyn Reference + 'a>, Failure> {
    let dirs = |found: &[Found]| found.iter().map(|f| f.dir.clone()).collect();
    let against = Against::Checkpoint {
        model: job.model.dir.clone(),
        lora: dirs(&job.lora),
        llm2vec: dirs(&job.llm2vec),
    };
    bench::reference(&against, context)
}

/// Removes what former runs of the spec finished.
fn forget(spec: &Spec) -> Result<(), Failure> {
    let results = spec.output.dir.join("results");
    if results.is_dir() {
        fs_err::remove_dir_all(results)?;
    }
    Ok(())
}

fn environment() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    [
        ("os", std::env::consts::OS.to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
        ("cores", cores.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The stages of a sweep, done by the layers of this program.
struct Work<'a> {
    job: &'a Job,
    plan: Plan,
    reference: Box<dyn Reference + 'a>,
    context: &'a Context,
}

impl Stages for Work<'_> {
    fn identity(&self) -> Result<sweep::Identity, StageError> {
        let mut sources = BTreeMap::new();
        let mut add =
            |found: &Found, digests: BTreeMap<String, crate::source::checkpoint::FileDigest>| {
                for (path, digest) in digests {
                    sources.insert(format!("{}/{path}", found.name), digest.sha256);
                }
            };
        let checkpoint =
            Checkpoint::open(&self.job.model.dir).map_err(|e| StageError::input(&e))?;
        add(&self.job.model, checkpoint.digests().map_err(|e| StageError::input(&e))?);
        for found in self.job.lora.iter().chain(&self.job.llm2vec) {
            let adapter = Adapter::open(&found.dir).map_err(|e| StageError::input(&e))?;
            add(found, adapter.digests().map_err(|e| StageError::input(&e))?);
        }
        let tool = job::tool(self.context).map_err(failed)?;
        let mut tools = tool.libraries;
        tools.insert(tool.name, tool.version);
        Ok(sweep::Identity { sources, tools })
    }

    fn baseline(&self, package: &Path) -> Result<Artifact, StageError> {
        let request = self.job.request(package, true, &folder_of(package), false);
        let python = self.context.python().map_err(|e| StageError::failed(&e))?;
        let mut converted =
            convert::run(&request, python, &*self.context.progress).map_err(|e| stage_error(&e))?;
        self.job.write_tokenizer(&folder_of(package).join("tokenizer")).map_err(failed)?;
        let one =
            converted.pop().filter(|_| converted.is_empty()).ok_or_else(|| StageError::Input {
                message: format!("target {} takes one function per package", self.job.target),
                hint: Some("sweep with target iOS18".to_owned()),
            })?;
        job::artifact(&one.path, one.files).map_err(failed)
    }

    fn compress(
        &self,
        variant: &Variant,
        baseline: &Path,
        package: &Path,
    ) -> Result<Artifact, StageError> {
        let recipe: Recipe = variant.recipe.parse().map_err(|e| StageError::input(&e))?;
        let source = Package::open(baseline).map_err(|e| StageError::input(&e))?;
        let options = Options { replace: true, ..Options::default() };
        let compressed =
            compress::run(&source, &recipe, package, &options, &*self.context.progress)
                .map_err(|e| stage_error(&e))?;
        let artifact = job::artifact(package, compressed.files).map_err(failed)?;
        let tensors = compressed.tensors.iter().map(tensor_error).collect();
        Ok(Artifact { tensors, ..artifact })
    }

    fn evaluate(&self, _variant: &Variant, package: &Path) -> Result<Evaluated, StageError> {
        bench::evaluate(package, None, &self.plan, &*self.reference, &INTERP, self.context)
            .map_err(failed)
    }

    fn manifest(
        &self,
        variant: &Variant,
        package: &Path,
        artifact: &Artifact,
        measurements: &Measurements,
        verdicts: &[Verdict],
    ) -> Result<Manifest, StageError> {
        let name = format!("{}-{}", self.job.model.name.replace('/', "-"), variant.name);
        let about = About {
            name: &name,
            version: &semver::Version::new(0, 1, 0),
            recipe: &variant.recipe,
            facts: None,
            measurements,
            verdicts,
        };
        self.job.manifest(&about, package, artifact, self.context).map_err(failed)
    }
}

/// What a report says of one weight.
fn tensor_error(audit: &compress::TensorAudit) -> TensorError {
    TensorError {
        name: audit.name.clone(),
        component: audit.component.clone(),
        layer: manifest::layer_of(&audit.name),
        form: audit.form.clone(),
        elements: audit.elements,
        bits_per_weight: audit.bits_per_weight,
        relative_error: audit.relative_error,
    }
}

fn failed(failure: Failure) -> StageError {
    if failure.code == Blame::Interrupt.exit_code() {
        return StageError::Cancelled(crate::base::cancel::Cancelled);
    }
    StageError::Failed { message: failure.message, hint: failure.hint }
}

fn stage_error<E: std::fmt::Display + crate::base::error::Hint>(error: &E) -> StageError {
    match error.blame() {
        Blame::Interrupt => StageError::Cancelled(crate::base::cancel::Cancelled),
        Blame::Input => StageError::input(error),
        Blame::Evaluation | Blame::Environment => StageError::failed(error),
    }
}

fn folder_of(package: &Path) -> PathBuf {
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}
