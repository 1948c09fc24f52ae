//! What is read besides packages: reports, manifests, specs, tokens and distributions that a run kept. What each target
//! does with its bytes, and how valid text is made slightly wrong.
//!
//! `tests/it/records.rs` includes this file and runs a fixed sample, so that it builds with the stable toolchain.

use std::path::Path;

use coremill::base::split_mix64::SplitMix64;
use coremill::compress::Recipe;
use coremill::eval::Tokens;
use coremill::eval::reference::Distributions;
use coremill::manifest::Manifest;
use coremill::report;
use coremill::sweep::Spec;

/// A report: drawn in every form, merged with itself and compared with itself.
pub fn report(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs_err::write(file.path(), bytes).expect("room for the file");
    let Ok(one) = report::read(file.path()) else { return };
    let written = report::json(&one);
    fs_err::write(file.path(), &written).expect("room for the file");
    let again = report::read(file.path()).expect("what was written reads");
    assert_eq!(report::json(&again), written, "written twice");
    let page = report::html(&one, std::slice::from_ref(&again));
    assert!(!page.contains("<script") && !page.contains("<img"), "text became markup");
    assert_eq!(page.matches("</style>").count(), 1, "text became style");
    let junit = report::junit(&one);
    assert!(!junit.contains("<script") && !junit.contains('\0'), "text became markup");
    for line in report::github(&one).lines() {
        let command = ["::error ", "::warning ", "::notice "].iter().any(|c| line.starts_with(c));
        assert!(command, "text became a line of its own: {line}");
    }
    assert!(!report::markdown(&one).contains("<script"), "text became markup");
    assert!(report::csv(&one).ends_with("\r\n"));
    for width in [0, 20, 80, 200] {
        drop(report::table(&one, width, false));
    }
    drop(report::compare(&one, &again).text());
    let named = vec![("a".to_owned(), one), ("b".to_owned(), again)];
    drop(report::merge(&named, Vec::new()));
}

/// A manifest: written as it was read.
pub fn manifest(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs_err::write(file.path(), bytes).expect("room for the file");
    let Ok(one) = Manifest::read(file.path()) else { return };
    let written = one.to_bytes();
    fs_err::write(file.path(), &written).expect("room for the file");
    let again = Manifest::read(file.path()).expect("what was written reads");
    assert_eq!(again.to_bytes(), written, "written twice");
    drop(coremill::manifest::package_path(file.path(), &one));
}

/// A spec of a sweep: its plan, its windows; what is wrong is said in words.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let recipe = |text: &str| match text.parse::<Recipe>() {
        Ok(_) => Ok(4),
        Err(error) => Err(error.to_string()),
    };
    match Spec::parse(text, Path::new("sweep.toml"), &recipe) {
        Ok(spec) => {
            drop(spec.plan());
            for length in [0, 1, 256, u64::MAX] {
                spec.evaluate.window(length);
                spec.evaluate.stride(length);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The tokens of an artifact: written as they were read.
pub fn tokens(bytes: &[u8]) {
    let Ok(one) = Tokens::from_bytes(bytes) else { return };
    let written = one.to_bytes();
    let again = Tokens::from_bytes(&written).expect("what was written reads");
    assert_eq!(again.to_bytes(), written, "written twice");
    drop(coremill::eval::paired(("a", &one), ("b", &again)));
}

/// The distributions of a reference: written as they were read, each place asked for.
pub fn distributions(bytes: &[u8]) {
    let Ok(one) = Distributions::from_bytes(bytes) else { return };
    let written = one.to_bytes();
    let again = Distributions::from_bytes(&written).expect("what was written reads");
    assert_eq!(again.to_bytes(), written, "written twice");
    drop(one.check(16));
    for at in 0..one.tail.len() {
        let expected = one.at(at / one.window, at % one.window);
        assert_eq!(expected.ids.len(), one.top_k);
    }
}

/// Values that stand in for others: of JSON and of TOML.
const VALUES: &[&str] = &[
    "0",
    "-1",
    "1",
    "-0.0",
    "1e308",
    "-1e308",
    "5e-324",
    "0.5",
    "18446744073709551615",
    "null",
    "true",
    "9223372036854775807",
    "1e-7",
    "100000000000",
    "\"\"",
    "[]",
    "{}",
    "\"fp16\"",
    "\"nan\"",
    "\"<script>alert(1)</script>\"",
    "\"</style><img src=x onerror=y>\"",
    "\"a,b;\\\"c\\\"\\r\\n::error::x\"",
    "\"\\u0000\\u0007\\u202e]]>\"",
    "\"| a | `b` | *c* |\"",
    "\"2026-01-01T00:00:00Z\"",
    "\"=cmd()\"",
];

/// Text of values with one or a few changed: another value in the place of one, a list emptied or made longer, a line
/// left out or doubled.
pub fn edit(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut chance = SplitMix64::new(seed);
    let mut below = move |n: usize| ((chance.unit() * n as f64) as usize).min(n.saturating_sub(1));
    let mut bytes = bytes.to_vec();
    for _ in 0..=below(4) {
        let places = values(&bytes);
        if places.is_empty() {
            break;
        }
        let (from, to) = places[below(places.len())];
        let new = match below(12) {
            0 => Vec::new(),
            // A name or a text without end.
            1 => [b"\"", "ä<&".repeat(1 + below(700)).as_bytes(), b"\""].concat(),
            // Another value of the same text.
            2 => {
                let (from, to) = places[below(places.len())];
                bytes[from..to].to_vec()
            }
            _ => VALUES[below(VALUES.len())].as_bytes().to_vec(),
        };
        bytes.splice(from..to, new);
        if below(3) == 0 {
            let lists: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i] == b'[').collect();
            if let Some(&open) = lists.get(below(lists.len()))
                && let Some(close) = closing(&bytes, open)
            {
                let inside = bytes[open + 1..close].to_vec();
                let twice = [&inside[..], b",", &inside[..]].concat();
                bytes.splice(open + 1..close, if below(2) == 0 { Vec::new() } else { twice });
            }
        }
    }
    bytes
}

/// Numbers, texts and words in the place of a value: from, to.
fn values(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if bytes[at] == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += 1 + usize::from(bytes[at] == b'\\');
            }
            at = (at + 1).min(bytes.len());
            // Names of JSON stay names.
            if bytes.get(at) != Some(&b':') {
                found.push((start, at));
            }
        } else if bytes[at].is_ascii_digit() || bytes[at] == b'-' {
            while at < bytes.len()
                && (bytes[at].is_ascii_alphanumeric() || b".+-".contains(&bytes[at]))
            {
                at += 1;
            }
            found.push((start, at));
        } else {
            at += 1;
        }
    }
    found
}

/// Where the list that is opened at `open` ends.
fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut text = false;
    for (i, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'"' if bytes[i - 1] != b'\\' => text = !text,
            b'[' if !text => depth += 1,
            b']' if !text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}
