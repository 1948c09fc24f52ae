//! Reports, manifests, specs and kept tokens with something wrong in them: thousands of each, the same in every run.
//! `COREMILL_CASES` makes more of them.

use std::panic::catch_unwind;
use std::path::Path;

use coremill::eval::reference::Distributions;
use coremill::eval::{Token, Tokens};

#[path = "../../fuzz/src/records.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod records;

fn read(path: &str) -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What a snapshot pins.
fn pinned(path: &str) -> Vec<u8> {
    let text = read(path);
    text.split_once("\n---\n").unwrap().1.as_bytes().to_vec()
}

/// Gives `target` the seed and `n` texts made of it, each a change of the one before that was good.
fn sample(name: &str, target: fn(&[u8]), seed: &[u8], n: u64) {
    let more = std::env::var("COREMILL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    target(seed);
    let mut failed = Vec::new();
    for case in 0..n * more {
        let mut bytes = seed.to_vec();
        for step in 0..=case % 3 {
            bytes = records::edit(&bytes, case * 7 + step);
        }
        if catch_unwind(|| target(&bytes)).is_err() {
            let kept = std::env::temp_dir().join(format!("coremill-{name}-{case}"));
            fs_err::write(&kept, &bytes).unwrap();
            failed.push(kept);
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {}: {:#?}",
        failed.len(),
        n * more,
        &failed[..failed.len().min(5)]
    );
}

#[test]
fn reports() {
    let folder = "src/report/snapshots/coremill__report__";
    let report = pinned(&format!("{folder}tests__json_is_read_back_and_written_the_same.snap"));
    sample("report", records::report, &report, 200);
}

#[test]
fn manifests() {
    let folder = "src/manifest/snapshots/coremill__manifest__";
    let manifest = pinned(&format!("{folder}tests__two_runs_write_the_same_bytes.snap"));
    sample("manifest", records::manifest, &manifest, 300);
}

#[test]
fn specs() {
    for spec in ["sweeps/golden.toml", "sweeps/quickstart.toml"] {
        sample("spec", records::spec, read(spec).as_bytes(), 500);
    }
}

/// Bytes of a safetensors file: mostly its header changed, with its length put right, sometimes the numbers.
fn safetensors(target: fn(&[u8]), file: &[u8], n: u64) {
    target(file);
    let length = usize::try_from(u64::from_le_bytes(*file.first_chunk().unwrap())).unwrap();
    let (header, data) = file[8..].split_at(length);
    for case in 0..n {
        let mut new = if case % 4 == 0 { header.to_vec() } else { records::edit(header, case) };
        let mut data = data.to_vec();
        for (i, byte) in data.iter_mut().enumerate().filter(|_| case % 2 == 0) {
            *byte = [*byte, 0xFF, 0x7F, 0, 0x80]
                [(i as u64 * 31 + case).wrapping_mul(case) as usize % 5];
        }
        if case % 7 == 0 {
            data.truncate(case as usize % 64);
        }
        new.resize(new.len().next_multiple_of(8), b' ');
        let bytes = [&(new.len() as u64).to_le_bytes()[..], &new, &data].concat();
        assert!(catch_unwind(|| target(&bytes)).is_ok(), "case {case}: {bytes:?}");
    }
}

#[test]
fn tokens_and_distributions() {
    let token = |i: u32| Token {
        window: i / 3,
        position: 1 + i % 3,
        nll: 1.5,
        reference_nll: 1.25,
        divergence: 0.25,
        hidden: 0.125,
        same_sampled: 0.5,
        confidence: 0.75,
        same_top: true,
    };
    let tokens = Tokens { rows: (0..6).map(token).collect(), non_finite: 1 };
    safetensors(records::tokens, &tokens.to_bytes(), 2_000);
    let one = Distributions {
        window: 3,
        top_k: 2,
        next: vec![-0.5; 4],
        ids: (0..12).collect(),
        log_probs: vec![-1.5; 12],
        tail: vec![-2.0; 6],
    };
    safetensors(records::distributions, &one.to_bytes(), 2_000);
    // Windows of nothing: neither a length nor a number of windows could be told from them.
    let none = Distributions { window: 0, ..one };
    let header = |t: usize| {
        format!(
            "{{\"topk_ids\":{{\"dtype\":\"I32\",\"shape\":[1,{t},2],\"data_offsets\":[0,0]}},\"topk_logprobs\":{{\"dtype\":\"F32\",\"shape\":[1,{t},2],\"data_offsets\":[0,0]}},\"logprob_next\":{{\"dtype\":\"F32\",\"shape\":[1,0],\"data_offsets\":[0,0]}},\"tail_logmass\":{{\"dtype\":\"F32\",\"shape\":[1,{t}],\"data_offsets\":[0,0]}}}}"
        )
    };
    let mut text = header(none.window).into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let bytes = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
    records::distributions(&bytes);
    let error = Distributions::from_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("`topk_ids` has shape [1, 0, 2]"), "{error}");
}
