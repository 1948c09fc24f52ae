//! `verify`: a package held against its manifest, measured and judged.

use std::path::Path;

use serde_json::json;

use super::context::Context;
use super::gates;
use super::measure::{against, lines, plan};
use super::{Outcome, SUCCESS, backend, compare};
use crate::base::fs::files_below;
use crate::cli::args::{BackendArgs, VerifyArgs, VerifyBackend};
use crate::compress;
use crate::eval::Plan;
use crate::eval::results::Measurements;
use crate::gate::{self, Subject, Verdict};
use crate::lm::Artifact;
use crate::pipeline::Failure;
use crate::pipeline::{manifest_check, reference};

/// The exit code when a package is not what its manifest says.
const BROKEN: u8 = 1;

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let chain = match &args.backend {
        Some(VerifyBackend::Both) => return compare::run(args, context),
        Some(VerifyBackend::Reference(chain)) => Some(chain.clone()),
        None => None,
    };
    let plan = plan(&args.measure, context)?;
    let gates = gates::parse(&args.gate)?;
    let runs = BackendArgs { backend: chain, compute_units: args.compute_units };
    let text = plan.text.is_some();
    let chosen = backend::to_measure(&runs, &[&args.package], text, context)?;
    let runtime = chosen.runtime.as_ref();
    let tokenizer = args.measure.tokenizer.as_deref();
    let recorded = manifest_check::check(&args.package, tokenizer, runtime, context)?;
    let broken = recorded.as_ref().is_some_and(|recorded| !recorded.holds);
    if let (Some(recorded), None, []) = (&recorded, &args.measure.reference, &args.gate[..]) {
        // Nothing to measure against: what is on record is what can be verified.
        let answer =
            json!({"package": args.package, "backend": chosen.choice, "recorded": recorded.answer});
        context.printer.answer(&answer, &recorded.lines.join("\n"))?;
        return Ok(if broken { BROKEN } else { SUCCESS });
    }
    let found = if recorded_only(args, &plan) {
        // Gates on the files need nothing to measure against, and the others say that they were not measured.
        Measurements::default()
    } else {
        let reference = reference::reference(&against(&args.measure)?, None, context)?;
        let (package, progress) = (&args.package, &*context.progress);
        reference::evaluate(package, tokenizer, &plan, &*reference, runtime, context, progress)?
            .measurements
    };
    let sizes = sizes(&args.package)?;
    let subject = Subject {
        size_bytes: sizes.as_ref().map(|sizes| sizes.iter().sum()),
        largest_file: sizes.and_then(|sizes| sizes.into_iter().max()),
        ..Subject::of(&found)
    };
    let verdicts = gates.judge(&subject, fewest_bits(&args.package)?);
    let mut shown = recorded.as_ref().map(|r| r.lines.clone()).unwrap_or_default();
    shown.extend(lines(&found));
    let text = format!("{}\n\n{}", shown.join("\n"), judged(&verdicts));
    let answer = json!({
        "package": args.package,
        "backend": chosen.choice,
        "recorded": recorded.map(|recorded| recorded.answer),
        "measurements": found,
        "verdicts": verdicts,
    });
    context.printer.answer(&answer, text.trim_start())?;
    if verdicts.is_empty() {
        context.printer.warn(
            "no gate judged the package: give `--text`, `--prompts` or `--sentences`, or a `--gate`",
        );
    }
    Ok(if broken { BROKEN } else { gate::exit_code(&verdicts) })
}

/// True if gates are asked for, and nothing to measure or to compare with.
fn recorded_only(args: &VerifyArgs, plan: &Plan) -> bool {
    let Plan { text, prompts, sentences, latency } = plan;
    let nothing = text.is_none() && prompts.is_none() && sentences.is_none() && latency.is_none();
    nothing && args.measure.reference.is_none() && !args.gate.is_empty()
}

/// The verdicts as lines for people.
pub(super) fn judged(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return "not judged: no gate looks at what was measured".to_owned();
    }
    let line = |v: &Verdict| format!("{:<12} {}: {}", v.outcome.name(), v.gate, v.message);
    verdicts.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes of each of a package's files; nothing for one that stands in parts.
fn sizes(package: &Path) -> Result<Option<Vec<u64>>, Failure> {
    if !package.is_dir() {
        return Ok(None);
    }
    let size = |file: String| Ok(fs_err::metadata(package.join(file))?.len());
    files_below(package)?.into_iter().map(size).collect::<Result<_, Failure>>().map(Some)
}

/// The fewest bits that a weight of the package takes, which choose the thresholds.
fn fewest_bits(package: &Path) -> Result<u32, Failure> {
    if !package.is_dir() {
        return Ok(16);
    }
    let mut fewest = 16.0_f64;
    for part in Artifact::open(package)?.packages() {
        let audit = compress::audit(part)?;
        fewest = audit.tensors.iter().map(|t| t.bits_per_weight).fold(fewest, f64::min);
    }
    Ok(fewest.floor().max(1.0) as u32)
}
