//! `quantize`: compresses a package by a recipe.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::bench::tokenizer_folder;
use super::context::Context;
use super::{HOLDS, Outcome, engine};
use crate::base::clock::Clock as _;
use crate::base::fmt;
use crate::base::fs::{files_below, write_atomic};
use crate::cli::args::{Engine, QuantizeArgs};
use crate::cli::failure::Failure;
use crate::cli::tables;
use crate::compress::{self, Options, Recipe};
use crate::eval::Artifact;
use crate::manifest::{Manifest, Quality, manifest_path, next_version};
use crate::package::{FileRecord, Package};
use crate::quant::Search;

pub(super) fn run(args: &QuantizeArgs, context: &Context) -> Outcome {
    let recipe: Recipe = args.recipe.parse()?;
    let search = if args.exact { Search::Exact } else { Search::Quick };
    let options = Options { search, replace: args.force, ..Options::default() };
    if args.engine == Engine::Coremltools {
        return engine::run(args, &recipe, &options, context);
    }
    let package = Package::open(&args.package)?;
    let started = context.clock.elapsed();
    let compressed = compress::run(&package, &recipe, &args.output, &options, &*context.progress)?;
    let seconds = context.clock.elapsed().saturating_sub(started).as_secs_f64();
    let size: u64 = compressed.files.iter().map(|f| f.size).sum();
    copy_tokenizer(&args.package, &args.output)?;
    let manifest = derive_manifest(args, &recipe, compressed.files)?;
    let bytes: u64 = compressed.tensors.iter().map(|t| t.bytes).sum();
    let elements: u64 = compressed.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let bits = bytes as f64 * 8.0 / elements as f64;
    let answer = json!({
        "package": args.output,
        "manifest": manifest,
        "recipe": recipe.to_string(),
        "bytes": size,
        "weights": { "bytes": bytes, "elements": elements, "bits_per_weight": bits },
        "tensors": compressed.tensors,
        "seconds": seconds,
    });
    let summary = format!(
        "{} → {}: {} in {} weights, {bits:.3} bits per weight, {} in {}",
        args.package.display(),
        args.output.display(),
        recipe,
        compressed.tensors.len(),
        fmt::bytes(size),
        fmt::duration(Duration::from_secs_f64(seconds)),
    );
    let text =
        format!("{}\n{summary}", tables::tensors(&compressed.tensors, context.printer.width()));
    context.printer.answer(&answer, &text)?;
    Ok(HOLDS)
}

/// Puts the tokenizer of one package beside another, where there is one and the other has none.
pub(super) fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Failure> {
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
pub(super) fn derive_manifest(
    args: &QuantizeArgs,
    recipe: &Recipe,
    files: Vec<FileRecord>,
) -> Result<Option<PathBuf>, Failure> {
    let source = manifest_path(&args.package);
    if !source.is_file() {
        return Ok(None);
    }
    let old = Manifest::read(&source)?;
    let artifact = super::job::artifact(&args.output, files)?;
    let mut new = Manifest {
        package: args.output.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        size_bytes: artifact.size_bytes,
        sha256: artifact.sha256,
        weight_bytes: artifact.weight_bytes,
        parameters: artifact.parameters,
        files: artifact.files,
        recipe: recipe.to_string(),
        quality: Quality::default(),
        verdicts: Vec::new(),
        ..old.clone()
    };
    new.version = next_version(&old, &new).version;
    let place = manifest_path(&args.output);
    new.write(&place)?;
    Ok(Some(place))
}
