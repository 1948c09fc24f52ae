//! `inspect`: what a package holds, or each part of a bundle; how a checkpoint is read.

mod baseline;
mod checkpoint;
mod diff;
mod signature;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::context::Context;
use super::{Outcome, SUCCESS, compute_plan};
use crate::base::fmt;
use crate::cli::args::InspectArgs;
use crate::cli::tables;
use crate::compress::{self, Audit};
use crate::mil;
use crate::package::{Bundle, Package};
use crate::pipeline::Failure;

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    if args.compute_plan {
        return compute_plan::run(args, context);
    }
    if let Some(left) = &args.diff {
        return diff::run(args, left, context);
    }
    if checkpoint::is_at(&args.package) {
        return checkpoint::run(&args.package, context);
    }
    if Bundle::is_at(&args.package) {
        if args.baseline.is_some() {
            let fact = format!("`{}` is a bundle of packages", args.package.display());
            return Err(Failure::input(fact).hint("compare its packages one by one"));
        }
        return bundle(args, context);
    }
    let package = Package::open(&args.package)?;
    if let Some(text) = program(args, &package) {
        context.printer.data(&text)?;
        return Ok(SUCCESS);
    }
    let (mut answer, text) = describe(&package, args.baseline.as_deref(), context)?;
    answer["package"] = json!(args.package);
    context.printer.answer(&answer, &text)?;
    Ok(SUCCESS)
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
        let (mut answer, text) = describe(package, None, context)?;
        answer["package"] = json!(name(package));
        answer["part"] = json!(part);
        answers.push(answer);
        texts.push(format!("{}\n{text}", name(package)));
    }
    if !answers.is_empty() {
        let answer = json!({"bundle": args.package, "settings": bundle.settings, "parts": answers});
        context.printer.answer(&answer, &texts.join("\n\n"))?;
    }
    Ok(SUCCESS)
}

/// The program as text, if it was asked for.
fn program(args: &InspectArgs, package: &Package) -> Option<String> {
    if args.mil {
        Some(mil::text::write(package.program()))
    } else {
        args.program.then(|| mil::print::program(package.program()))
    }
}

fn describe(
    package: &Package,
    baseline: Option<&Path>,
    context: &Context,
) -> Result<(Value, String), Failure> {
    let mut audit = compress::audit(package)?;
    let errors = match baseline {
        Some(path) => Some(baseline::measure(package, path, &mut audit, context)?),
        None => None,
    };
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
            "signature": signature::of(function),
            "features": features,
            "operations": function.block.ops.len(),
        }));
    }
    let mut answer = json!({
        "package": null,
        "specification_version": package.model().specification_version,
        "functions": functions,
        "weights": audit,
    });
    text.push_str(&weights(&audit, context.printer.width()));
    if let Some((value, said)) = errors {
        answer["baseline"] = value;
        write!(text, "\n{said}").expect("writing to a string");
    }
    Ok((answer, text))
}

/// The weights one by one, their sums, and what the figures count.
fn weights(audit: &Audit, width: usize) -> String {
    let mut text = String::new();
    if !audit.tensors.is_empty() {
        let (each, sums) = (tables::audit(audit, width), tables::components(audit, width));
        write!(text, "\n{each}\n\n{sums}\n").expect("writing to a string");
    }
    write!(
        text,
        "\n{}, {} elements, {}, {:.3} bits per weight, {:.3} with alignment\n{}",
        fmt::several(audit.tensors.len() as u64, "weight"),
        fmt::count(audit.elements),
        fmt::bytes(audit.bytes),
        audit.bits_per_weight,
        audit.bits_with_alignment,
        audit.convention.replace("; ", "\n"),
    )
    .expect("writing to a string");
    let rest = audit.rest;
    if rest.blobs > 0 {
        write!(
            text,
            "\nbesides weights: {}, {}, {} of alignment",
            fmt::several(rest.blobs, "blob"),
            fmt::bytes(rest.bytes),
            fmt::bytes(rest.alignment),
        )
        .expect("writing to a string");
    }
    text
}
