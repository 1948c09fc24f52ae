//! The whole path with Python: checkpoints converted, compared with coremltools and transformers, interrupted, judged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use coremill::base::progress::Silent;
use coremill::compress::{self, Recipe};
use coremill::convert::{self, AdapterMode, KvForm, Request, Target};
use coremill::mil::{self, constant_bytes, edit};
use coremill::package::Package;
use coremill::python::{self, Interpreter};
use coremill::quant::{self, Search};
use half::f16;
use serde_json::{Value, json};

use crate::support::{Ran, Sandbox, copy, root};

/// The interpreter of the environment, which this makes if there is none.
fn interpreter(sandbox: &Sandbox) -> String {
    sandbox.run(&["setup", "--print-python"]).ends(0).stdout.trim().to_owned()
}

/// Runs a piece of Python with the sources and the goldens' scripts at hand.
fn python(sandbox: &Sandbox, code: &str) -> String {
    let output = Command::new(interpreter(sandbox))
        .args(["-c", code])
        .current_dir(sandbox.path())
        .env("PYTHONPATH", std::env::join_paths([root("python"), root("goldens")]).unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    Ran::of(&output).ends(0).stdout
}

/// Writes tiny checkpoints: folder, architecture, and the other arguments of `make_tiny.make`.
fn tiny(sandbox: &Sandbox, made: &[(&str, &str, &str)]) {
    let mut code = "from pathlib import Path\nfrom make_tiny import make\n".to_owned();
    for (folder, arch, flags) in made {
        writeln!(code, "make('{arch}', Path('{folder}'){flags})").unwrap();
    }
    python(sandbox, &code);
}

/// Python in this process, with the environment that the binary uses.
fn embedded(sandbox: &Sandbox) -> Interpreter {
    let settings = python::Settings {
        cache_dir: sandbox.path().join("cache"),
        python_override: Some(interpreter(sandbox).into()),
        offline: true,
    };
    let environment = python::ensure(&settings, &Silent).unwrap();
    Interpreter::start(&environment, &sandbox.path().join("python.log")).unwrap()
}

fn request(model: &Path, output: &Path) -> Request {
    Request {
        model: model.to_owned(),
        lora: Vec::new(),
        llm2vec: Vec::new(),
        encode_adapters: AdapterMode::Branches,
        seq_len: 32,
        prompt_chunk: 16,
        kv_cache: KvForm::State,
        target: Target::IOS18,
        output: output.to_owned(),
        replace: false,
        tmp: output.parent().unwrap().to_owned(),
        keep_tmp: false,
    }
}

/// A program's text with the places of blobs left out.
fn text(package: &Package) -> String {
    let blob = regex::Regex::new(r"blob\(([^,]+), \d+\)").unwrap();
    blob.replace_all(&mil::print::program(package.program()), "blob($1)").into_owned()
}

/// Every constant by function and name: its type and its bytes.
fn constants(package: &Package) -> BTreeMap<(String, String), (String, Vec<u8>)> {
    let blobs = package.blobs();
    let mut found = BTreeMap::new();
    edit::for_each_op(package.program(), &mut |function, op| {
        let Some(value) = op.const_value().filter(|v| v.as_str().is_none()) else { return };
        let mut mapped = None;
        let bytes = constant_bytes(value, &*blobs, &mut mapped).unwrap().into_owned();
        let key = (function.to_owned(), op.name().to_owned());
        assert!(found.insert(key, (value.ty.to_string(), bytes)).is_none());
    });
    found
}

#[test]
fn python_poured_packages_equal_full_conversions() {
    let sandbox = Sandbox::with_python();
    tiny(
        &sandbox,
        &[
            ("llama", "llama", ""),
            ("mistral", "mistral", ", untied=True, shards=True"),
            ("qwen2", "qwen2", ""),
            ("qwen3", "qwen3", ", untied=True"),
            ("gpt2", "gpt2", ""),
            ("gpt_neo", "gpt_neo", ""),
            ("bert", "bert", ""),
        ],
    );
    let python = embedded(&sandbox);
    let cases = [
        ("llama", KvForm::State, Target::IOS18, &["init", "decode"][..]),
        ("mistral", KvForm::State, Target::IOS18, &["init", "decode"]),
        ("qwen2", KvForm::State, Target::IOS18, &["init", "decode"]),
        ("qwen3", KvForm::State, Target::IOS18, &["init", "decode"]),
        ("gpt2", KvForm::State, Target::IOS18, &["init", "decode"]),
        ("gpt_neo", KvForm::State, Target::IOS18, &["init", "decode"]),
        ("qwen2", KvForm::Io, Target::IOS18, &["init", "decode"]),
        ("llama", KvForm::Io, Target::IOS17, &["init", "decode"]),
        ("bert", KvForm::State, Target::IOS18, &["main"]),
    ];
    for (i, (model, kv_cache, target, functions)) in cases.into_iter().enumerate() {
        let case = format!("{model} {kv_cache} {target}");
        let output = sandbox.path().join(format!("{i}/poured.mlpackage"));
        let poured = Request { kv_cache, target, ..request(&sandbox.path().join(model), &output) };
        let whole = Request { output: output.with_file_name("full.mlpackage"), ..poured.clone() };
        let ours = convert::run(&poured, &python, &Silent).unwrap();
        let theirs = convert::run_full(&whole, &python, &Silent).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{case}");
        let mut seen = Vec::new();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let [ours, theirs] =
                [&ours.path, &theirs.path].map(|path| Package::open(path).unwrap());
            assert_eq!(text(&ours), text(&theirs), "{case}");
            let (got, want) = (constants(&ours), constants(&theirs));
            assert!(got.keys().eq(want.keys()), "{case}");
            for (name, constant) in &got {
                assert!(constant == &want[name], "{case}: {name:?} differs");
            }
            let named = ours.program().functions.keys().cloned();
            let file = ours.path().file_stem().unwrap().to_string_lossy().into_owned();
            // `poured.init.mlpackage` holds its function as `main`.
            let role = file.strip_prefix("poured.").map(str::to_owned);
            seen.extend(named.map(|name| role.clone().unwrap_or(name)));
        }
        seen.sort();
        let mut functions = functions.to_vec();
        functions.sort_unstable();
        assert_eq!(seen, functions, "{case}");
        let left: Vec<_> = sandbox.entries(&i.to_string());
        assert!(left.iter().all(|name| name.ends_with(".mlpackage")), "{left:?}");
    }
}

#[test]
fn python_merged_adapters_equal_those_of_peft_within_one_rounding() {
    let sandbox = Sandbox::with_python();
    let python = embedded(&sandbox);
    let golden = |name: &str| root("goldens").join(name);
    let cases = [
        ("lora", vec![golden("lora")], vec![golden("llm2vec")], AdapterMode::Merge),
        ("rslora", vec![golden("rslora")], Vec::new(), AdapterMode::Branches),
    ];
    let base = {
        let output = sandbox.path().join("base/base.mlpackage");
        convert::run(&request(&golden("dictlm"), &output), &python, &Silent).unwrap();
        constants(&Package::open(&output).unwrap())
    };
    for (case, lora, llm2vec, encode_adapters) in cases {
        let output = sandbox.path().join(case).join("poured.mlpackage");
        let poured =
            Request { lora, llm2vec, encode_adapters, ..request(&golden("dictlm"), &output) };
        let whole = Request { output: output.with_file_name("full.mlpackage"), ..poured.clone() };
        convert::run(&poured, &python, &Silent).unwrap();
        convert::run_full(&whole, &python, &Silent).unwrap();
        let [ours, theirs] = [&poured, &whole].map(|r| Package::open(&r.output).unwrap());
        assert_eq!(text(&ours), text(&theirs), "{case}");
        let (got, want) = (constants(&ours), constants(&theirs));
        assert!(got.keys().eq(want.keys()), "{case}");
        let (mut changed, mut rounded, mut values) = (0, 0, 0);
        for (name, (ty, bytes)) in &got {
            let (_, reference) = &want[name];
            changed += usize::from(base.get(name).is_some_and(|(_, plain)| plain != bytes));
            if !ty.starts_with("fp16") {
                assert!(bytes == reference, "{case}: {name:?} differs");
                continue;
            }
            for (a, b) in places(bytes).zip(places(reference)) {
                assert!(a.abs_diff(b) <= 1, "{case}: {name:?} differs by {} places", a - b);
                rounded += usize::from(a != b);
                values += 1;
            }
        }
        // Other orders of summation in f32 end on the other side of a rounding once in a few thousand values.
        assert!(rounded * 500 < values, "{case}: {rounded} of {values} values differ");
        assert!(changed > 0, "{case}: the base is as it was");
    }
}

/// fp16 values as whole numbers in which neighbours differ by one.
fn places(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes.as_chunks().0.iter().map(|pair| {
        let bits = i32::from(u16::from_le_bytes(*pair));
        if bits & 0x8000 == 0 { bits } else { 0x8000 - bits }
    })
}

#[test]
fn python_two_conversions_write_the_same_bytes_and_their_manifest_notices_any_other() {
    let sandbox = Sandbox::with_python();
    tiny(&sandbox, &[("m", "qwen2", "")]);
    for folder in ["first", "second"] {
        let output = format!("{folder}/m.mlpackage");
        let args = ["convert", "--model", "m", "--seq-len", "32", "--recipe", "int8-c"];
        sandbox.run(&[&args[..], &["-q", "-o", &output]].concat()).ends(0);
    }
    let [first, second] = ["first", "second"].map(|folder| sandbox.path().join(folder));
    let files = coremill::base::fs::files_below(&first).unwrap();
    assert_eq!(files, coremill::base::fs::files_below(&second).unwrap());
    assert!(files.len() >= 6, "{files:?}");
    for file in &files {
        let [a, b] = [&first, &second].map(|folder| fs_err::read(folder.join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    sandbox.run(&["manifest", "check", "first/m.manifest.json"]).ends(0);
    let shown = sandbox.run(&["manifest", "show", "first/m.manifest.json"]).ends(0).json();
    assert_eq!(shown["recipe"], "int8-c");

    let place = first.join("m.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs_err::read(&place).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&place, bytes).unwrap();
    let told = sandbox.run(&["manifest", "check", "first/m.manifest.json"]).ends(1);
    assert!(told.stdout.contains("weights/weight.bin"), "{}", told.stdout);
    fs_err::remove_dir_all(second.join("m.mlpackage")).unwrap();
    let told = sandbox.run(&["manifest", "check", "second/m.manifest.json"]);
    assert!(matches!(told.code, Some(1 | 2)) && !(told.stdout + &told.stderr).is_empty());
}

#[test]
fn python_packages_say_what_the_source_model_says() {
    let sandbox = Sandbox::with_python();
    let goldens = ["dictlm", "lora", "llm2vec"].map(|n| root("goldens").join(n));
    let [model, lora, llm2vec] = goldens.each_ref().map(|path| path.to_str().unwrap());
    let sources = ["--lora-checkpoint", lora, "--llm2vec-checkpoint", llm2vec];
    let all: Value =
        serde_json::from_slice(&fs_err::read(root("goldens/sentences.json")).unwrap()).unwrap();
    sandbox.write("sentences.json", json!(all.as_array().unwrap()[..4]).to_string());
    sandbox.write(
        "prompts.json",
        json!(["In the beginning", "And the LORD said unto Moses,", "In computing, a compiler is"])
            .to_string(),
    );
    let verify = |package: &str, gates: &[&str]| {
        let measured = ["--prompts", "prompts.json", "--max-tokens", "8", "--sentences"];
        let reference = ["sentences.json", "--reference", model, "--format", "json"];
        let args = [&["verify", package][..], &sources, &measured, &reference, gates].concat();
        sandbox.run(&args)
    };
    for mode in ["branches", "merge"] {
        let package = format!("{mode}.mlpackage");
        let args = ["convert", "--model", model, "--seq-len", "64", "--prompt-chunk", "16"];
        let more = ["--encode-adapters", mode, "-q", "-o", &package];
        sandbox.run(&[&args[..], &sources, &more].concat()).ends(0);
        let found =
            verify(&package, &["--gate", "transcripts=1", "--gate", "cosine=0.999"]).ends(0);
        let found = &found.json()["measurements"];
        assert_eq!(found["transcripts"]["equal"], 3, "{found}");
        let cosine = found["similarity"]["minimum"]["value"].as_f64().unwrap();
        assert!(cosine >= 0.999, "{mode}: {cosine}");

        // The commands give what the measurement saw.
        let transcript = &found["transcripts"]["prompts"][0];
        let args = ["generate", &package, "-p", "In the beginning", "-n", "8", "--format", "json"];
        let generated = sandbox.run(&args).ends(0).json();
        assert_eq!(generated["tokens"], transcript["reference_tokens"], "{mode}");
        assert_eq!(generated["tokens"].as_array().unwrap().len(), 8);
        let args =
            ["embed", &package, "-t", "a silk fabric", "-t", "the earth", "--format", "json"];
        let embedded = sandbox.run(&args).ends(0).json();
        assert_eq!(embedded.as_array().unwrap().len(), 2, "{mode}");
        for embedding in embedded.as_array().unwrap() {
            assert_eq!(embedding["embedding"].as_array().unwrap().len(), 192, "{mode}");
        }
    }
    let [shared, merged] = ["branches", "merge"].map(|name| {
        fs_err::metadata(
            sandbox
                .path()
                .join(format!("{name}.mlpackage/Data/com.apple.CoreML/weights/weight.bin")),
        )
        .unwrap()
        .len()
    });
    assert!(merged as f64 > 1.5 * shared as f64, "{merged} bytes merged, {shared} shared");

    let args = ["quantize", "branches.mlpackage", "-r", "pal2-t", "-o", "coarse.mlpackage"];
    sandbox.run(&args).ends(0);
    let judged =
        verify("coarse.mlpackage", &["--gate", "transcripts=1", "--gate", "cosine=0.99"]).ends(1);
    let verdicts = judged.json()["verdicts"].clone();
    for name in ["transcripts", "cosine"] {
        let verdict = verdicts.as_array().unwrap().iter().find(|v| v["gate"] == name).unwrap();
        assert_eq!(verdict["outcome"], "fail", "{verdict}");
        assert!(verdict["measured"].as_f64().unwrap() < verdict["threshold"].as_f64().unwrap());
    }
}

#[test]
fn python_coremltools_reads_compressed_packages_as_we_mean_them() {
    let sandbox = Sandbox::with_python();
    tiny(&sandbox, &[("m", "llama", "")]);
    let args = ["convert", "--model", "m", "--seq-len", "32", "-q", "-o", "m.mlpackage"];
    sandbox.run(&args).ends(0);
    let dense = "dense_ios18.mlpackage";
    copy(&root("tests/fixtures/compression").join(dense), &sandbox.path().join(dense));
    // Two functions that share weights, and one with a weight for each way that a program uses one.
    let cases = [
        ("m.mlpackage", "pal4-g16"),
        ("m.mlpackage", "attention=pal2-g8,mlp=int8-c"),
        ("m.mlpackage", "sparse2:4+pal4-g16+lut8"),
        (dense, "pal6-t"),
        (dense, "int4-b16,/conv/=int4-b8"),
        (dense, "pal4-g8-a1,/conv_weight/=int8-c"),
        (dense, "pal3-t-v2"),
        (dense, "pal4-g8-s"),
        (dense, "uniform4-g8"),
        (dense, "uint4-b0x16,/conv/=int8-b4x0x1x3"),
        (dense, "int4-b16-ls,/conv/=uint8-t-ls"),
        (dense, "sparse50"),
        (dense, "sparse50-b4+uint8-c"),
    ];
    let mut code = "import json\nfrom coremill.entry import call\n".to_owned();
    for (i, (source, recipe)) in cases.iter().enumerate() {
        let package = format!("{i}.mlpackage");
        sandbox.run(&["quantize", source, "-r", recipe, "-o", &package, "-q"]).ends(0);
        let fields =
            json!({"op": "dequantize", "package": package, "out": format!("{i}.safetensors")});
        let asked = format!("{:?}", fields.to_string());
        writeln!(code, "answer = json.loads(call({asked}))\nassert 'ok' in answer, answer")
            .unwrap();
    }
    python(&sandbox, &code);

    for (i, (source, recipe)) in cases.iter().enumerate() {
        let source = Package::open(&sandbox.path().join(source)).unwrap();
        let originals = constants(&source);
        let parsed: Recipe = recipe.parse().unwrap();
        let bytes = fs_err::read(sandbox.path().join(format!("{i}.safetensors"))).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut compared = 0;
        for weight in compress::weights(source.program(), compress::MIN_ELEMENTS) {
            let scheme = parsed.scheme_for(&weight.name, weight.component);
            let Some(scheme) = scheme.filter(|s| *s != quant::Scheme::FP16) else { continue };
            for function in &weight.functions {
                let named = |(f, name): &&(String, String)| {
                    f == function && name.trim_end_matches("_to_fp16") == weight.name
                };
                let key = originals.keys().find(named).unwrap();
                let values: Vec<f16> =
                    originals[key].1.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
                let shape: Vec<usize> = weight.shape.iter().map(|&n| n as usize).collect();
                let plain = quant::Weight::new(&values, &shape, weight.axes.unwrap()).unwrap();
                let want = quant::compress(plain, scheme, Search::Quick).unwrap().dequantize();
                // Two weights of the fixture have so few values, or zeros, that some schemes keep them.
                let few = ["embedding", "blank"].iter().any(|name| weight.name.starts_with(name));
                assert!(want != values || few, "{recipe}: {key:?} lost nothing");
                let got = read.tensor(&format!("{function}/{}", key.1)).unwrap();
                let shape: Vec<u64> = got.shape().iter().map(|&n| n as u64).collect();
                assert_eq!(shape, weight.shape, "{recipe}: {key:?}");
                let want: Vec<u8> = want.iter().flat_map(|x| x.to_le_bytes()).collect();
                assert!(got.data() == want, "{recipe}: {key:?} is read with other values");
                compared += 1;
            }
        }
        // Operations that others stand upon have a name with an ending.
        let within = |name: &str| {
            ["_lut", "_nonzero", "_nonzero_1", "_unscaled"].iter().any(|end| name.ends_with(end))
        };
        let whole = read.names().into_iter().filter(|name| !within(name)).count();
        assert_eq!(compared, whole, "{recipe}: some compressed constants were not compared");
        assert!(compared >= 6, "{recipe}: {compared}");
    }
}

#[test]
fn python_a_killed_or_interrupted_conversion_leaves_no_half_package() {
    let sandbox = Sandbox::with_python();
    let goldens = ["dictlm", "lora"].map(|n| root("goldens").join(n));
    let [model, lora] = goldens.each_ref().map(|path| path.to_str().unwrap());
    let stopped = |signal: &str, stage: &str| {
        let folder = format!("{signal}-{}", stage.replace(' ', "-"));
        let output = format!("{folder}/m.mlpackage");
        let args = ["convert", "--model", model, "--lora-checkpoint", lora, "--seq-len", "32"];
        let more = ["--prompt-chunk", "16", "--progress", "json", "-o", &output];
        let mut child = sandbox
            .command(&[&args[..], &more].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !(line.contains("\"begin\"") && line.contains(stage)) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "ended before `{stage}`");
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        (child.wait().unwrap().code(), sandbox.entries(&folder), rest)
    };
    for stage in ["draw graph", "pour weights"] {
        let (code, left, _) = stopped("KILL", stage);
        assert_eq!(code, None);
        let whole = |name: &String| name.starts_with(".coremill-partial-") || name == "m.mlpackage";
        assert!(left.iter().all(whole), "{stage}: {left:?}");
        let folder = sandbox.path().join(format!("KILL-{}", stage.replace(' ', "-")));
        if left.contains(&"m.mlpackage".to_owned()) {
            Package::open(&folder.join("m.mlpackage")).unwrap();
        }
    }
    let (code, left, said) = stopped("INT", "draw graph");
    assert_eq!((code, left.as_slice()), (Some(130), &[][..]), "{said}");
    assert!(said.ends_with("error: interrupted\n"), "{said}");
    // Pouring is quick: the request to stop may come when there is nothing left to stop.
    match stopped("INT", "pour weights") {
        (Some(130), left, said) => assert!(left.is_empty(), "{left:?} {said}"),
        (Some(0), left, _) => assert_eq!(left, ["m.manifest.json", "m.mlpackage", "m.tokenizer"]),
        other => panic!("{other:?}"),
    }
    // What was killed is done again beside its remains.
    let output = "KILL-draw-graph/m.mlpackage";
    let args = ["convert", "--model", model, "--seq-len", "32", "-q", "-o", output];
    sandbox.run(&args).ends(0);
    sandbox.run(&["manifest", "check", "KILL-draw-graph/m.manifest.json"]).ends(0);
}

#[test]
fn python_what_only_python_knows_is_refused_as_plainly() {
    let sandbox = Sandbox::with_python();
    tiny(&sandbox, &[("unknown", "llama", ""), ("rotary", "llama", "")]);
    for (folder, from, to) in [
        ("unknown", "\"model_type\": \"llama\"", "\"model_type\": \"mamba\""),
        (
            "rotary",
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\"rope_type\": \"frob\", \"factor\": 2.0}",
        ),
    ] {
        let path = sandbox.path().join(folder).join("config.json");
        let config = fs_err::read_to_string(&path).unwrap();
        assert!(config.contains(from), "{config}");
        fs_err::write(&path, config.replace(from, to)).unwrap();
    }
    let before = sandbox.entries("");
    let convert = |rest: &str| format!("convert --seq-len 32 -q -o x.mlpackage --model {rest}");
    let lines = [convert("unknown"), convert("rotary --engine coremltools")];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let session = sandbox.session(&lines);
    assert_eq!(sandbox.entries(""), before);
    insta::assert_snapshot!(session);
}
