//! The one place that chooses what runs a package: the arguments, then `config.toml`, then what is there.

use std::path::Path;

use super::context::Context;
use crate::cli::args::BackendArgs;
use crate::coreml::{self, Cache, ComputeUnits, Framework, Options};
use crate::interp::Precision;
use crate::pipeline::Failure;
use crate::runtime::{
    Backend, BackendChain, Choice, CoreMl, INSIDE, Interp, Requirements, Runtime, choose,
};

/// A runtime and why it was taken.
pub(super) struct SelectedRuntime<'a> {
    /// The runtime.
    pub(super) runtime: Box<dyn Runtime + 'a>,
    /// Reason for the choice.
    pub(super) choice: Choice,
}

/// Chooses for what `required` says.
pub(super) fn of(
    asked: Option<&BackendChain>,
    required: Requirements<'_>,
    context: &Context,
) -> Result<Choice, Failure> {
    let chain = match asked {
        Some(chain) => chain,
        None => &context.config()?.backend,
    };
    Ok(choose(chain, &coreml::detect(), required)?)
}

/// Chooses for running `packages` as they are, and makes the runtime ready; `beyond_coreml` is what Core ML cannot do of
/// what is asked for.
pub(super) fn runtime<'a>(
    args: &BackendArgs,
    packages: &[&Path],
    beyond_coreml: Option<&str>,
    context: &'a Context,
) -> Result<SelectedRuntime<'a>, Failure> {
    let required =
        Requirements { beyond_coreml, packages: packages.iter().all(|path| !is_compiled(path)) };
    let choice = of(args.backend.as_ref(), required, context)?;
    let runtime: Box<dyn Runtime> = match choice.backend {
        Backend::Interp => Box::new(Interp { precision: Precision::Declared }),
        Backend::CoreMl => Box::new(coreml(args.compute_units, context)?),
    };
    Ok(SelectedRuntime { runtime, choice })
}

/// The same for measurements; scoring a text and reports of precision look at values from `inside` the program.
pub(super) fn to_measure<'a>(
    args: &BackendArgs,
    packages: &[&Path],
    inside: bool,
    context: &'a Context,
) -> Result<SelectedRuntime<'a>, Failure> {
    runtime(args, packages, inside.then_some(INSIDE), context)
}

/// The framework, for what nothing else can do.
pub(super) fn framework() -> Result<Framework, Failure> {
    coreml::detect().map_err(|absent| {
        Failure::from(absent).hint("run the same command on a Mac; nothing else can say this")
    })
}

/// The framework as a runtime.
pub(super) fn coreml(
    units: Option<ComputeUnits>,
    context: &Context,
) -> Result<CoreMl<'_>, Failure> {
    Ok(CoreMl { options: options(units, context)?, clock: &context.clock })
}

/// How the framework is used: what the arguments say, else what `config.toml` says.
pub(super) fn options(units: Option<ComputeUnits>, context: &Context) -> Result<Options, Failure> {
    let config = context.config()?;
    let folder = context.settings.cache_dir.join("compiled");
    Ok(Options {
        units: units.unwrap_or(config.compute_units),
        cache: Cache::new(folder, config.compiled_cache_bytes()),
    })
}

fn is_compiled(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "mlmodelc")
}
