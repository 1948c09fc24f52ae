//! Generates `docs/cli.md`, the reference of the command line, from the definitions of `clap`.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;
use crate::base::testing::assert_fresh;

const HEAD: &str = "\
<!-- Generated from src/cli/args by `UPDATE=1 cargo test cli_md`; do not edit. -->

# Command line

Reference of all commands and options. `coremill COMMAND --help` prints the same text. Some defaults come from the
environment or from [`config.toml`](backends.md#configtoml).

Exit codes:

| Code | Meaning |
|---|---|
| 0 | success |
| 1 | a gate failed |
| 2 | invalid usage or input |
| 3 | evaluation invalid or inconclusive |
| 4 | tool or environment error |
| 130 | interrupted |
";

/// Escapes a text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Splits a help text into the description and the `[default: …]` or `[env: …]` notes at its end.
fn split_notes(help: &str) -> (String, Option<String>) {
    let mut description = help.trim().trim_end_matches('.').to_owned();
    let mut default = None;
    while let Some((before, note)) = description.rsplit_once(" [") {
        let Some(note) = note.strip_suffix(']') else { break };
        match note.split_once(": ") {
            Some(("default", value)) => default = Some(value.to_owned()),
            Some(("env", name)) => default = Some(format!("`${name}`")),
            _ => break,
        }
        description = before.to_owned();
    }
    (description, default)
}

fn name(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    if arg.is_positional() {
        return format!("`{values}`");
    }
    let takes_value = arg.get_action().takes_values();
    let value = if takes_value { format!(" {values}") } else { String::new() };
    let long = arg.get_long().map(|long| format!("`--{long}{value}`"));
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn row(arg: &Arg) -> String {
    let (mut description, noted) = split_notes(&arg.get_help().unwrap_or_default().to_string());
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        description = format!("{}: {}", description.trim_end_matches(':'), values.join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
    let default = match (noted, &defaults[..]) {
        (Some(note), _) => note,
        (None, []) if arg.is_required_set() => "required".to_owned(),
        (None, []) => String::new(),
        (None, _) if !arg.get_action().takes_values() => String::new(),
        (None, values) => format!("`{}`", values.join(" ")),
    };
    format!("| {} | {} | {} |\n", cell(&name(arg)), cell(&description), cell(&default))
}

fn table<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let rows: String = args
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
        .map(row)
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n| Option | Description | Default |\n|---|---|---|\n{rows}")
}

fn section(command: &Command, path: &str, level: usize, out: &mut String) {
    let path = format!("{path} {}", command.get_name());
    let about = command.get_about().unwrap_or_default().to_string();
    write!(out, "\n{} `{path}`\n\n{about}.\n", "#".repeat(level)).unwrap();
    let mut command = command.clone().bin_name(path.clone());
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    if !command.has_subcommands() {
        write!(out, "\n```text\n{usage}\n```\n").unwrap();
        out.push_str(&table(command.get_arguments().filter(|arg| !arg.is_global_set())));
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(inner, &path, level + 1, out);
    }
}

#[test]
fn cli_md_is_fresh() {
    let command = Cli::command();
    let mut page = HEAD.to_owned();
    page.push_str("\n## Global options\n");
    page.push_str(&table(command.get_arguments()));
    for inner in command.get_subcommands() {
        section(inner, "coremill", 2, &mut page);
    }
    assert_fresh("docs/cli.md", &page, "cli_md");
}

#[test]
fn every_option_has_a_description() {
    fn check(command: &Command, missing: &mut Vec<String>) {
        for arg in command.get_arguments() {
            if arg.get_help().is_none_or(|help| help.to_string().is_empty()) {
                missing.push(format!("{} {}", command.get_name(), arg.get_id()));
            }
        }
        command.get_subcommands().for_each(|inner| check(inner, missing));
    }
    let mut missing = Vec::new();
    check(&Cli::command(), &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}
