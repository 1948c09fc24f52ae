//! `convert`: converts a checkpoint and prints the packages.

use std::time::Duration;

use serde_json::json;

use super::context::Context;
use super::measure::lines;
use super::verify::judged;
use super::{Outcome, SUCCESS};
use crate::base::fmt;
use crate::cli::args::{ConvertArgs, Engine, InterfaceArgs, ModelArgs, PaletteGranularity};
use crate::compress::Recipe;
use crate::convert::Preflight;
use crate::gate;
use crate::pipeline::Failure;
use crate::pipeline::convert::{ConvertEngine, ConvertOptions, Validation, prepare};
use crate::pipeline::job::{self, Job};
use crate::source::config::Allow;

pub(super) fn run(args: &ConvertArgs, context: &Context) -> Outcome {
    let options = options(args)?;
    let job = job_of(&args.source, &args.interface, context)?;
    let prepared = prepare(&job, &options, context)?;
    if args.dry_run {
        let expected = prepared.dry_run()?;
        for warning in &expected.warnings {
            context.printer.warn(warning);
        }
        context.printer.answer(&expected, &summary(&expected))?;
        return Ok(SUCCESS);
    }
    context.printer.note(&summary(&prepared.expected));
    for warning in &prepared.expected.warnings {
        context.printer.warn(warning);
    }
    let found = prepared.run()?;
    let mut text: Vec<String> = found
        .packages
        .iter()
        .map(|one| format!("{}: {}", one.package.display(), fmt::bytes(one.bytes)))
        .collect();
    text.push(format!("in {}", fmt::duration(Duration::from_secs_f64(found.seconds))));
    if args.profile_validate {
        text.extend(lines(&found.measurements));
        text.push(judged(&found.verdicts));
    }
    let answer = json!({
        "packages": found.packages,
        "recipe": options.recipe.to_string(),
        "seconds": found.seconds,
        "compute_units": options.compute_units,
        "measurements": found.measurements,
        "verdicts": found.verdicts,
    });
    context.printer.answer(&answer, &text.join("\n"))?;
    Ok(if args.profile_validate { gate::exit_code(&found.verdicts) } else { SUCCESS })
}

fn options(args: &ConvertArgs) -> Result<ConvertOptions, Failure> {
    let validation = || Validation { text: args.text.clone(), windows: args.windows };
    Ok(ConvertOptions {
        output: args.output.clone(),
        force: args.force,
        tmp: args.tmp.clone(),
        keep_tmp: !args.clean_tmp,
        recipe: recipe(args)?,
        compute_units: args.compute_units,
        engine: match args.engine {
            Engine::Native => ConvertEngine::Native,
            Engine::Coremltools => ConvertEngine::Coremltools,
        },
        version: args.artifact_version.clone(),
        validation: args.profile_validate.then(validation),
    })
}

/// The job that the arguments describe, its sources found.
pub(super) fn job_of(
    source: &ModelArgs,
    shape: &InterfaceArgs,
    context: &Context,
) -> Result<Job, Failure> {
    let token = source.hf_token.as_deref();
    let adapters = |names: &[String]| {
        names
            .iter()
            .map(|name| job::find(name, None, token, context))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Job {
        model: job::find(&source.model, source.revision.as_deref(), token, context)?,
        lora: adapters(&source.lora_checkpoint)?,
        llm2vec: adapters(&source.llm2vec_checkpoint)?,
        encode_adapters: shape.encode_adapters,
        seq_len: shape.seq_len,
        prompt_chunk: shape.prompt_chunk,
        kv_cache: shape.kv_cache,
        target: shape.minimum_deployment_target,
        allow: Allow {
            config_keys: source.allow_config_key.clone(),
            unused_tensors: source.allow_unused_tensor.iter().map(ToString::to_string).collect(),
        },
    })
}

fn recipe(args: &ConvertArgs) -> Result<Recipe, Failure> {
    if let Some(text) = &args.recipe {
        return Ok(text.parse()?);
    }
    let suffix = match args.palett_granularity {
        PaletteGranularity::PerTensor => "t".to_owned(),
        PaletteGranularity::PerGroupedChannel => format!("g{}", args.palett_group_size),
    };
    let scheme =
        |bits: &str| if bits == "16" { "fp16".to_owned() } else { format!("pal{bits}-{suffix}") };
    let mut rules =
        vec![args.wbits.map_or_else(|| "fp16".to_owned(), |bits| scheme(&bits.to_string()))];
    for part in args.mixed_precision.iter().flat_map(|list| list.split(',')) {
        let (component, bits) = part.split_once('=').ok_or_else(|| {
            Failure::input(format!("`{part}` is no component with its bits"))
                .hint("write it as `attention=6,mlp=4`")
        })?;
        rules.push(format!("{}={}", component.trim(), scheme(bits.trim())));
    }
    Ok(rules.join(",").parse()?)
}

fn summary(expected: &Preflight) -> String {
    format!(
        "{} parameters; expected: package {}, memory {}, time {}",
        fmt::count(expected.parameters),
        fmt::bytes(expected.package_bytes),
        fmt::bytes(expected.memory_bytes),
        fmt::duration(Duration::from_secs_f64(expected.seconds)),
    )
}
