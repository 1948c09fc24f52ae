//! `sweep`: one model, many variants, each built, run, measured and judged.

mod asked;
mod cluster;
mod expect;
mod source;
mod work;

use std::collections::BTreeMap;
use std::path::Path;

use self::cluster::Ray;
use self::source::Source;
use self::work::Work;
use super::bench::{self, Against};
use super::context::Context;
use super::job::Found;
use super::texts;
use super::{HOLDS, INCONCLUSIVE, Outcome};
use crate::base::clock::Clock as _;
use crate::base::digest;
use crate::cli::args::SweepArgs;
use crate::cli::failure::Failure;
use crate::eval::reference::Reference;
use crate::eval::{Plan, PromptPlan, Repeat, Sentence, TOP_K, TextPlan, defaults};
use crate::report::{self, Report};
use crate::sweep::{self, Spec};

/// The exit code of a budget that nothing meets.
const MISSED: u8 = 1;

pub(super) fn run(args: &SweepArgs, context: &Context) -> Outcome {
    let asked = asked::read(args)?;
    let spec = &asked.spec;
    if let Some(cores) = spec.run.cores {
        limit_cores(cores)?;
    }
    let token = args.source.as_ref().and_then(|source| source.hf_token.as_deref());
    let source = Source::of(spec, token, context)?;
    if args.fresh && !args.dry_run {
        forget(spec)?;
    }
    let expected = source::preflight(&source, &spec.output.dir)?;
    if args.dry_run {
        let variants = expect::variants(spec, &source, &expected)?;
        let (answer, text) = expect::told(spec, &variants, &expected);
        context.printer.answer(&answer, &text)?;
        return Ok(HOLDS);
    }
    for warning in &expected.warnings {
        context.printer.warn(warning);
    }
    let plan = plan(spec, context)?;
    let engine = Ray::of(spec, &asked.text, &asked.path, context)?;
    let reference = against(&source, &plan, spec.run.references.as_deref(), context)?;
    let crowded = sweep::workers(&spec.run, expected.package_bytes) > 1;
    let work = Work::new(&source, plan, reference, context, crowded, engine);
    let finished = sweep::run(spec, &work, &context.clock, &*context.progress)?;
    let (name, repository, revision) = source.names();
    let origin = report::Origin {
        tool: source.tool(context)?,
        command: std::env::args().collect(),
        environment: environment(),
        created: context.clock.unix_seconds(),
        spec_sha256: Some(digest::of_bytes(asked.text.as_bytes())),
        source: name,
        repository,
        revision,
    };
    let drawn = Report::of(&finished, origin);
    let place = args.sweep_report.clone().unwrap_or_else(|| {
        spec.output.dir.join(match args.shard {
            // Machines that share a folder do not write over each other's.
            Some(shard) => format!("report-{}-of-{}.json", shard.number, shard.of),
            None => "report.json".to_owned(),
        })
    });
    // A single variant is a part of somebody else's sweep, whose report it is not.
    if args.only.is_empty() || args.sweep_report.is_some() {
        crate::base::fs::write_atomic(&place, report::json(&drawn).as_bytes())?;
    }
    let table = report::table(&drawn, context.printer.width(), context.printer.colored());
    context.printer.answer(&drawn, &table)?;
    if let Some(search) = &finished.search {
        context.printer.note(&format!("budget: {}", search.outcome));
    }
    if args.only.is_empty() || args.sweep_report.is_some() {
        context.printer.note(&format!("report: {}", place.display()));
    }
    let unjudged = drawn.summary.not_judged;
    if unjudged > 0 {
        context.printer.warn(&format!(
            "{unjudged} of {} variants were judged by no gate: `[evaluate]` measures nothing that a gate in force looks at",
            drawn.summary.variants
        ));
    }
    if spec.budget.is_some() && finished.best().is_none() {
        context.printer.warn("no variant that passes its gates is within the budget");
        return Ok(MISSED);
    }
    Ok(match drawn.exit_code() {
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

fn plan(spec: &Spec, context: &Context) -> Result<Plan, Failure> {
    let text_of = |asked: &Path| texts::read(&asked.to_string_lossy(), context);
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let asked = &spec.evaluate;
    let text = match &asked.text {
        None => None,
        Some(asked_text) => Some(TextPlan {
            text: text_of(asked_text)?,
            window: asked.window.map(count),
            stride: asked.stride.map(count),
            max_windows: count(asked.windows.unwrap_or(defaults::WINDOWS)),
            calibration: asked.calibration.as_deref().map(text_of).transpose()?,
            top_k: asked.top_k.map_or(TOP_K, count),
            noise_floor: asked.noise_floor,
        }),
    };
    let prompts = (!asked.prompts.is_empty()).then(|| asked.prompts.read()).transpose()?;
    let sentences = (!asked.sentences.is_empty()).then(|| asked.sentences.read()).transpose()?;
    Ok(Plan {
        text,
        prompts: prompts.map(|lines| PromptPlan {
            prompts: lines.into_iter().map(|line| line.text).collect(),
            max_tokens: count(asked.max_new_tokens.unwrap_or(defaults::MAX_TOKENS)),
            chat_template: asked.chat_template,
            probe: false,
            explain: false,
        }),
        sentences: sentences.map(|lines| {
            let sentence = |line: sweep::Sentence| Sentence {
                instruction: line.instruction.or_else(|| asked.instruction.clone()),
                prompt_name: None,
                text: line.text,
            };
            lines.into_iter().map(sentence).collect()
        }),
        latency: asked.latency.filter(|&n| n > 0).map(|n| Repeat { warm_up: defaults::WARM_UP, n }),
    })
}

/// What answers for the source; nothing where nothing is asked that would be compared or run.
fn against<'a>(
    source: &Source,
    plan: &Plan,
    kept: Option<&Path>,
    context: &'a Context,
) -> Result<Option<Box<dyn Reference + 'a>>, Failure> {
    let Plan { text, prompts, sentences, latency } = plan;
    if text.is_none() && prompts.is_none() && sentences.is_none() && latency.is_none() {
        return Ok(None);
    }
    let dirs = |found: &[Found]| found.iter().map(|f| f.dir.clone()).collect();
    let against = match source {
        Source::Job(job) => Against::Checkpoint {
            model: job.model.dir.clone(),
            lora: dirs(&job.lora),
            llm2vec: dirs(&job.llm2vec),
        },
        Source::Package { path, .. } => Against::Package(path.clone()),
    };
    bench::reference(&against, kept, context).map(Some)
}

/// Removes what former runs of the spec finished.
fn forget(spec: &Spec) -> Result<(), Failure> {
    let results = spec.output.dir.join("results");
    if results.is_dir() {
        fs_err::remove_dir_all(results)?;
    }
    Ok(())
}

fn environment() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = [
        ("os", Some(std::env::consts::OS.to_owned())),
        ("arch", Some(std::env::consts::ARCH.to_owned())),
        ("cores", Some(cores.to_string())),
        ("processor", processor()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The processor's name, where Linux tells it.
fn processor() -> Option<String> {
    let told = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let name = told.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(name.trim_start_matches([' ', '\t', ':']).to_owned())
}
