//! The spec that was asked for: a file, or flags, with single keys set otherwise.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::base::error::Hint as _;
use crate::cli::args::SweepArgs;
use crate::compress::Recipe;
use crate::convert::DEFAULT_PROMPT_CHUNK;
use crate::pipeline::Failure;
use crate::pipeline::convert::fewest_bits;
use crate::pipeline::sweep::LoadedSpec;
use crate::sweep::{Spec, parse_bytes};

/// What flags are called in messages, where no file is.
const FLAGS: &str = "command line";

/// Reads what `args` ask for.
pub(super) fn load(args: &SweepArgs) -> Result<LoadedSpec, Failure> {
    let (mut text, path) = match &args.spec {
        Some(path) => (fs_err::read_to_string(path)?, place(args, path)),
        None => (of_flags(args)?.to_string(), PathBuf::from(FLAGS)),
    };
    let changes = changes(args)?;
    if !changes.is_empty() {
        // What is no TOML is told with the line of the file.
        let mut table: Table = match text.parse() {
            Ok(table) => table,
            Err(_) => return parse(text, &path, args),
        };
        for (key, value) in changes {
            set(&mut table, &key, value)?;
        }
        text = table.to_string();
    }
    parse(text, &path, args)
}

/// Where the spec at `path` counts as standing.
fn place(args: &SweepArgs, path: &Path) -> PathBuf {
    match (&args.spec_folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

fn parse(text: String, path: &Path, args: &SweepArgs) -> Result<LoadedSpec, Failure> {
    let recipe = |recipe: &str| {
        recipe.parse::<Recipe>().map(|r| fewest_bits(&r)).map_err(|e| match e.hint() {
            Some(hint) => format!("{e}; {hint}"),
            None => e.to_string(),
        })
    };
    let mut spec = Spec::parse(&text, path, &recipe)?;
    spec.output.fresh = args.fresh;
    if let Some(shard) = args.shard {
        if spec.budget.is_some() {
            return Err(Failure::input("a budget is not searched in shards")
                .hint("sweep in shards without `[budget]`, or under a budget on one machine"));
        }
        spec.keep_shard(shard);
    }
    if !args.only.is_empty() {
        spec.keep_only(&args.only).map_err(|(name, meant)| {
            let failure = Failure::input(format!("no variant is called `{name}`"));
            match meant {
                Some(meant) => failure.hint(format!("did you mean `{meant}`")),
                None => failure.hint("`--dry-run` lists the variants"),
            }
        })?;
        spec.budget = None;
    }
    Ok(LoadedSpec { spec, text, path: path.to_owned() })
}

/// The spec that the flags are short for.
fn of_flags(args: &SweepArgs) -> Result<Table, Failure> {
    let source = args.source.as_ref().ok_or_else(|| {
        Failure::input("no specification and no model given")
            .hint("pass a specification, or `--model`, `--seq-len` and `--output`")
    })?;
    let output = args
        .output
        .as_ref()
        .ok_or_else(|| Failure::input("no output directory given").hint("pass `--output DIR`"))?;
    let mut root = Table::new();
    let mut put = |table: &str, key: &str, value: Value| {
        let table = root.entry(table).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(table) = table {
            table.insert(key.to_owned(), value);
        }
    };
    let text = |path: &Path| Value::String(path.to_string_lossy().into_owned());
    let number = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let list = |names: &[String]| Value::Array(names.iter().cloned().map(Value::String).collect());
    let model = &source.model;
    let is_package = Path::new(model).extension().is_some_and(|e| e == "mlpackage");
    let key = match model {
        _ if is_package => "package",
        model if Path::new(model).is_dir() => "path",
        _ => "repository",
    };
    put("model", key, Value::String(model.clone()));
    if let Some(revision) = &source.revision {
        put("model", "revision", Value::String(revision.clone()));
    }
    for (key, names) in [("lora", &source.lora_checkpoint), ("llm2vec", &source.llm2vec_checkpoint)]
    {
        if !names.is_empty() {
            let place = |name: &String| {
                if Path::new(name).is_dir() {
                    return Value::String(name.clone());
                }
                let repository = ("repository".to_owned(), Value::String(name.clone()));
                Value::Table([repository].into_iter().collect())
            };
            put("model", key, Value::Array(names.iter().map(place).collect()));
        }
    }
    if !source.allow_config_key.is_empty() {
        put("model", "allow_config_keys", list(&source.allow_config_key));
    }
    if !source.allow_unused_tensor.is_empty() {
        let patterns: Vec<String> =
            source.allow_unused_tensor.iter().map(ToString::to_string).collect();
        put("model", "allow_unused_tensors", list(&patterns));
    }
    if let Some(interface) = &args.interface {
        put("model", "seq_len", number(interface.seq_len));
        // Defaults are left out: the build key of the sweep does not depend on how they are given.
        if interface.prompt_chunk != DEFAULT_PROMPT_CHUNK {
            put("model", "prompt_chunk", number(interface.prompt_chunk));
        }
        put("model", "kv_cache", Value::String(interface.kv_cache.to_string()));
        put("model", "encode_adapters", Value::String(interface.encode_adapters.to_string()));
        put("model", "target", Value::String(interface.minimum_deployment_target.to_string()));
    }
    put("output", "dir", text(output));
    let palettes = !args.sweep_wbits.is_empty() || !args.sweep_group_sizes.is_empty();
    if palettes {
        let mut grid = Table::new();
        grid.insert("method".to_owned(), Value::String("palettize".to_owned()));
        let lists = [("bits", &args.sweep_wbits), ("group_sizes", &args.sweep_group_sizes)];
        for (key, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let list = list.iter().map(|&n| Value::Integer(i64::from(n))).collect();
            grid.insert((*key).to_owned(), Value::Array(list));
        }
        put("variants", "grid", Value::Array(vec![Value::Table(grid)]));
    }
    if !args.sweep_recipe.is_empty() {
        let recipes = args.sweep_recipe.iter().map(|r| Value::String(r.clone())).collect();
        put("variants", "recipes", Value::Array(recipes));
    }
    let budget = args.max_size.is_some() || args.max_bits_per_weight.is_some();
    if !palettes && args.sweep_recipe.is_empty() && !budget {
        put("variants", "grid", Value::String("default".to_owned()));
    }
    let files = [("text", &args.text), ("prompts", &args.prompts), ("sentences", &args.sentences)];
    for (key, path) in files {
        if let Some(path) = path {
            put("evaluate", key, text(path));
        }
    }
    for (key, n) in [("windows", args.windows), ("latency", args.latency)] {
        if let Some(n) = n {
            put("evaluate", key, number(n));
        }
    }
    Ok(root)
}

/// The keys that are set otherwise: those that have a flag, and those of `--set`.
fn changes(args: &SweepArgs) -> Result<Vec<(String, Value)>, Failure> {
    let mut changes = Vec::new();
    let mut put = |key: &str, value: Value| changes.push((key.to_owned(), value));
    if let Some(size) = &args.max_size {
        let bytes = parse_bytes(size).map_err(Failure::input)?;
        put("budget.max_size", Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }
    if let Some(bits) = args.max_bits_per_weight {
        put("budget.max_bits_per_weight", Value::Float(bits));
    }
    if let Some(keep) = &args.keep {
        put("output.keep", Value::String(keep.clone()));
    }
    for (key, text) in [
        ("run.memory", &args.memory),
        ("run.engine", &args.engine),
        ("run.address", &args.address),
        ("run.storage", &args.storage),
    ] {
        if let Some(text) = text {
            put(key, Value::String(text.clone()));
        }
    }
    for (key, n) in [("run.workers", args.workers), ("run.cores", args.cores)] {
        if let Some(n) = n {
            put(key, Value::Integer(i64::try_from(n).unwrap_or(i64::MAX)));
        }
    }
    for change in &args.set {
        let (key, value) = change.split_once('=').ok_or_else(|| {
            Failure::input(format!("`--set {change}` is not of the form `KEY=VALUE`"))
                .hint("for example `--set evaluate.windows=4`")
        })?;
        // What is no value of TOML is meant as a text.
        let read = format!("value = {}", value.trim()).parse::<Table>();
        let value = match read.ok().and_then(|mut table| table.remove("value")) {
            Some(value) => value,
            None => Value::String(value.trim().to_owned()),
        };
        changes.push((key.trim().to_owned(), value));
    }
    Ok(changes)
}

/// Sets the key `a.b.c` of `table`.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), Failure> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        let inner = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else {
            return Err(Failure::input(format!("`{key}` cannot be set: `{part}` is no table")));
        };
        at = inner;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}
