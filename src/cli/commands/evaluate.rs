//! `evaluate`: packages measured against their reference.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::backend;
use super::context::Context;
use super::measure::{against, lines, plan};
use super::{Outcome, SUCCESS, precision};
use crate::cli::args::EvaluateArgs;
use crate::eval::{Tokens, paired};
use crate::eval::{results::Interval, results::Paired};
use crate::pipeline::reference;

pub(super) fn run(args: &EvaluateArgs, context: &Context) -> Outcome {
    let plan = plan(&args.measure, context)?;
    let paths: Vec<_> = args.packages.iter().map(PathBuf::as_path).collect();
    let inside = args.precision_report || plan.text.is_some();
    let chosen = backend::to_measure(&args.backend, &paths, inside, context)?;
    if args.precision_report {
        return precision::of_packages(args, context);
    }
    let runtime = chosen.runtime.as_ref();
    let reference = reference::reference(&against(&args.measure)?, None, context)?;
    let tokenizer = args.measure.tokenizer.as_deref();
    let mut answers = Vec::new();
    let mut text = Vec::new();
    let mut scored: Vec<(String, Tokens)> = Vec::new();
    for package in &args.packages {
        let found = reference::evaluate(
            package,
            tokenizer,
            &plan,
            &*reference,
            runtime,
            context,
            &*context.progress,
        )?;
        let pairs = pairs(&scored, package, found.tokens.as_ref());
        let mut shown = lines(&found.measurements);
        shown.extend(pairs.iter().map(compared));
        text.push(format!("{}\n  {}", package.display(), shown.join("\n  ")));
        answers.push(json!({
            "package": package,
            "backend": chosen.choice,
            "measurements": found.measurements,
            "paired": pairs,
        }));
        scored.extend(found.tokens.map(|tokens| (package.display().to_string(), tokens)));
    }
    context.printer.answer(&answers, &text.join("\n\n"))?;
    Ok(SUCCESS)
}

/// A package beside each that was measured before it, on the tokens of both.
fn pairs(before: &[(String, Tokens)], package: &Path, tokens: Option<&Tokens>) -> Vec<Paired> {
    let name = package.display().to_string();
    let with = |(other, theirs): &(String, Tokens)| paired((other, theirs), (&name, tokens?));
    before.iter().filter_map(with).collect()
}

/// A pair as a line for people.
fn compared(pair: &Paired) -> String {
    let Interval { value, low, high, .. } = pair.divergence;
    let relation = match (low > 0.0, high < 0.0) {
        (true, _) => "diverges more than",
        (_, true) => "diverges less than",
        _ => "cannot be told from",
    };
    format!(
        "{relation} {}: divergence {value:+.6} nats, 95 % interval {low:+.6} to {high:+.6}, {} windows",
        pair.a, pair.windows
    )
}
