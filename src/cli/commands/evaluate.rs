//! `evaluate`: packages measured against their reference.

use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::measure::{against, lines, plan};
use super::{HOLDS, Outcome, precision};
use super::{backend, bench};
use crate::cli::args::EvaluateArgs;

pub(super) fn run(args: &EvaluateArgs, context: &Context) -> Outcome {
    let plan = plan(&args.measure)?;
    let paths: Vec<_> = args.packages.iter().map(PathBuf::as_path).collect();
    let inside = args.precision_report || plan.text.is_some();
    let chosen = backend::to_measure(&args.backend, &paths, inside, context)?;
    if args.precision_report {
        return precision::of_packages(args, context);
    }
    let runtime = chosen.runtime.as_ref();
    let reference = bench::reference(&against(&args.measure)?, context)?;
    let tokenizer = args.measure.tokenizer.as_deref();
    let mut answers = Vec::new();
    let mut text = Vec::new();
    for package in &args.packages {
        let found = bench::measure(package, tokenizer, &plan, &reference, runtime, context)?;
        text.push(format!("{}\n  {}", package.display(), lines(&found).join("\n  ")));
        answers.push(json!({"package": package, "backend": chosen.choice, "measurements": found}));
    }
    context.printer.answer(&answers, &text.join("\n\n"))?;
    Ok(HOLDS)
}
