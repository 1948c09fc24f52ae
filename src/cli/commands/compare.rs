//! `verify --backend both`: Core ML and the interpreter on the same inputs, output by output.

use std::fmt::Write as _;

use serde_json::json;

use super::context::Context;
use super::{Outcome, SUCCESS, backend};
use crate::cli::args::VerifyArgs;
use crate::cli::tables;
use crate::eval::{compare::Comparison, compare::Tolerance};
use crate::eval::{probe::Probe, probe::of_artifact, probe::of_package};
use crate::interp::Precision;
use crate::lm::Artifact;
use crate::package::{Bundle, Package};
use crate::pipeline::Failure;
use crate::runtime::{Interp, Runtime};

/// The least cosine of two outputs: below it they point elsewhere, whatever the largest difference.
const COSINE: f64 = 0.999;

/// The outputs are too far apart.
const APART: u8 = 1;

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    if args.measure.reference.is_some() {
        return Err(Failure::input(
            "`--backend both` compares two runtimes and takes no reference",
        )
        .hint("leave `--reference` out, or judge one runtime at a time"));
    }
    let framework = backend::framework()?;
    let ours = backend::coreml(args.compute_units, context)?;
    let theirs = Interp { precision: Precision::Declared };
    let probe = Probe { seed: args.seed, calls: args.calls.into() };
    let tolerance = Tolerance { relative: args.tolerance, cosine: COSINE };
    let found = compare(args, [&ours, &theirs], probe, tolerance, context)?;
    let answer = json!({
        "package": args.package,
        "framework": framework,
        "compute_units": ours.options.units,
        "seed": args.seed,
        "comparison": found,
    });
    context.printer.answer(&answer, &text(&found, context.printer.width()))?;
    Ok(if found.holds { SUCCESS } else { APART })
}

/// The artifact by its roles where it has them, else every function of the package.
fn compare(
    args: &VerifyArgs,
    runtimes: [&dyn Runtime; 2],
    probe: Probe,
    tolerance: Tolerance,
    context: &Context,
) -> Result<Comparison, Failure> {
    let clock = &context.clock;
    let artifact = Artifact::open(&args.package);
    if artifact.is_ok() || Bundle::is_at(&args.package) {
        let artifact = artifact?;
        let [a, b] = runtimes.map(|runtime| of_artifact(&artifact, runtime, probe, clock));
        return Ok(Comparison::of(&a?, &b?, tolerance));
    }
    let package = Package::open(&args.package)?;
    let [a, b] = runtimes.map(|runtime| of_package(&package, runtime, probe, clock));
    Ok(Comparison::of(&a?, &b?, tolerance))
}

fn text(found: &Comparison, width: usize) -> String {
    let header = ["function", "output", "calls", "farthest", "largest", "relative", "cosine", ""];
    let mut table = tables::plain(&header, &[2, 3, 4, 5, 6], width);
    for function in &found.functions {
        for output in &function.outputs {
            let shown = match (&output.difference, &output.shapes) {
                (Some(d), _) if d.nonfinite > 0 => [
                    format!("{:.3e}", d.max_abs),
                    format!("{:.5}", d.relative),
                    format!("{} not finite", d.nonfinite),
                ],
                (Some(d), _) => [
                    format!("{:.3e}", d.max_abs),
                    format!("{:.5}", d.relative),
                    format!("{:.6}", d.cosine),
                ],
                (None, [a, b]) => {
                    let shape = |s: &Option<Vec<usize>>| {
                        s.as_ref().map_or_else(|| "absent".to_owned(), |s| format!("{s:?}"))
                    };
                    [shape(a), shape(b), String::new()]
                }
            };
            let [largest, relative, cosine] = shown;
            table.add_row([
                function.function.clone(),
                output.output.clone(),
                function.calls.to_string(),
                output.call.to_string(),
                largest,
                relative,
                cosine,
                if output.holds { "holds" } else { "apart" }.to_owned(),
            ]);
        }
    }
    let mut out = format!("{table}\n\n");
    let [ours, theirs] = &found.runtimes;
    let [load, load_theirs] = found.load_ms;
    writeln!(out, "load: {ours} {load:.1} ms, {theirs} {load_theirs:.1} ms")
        .expect("writing to a string");
    for function in &found.functions {
        let [time, time_theirs] = function.median_ms;
        let name = &function.function;
        writeln!(out, "{name}: {ours} {time:.2} ms, {theirs} {time_theirs:.2} ms, median")
            .expect("writing to a string");
    }
    match &found.first {
        None if found.holds => write!(out, "\n{ours} and {theirs} agree"),
        None => write!(out, "\n{ours} and {theirs} gave nothing to compare"),
        Some(first) => {
            let at = first.element.map_or_else(String::new, |e| format!(", element {e}"));
            let values = first.values.as_ref();
            let values = values.map_or_else(String::new, |[a, b]| format!(": {a} and {b}"));
            write!(
                out,
                "\n{ours} and {theirs} part first in call {} of `{}`, output `{}`{at}{values}",
                first.call, first.function, first.output
            )
        }
    }
    .expect("writing to a string");
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::eval::{probe::Output, probe::Step, probe::Trace};

    fn trace(runtime: &str, outputs: &[(&str, &[f32])]) -> Trace {
        let output = |(name, elements): &(&str, &[f32])| {
            let shape = vec![1, elements.len()];
            ((*name).to_owned(), Output { shape, elements: elements.to_vec() })
        };
        let outputs: BTreeMap<_, _> = outputs.iter().map(output).collect();
        let time = Duration::from_millis(3);
        let step = Step { function: "main".to_owned(), call: 0, time, outputs };
        Trace { runtime: runtime.to_owned(), load: Duration::from_millis(1500), steps: vec![step] }
    }

    #[test]
    fn what_is_said_of_two_runtimes() {
        let ours = trace(
            "coreml",
            &[("a", &[1.0, 2.0]), ("b", &[1.0, f32::INFINITY]), ("c", &[1.0]), ("d", &[0.5, 2.0])],
        );
        let theirs = trace(
            "interp",
            &[("a", &[1.0, 2.001]), ("b", &[1.0, 65504.0]), ("c", &[1.0, 2.0]), ("d", &[0.5, 1.0])],
        );
        let tolerance = Tolerance { relative: 0.02, cosine: COSINE };
        let apart = Comparison::of(&ours, &theirs, tolerance);
        let agree = Comparison::of(&ours, &ours, tolerance);
        insta::assert_snapshot!(format!("{}\n\n{}", text(&apart, 100), text(&agree, 100)));
    }
}
