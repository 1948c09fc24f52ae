//! Specs that are none: whatever stands in the file, reading it ends with a spec or with a mistake.

use std::path::Path;

use proptest::prelude::*;

use super::spec::bits;
use crate::sweep::Spec;

/// Every table and every key.
const ALL: &str = "\
[model]
path = \"m\"
lora = [\"../x\", { repository = \"c/d\", revision = \"1\" }]
llm2vec = [\"y\"]
seq_len = 64
prompt_chunk = 16
kv_cache = \"io\"
target = \"iOS17\"
encode_adapters = \"merge\"

[variants]
recipes = [\"int8-c\", { name = \"mix\", recipe = \"a=pal4-g16,b=int8-c\" }]
mixes = [{ mlp = [\"pal4-g16\"], attention = [\"pal8-g16\", \"pal6-g16\"], rest = [\"int8-c\"] }]

[[variants.grid]]
method = \"palettize\"
bits = [8, 4]
group_sizes = [8, \"tensor\"]

[evaluate]
text = \"t.txt\"
calibration = \"tinystories\"
window = 32
stride = 16
windows = 3
top_k = 100
noise_floor = false
prompts = [\"a\"]
max_new_tokens = 5
sentences = [\"a\", { text = \"b\", instruction = \"i\", pair = 1 }]
instruction = \"i\"
latency = 5

[gates]
cosine = 0.99
divergence = 0.1

[budget]
max_size = \"2 GB\"
max_bits_per_weight = 4.5
probes = false

[run]
workers = 2
memory = \"8 GB\"
cores = 2

[output]
dir = \"out\"
keep = \"best\"
cache = \"c\"
";

/// Replacement for a part of a specification.
const PIECES: [&str; 24] = [
    "",
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e400",
    "nan",
    "inf",
    "true",
    "\"\"",
    "\"..\"",
    "\"\u{0}\"",
    "[]",
    "{}",
    "[[",
    "]",
    "=",
    "\n",
    "\"é\"",
    "\"99999999999999 EB\"",
    "[\"\"]",
    "{ path = \"\" }",
    "1979-05-27",
];

fn parse(text: &str) {
    // The outcome is either; that there is one is what counts.
    if let Err(error) = Spec::parse(text, Path::new("a/b.toml"), &bits) {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn what_is_changed_was_a_spec() {
    Spec::parse(ALL, Path::new("a/b.toml"), &bits).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        parse(&text);
    }

    #[test]
    fn a_changed_spec_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(&PIECES[..])), 1..4),
    ) {
        let mut text: Vec<char> = ALL.chars().collect();
        for (at, length, piece) in changes {
            let from = at.index(text.len() + 1);
            let to = text.len().min(from + length);
            text.splice(from..to, piece.chars());
        }
        parse(&text.into_iter().collect::<String>());
    }

    #[test]
    fn values_of_any_kind_are_read_or_refused(
        line in any::<prop::sample::Index>(),
        piece in prop::sample::select(&PIECES[..]),
    ) {
        let lines: Vec<&str> = ALL.lines().collect();
        let changed = line.index(lines.len());
        let with = |(i, line): (usize, &&str)| match line.split_once(" = ") {
            Some((key, _)) if i == changed => format!("{key} = {piece}"),
            _ => (*line).to_owned(),
        };
        parse(&lines.iter().enumerate().map(with).collect::<Vec<_>>().join("\n"));
    }
}
