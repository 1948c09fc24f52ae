//! `inspect --compute-plan`: what Core ML would compute each operation on, and why not on the Neural Engine.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::context::Context;
use super::{Outcome, SUCCESS, backend};
use crate::cli::args::InspectArgs;
use crate::cli::tables;
use crate::coreml::{self, ComputePlan, Wanted};
use crate::package::Package;

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let framework = backend::framework()?;
    let package = Package::open(&args.package)?;
    let functions: Vec<String> = match &args.function {
        Some(name) => vec![name.clone()],
        None => package.program().functions.keys().cloned().collect(),
    };
    let options = backend::options(args.compute_units, context)?;
    let named = package.program().functions.len() > 1;
    let wanted = Wanted { path: package.path().to_owned(), functions: functions.clone(), named };
    let (mut answers, mut texts) = (Vec::new(), Vec::new());
    for function in &functions {
        let plan = coreml::plan(&wanted, function, &options)?;
        answers.push(answer(&plan));
        texts.push(text(&plan, context.printer.width()));
    }
    let answer = json!({"package": args.package, "framework": framework, "plans": answers});
    context.printer.answer(&answer, &texts.join("\n\n"))?;
    Ok(SUCCESS)
}

fn answer(plan: &ComputePlan) -> Value {
    let totals: Vec<_> = plan
        .totals()
        .into_iter()
        .map(|(device, (n, cost))| json!({"device": device, "operations": n, "cost": cost}))
        .collect();
    let operation = |o: &coreml::Planned| {
        let mut value = json!(o);
        value["not_on_neural_engine"] = json!(plan.reason(o));
        value
    };
    json!({
        "function": plan.function,
        "compute_units": plan.units,
        "devices": totals,
        "crossings": plan.crossings(),
        "shares": plan.shares(),
        "operations": plan.operations.iter().map(operation).collect::<Vec<_>>(),
    })
}

fn text(plan: &ComputePlan, width: usize) -> String {
    let mut out = format!("{} on {}\n", plan.function, plan.units);
    for (device, (n, cost)) in plan.totals() {
        writeln!(out, "  {device}: {n} operations, {:.1} % of the cost", cost * 100.0)
            .expect("writing to a string");
    }
    let crossings = plan.crossings();
    writeln!(out, "  the device changes {crossings} times between operations\n")
        .expect("writing to a string");
    let header = ["operation", "device", "n", "cost", "first", "why not the Neural Engine"];
    let mut table = tables::plain(&header, &[2, 3], width);
    for share in plan.shares() {
        table.add_row([
            share.operator,
            share.device.to_string(),
            share.operations.to_string(),
            format!("{:.1} %", share.cost * 100.0),
            share.example,
            share.reason.map_or_else(String::new, |reason| reason.to_string()),
        ]);
    }
    write!(out, "{table}").expect("writing to a string");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coreml::{ComputeUnits, Device, Planned};

    #[test]
    fn a_plan_is_shown_by_what_is_alike() {
        use Device::{Cpu, Gpu, NeuralEngine};
        let operation = |operator: &str, output: &str, preferred, supported: &[Device], cost| {
            let (operator, output) = (operator.to_owned(), output.to_owned());
            Planned { operator, output, preferred, supported: supported.to_vec(), cost }
        };
        let plan = ComputePlan {
            function: "decode".to_owned(),
            units: ComputeUnits::All,
            devices: vec![Cpu, Gpu, NeuralEngine],
            operations: vec![
                operation("const", "weight", None, &[], None),
                operation("ios17.gather", "embed", Some(Cpu), &[Cpu], Some(0.05)),
                operation("ios17.linear", "q", Some(NeuralEngine), &[Cpu, NeuralEngine], Some(0.4)),
                operation("ios17.linear", "k", Some(NeuralEngine), &[Cpu, NeuralEngine], Some(0.4)),
                operation("ios17.matmul", "s", Some(Gpu), &[Cpu, Gpu, NeuralEngine], Some(0.15)),
            ],
        };
        insta::assert_snapshot!(text(&plan, 100));
        insta::assert_json_snapshot!(answer(&plan));
    }
}
