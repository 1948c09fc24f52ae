//! Sweeps of a package as a user runs them: killed anywhere, in parts, from flags.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::bigram::Bigram;
use crate::evaluate::tokenizer_of;
use crate::support::{Sandbox, linears};

const SPEC: &str = "\
[model]
package = \"m.mlpackage\"

[variants]
recipes = [\"pal6-g8\", \"pal4-g16\", \"int8-c\", { name = \"mix\", recipe = \"pal4-g16,/b/=int8-c\" }]

[gates]
size = \"110 kB\"

[output]
dir = \"out\"
";

/// A folder with a package of three weights and a spec that sweeps it.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::bare();
    let shape = [256, 256];
    linears(&sandbox.path().join("m.mlpackage"), &[("a", shape), ("b", shape)]);
    sandbox.write("sweep.toml", SPEC);
    sandbox
}

/// A report without what differs between two runs that make the same: moment, command line, times, memory.
fn comparable(sandbox: &Sandbox, report: &str) -> Value {
    let bytes = fs_err::read(sandbox.path().join(report)).unwrap();
    let mut report: Value = serde_json::from_slice(&bytes).unwrap();
    let fields = report.as_object_mut().unwrap();
    fields.remove("created");
    fields.remove("command");
    for variant in fields["variants"].as_array_mut().unwrap() {
        variant.as_object_mut().unwrap().remove("timings");
        variant["measurements"].as_object_mut().unwrap().remove("peak_memory");
    }
    report
}

/// Every file of the output folder that is no record, with its bytes.
fn packages(sandbox: &Sandbox) -> Vec<(String, Vec<u8>)> {
    let out = sandbox.path().join("out");
    let mut files = coremill::base::fs::files_below(&out).unwrap();
    files.retain(|name| {
        !name.split('/').any(|part| part.starts_with(".coremill-partial-"))
            && !name.starts_with("results/")
            && name != "report.json"
    });
    files.into_iter().map(|name| (name.clone(), fs_err::read(out.join(name)).unwrap())).collect()
}

/// Runs the sweep and kills it once it has told so many lines; whether it was alive until then.
fn killed_after(sandbox: &Sandbox, lines: usize) -> bool {
    let args = ["sweep", "sweep.toml", "--progress", "json"];
    let mut child =
        sandbox.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(child.stderr.take().unwrap()).lines().take(lines).count();
    // SIGKILL: nothing is removed, nothing is ended.
    child.kill().unwrap();
    child.wait().unwrap();
    told == lines
}

/// Kills the sweep of a folder after every line that it tells, once more on its way, and has it end: with the report and
/// the bytes of one that nobody disturbed. Gives that report and the number of kills.
fn kill_everywhere(sandbox: fn() -> Sandbox, code: i32) -> (Value, u32) {
    let clean = sandbox();
    clean.run(&["sweep", "sweep.toml", "-q"]).ends(code);
    let want = comparable(&clean, "out/report.json");
    let want_packages = packages(&clean);
    let n_variants = want["variants"].as_array().unwrap().len();
    assert!(want_packages.len() >= n_variants * 4, "{}", want_packages.len());
    let mut kills = 0;
    for lines in 1.. {
        let sandbox = sandbox();
        if !killed_after(&sandbox, lines) {
            break;
        }
        killed_after(&sandbox, lines / 2 + 1);
        sandbox.run(&["sweep", "sweep.toml", "-q"]).ends(code);
        assert_eq!(comparable(&sandbox, "out/report.json"), want, "killed after line {lines}");
        let found = packages(&sandbox);
        let other = found.iter().filter(|file| !want_packages.contains(file)).map(|file| &file.0);
        let other: Vec<_> = other.collect();
        assert!(found == want_packages, "killed after line {lines}: {other:?}");
        kills += 1;
    }
    (want, kills)
}

#[test]
fn a_sweep_killed_anywhere_goes_on_and_ends_with_the_same_report() {
    let (want, kills) = kill_everywhere(sandbox, 1);
    assert!(kills > 12, "{kills}");
    let statuses: Vec<_> =
        want["variants"].as_array().unwrap().iter().map(|v| &v["status"]).collect();
    assert_eq!(statuses, ["fail", "pass", "pass", "fail", "pass"], "{want:#}");
}

#[test]
fn shards_make_together_what_one_sweep_makes() {
    let sandbox = sandbox();
    sandbox.run(&["sweep", "sweep.toml", "-q"]).ends(1);
    let whole = comparable(&sandbox, "out/report.json");
    fs_err::remove_dir_all(sandbox.path().join("out")).unwrap();
    let mut variants = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let args = ["sweep", "sweep.toml", "--shard", shard, "--fresh", "-q"];
        sandbox.run(&args).ends(1);
        let report = format!("out/report-{}.json", shard.replace('/', "-of-"));
        let part = comparable(&sandbox, &report);
        let part = part["variants"].as_array().unwrap().clone();
        assert_eq!(part[0]["name"], "fp16", "the baseline is in each");
        variants.extend(part.into_iter().skip(usize::from(!variants.is_empty())));
    }
    let by_name = |variants: &[Value]| {
        let mut variants = variants.to_vec();
        variants.sort_by_key(|v| v["name"].to_string());
        variants
    };
    assert_eq!(by_name(&variants), by_name(whole["variants"].as_array().unwrap()));

    let refused = sandbox.run(&["sweep", "sweep.toml", "--shard", "4/3"]).ends(2);
    assert!(refused.stderr.contains("shard `4/3`"), "{}", refused.stderr);
    let refused = sandbox.run(&["sweep", "sweep.toml", "--shard", "1/2", "--max-size", "1MB"]);
    assert!(refused.ends(2).stderr.contains("a budget is not searched in shards"));
}

#[test]
fn one_variant_alone_is_found_by_the_whole_sweep() {
    let sandbox = sandbox();
    let refused = sandbox.run(&["sweep", "sweep.toml", "--only", "int8"]).ends(2);
    assert!(refused.stderr.contains("did you mean `int8-c`"), "{}", refused.stderr);
    let keep = "output.keep=all";
    sandbox.run(&["sweep", "sweep.toml", "--only", "int8-c", "--set", keep, "-q"]).ends(1);
    let entries = sandbox.entries("out");
    assert!(entries.contains(&"int8-c.mlpackage".to_owned()), "{entries:?}");
    assert!(
        !entries.iter().any(|name| name.contains("pal") || name == "report.json"),
        "{entries:?}"
    );
    let told = sandbox.run(&["sweep", "sweep.toml", "--progress", "json"]).ends(1).stderr;
    assert!(!told.contains("\"text\":\"int8-c: "), "it was found, not made: {told}");
    assert!(told.contains("\"text\":\"mix: "), "{told}");
    assert!(told.contains("{\"event\":\"whole\",\"whole\":{\"done\":10,"), "{told}");
}

#[test]
fn sweeps_with_one_cache_compress_once() {
    let sandbox = sandbox();
    let root = sandbox.path();
    let sweep = |dir: &str, more: &[&str]| {
        let dir = format!("output.dir={dir}");
        let common = ["sweep", "sweep.toml", "--set", &dir, "--set", "output.cache=shared"];
        let args =
            [&common[..], &["--set", "output.link_baseline=true", "--progress", "json"], more];
        sandbox.run(&args.concat()).ends(1).stderr
    };
    let weights = |of: &str| root.join(of).join("Data/com.apple.CoreML/weights/weight.bin");
    let bytes = |of: &str| fs_err::read(weights(of)).unwrap();
    let compressing = "\"stage\":\"compress";
    assert!(sweep("a", &[]).contains(compressing));
    let told = sweep("b", &[]);
    assert!(!told.contains(compressing), "{told}");
    assert!(told.contains("mix: 98.8 KiB, from the cache"), "{told}");
    for name in ["fp16", "int8-c", "mix", "pal4-g16", "pal6-g8"] {
        let [a, b] = ["a", "b"].map(|dir| format!("{dir}/{name}.mlpackage"));
        assert_eq!(bytes(&a), bytes(&b), "{name}");
        #[cfg(unix)]
        assert_eq!(inode(&weights(&a)), inode(&weights(&b)), "{name}");
    }
    #[cfg(unix)]
    assert_eq!(inode(&weights("m.mlpackage")), inode(&weights("a/fp16.mlpackage")));
    // The specs differ in the folder.
    let comparable =
        |dir: &str| comparable(&sandbox, &format!("{dir}/report.json"))["variants"].clone();
    assert_eq!(comparable("a"), comparable("b"));

    // Somebody writes into a file: all its names change, and what is not whole is made and not taken.
    let good = bytes("a/pal4-g16.mlpackage");
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs_err::write(weights("b/pal4-g16.mlpackage"), damaged).unwrap();
    assert_ne!(bytes("a/pal4-g16.mlpackage"), good);
    let told = sweep("c", &[]);
    assert!(
        told.contains(compressing) && !told.contains("pal4-g16: 66.8 KiB, from the cache"),
        "{told}"
    );
    assert_eq!(bytes("c/pal4-g16.mlpackage"), good);
    assert!(!sweep("d", &[]).contains(compressing));
    assert_eq!(bytes("d/pal4-g16.mlpackage"), good);
    assert!(sweep("e", &["--fresh"]).contains(compressing));
    assert_eq!(comparable("a"), comparable("e"));
}

#[cfg(unix)]
fn inode(path: &std::path::Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs_err::metadata(path).unwrap())
}

#[test]
fn a_sweep_needs_no_file() {
    let sandbox = sandbox();
    let line = "sweep --model m.mlpackage --output out --sweep-wbits 8,4 --sweep-group-sizes 16 \
                --sweep-recipe int8-c --sweep-report r/report.json -q --set output.keep=none";
    let args: Vec<&str> = line.split_whitespace().collect();
    sandbox.run(&args).ends(0);
    let report = comparable(&sandbox, "r/report.json");
    let names: Vec<_> = report["variants"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(names, ["fp16", "int8-c", "pal8-g16", "pal4-g16"]);
    assert_eq!(sandbox.entries("out"), ["results"]);

    let planned = sandbox.run(&[
        "sweep",
        "--model",
        "m.mlpackage",
        "-o",
        "out",
        "--dry-run",
        "--format",
        "json",
    ]);
    let planned = planned.ends(0).json();
    assert_eq!(planned["variants"].as_array().unwrap().len(), 16, "the default grid");
    // What is expected of a variant is what it has, to what the program itself takes.
    for variant in report["variants"].as_array().unwrap() {
        let all = planned["variants"].as_array().unwrap();
        let expected = all.iter().find(|v| v["name"] == variant["name"]).unwrap()["bytes"].as_u64();
        let found = variant["size_bytes"].as_u64().unwrap();
        let (expected, found) = (expected.unwrap() as f64, found as f64);
        assert!((expected / found - 1.0).abs() < 0.02, "{}: {expected} {found}", variant["name"]);
    }
    for (line, what) in [
        ("sweep", "no specification and no model given"),
        ("sweep --model m.mlpackage", "no output directory given"),
        ("sweep sweep.toml --set output", "is not of the form `KEY=VALUE`"),
        ("sweep sweep.toml --set output.kep=all", "did you mean `keep`"),
        ("sweep sweep.toml --model m.mlpackage", "cannot be used with"),
        ("sweep sweep.toml --kv-cache io", "cannot be used with"),
        ("sweep sweep.toml --windows 3", "cannot be used with"),
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let refused = sandbox.run(&args).ends(2);
        assert!(refused.stderr.contains(what), "{line}: {}", refused.stderr);
    }
}

const EVALUATED: &str = "\
[model]
package = \"m.mlpackage\"

[variants]
recipes = [\"pal2-g16\", \"int8-c\"]

[evaluate]
text = \"text.txt\"
windows = 6
top_k = 20
prompts = [\"w1 w2\", \"w7\"]
max_new_tokens = 5
sentences = [\"w1 w2 w3\", { text = \"w6 w7\", instruction = \"w5\" }, \"w9 w33 w12 w4\"]

[gates]
cosine = 0.9

[output]
dir = \"out\"
";

/// A folder with a language model that can be compressed and a spec that evaluates what becomes of it.
fn evaluating() -> Sandbox {
    let sandbox = Sandbox::bare();
    let root = sandbox.path();
    Bigram::sized(64, 64).write_poured(&root.join("m.mlpackage"));
    tokenizer_of(64, &root.join("tokenizer"));
    let words: Vec<_> = (0..48).map(|i| format!("w{}", (i * i * 3 + i * 5 + 2) % 61)).collect();
    sandbox.write("text.txt", words.join(" "));
    sandbox.write("sweep.toml", EVALUATED);
    sandbox
}

#[test]
fn an_evaluation_killed_anywhere_goes_on_and_ends_with_the_same_report() {
    let (want, kills) = kill_everywhere(evaluating, 0);
    assert!(kills > 30, "{kills}");
    for variant in want["variants"].as_array().unwrap() {
        let measured = &variant["measurements"];
        for figures in ["perplexity", "transcripts", "similarity", "kv_cache"] {
            assert!(measured[figures].is_object(), "{figures} of {}", variant["name"]);
        }
        assert_eq!(measured["perplexity"]["top_k"], 20);
    }
    assert_eq!(want["paired"].as_array().unwrap().len(), 3, "the tokens of all were kept");
}

#[test]
fn manifests_tell_how_the_package_that_is_swept_is_called() {
    let words = |folder: Sandbox| {
        folder.run(&["sweep", "sweep.toml", "-q", "--only", "int8-c", "--set", "gates={}"]);
        let manifest = fs_err::read(folder.path().join("out/int8-c.manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        ["kv_cache", "seq_len", "prompt_chunk"].map(|name| manifest[name].clone())
    };
    assert_eq!(words(evaluating()), [Value::from("io"), 8.into(), 8.into()]);
    assert_eq!(words(sandbox()), [const { Value::Null }; 3], "of no functions that are known");
}
