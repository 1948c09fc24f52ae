//! `inspect`: what a package holds, or each part of a bundle.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::context::Context;
use super::{HOLDS, Outcome, compute_plan};
use crate::base::fmt;
use crate::cli::args::InspectArgs;
use crate::cli::failure::Failure;
use crate::cli::tables;
use crate::compress;
use crate::mil;
use crate::package::{Bundle, Package};

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    if args.compute_plan {
        return compute_plan::run(args, context);
    }
    if Bundle::is_at(&args.package) {
        return bundle(args, context);
    }
    let package = Package::open(&args.package)?;
    if let Some(text) = program(args, &package) {
        context.printer.data(&text)?;
        return Ok(HOLDS);
    }
    let (mut answer, text) = describe(&package, context)?;
    answer["package"] = json!(args.package);
    context.printer.answer(&answer, &text)?;
    Ok(HOLDS)
}

/// The parts one after the other.
fn bundle(args: &InspectArgs, context: &Context) -> Outcome {
    let bundle = Bundle::open(&args.package)?;
    let name = |package: &Package| {
        package.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let (mut answers, mut texts) = (Vec::new(), Vec::new());
    for (part, package) in &bundle.parts {
        if let Some(text) = program(args, package) {
            context.printer.data(&format!("// {}\n{text}", name(package)))?;
            continue;
        }
        let (mut answer, text) = describe(package, context)?;
        answer["package"] = json!(name(package));
        answer["part"] = json!(part);
        answers.push(answer);
        texts.push(format!("{}\n{text}", name(package)));
    }
    if !answers.is_empty() {
        let answer = json!({"bundle": args.package, "settings": bundle.settings, "parts": answers});
        context.printer.answer(&answer, &texts.join("\n\n"))?;
    }
    Ok(HOLDS)
}

/// The program as text, if it was asked for.
fn program(args: &InspectArgs, package: &Package) -> Option<String> {
    if args.mil {
        Some(mil::text::write(package.program()))
    } else {
        args.program.then(|| mil::print::program(package.program()))
    }
}

fn describe(package: &Package, context: &Context) -> Result<(Value, String), Failure> {
    let audit = compress::audit(package)?;
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
        "package": null,
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
    Ok((answer, text))
}
