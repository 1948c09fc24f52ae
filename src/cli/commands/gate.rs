//! `gate`: the variants of a report judged, again, by other thresholds, or against an older report.

use serde_json::json;

use super::context::Context;
use super::gates;
use super::verify::judged;
use super::{INCONCLUSIVE, Outcome};
use crate::cli::args::{GateArgs, GateForm};
use crate::gate::{self, Baseline, Gates, Subject, Verdict};
use crate::report::{self, Report, Status, Summary, Variant};

pub(super) fn run(args: &GateArgs, context: &Context) -> Outcome {
    let mut read = report::read(&args.report)?;
    let old = args.baseline.as_deref().map(report::read).transpose()?;
    let gates = gates::parse(&args.gate)?;
    let environment = read.environment.clone();
    for variant in &mut read.variants {
        let same_machine = old.as_ref().is_some_and(|old| old.environment == environment);
        let baseline = old.as_ref().and_then(|old| baseline(old, &variant.name, same_machine));
        if old.is_some() && baseline.is_none() {
            context.printer.note(&format!("the baseline has no variant `{}`", variant.name));
        }
        let now = verdicts(variant, &gates, baseline);
        // Without thresholds of its own the command repeats what the run decided by its spec.
        let verdicts = if args.gate.is_empty() { again(variant, now) } else { now };
        *variant = variant.clone().judged_by(verdicts);
    }
    let best = read.summary.best.take();
    read.summary = Summary::of(&read.variants);
    if read.search.is_some() {
        // What was searched for is not the smallest.
        let passes = |v: &&Variant| Some(&v.name) == best.as_ref() && v.status == Status::Pass;
        read.summary.best = read.variants.iter().find(passes).map(|v| v.name.clone());
    }
    let answers: Vec<_> = read
        .variants
        .iter()
        .map(|variant| json!({"variant": variant.name, "verdicts": variant.verdicts}))
        .collect();
    let text = match args.form {
        GateForm::Table => lines(&read),
        GateForm::Markdown => report::markdown(&read),
        GateForm::Junit => report::junit(&read),
        GateForm::Github => report::github(&read),
    };
    context.printer.answer(&answers, text.trim_end())?;
    // A variant that could not be made fails the gate too, and one that was not judged has not passed it.
    let unjudged = read.variants.is_empty() || read.summary.not_judged > 0;
    Ok(match read.exit_code() {
        0 if unjudged => INCONCLUSIVE,
        code => code,
    })
}

/// The verdicts of each variant as lines for people.
fn lines(report: &Report) -> String {
    let one = |variant: &Variant| format!("{}\n{}", variant.name, judged(&variant.verdicts));
    report.variants.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn verdicts(variant: &Variant, gates: &Gates, baseline: Option<Baseline<'_>>) -> Vec<Verdict> {
    let subject = Subject {
        size_bytes: variant.size_bytes,
        largest_file: variant.largest_file_bytes,
        baseline,
        ..Subject::of(&variant.measurements)
    };
    gates.judge(&subject, variant.bits)
}

/// What the run decided of `variant`, and of `now` what only a comparison with an older report could tell.
fn again(variant: &Variant, now: Vec<Verdict>) -> Vec<Verdict> {
    let compares =
        |verdict: &Verdict| gate::find(&verdict.gate).is_some_and(|gate| gate.regression);
    let mut verdicts = variant.verdicts.clone();
    verdicts.extend(now.into_iter().filter(compares));
    verdicts
}

/// Returns the variant `name` of `old`.
fn baseline<'a>(old: &'a Report, name: &str, same_machine: bool) -> Option<Baseline<'a>> {
    let variant = old.variants.iter().find(|variant| variant.name == name)?;
    let Variant { measurements, size_bytes, .. } = variant;
    Some(Baseline { measurements, size_bytes: *size_bytes, same_machine })
}
