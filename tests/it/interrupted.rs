//! Commands that are killed or interrupted, and what the next run finds.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use coremill::base::fs::{PARTIAL, files_below};
use coremill::package::Package;
use regex::Regex;

#[cfg(feature = "python")]
use crate::support::first_layers;
use crate::support::{Sandbox, linears};

/// Runs `coremill ARGS --progress json`, sends `signal` once a line of its progress matches the moment and so much time
/// has passed, and gives the exit code, if it ended by itself, and what it said from then on.
fn stopped(
    sandbox: &Sandbox,
    args: &[&str],
    signal: &str,
    (moment, wait): (&str, Duration),
) -> (Option<i32>, String) {
    let moment = Regex::new(moment).unwrap();
    let mut child = sandbox
        .command(&[args, &["--progress", "json"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !moment.is_match(&line) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "ended before {moment}");
    }
    std::thread::sleep(wait);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

/// The files below a folder with their bytes, without what a killed run left half-written; none if it does not exist.
fn whole(sandbox: &Sandbox, folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = sandbox.path().join(folder);
    if !folder.exists() {
        return Vec::new();
    }
    let mut files = files_below(&folder).unwrap();
    files.retain(|name| !name.starts_with(PARTIAL));
    files.into_iter().map(|name| (name.clone(), fs_err::read(folder.join(name)).unwrap())).collect()
}

/// Makes a folder look as if nothing in it had been touched since long.
fn age(folder: &Path) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            set_long_ago(&path);
        }
    }
    set_long_ago(folder);
}

fn set_long_ago(path: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs_err::File::open(path).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn a_compression_that_was_stopped_is_done_again_with_the_same_bytes() {
    let sandbox = Sandbox::bare();
    let side = if cfg!(debug_assertions) { 1 << 9 } else { 1 << 13 };
    let shape = [side, 512];
    linears(&sandbox.path().join("m.mlpackage"), &[("a", shape), ("b", shape), ("c", shape)]);
    let names = ["m-pal4-g16.mlpackage", "m-int8-c.mlpackage"];
    let quantize = |folder: &str, more: &[&'static str]| -> Vec<String> {
        let args = ["quantize", "m.mlpackage", "-r", "pal4-g16", "-r", "int8-c", "-o", folder];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    };
    let run = |args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        sandbox.run(&args).ends(0)
    };
    run(&quantize("undisturbed", &["-q"]));
    let undisturbed = whole(&sandbox, "undisturbed");
    assert_eq!(undisturbed.len(), 6, "two packages of three files");

    let (begin, middle, end) = ("\"begin\"", "\"(progress|end)\"", "\"end\"");
    let cases = [
        ("KILL", begin),
        ("KILL", middle),
        ("KILL", end),
        ("INT", begin),
        ("INT", middle),
        ("INT", end),
    ];
    for (i, (signal, moment)) in cases.into_iter().enumerate() {
        let case = format!("{signal} at {moment}");
        let folder = i.to_string();
        let args = quantize(&folder, &[]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, said) = stopped(&sandbox, &args, signal, (moment, Duration::ZERO));
        let left = sandbox.entries(&folder);
        let (partial, packages): (Vec<_>, Vec<_>) =
            left.iter().partition(|name| name.starts_with(PARTIAL));
        for (name, bytes) in whole(&sandbox, &folder) {
            assert!(undisturbed.contains(&(name.clone(), bytes)), "{case}: {name} differs");
        }
        for name in &packages {
            assert!(names.contains(&name.as_str()), "{case}: {left:?}");
            Package::open(&sandbox.path().join(&folder).join(name)).unwrap();
        }
        match code {
            None => assert_eq!(signal, "KILL", "{said}"),
            Some(130) => {
                assert!(said.ends_with("error: interrupted\n"), "{case}: {said}");
                assert!(!sandbox.path().join(&folder).exists(), "{case}: {left:?}");
            }
            // What is asked to stop when all is made ends as if it were not asked.
            Some(0) => assert!(moment != begin && packages.len() == 2, "{case}: {said}"),
            Some(other) => panic!("{case}: exit code {other}: {said}"),
        }
        if signal == "KILL" && moment == begin {
            assert_eq!((partial.len(), packages.len()), (2, 0), "{case}: {left:?}");
            for name in partial {
                age(&sandbox.path().join(&folder).join(name));
            }
        }
        // What stands is whole, and replaced when that is asked for.
        run(&quantize(&folder, if packages.is_empty() { &["-q"] } else { &["-q", "--force"] }));
        assert!(whole(&sandbox, &folder) == undisturbed, "{case}: done again");
        let left = sandbox.entries(&folder);
        if moment == begin {
            assert_eq!(left.len(), 2, "{case}: old remains go: {left:?}");
        }
    }
}

#[test]
fn fits_that_take_minutes_are_interrupted_within_a_tensor() {
    let sandbox = Sandbox::bare();
    linears(&sandbox.path().join("m.mlpackage"), &[("a", [1 << 11, 1 << 11])]);
    for recipe in ["pal8-t-v4", "int4-t-ls"] {
        let args = ["quantize", "m.mlpackage", "--exact", "-r", recipe, "-o", "out.mlpackage"];
        // By then the search is under way.
        let moment = ("\"begin\"", Duration::from_millis(300));
        let (code, said) = stopped(&sandbox, &args, "INT", moment);
        assert_eq!(code, Some(130), "{recipe}: {said}");
        assert_eq!(said, "error: interrupted\n", "{recipe}");
        assert_eq!(sandbox.entries(""), ["m.mlpackage"], "{recipe}");
    }
}

#[cfg(feature = "python")]
#[test]
fn python_a_conversion_that_was_stopped_is_done_again_with_the_same_bytes() {
    let sandbox = Sandbox::with_python();
    for golden in ["dictlm", "lora"] {
        first_layers(&sandbox, golden, 1);
    }
    let convert = ["convert", "--model", "dictlm", "--lora-checkpoint", "lora", "--seq-len", "32"];
    let convert = [&convert[..], &["--prompt-chunk", "16", "--recipe", "int8-c"]].concat();
    let stopped = |signal: &str, stage: &str| {
        let folder = format!("{signal}-{}", stage.replace(' ', "-"));
        let output = format!("{folder}/m.mlpackage");
        let moment = format!("\"begin\".*{stage}");
        let args = [&convert[..], &["-o", &output]].concat();
        let (code, said) = stopped(&sandbox, &args, signal, (&moment, Duration::ZERO));
        (code, sandbox.entries(&folder), said)
    };
    for stage in ["export graph", "write weights"] {
        let (code, left, _) = stopped("KILL", stage);
        assert_eq!(code, None);
        // Pouring and compressing are quick: what was to be killed may have come to its end.
        let whole = |name: &String| name.starts_with(PARTIAL) || name == "m.mlpackage";
        assert!(left.iter().all(whole), "{stage}: {left:?}");
        let package = sandbox.path().join(format!("KILL-{}/m.mlpackage", stage.replace(' ', "-")));
        if package.exists() {
            Package::open(&package).unwrap();
        }
    }
    let (code, left, said) = stopped("INT", "export graph");
    assert_eq!((code, left.as_slice()), (Some(130), &[][..]), "{said}");
    assert!(said.ends_with("error: interrupted\n"), "{said}");
    // And so may what was to be interrupted.
    match stopped("INT", "write weights") {
        (Some(130), left, said) => assert!(left.is_empty(), "{left:?} {said}"),
        (Some(0), left, _) => assert_eq!(left, ["m.manifest.json", "m.mlpackage", "m.tokenizer"]),
        other => panic!("{other:?}"),
    }

    // One conversion that nothing disturbs, and one beside the remains of the one that was killed.
    for folder in ["first", "KILL-draw-graph"] {
        let output = format!("{folder}/m.mlpackage");
        sandbox.run(&[&convert[..], &["-q", "-o", &output]].concat()).ends(0);
    }
    let [first, second] = ["first", "KILL-draw-graph"].map(|folder| whole(&sandbox, folder));
    assert!(first.len() >= 6);
    for (a, b) in first.iter().zip(&second) {
        assert!(a == b, "{} or {} differs", a.0, b.0);
    }
    assert_eq!(first.len(), second.len());

    // The manifest knows its package, and notices any other.
    sandbox.run(&["manifest", "check", "first/m.manifest.json"]).ends(0);
    let shown = sandbox.run(&["manifest", "show", "first/m.manifest.json"]).ends(0).json();
    assert_eq!(shown["recipe"], "int8-c");
    let weights = "first/m.mlpackage/Data/com.apple.CoreML/weights/weight.bin";
    let mut bytes = fs_err::read(sandbox.path().join(weights)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    sandbox.write(weights, bytes);
    let told = sandbox.run(&["manifest", "check", "first/m.manifest.json"]).ends(1);
    assert!(told.stdout.contains("weights/weight.bin"), "{}", told.stdout);
    fs_err::remove_dir_all(sandbox.path().join("first/m.mlpackage")).unwrap();
    let told = sandbox.run(&["manifest", "check", "first/m.manifest.json"]);
    assert!(matches!(told.code, Some(1 | 2)) && !(told.stdout + &told.stderr).is_empty());
}
