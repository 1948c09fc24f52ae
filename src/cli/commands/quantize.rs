//! `quantize`: compresses a package by a recipe.

use std::time::Duration;

use serde_json::json;

use super::context::Context;
use super::{HOLDS, Outcome};
use crate::base::clock::Clock as _;
use crate::base::fmt;
use crate::cli::args::QuantizeArgs;
use crate::cli::tables;
use crate::compress::{self, Options, Recipe};
use crate::package::Package;
use crate::quant::Search;

pub(super) fn run(args: &QuantizeArgs, context: &Context) -> Outcome {
    let recipe: Recipe = args.recipe.parse()?;
    let package = Package::open(&args.package)?;
    let search = if args.exact { Search::Exact } else { Search::Quick };
    let options = Options { search, replace: args.force };
    let started = context.clock.elapsed();
    let compressed = compress::run(&package, &recipe, &args.output, options, &*context.progress)?;
    let seconds = context.clock.elapsed().saturating_sub(started).as_secs_f64();
    let size: u64 = compressed.files.iter().map(|f| f.size).sum();
    let bytes: u64 = compressed.tensors.iter().map(|t| t.bytes).sum();
    let elements: u64 = compressed.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let bits = bytes as f64 * 8.0 / elements as f64;
    let answer = json!({
        "package": args.output,
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
