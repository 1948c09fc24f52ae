//! `doctor`: what this machine has and can do.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::context::Context;
use super::{Outcome, SUCCESS, backend};
use crate::base::fmt;
use crate::coreml::{self, ComputeUnits, Framework};
use crate::python::{self, Doctor, EnvState};
use crate::runtime::{Choice, Requirements};

/// What is found, in one JSON object.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    python: Doctor,
    runtime: Runtimes,
}

/// Available runtimes.
#[derive(Serialize)]
struct Runtimes {
    /// Default runtimes of a command.
    backend: Choice,
    /// The order of preference.
    chain: String,
    compute_units: ComputeUnits,
    /// The framework, where there is one.
    coreml: Option<Framework>,
    /// Where the user's choices stand, or would.
    config: PathBuf,
    compiled_models: PathBuf,
}

pub(super) fn run(context: &Context) -> Outcome {
    let python = python::doctor(&context.python_settings());
    let config = context.config()?;
    let options = backend::options(None, context)?;
    let required = Requirements { beyond_coreml: None, packages: true };
    let runtime = Runtimes {
        backend: backend::of(None, required, context)?,
        chain: config.backend.to_string(),
        compute_units: options.units,
        coreml: coreml::detect().ok(),
        config: context.config_file().to_owned(),
        compiled_models: options.cache.folder().to_owned(),
    };
    let found = Found { python, runtime };
    let lines = text(&found.python, &runtimes(&found.runtime));
    context.printer.answer(&found, &lines)?;
    Ok(SUCCESS)
}

fn runtimes(found: &Runtimes) -> String {
    let mut out = String::new();
    let there = if found.config.is_file() { "" } else { ", not there" };
    let framework = found.coreml.as_ref().map(|framework| {
        let devices: Vec<_> = framework.devices.iter().map(ToString::to_string).collect();
        let cores = framework.neural_engine_cores;
        let cores = cores.map_or_else(String::new, |n| format!(" of {n} cores"));
        format!("{}: {}{cores}", framework.system, devices.join(", "))
    });
    let rows = [
        ("runtime", Some(format!("{}: {}", found.backend.backend, found.backend.reason))),
        ("preference", Some(found.chain.clone())),
        ("Core ML", framework),
        ("config", Some(format!("{}{there}", found.config.display()))),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            writeln!(out, "{name:<12} {value}").expect("writing to a string");
        }
    }
    out
}

fn text(found: &Doctor, runtimes: &str) -> String {
    let unknown = || "unknown".to_owned();
    let path = |p: &Option<PathBuf>| p.as_ref().map_or_else(unknown, |p| p.display().to_string());
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
    out.push_str(runtimes);
    out.push('\n');
    for ability in &found.can {
        let mark = if ability.yes { "yes" } else { "no " };
        writeln!(out, "{mark}  {}: {}", ability.what, ability.why).expect("writing to a string");
    }
    out
}
