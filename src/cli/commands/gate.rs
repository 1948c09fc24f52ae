//! `gate`: the variants of a report judged, again, by other thresholds, or against an older report.

use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::gates;
use super::verify::judged;
use crate::cli::args::GateArgs;
use crate::gate::{self, Baseline, Subject, Verdict};
use crate::report::{self, Report, Variant};

pub(super) fn run(args: &GateArgs, context: &Context) -> Outcome {
    let read = report::read(&args.report)?;
    let old = args.baseline.as_deref().map(report::read).transpose()?;
    let gates = gates::parse(&args.gate)?;
    let mut all = Vec::new();
    let mut answers = Vec::new();
    let mut text = Vec::new();
    for variant in &read.variants {
        let baseline = old.as_ref().and_then(|old| baseline(&read, old, &variant.name));
        if old.is_some() && baseline.is_none() {
            context.printer.note(&format!("the baseline has no variant `{}`", variant.name));
        }
        let subject = Subject {
            size_bytes: variant.size_bytes,
            largest_file: variant.largest_file_bytes,
            baseline,
            ..Subject::of(&variant.measurements)
        };
        let judged_now = gates.judge(&subject, variant.bits);
        // Without thresholds of its own the command repeats what the run decided by its spec.
        let verdicts = if args.gate.is_empty() { again(variant, judged_now) } else { judged_now };
        text.push(format!("{}\n{}", variant.name, judged(&verdicts)));
        answers.push(json!({"variant": variant.name, "verdicts": verdicts}));
        all.extend(verdicts);
    }
    context.printer.answer(&answers, &text.join("\n\n"))?;
    Ok(gate::exit_code(&all))
}

/// What the run decided of `variant`, and what only a comparison with an older report could tell.
fn again(variant: &Variant, judged_now: Vec<Verdict>) -> Vec<Verdict> {
    let mut verdicts = variant.verdicts.clone();
    verdicts.extend(
        judged_now
            .into_iter()
            .filter(|verdict| gate::find(&verdict.gate).is_some_and(gate::Gate::is_regression)),
    );
    verdicts
}

/// What `old` says of the variant `name`.
fn baseline<'a>(new: &Report, old: &'a Report, name: &str) -> Option<Baseline<'a>> {
    let variant = old.variants.iter().find(|variant| variant.name == name)?;
    Some(Baseline {
        measurements: &variant.measurements,
        size_bytes: variant.size_bytes,
        same_machine: new.environment == old.environment,
    })
}
