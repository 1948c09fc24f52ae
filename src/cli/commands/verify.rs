//! `verify`: a package measured and judged.

use std::path::Path;

use serde_json::json;

use super::context::Context;
use super::gates;
use super::measure::{against, lines, plan};
use super::{Outcome, backend, bench, compare};
use crate::base::fs::files_below;
use crate::cli::args::{BackendArgs, Judged, VerifyArgs};
use crate::cli::failure::Failure;
use crate::compress;
use crate::eval::Artifact;
use crate::gate::{self, Subject, Verdict};

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let chain = match &args.backend {
        Some(Judged::Both) => return compare::run(args, context),
        Some(Judged::By(chain)) => Some(chain.clone()),
        None => None,
    };
    let plan = plan(&args.measure, context)?;
    let gates = gates::parse(&args.gate)?;
    let runs = BackendArgs { backend: chain, compute_units: args.compute_units };
    let text = plan.text.is_some();
    let chosen = backend::to_measure(&runs, &[&args.package], text, context)?;
    let runtime = chosen.runtime.as_ref();
    let reference = bench::reference(&against(&args.measure)?, context)?;
    let tokenizer = args.measure.tokenizer.as_deref();
    let found = bench::measure(&args.package, tokenizer, &plan, &*reference, runtime, context)?;
    let subject = Subject { size_bytes: size(&args.package)?, ..Subject::of(&found) };
    let verdicts = gates.judge(&subject, fewest_bits(&args.package)?);
    let text = format!("{}\n\n{}", lines(&found).join("\n"), judged(&verdicts));
    let answer = json!({
        "package": args.package,
        "backend": chosen.choice,
        "measurements": found,
        "verdicts": verdicts,
    });
    context.printer.answer(&answer, &text)?;
    Ok(gate::exit_code(&verdicts))
}

/// The verdicts as lines for people.
pub(super) fn judged(verdicts: &[Verdict]) -> String {
    let line = |v: &Verdict| format!("{:<12} {}: {}", v.outcome.name(), v.gate, v.message);
    verdicts.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes of a package's files; nothing for one that stands in parts.
fn size(package: &Path) -> Result<Option<u64>, Failure> {
    if !package.is_dir() {
        return Ok(None);
    }
    let mut total = 0;
    for file in files_below(package)? {
        total += fs_err::metadata(package.join(file))?.len();
    }
    Ok(Some(total))
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
