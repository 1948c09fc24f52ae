//! The table of `docs/checkpoints.md`: every key of `config.json`, family by family.

use std::fmt::Write as _;
use std::path::Path;

use super::keys::{FAMILIES, Key, Rule};
use crate::base::testing::assert_fresh;

const BEGIN: &str = "<!-- Generated from src/source/config/keys.rs by `UPDATE=1 cargo test checkpoints_md`; do not edit. -->\n";
const END: &str = "<!-- End of the generated part. -->\n";

fn fate(key: &Key) -> String {
    match key.rule {
        Rule::Honoured => "applied".to_owned(),
        Rule::Inert => "ignored".to_owned(),
        Rule::Equals([]) => "rejected".to_owned(),
        Rule::Equals(values) => {
            let values: Vec<_> = values.iter().map(|v| format!("`{v}`")).collect();
            format!("rejected unless {}", values.join(" or "))
        }
        Rule::OneKind => "rejected unless the same in every layer".to_owned(),
        Rule::Kinds => "applied; full and sliding attention".to_owned(),
    }
}

fn table() -> String {
    let mut rows: std::collections::BTreeMap<(&str, String, &str), Vec<&str>> =
        std::collections::BTreeMap::new();
    for family in FAMILIES {
        let mut seen = std::collections::BTreeSet::new();
        for key in family.rows().filter(|key| seen.insert(key.name)) {
            rows.entry((key.name, fate(key), key.about)).or_default().push(family.name);
        }
    }
    let mut out = String::from("| key | families | handling | description |\n|---|---|---|---|\n");
    for ((name, fate, about), families) in rows {
        let families =
            if families.len() == FAMILIES.len() { "all".to_owned() } else { families.join(", ") };
        writeln!(out, "| `{name}` | {families} | {fate} | {about} |").unwrap();
    }
    out
}

#[test]
fn checkpoints_md_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checkpoints.md");
    let page = fs_err::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let want = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
    assert_fresh("docs/checkpoints.md", &want, "checkpoints_md");
}

#[test]
fn a_key_has_one_row_in_a_family() {
    for family in FAMILIES {
        let mut seen = std::collections::BTreeMap::new();
        for key in family.rows() {
            let before = seen.insert(key.name, key);
            // BERT says more about `is_decoder` than what holds for all.
            assert!(before.is_none() || family.name == "bert", "{} {}", family.name, key.name);
        }
    }
}
