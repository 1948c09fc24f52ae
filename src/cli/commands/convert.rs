//! `convert`: a checkpoint into a package with its manifest.

use std::time::Duration;

use serde_json::json;

use super::context::Context;
use super::{HOLDS, Outcome};
use crate::base::clock::Clock as _;
use crate::base::fmt;
use crate::cli::args::ConvertArgs;
use crate::convert::{self, Request};

pub(super) fn run(args: &ConvertArgs, context: &Context) -> Outcome {
    let request = Request {
        model: args.source.model.clone().into(),
        lora: args.source.lora_checkpoint.iter().map(Into::into).collect(),
        llm2vec: args.source.llm2vec_checkpoint.iter().map(Into::into).collect(),
        encode_adapters: args.shape.encode_adapters,
        seq_len: args.shape.seq_len,
        prompt_chunk: args.shape.prompt_chunk.min(args.shape.seq_len),
        kv_cache: args.shape.kv_cache,
        target: args.shape.minimum_deployment_target,
        output: args.output.clone(),
        replace: args.force,
        tmp: args.tmp.clone().unwrap_or_else(std::env::temp_dir),
        keep_tmp: !args.clean_tmp,
    };
    let started = context.clock.elapsed();
    let converted = convert::run(&request, context.python()?, &*context.progress)?;
    let seconds = (context.clock.elapsed() - started).as_secs_f64();
    let packages: Vec<_> = converted
        .iter()
        .map(|one| json!({"package": one.path, "files": one.files, "facts": one.facts}))
        .collect();
    let lines: Vec<_> = converted
        .iter()
        .map(|one| {
            let size = one.files.iter().map(|f| f.size).sum();
            format!("{}: {}", one.path.display(), fmt::bytes(size))
        })
        .collect();
    let text =
        format!("{}\nin {}", lines.join("\n"), fmt::duration(Duration::from_secs_f64(seconds)));
    context.printer.answer(&json!({"packages": packages, "seconds": seconds}), &text)?;
    Ok(HOLDS)
}
