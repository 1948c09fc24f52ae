//! `evaluate`: packages measured against their reference.

use serde_json::json;

use super::bench;
use super::context::Context;
use super::measure::{against, lines, plan};
use super::{HOLDS, Outcome, precision};
use crate::cli::args::EvaluateArgs;

pub(super) fn run(args: &EvaluateArgs, context: &Context) -> Outcome {
    if args.precision_report {
        return precision::of_packages(args, context);
    }
    let plan = plan(&args.measure)?;
    let reference = bench::reference(&against(&args.measure)?, context)?;
    let tokenizer = args.measure.tokenizer.as_deref();
    let mut answers = Vec::new();
    let mut text = Vec::new();
    for package in &args.packages {
        let found = bench::measure(package, tokenizer, &plan, &reference, context)?;
        text.push(format!("{}\n  {}", package.display(), lines(&found).join("\n  ")));
        answers.push(json!({"package": package, "measurements": found}));
    }
    context.printer.answer(&answers, &text.join("\n\n"))?;
    Ok(HOLDS)
}
