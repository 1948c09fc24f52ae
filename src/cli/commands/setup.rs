//! `setup`: makes the Python environment.

use serde_json::json;

use super::context::Context;
use super::{Outcome, SUCCESS};
use crate::cli::args::SetupArgs;
use crate::python::{self, Extra};

pub(super) fn run(args: &SetupArgs, context: &Context) -> Outcome {
    let settings = context.python_settings();
    let extra = if args.dev { Some(Extra::Dev) } else { args.ray.then_some(Extra::Ray) };
    let environment = match extra {
        Some(extra) => python::ensure_with(extra, &settings, &*context.progress)?,
        None => python::ensure(&settings, &*context.progress)?,
    };
    let python = environment.python.display().to_string();
    if args.print_python && !context.printer.json() {
        context.printer.data(&python)?;
        return Ok(SUCCESS);
    }
    let versions: Vec<_> =
        environment.packages.iter().map(|(name, v)| format!("{name} {v}")).collect();
    let text =
        format!("Python {} is ready at {python}\n{}", environment.version, versions.join(", "));
    let answer = json!({
        "python": python,
        "version": environment.version,
        "packages": environment.packages,
        "mismatches": environment.mismatches,
    });
    context.printer.answer(&answer, &text)?;
    Ok(SUCCESS)
}
