//! `doctor`: what this machine has and can do.

use std::fmt::Write as _;

use super::context::Context;
use super::{HOLDS, Outcome};
use crate::base::fmt;
use crate::python::{self, Doctor, EnvState};

pub(super) fn run(context: &Context) -> Outcome {
    let found = python::doctor(&context.python_settings());
    context.printer.answer(&found, &text(&found))?;
    Ok(HOLDS)
}

fn text(found: &Doctor) -> String {
    let unknown = || "unknown".to_owned();
    let path = |p: &Option<std::path::PathBuf>| {
        p.as_ref().map_or_else(unknown, |p| p.display().to_string())
    };
    let size = |n: Option<u64>| n.map_or_else(unknown, fmt::bytes);
    let environment = match &found.environment {
        EnvState::Ready { python, .. } => format!("ready, {}", python.display()),
        other => serde_json::to_value(other).map_or_else(|_| unknown(), |v| v.to_string()),
    };
    let packages: Vec<_> = found.packages.iter().map(|(name, v)| format!("{name} {v}")).collect();
    let rows = [
        ("coremill", found.coremill.to_owned()),
        ("system", format!("{} on {}, {} cores", found.os, found.arch, found.cores)),
        (
            "memory",
            format!("{} of {} available", size(found.memory_available), size(found.memory_total)),
        ),
        ("cache", format!("{}, {} free", found.cache_dir.display(), size(found.disk_free))),
        ("libpython", path(&found.libpython)),
        (
            "interpreter",
            format!(
                "{} ({})",
                path(&found.interpreter),
                found.interpreter_version.as_deref().unwrap_or("unknown version")
            ),
        ),
        ("environment", environment),
        ("packages", packages.join(", ")),
    ];
    let mut out = String::new();
    for (name, value) in rows {
        writeln!(out, "{name:<12} {value}").expect("writing to a string");
    }
    out.push('\n');
    for ability in &found.can {
        let mark = if ability.yes { "yes" } else { "no " };
        writeln!(out, "{mark}  {}: {}", ability.what, ability.why).expect("writing to a string");
    }
    out
}
