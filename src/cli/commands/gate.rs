//! `gate`: the variants of a report judged, again or by other thresholds.

use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::gates;
use super::verify::judged;
use crate::cli::args::GateArgs;
use crate::gate::{self, Subject};
use crate::report;

pub(super) fn run(args: &GateArgs, context: &Context) -> Outcome {
    let read = report::read(&args.report)?;
    let gates = gates::parse(&args.gate)?;
    let mut all = Vec::new();
    let mut answers = Vec::new();
    let mut text = Vec::new();
    for variant in &read.variants {
        let subject =
            Subject { measurements: &variant.measurements, size_bytes: variant.size_bytes };
        // Without thresholds of its own the command repeats what the run decided by its spec.
        let verdicts = if args.gate.is_empty() {
            variant.verdicts.clone()
        } else {
            gates.judge(&subject, variant.bits)
        };
        text.push(format!("{}\n{}", variant.name, judged(&verdicts)));
        answers.push(json!({"variant": variant.name, "verdicts": verdicts}));
        all.extend(verdicts);
    }
    context.printer.answer(&answers, &text.join("\n\n"))?;
    Ok(gate::exit_code(&all))
}
