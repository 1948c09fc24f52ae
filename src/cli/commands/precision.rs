//! `--precision-report` of `evaluate` and `predict`: where fp16 loses, operation by operation.

use std::fmt::Write as _;

use serde_json::json;

use super::context::Context;
use super::measure::plan;
use super::{Outcome, SUCCESS};
use crate::cli::args::EvaluateArgs;
use crate::cli::tables;
use crate::eval::{
    precision::Loss, precision::Precisions, precision::Text, precision::Watched,
    precision::of_decoder, precision::of_encoder, precision::of_function,
};
use crate::interp::{Function, Model, Options, Precision, State, Tensor};
use crate::lm::Artifact;
use crate::package::Package;
use crate::pipeline::Failure;
use crate::pipeline::open_tokenizer::open_tokenizer;

/// The reports of `evaluate`: `init` over the text, `encode` over the sentences.
pub(super) fn of_packages(args: &EvaluateArgs, context: &Context) -> Outcome {
    let plan = plan(&args.measure, context)?;
    let nothing = || {
        Failure::input("there is nothing to run the package on").hint(
            "pass `--text FILE` for `init` or `--sentences FILE` for `encode`; \
             `predict --precision-report` runs any function on given inputs",
        )
    };
    let mut found = Vec::new();
    for path in &args.packages {
        let artifact = Artifact::open(path)?;
        let tokenizer = open_tokenizer(&artifact, args.measure.tokenizer.as_deref(), context)?;
        let mut functions = Vec::new();
        if let (Some(text), Some(_)) = (&plan.text, artifact.layout().decoder) {
            let (window, max_windows) = (text.window, text.max_windows);
            let text = Text { text: &text.text, window, max_windows };
            functions.push(of_decoder(&artifact, &tokenizer, text, &*context.progress)?);
        }
        if let (Some(sentences), Some(_)) = (&plan.sentences, artifact.layout().encoder) {
            functions.push(of_encoder(&artifact, &tokenizer, sentences, &*context.progress)?);
        }
        if functions.is_empty() {
            return Err(nothing());
        }
        found.push((path.display().to_string(), functions));
    }
    answer(&found, args.worst, context)
}

/// The report of one call: `function` is planned as declared and begins with `state`.
pub(super) fn of_call(
    package: &Package,
    function: &Function,
    state: &State,
    inputs: &[(&str, Tensor)],
) -> Result<Precisions, Failure> {
    let options = Options { precision: Precision::F32 };
    let model = Model::load(package.program(), &package.blobs(), options)?
        .with_rules(&package.model().rules()?);
    let mut wide = model.state();
    for name in state.names() {
        let tensor = state.get(name).and_then(|t| Some((t, t.to_f32()?)));
        if let Some((tensor, values)) = tensor {
            wide.set(name, Tensor::f32(tensor.shape(), values).tagged(tensor.dtype()))?;
        }
    }
    let name = function.name();
    let source = &package.program().functions[name];
    let watched = Watched::of(function, source);
    let f32 = (model.function(name)?, &wide);
    Ok(of_function(&watched, (function, state), f32, inputs)?)
}

/// Prints the reports of packages: all values as JSON, the `worst` of them as tables.
pub(super) fn answer(
    found: &[(String, Vec<Precisions>)],
    worst: usize,
    context: &Context,
) -> Outcome {
    let mut answers = Vec::new();
    let mut text = String::new();
    for (package, functions) in found {
        writeln!(text, "{package}").expect("writing to a string");
        for function in functions {
            writeln!(text, "{}\n", section(function, worst, context.printer.width()))
                .expect("writing to a string");
        }
        let functions: Vec<_> = functions
            .iter()
            .map(|f| {
                let names =
                    |ops: Vec<&Loss>| ops.iter().map(|op| op.at.clone()).collect::<Vec<_>>();
                json!({
                    "function": f.function,
                    "calls": f.calls,
                    "first": f.first().map(|op| op.at.as_str()),
                    "worst": names(f.worst(worst)),
                    "operations": f.operations,
                })
            })
            .collect();
        answers.push(json!({"package": package, "functions": functions}));
    }
    context.printer.answer(&answers, text.trim_end())?;
    Ok(SUCCESS)
}

fn section(found: &Precisions, worst: usize, width: usize) -> String {
    let Precisions { function, calls, operations, .. } = found;
    let n = operations.len();
    let calls = if *calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") };
    let mut out = format!("{function}: {n} values in {calls}\n");
    match found.first() {
        None => out.push_str("no value is infinite or NaN that is finite in f32"),
        Some(op) => write!(
            out,
            "first infinite or NaN where f32 is finite: `{}` ({}), value {} of {n}: {} infinite and {} NaN of {} \
             elements, up to {} in f32",
            op.at,
            op.kind,
            op.index,
            op.overflows,
            op.nans,
            op.elements,
            short(op.largest),
        )
        .expect("writing to a string"),
    }
    let ends = operations.iter().filter(|op| op.output).map(|op| {
        let what = match (op.overflows + op.nans, op.differing) {
            (0, 0) => format!("error {}", short(op.rms_error)),
            (0, n) => format!("{n} of {} differ", op.elements),
            (n, _) => format!("{n} of {} infinite or NaN", op.elements),
        };
        format!("{} {what}", op.name)
    });
    let ends: Vec<String> = ends.collect();
    if !ends.is_empty() {
        write!(out, "\nresults: {}", ends.join(", ")).expect("writing to a string");
    }
    let worst = found.worst(worst);
    if worst.is_empty() {
        out.push_str("\nnothing is lost");
        return out;
    }
    let header = [
        "value",
        "operation",
        "#",
        "inf",
        "NaN",
        "to 0",
        "largest",
        "error",
        "in inputs",
        "at most",
    ];
    let mut table = tables::plain(&header, &[2, 3, 4, 5, 6, 7, 8, 9], width);
    for op in worst {
        table.add_row([
            op.name.clone(),
            op.kind.clone(),
            op.index.to_string(),
            op.overflows.to_string(),
            op.nans.to_string(),
            op.underflows.to_string(),
            short(op.largest),
            short(op.rms_error),
            op.inputs_rms_error.map_or_else(String::new, short),
            short(op.max_error),
        ]);
    }
    format!("{out}\n{table}")
}

/// Four digits, as a power of ten where that is shorter.
fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        a if (1e-3..1e5).contains(&a) => {
            let digits = 3 - (a.log10().floor() as i32).clamp(-3, 3);
            format!("{x:.*}", digits.unsigned_abs() as usize)
        }
        _ => format!("{x:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (90_000.0, "90000"),
            (123_456.0, "1.23e5"),
            (1.5, "1.500"),
            (0.012_346_1, "0.01235"),
            (4.2e-7, "4.20e-7"),
            (25.128, "25.13"),
        ];
        for (x, want) in cases {
            assert_eq!(short(x), want);
        }
    }
}
