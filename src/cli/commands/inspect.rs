//! `inspect`: what a package holds.

use std::fmt::Write as _;

use serde_json::json;

use super::context::Context;
use super::{HOLDS, Outcome};
use crate::base::fmt;
use crate::cli::args::InspectArgs;
use crate::cli::tables;
use crate::compress;
use crate::mil;
use crate::package::Package;

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let package = Package::open(&args.package)?;
    if args.program {
        context.printer.data(&mil::print::program(package.program()))?;
        return Ok(HOLDS);
    }
    let audit = compress::audit(&package)?;
    let mut functions = Vec::new();
    let mut text = String::new();
    for (name, function) in &package.program().functions {
        let inputs: Vec<_> =
            function.inputs.iter().map(|i| format!("{}: {}", i.name, i.ty)).collect();
        let outputs = &function.block.outputs;
        writeln!(text, "{name}({}) -> {}", inputs.join(", "), outputs.join(", "))
            .expect("writing to a string");
        let (taken, given) = package.model().features(name)?;
        let notable = taken.iter().chain(&given).filter(|f| f.notable);
        let features: Vec<_> = notable.map(ToString::to_string).collect();
        for feature in &features {
            writeln!(text, "  {feature}").expect("writing to a string");
        }
        functions.push(json!({
            "name": name,
            "opset": function.opset,
            "inputs": inputs,
            "outputs": outputs,
            "features": features,
            "operations": function.block.ops.len(),
        }));
    }
    let answer = json!({
        "package": args.package,
        "specification_version": package.model().specification_version,
        "functions": functions,
        "weights": audit,
    });
    write!(
        text,
        "\n{}\n{} weights, {} elements, {}, {:.3} bits per weight",
        tables::tensors(&audit.tensors, context.printer.width()),
        audit.tensors.len(),
        fmt::count(audit.elements),
        fmt::bytes(audit.bytes),
        audit.bits_per_weight,
    )
    .expect("writing to a string");
    context.printer.answer(&answer, &text)?;
    Ok(HOLDS)
}
