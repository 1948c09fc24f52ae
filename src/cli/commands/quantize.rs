//! `quantize`: compresses a package by recipes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::context::Context;
use super::{Outcome, SUCCESS, engine};
use crate::base::clock::Clock as _;
use crate::base::fmt;
use crate::base::fs::{files_below, write_atomic};
use crate::cli::args::{Engine, QuantizeArgs};
use crate::cli::tables;
use crate::compress::{self, Compressed, Options, Recipe};
use crate::coreml::ComputeUnits;
use crate::lm::Artifact;
use crate::manifest::{Manifest, Quality, manifest_path, next_version};
use crate::package::Package;
use crate::pipeline::Failure;
use crate::pipeline::open_tokenizer::tokenizer_folder;
use crate::quant::Search;
use crate::sweep;

pub(super) fn run(args: &QuantizeArgs, context: &Context) -> Outcome {
    let recipes: Vec<Recipe> =
        args.recipe.iter().map(|recipe| recipe.parse()).collect::<Result<_, _>>()?;
    if args.compute_units != ComputeUnits::CpuOnly {
        recipes.iter().try_for_each(compress::check_group_sizes)?;
    }
    let package = Package::open(&args.package)?;
    let paths = outputs(args, &recipes)?;
    let search = if args.exact { Search::Exact } else { Search::Quick };
    let options = Options {
        search,
        replace: args.force,
        weight_threshold: args.weight_threshold,
        may_skip: args.allow_skip.clone(),
    };
    let outputs: Vec<_> = recipes.iter().zip(paths.iter().map(PathBuf::as_path)).collect();
    let started = context.clock.elapsed();
    // A folder that is made for nothing goes again.
    let folder = (recipes.len() > 1 && !args.output.exists()).then_some(&args.output);
    folder.map(fs_err::create_dir_all).transpose()?;
    let all = match args.engine {
        Engine::Native => compress::run_all(&package, &outputs, &options, &*context.progress)
            .map_err(Failure::from),
        Engine::Coremltools => engine::run_all(&package, &outputs, &options, context),
    };
    if let (Err(_), Some(folder)) = (&all, folder) {
        drop(fs_err::remove_dir(folder));
    }
    let all = all?;
    let seconds = context.clock.elapsed().saturating_sub(started).as_secs_f64();
    let (mut answers, mut texts) = (Vec::new(), Vec::new());
    for ((recipe, path), compressed) in outputs.iter().zip(&all) {
        copy_tokenizer(&args.package, path)?;
        let manifest = derive_manifest(&args.package, path, recipe, compressed)?;
        let (mut answer, text) = told(args, (recipe, path), compressed, context.printer.width());
        answer["manifest"] = json!(manifest);
        answers.push(answer);
        texts.push(text);
    }
    let took = format!("in {}", fmt::duration(Duration::from_secs_f64(seconds)));
    let answer = match answers.as_mut_slice() {
        [one] => {
            one["seconds"] = json!(seconds);
            one.take()
        }
        several => json!({ "packages": several, "seconds": seconds }),
    };
    context.printer.answer(&answer, &format!("{} {took}", texts.join("\n\n")))?;
    Ok(SUCCESS)
}

/// Output path of each recipe.
fn outputs(args: &QuantizeArgs, recipes: &[Recipe]) -> Result<Vec<PathBuf>, Failure> {
    let is_package = args.output.extension().is_some_and(|extension| extension == "mlpackage");
    if let [_] = recipes {
        if !is_package {
            let fact =
                format!("a package's name ends in `.mlpackage`, not `{}`", args.output.display());
            return Err(Failure::input(fact));
        }
        return Ok(vec![args.output.clone()]);
    }
    if is_package {
        let fact = format!("{} recipes do not go into one package", recipes.len());
        return Err(Failure::input(fact).hint("name a folder"));
    }
    let stem = args.package.file_stem().unwrap_or_default().to_string_lossy();
    let name = |recipe: &Recipe| {
        let variant = sweep::of_recipe(&recipe.to_string());
        args.output.join(format!("{stem}-{variant}.mlpackage"))
    };
    let paths: Vec<PathBuf> = recipes.iter().map(name).collect();
    let twice = (1..paths.len()).find(|&i| paths[..i].contains(&paths[i]));
    if let Some(i) = twice {
        return Err(Failure::input(format!("recipe `{}` is given twice", recipes[i])));
    }
    Ok(paths)
}

/// What is said of one package.
fn told(
    args: &QuantizeArgs,
    (recipe, path): (&Recipe, &Path),
    compressed: &Compressed,
    width: usize,
) -> (Value, String) {
    let size: u64 = compressed.files.iter().map(|f| f.size).sum();
    let bytes: u64 = compressed.tensors.iter().map(|t| t.bytes).sum();
    let elements: u64 = compressed.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let bits = bytes as f64 * 8.0 / elements as f64;
    let answer = json!({
        "package": path,
        "recipe": recipe.to_string(),
        "search": match args.engine {
            Engine::Coremltools => "coremltools",
            Engine::Native if args.exact => "exact",
            Engine::Native => "quick",
        },
        "bytes": size,
        "weights": { "bytes": bytes, "elements": elements, "bits_per_weight": bits },
        "tensors": compressed.tensors,
        "skipped": compressed.skipped,
    });
    let mut text = tables::tensors(&compressed.tensors, width);
    for skipped in &compressed.skipped {
        write!(text, "\nskipped: {}", skipped.reason).expect("writing to a string");
    }
    let summary = format!(
        "{} → {}: {recipe} in {} weights, {bits:.3} bits per weight, {}",
        args.package.display(),
        path.display(),
        compressed.tensors.len(),
        fmt::bytes(size),
    );
    (answer, format!("{text}\n{summary}"))
}

/// Puts the tokenizer of one package beside another, where there is one and the other has none.
fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Failure> {
    let Ok(artifact) = Artifact::open(from) else { return Ok(()) };
    let source = tokenizer_folder(&artifact, None);
    let stem = to.file_stem().unwrap_or_default().to_string_lossy();
    let own = to.with_file_name(format!("{stem}.tokenizer"));
    if !source.is_dir() || own.is_dir() || to.with_file_name("tokenizer").is_dir() {
        return Ok(());
    }
    for name in files_below(&source)? {
        write_atomic(&own.join(&name), &fs_err::read(source.join(&name))?)?;
    }
    Ok(())
}

/// The compressed package's manifest, from that of its source if there is one: other files, another recipe, the next
/// version, and no quality until somebody measures it.
fn derive_manifest(
    package: &Path,
    output: &Path,
    recipe: &Recipe,
    compressed: &Compressed,
) -> Result<Option<PathBuf>, Failure> {
    let source = manifest_path(package);
    if !source.is_file() {
        return Ok(None);
    }
    let old = Manifest::read(&source)?;
    let artifact = crate::pipeline::job::artifact(output, compressed.files.clone())?;
    let mut new = Manifest {
        package: output.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        size_bytes: artifact.size_bytes,
        sha256: artifact.sha256,
        weight_bytes: artifact.weight_bytes,
        parameters: artifact.parameters,
        files: artifact.files,
        recipe: recipe.to_string(),
        quality: Quality::default(),
        verdicts: Vec::new(),
        failed_gates: Vec::new(),
        ..old.clone()
    };
    new.version = next_version(&old, &new).version;
    let place = manifest_path(output);
    new.write(&place)?;
    Ok(Some(place))
}
