//! `sweep`: runs a sweep and prints its report.

mod spec_loader;

use super::context::Context;
use super::{INCONCLUSIVE, Outcome, SUCCESS};
use crate::cli::args::SweepArgs;
use crate::pipeline::Failure;
use crate::pipeline::sweep::{estimate, prepare};
use crate::report;
use crate::sweep::Spec;

/// Exit code of a budget that no passing variant meets.
const MISSED: u8 = 1;

pub(super) fn run(args: &SweepArgs, context: &Context) -> Outcome {
    let loaded = spec_loader::load(args)?;
    let spec = &loaded.spec;
    if let Some(cores) = spec.run.cores {
        limit_cores(cores)?;
    }
    let token = args.source.as_ref().and_then(|source| source.hf_token.as_deref());
    let prepared = prepare(&loaded, token, context)?;
    if args.dry_run {
        let (answer, text) = estimate::summary(spec, &prepared.variants()?, &prepared.expected);
        context.printer.answer(&answer, &text)?;
        return Ok(SUCCESS);
    }
    if args.fresh {
        forget(spec)?;
    }
    for warning in &prepared.expected.warnings {
        context.printer.warn(warning);
    }
    let (finished, report) = prepared.run(std::env::args().collect())?;
    let path = args.sweep_report.clone().unwrap_or_else(|| {
        spec.output.dir.join(match args.shard {
            // Machines that share a folder do not overwrite each other's reports.
            Some(shard) => format!("report-{}-of-{}.json", shard.number, shard.of),
            None => "report.json".to_owned(),
        })
    });
    // A single variant belongs to another sweep and is not its report.
    let reports = args.only.is_empty() || args.sweep_report.is_some();
    if reports {
        crate::base::fs::write_atomic(&path, report::json(&report).as_bytes())?;
    }
    let table = report::table(&report, context.printer.width(), context.printer.colored());
    context.printer.answer(&report, &table)?;
    if let Some(search) = &finished.search {
        context.printer.note(&format!("budget: {}", search.outcome));
    }
    if reports {
        context.printer.note(&format!("report: {}", path.display()));
    }
    let unjudged = report.summary.not_judged;
    if unjudged > 0 {
        context.printer.warn(&format!(
            "{unjudged} of {} variants were judged by no gate: `[evaluate]` measures nothing that a gate in force looks at",
            report.summary.variants
        ));
    }
    if spec.budget.is_some() && finished.best().is_none() {
        context.printer.warn("no variant that passes its gates is within the budget");
        return Ok(MISSED);
    }
    Ok(match report.exit_code() {
        0 if unjudged > 0 && spec.gates.are_given() => INCONCLUSIVE,
        code => code,
    })
}

/// Has all of this process's work done by so many threads.
fn limit_cores(cores: u64) -> Result<(), Failure> {
    let threads = usize::try_from(cores).unwrap_or(usize::MAX);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| Failure::input(format!("`cores` {cores}: {error}")))
}

/// Removes what former runs of the spec finished.
fn forget(spec: &Spec) -> Result<(), Failure> {
    let results = spec.output.dir.join("results");
    if results.is_dir() {
        fs_err::remove_dir_all(results)?;
    }
    Ok(())
}
