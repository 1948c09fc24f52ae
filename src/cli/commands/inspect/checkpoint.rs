//! Prints how a checkpoint is read and why it cannot be converted.

use std::path::Path;

use serde_json::Value;

use crate::base::fmt;
use crate::cli::commands::context::Context;
use crate::cli::commands::{Outcome, SUCCESS};
use crate::cli::tables;
use crate::source::checkpoint::Checkpoint;
use crate::source::config::Allow;
use crate::source::record::{CheckpointRecord, TokenizerRecord};
use crate::source::sentence::Module;

/// True if `path` is a checkpoint rather than a package, or a folder of packages that has a `config.json` too.
pub(super) fn is_at(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    let is_package = |entry: std::io::Result<fs_err::DirEntry>| {
        let path = entry.map(|entry| entry.path()).unwrap_or_default();
        path.extension().is_some_and(|kind| kind == "mlpackage" || kind == "mlmodelc")
    };
    !has("Manifest.json")
        && (has("config.json") || has("modules.json"))
        && !fs_err::read_dir(path).is_ok_and(|mut entries| entries.any(is_package))
}

pub(super) fn run(path: &Path, context: &Context) -> Outcome {
    let checkpoint = Checkpoint::open(path)?;
    let record = CheckpointRecord::of(&checkpoint, &Allow::default());
    let text = describe(&record, context.printer.width());
    for warning in &record.warnings {
        context.printer.warn(warning);
    }
    context.printer.answer(&record, &text)?;
    Ok(SUCCESS)
}

fn describe(record: &CheckpointRecord, width: usize) -> String {
    let facts = &record.config.facts;
    let number = |n: Option<usize>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let list = |ids: &[usize]| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
    };
    let mut rows = vec![
        ("family", format!("{} {}", facts.model_type, facts.architectures.join(", "))),
        ("layers", format!("{}, width {}", facts.n_layers, facts.hidden_size)),
        (
            "attention heads",
            format!(
                "{} of width {}, {} for keys and values",
                facts.n_heads, facts.head_dim, facts.n_kv_heads
            ),
        ),
        ("vocabulary", facts.vocab_size.to_string()),
        ("positions", number(facts.max_positions)),
    ];
    if let Some(rope) = &facts.rope {
        let parameters = rope.parameters.iter().map(|(key, value)| format!(", {key} {value}"));
        let parameters: String = parameters.collect();
        rows.push(("rotary positions", format!("{}, base {}{parameters}", rope.kind, rope.theta)));
    }
    let generation = &record.generation;
    rows.push((
        "special tokens",
        format!(
            "begin {}, end {}, padding {}",
            number(generation.bos),
            list(&generation.eos),
            number(generation.pad)
        ),
    ));
    rows.push(match &record.tokenizer {
        Some(tokenizer) => ("tokenizer", tokenizer_line(tokenizer)),
        None => ("tokenizer", "none".to_owned()),
    });
    if let Some(sentence) = &record.sentence {
        let steps: Vec<_> = sentence.modules.iter().map(Module::describe).collect();
        rows.push(("sentence steps", steps.join(", ")));
        let prompts = &sentence.prompts;
        let named = prompts.prompts.iter().filter(|(_, prompt)| !prompt.is_empty());
        let named: Vec<_> = named.map(|(name, prompt)| format!("{name} {prompt:?}")).collect();
        if !named.is_empty() {
            rows.push(("prompts", named.join(", ")));
        }
        if let Some(name) = &prompts.default_prompt_name {
            rows.push(("default prompt", name.clone()));
        }
    }
    let tensors = &record.tensors;
    let dtypes: Vec<_> = tensors.dtypes.iter().map(|(name, n)| format!("{n} {name}")).collect();
    rows.push((
        "weights",
        format!(
            "{} parameters, {} in {} ({})",
            fmt::count(tensors.parameters),
            fmt::bytes(tensors.bytes),
            fmt::several(tensors.files.len() as u64, "file"),
            dtypes.join(", ")
        ),
    ));
    rows.push(("head", if tensors.tied_head { "the embedding" } else { "its own" }.to_owned()));
    let followed =
        record.config.honoured.iter().map(|(key, value)| format!("{key} {}", short(value)));
    rows.push(("keys followed", followed.collect::<Vec<_>>().join(", ")));
    rows.push(("keys without influence", record.config.inert.join(", ")));
    for refusal in &record.refusals {
        rows.push(("refused", refusal.clone()));
    }
    let mut table = tables::plain(&["", ""], &[], width);
    for (name, value) in rows {
        table.add_row(vec![name.to_owned(), value]);
    }
    let text = table.to_string();
    text.lines().skip(1).map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn short(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        text
    } else {
        format!("{}...", text.chars().take(LONGEST).collect::<String>())
    }
}

/// The tokenizer in a line.
fn tokenizer_line(tokenizer: &TokenizerRecord) -> String {
    let mut line = match tokenizer.n_ids {
        Some(n) => format!("{n} ids, {} added tokens", tokenizer.n_added),
        None => tokenizer.files.join(", "),
    };
    if !tokenizer.chat_templates.is_empty() {
        line = format!("{line}, chat template {}", tokenizer.chat_templates.join(", "));
    }
    line
}
