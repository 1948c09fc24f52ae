//! `convert`: a checkpoint into a package with its manifest and tokenizer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::bench::{self, Against, INTERP};
use super::context::Context;
use super::job::{self, About, Job};
use super::measure::lines;
use super::texts;
use super::verify::judged;
use super::{HOLDS, Outcome};
use crate::base::clock::Clock as _;
use crate::base::fmt;
use crate::base::fs::{PARTIAL, files_below, write_atomic};
use crate::cli::args::{ConvertArgs, Engine, InterfaceArgs, ModelArgs, PaletteGranularity};
use crate::cli::failure::Failure;
use crate::compress::{self, Options, Recipe};
use crate::convert::{self, Converted, Preflight};
use crate::coreml::ComputeUnits;
use crate::eval::results::Measurements;
use crate::eval::{
    Plan, PromptPlan, Repeat, Sentence, TOP_K, TextPlan, Tokenizer, TokenizerRecord, defaults,
};
use crate::gate::{self, Gates, Subject, Verdict};
use crate::manifest::{Artifact, manifest_path};
use crate::package::{FileRecord, Package};
use crate::python::{self, EnvState};
use crate::source::config::Allow;

pub(super) fn run(args: &ConvertArgs, context: &Context) -> Outcome {
    let recipe = recipe(args)?;
    if args.compute_units != ComputeUnits::CpuOnly {
        compress::check_group_sizes(&recipe)?;
    }
    let job = job_of(&args.source, &args.interface, context)?;
    let tmp = args.tmp.clone().unwrap_or_else(|| folder_of(&args.output));
    let compressing = !recipe.is_plain();
    let staging = tempfile::TempDir::with_prefix_in(PARTIAL, folder_made(&tmp)?)?;
    let plain =
        if compressing { staging.path().join("fp16.mlpackage") } else { args.output.clone() };
    let request = job.request(&plain, args.force, &tmp, !args.clean_tmp);
    let existing = convert::existing_output(&args.output, args.interface.minimum_deployment_target);
    if let Some(path) = existing.filter(|_| !args.force) {
        return Err(convert::ConvertError::Exists { path }.into());
    }
    let mut expected = convert::preflight(&request)?;
    if args.dry_run {
        rehearse(&job, &request, &mut expected, context)?;
        for warning in &expected.warnings {
            context.printer.warn(warning);
        }
        context.printer.answer(&expected, &told(&expected))?;
        return Ok(HOLDS);
    }
    context.printer.note(&told(&expected));
    for warning in &expected.warnings {
        context.printer.warn(warning);
    }
    let started = context.clock.elapsed();
    // Before the weights: a tokenizer that cannot travel with the package is refused at once.
    let tokenizer = staging.path().join("tokenizer");
    job.write_tokenizer(&tokenizer, context)?;
    for warning in TokenizerRecord::read(&tokenizer)?.iter().flat_map(|record| &record.warnings) {
        context.printer.warn(warning);
    }
    let converted = match args.engine {
        Engine::Native => convert::run(&request, context.python()?, &*context.progress)?,
        Engine::Coremltools => convert::run_full(&request, context.python()?, &*context.progress)?,
    };
    let mut packages = Vec::new();
    for one in converted {
        let finished = finish(one, &recipe, args, context)?;
        packages.push(finished);
    }
    put_tokenizer(&tokenizer, &sidecar(&args.output))?;
    let seconds = context.clock.elapsed().saturating_sub(started).as_secs_f64();

    let validated = if args.profile_validate {
        validate(args, &job, &recipe, &packages, context)
    } else {
        Ok((Measurements::default(), Vec::new()))
    };
    // The package is there whatever becomes of its validation, and so is its manifest.
    let (found, verdicts, failure) = match validated {
        Ok((found, verdicts)) => (found, verdicts, None),
        Err(failure) => (Measurements::default(), Vec::new(), Some(failure)),
    };
    let mut answers = Vec::new();
    let mut text = Vec::new();
    for package in &packages {
        let about = About {
            name: &name_of(&package.path),
            version: &args.artifact_version,
            recipe: &recipe.to_string(),
            facts: Some(&package.facts),
            measurements: &found,
            verdicts: &verdicts,
        };
        let place = manifest_path(&package.path);
        job.manifest(&about, &package.path, &package.artifact, context)?.write(&place)?;
        text.push(format!(
            "{}: {}",
            package.path.display(),
            fmt::bytes(package.artifact.size_bytes)
        ));
        answers.push(json!({
            "package": package.path,
            "manifest": place,
            "bytes": package.artifact.size_bytes,
            "bits_per_weight": package.artifact.bits_per_weight(),
            "facts": package.facts,
        }));
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    text.push(format!("in {}", fmt::duration(Duration::from_secs_f64(seconds))));
    if args.profile_validate {
        text.extend(lines(&found));
        text.push(judged(&verdicts));
    }
    let answer = json!({
        "packages": answers,
        "recipe": recipe.to_string(),
        "seconds": seconds,
        "compute_units": args.compute_units,
        "measurements": found,
        "verdicts": verdicts,
    });
    context.printer.answer(&answer, &text.join("\n"))?;
    Ok(if args.profile_validate { gate::exit_code(&verdicts) } else { HOLDS })
}

/// Goes through the conversion without writing anything, where Python is there already.
fn rehearse(
    job: &Job,
    request: &convert::Request,
    expected: &mut Preflight,
    context: &Context,
) -> Result<(), Failure> {
    let state = python::doctor(&context.python_settings()).environment;
    if !matches!(state, EnvState::Ready { .. }) {
        let what = "the model and its weights were not checked: Python is not set up yet (`coremill setup`)";
        expected.warnings.push(what.to_owned());
        return Ok(());
    }
    let plan = convert::dry_run(request, context.python()?, &*context.progress)?;
    if let Some(record) = &mut expected.checkpoint {
        record.tensors.unused = plan.unused;
    }
    expected.warnings.extend(job.check_tokenizer(context)?);
    Ok(())
}

/// The job that the arguments describe, its sources found.
pub(super) fn job_of(
    source: &ModelArgs,
    shape: &InterfaceArgs,
    context: &Context,
) -> Result<Job, Failure> {
    let token = source.hf_token.as_deref();
    let adapters = |names: &[String]| {
        names
            .iter()
            .map(|name| job::find(name, None, token, context))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Job {
        model: job::find(&source.model, source.revision.as_deref(), token, context)?,
        lora: adapters(&source.lora_checkpoint)?,
        llm2vec: adapters(&source.llm2vec_checkpoint)?,
        encode_adapters: shape.encode_adapters,
        seq_len: shape.seq_len,
        prompt_chunk: shape.prompt_chunk,
        kv_cache: shape.kv_cache,
        target: shape.minimum_deployment_target,
        allow: Allow {
            config_keys: source.allow_config_key.clone(),
            unused_tensors: source.allow_unused_tensor.iter().map(ToString::to_string).collect(),
        },
    })
}

/// A package at its place, with what its manifest needs.
struct Finished {
    path: PathBuf,
    artifact: Artifact,
    facts: convert::ModelInfo,
}

fn finish(
    one: Converted,
    recipe: &Recipe,
    args: &ConvertArgs,
    context: &Context,
) -> Result<Finished, Failure> {
    if recipe.is_plain() {
        let artifact = job::artifact(&one.path, one.files)?;
        return Ok(Finished { path: one.path, artifact, facts: one.facts });
    }
    // `fp16.init.mlpackage` becomes `NAME.init.mlpackage` where a package holds one function.
    let staged = one.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let role = staged.strip_prefix("fp16").unwrap_or(".mlpackage");
    let path = args.output.with_file_name(format!("{}{role}", name_of(&args.output)));
    let package = Package::open(&one.path)?;
    let options = Options { replace: args.force, ..Options::default() };
    let compressed = compress::run(&package, recipe, &path, &options, &*context.progress)?;
    let files: Vec<FileRecord> = compressed.files;
    let artifact = job::artifact(&path, files)?;
    Ok(Finished { path, artifact, facts: one.facts })
}

/// Runs the package against the source model, times it and judges it.
fn validate(
    args: &ConvertArgs,
    job: &Job,
    recipe: &Recipe,
    packages: &[Finished],
    context: &Context,
) -> Result<(Measurements, Vec<Verdict>), Failure> {
    let dirs = |found: &[job::Found]| found.iter().map(|f| f.dir.clone()).collect();
    let against = Against::Checkpoint {
        model: job.model.dir.clone(),
        lora: dirs(&job.lora),
        llm2vec: dirs(&job.llm2vec),
    };
    let reference = bench::reference(&against, None, context)?;
    let plan = Plan {
        text: args.text.as_deref().map(|asked| text_plan(asked, args, context)).transpose()?,
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
    let progress = &*context.progress;
    let found =
        bench::evaluate(&args.output, None, &plan, &*reference, &INTERP, context, progress)?;
    let found = found.measurements;
    let sizes = || packages.iter().flat_map(|p| &p.artifact.files).map(|file| file.size);
    let subject = Subject {
        size_bytes: Some(sizes().sum()),
        largest_file: sizes().max(),
        ..Subject::of(&found)
    };
    let verdicts = Gates::default().judge(&subject, fewest_bits(recipe));
    Ok((found, verdicts))
}

/// The text of `--text` in windows of which there are several even where it is short: an error can be told from them.
fn text_plan(asked: &str, args: &ConvertArgs, context: &Context) -> Result<TextPlan, Failure> {
    let text = texts::read(asked, context)?;
    let tokens = Tokenizer::open(&sidecar(&args.output))?.encode_plain(&text)?.len();
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (most, windows) = (count(args.interface.seq_len).min(WINDOW), count(args.windows));
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

/// Tokens at most in a window of `--text`.
const WINDOW: usize = 256;

/// Texts for a first check where the user names none.
const PROBES: [&str; 4] = [
    "In the beginning",
    "The history of the world is",
    "A compiler is a program that",
    "Once upon a time there was a king who",
];

/// The fewest bits that a recipe gives to a weight.
pub(super) fn fewest_bits(recipe: &Recipe) -> u32 {
    let bits = recipe.rules().iter().map(|(_, scheme)| scheme.bits());
    bits.min().unwrap_or(16)
}

fn recipe(args: &ConvertArgs) -> Result<Recipe, Failure> {
    if let Some(text) = &args.recipe {
        return Ok(text.parse()?);
    }
    let suffix = match args.palett_granularity {
        PaletteGranularity::PerTensor => "t".to_owned(),
        PaletteGranularity::PerGroupedChannel => format!("g{}", args.palett_group_size),
    };
    let scheme =
        |bits: &str| if bits == "16" { "fp16".to_owned() } else { format!("pal{bits}-{suffix}") };
    let mut rules =
        vec![args.wbits.map_or_else(|| "fp16".to_owned(), |bits| scheme(&bits.to_string()))];
    for part in args.mixed_precision.iter().flat_map(|list| list.split(',')) {
        let (component, bits) = part.split_once('=').ok_or_else(|| {
            Failure::input(format!("`{part}` is no component with its bits"))
                .hint("write it as `attention=6,mlp=4`")
        })?;
        rules.push(format!("{}={}", component.trim(), scheme(bits.trim())));
    }
    Ok(rules.join(",").parse()?)
}

fn told(expected: &Preflight) -> String {
    format!(
        "{} parameters; expected: package {}, memory {}, time {}",
        fmt::count(expected.parameters),
        fmt::bytes(expected.package_bytes),
        fmt::bytes(expected.memory_bytes),
        fmt::duration(Duration::from_secs_f64(expected.seconds)),
    )
}

fn name_of(package: &Path) -> String {
    package.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Puts what was written to `from` beside the package; files of the kind that an older conversion left there go.
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

fn sidecar(package: &Path) -> PathBuf {
    package.with_file_name(format!("{}.tokenizer", name_of(package)))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn folder_made(path: &Path) -> Result<&Path, Failure> {
    fs_err::create_dir_all(path)?;
    Ok(path)
}
