//! The whole path with Python: checkpoints converted, compared with coremltools and transformers, judged.
//!
//! Nearly all of the time is coremltools', which takes a second or more for each layer of each function, and seconds to
//! be imported: so models have no more layers than a case needs, and a test asks one Python where it can.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use coremill::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use coremill::base::progress::Silent;
use coremill::compress::{self, Options, Recipe};
use coremill::convert::{self, Request};
use coremill::mil::{self, constant_bytes, edit};
use coremill::package::Package;
use coremill::python::{self, Interpreter};
use coremill::quant::{self, Search};
use coremill::source::config::Allow;
use half::f16;
use serde_json::{Value, json};

use crate::support::{Ran, Sandbox, copy, first_layers, root, safetensors};

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

/// A llama of one layer that no Python has to make; `changes` are made to its configuration.
fn llama(sandbox: &Sandbox, folder: &str, changes: &Value) {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 2048, "hidden_size": 64,
        "intermediate_size": 160, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "torch_dtype": "float16",
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    sandbox.write(&format!("{folder}/config.json"), config.to_string());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let text = fs_err::read(root("goldens/dictlm").join(name)).unwrap();
        sandbox.write(&format!("{folder}/{name}"), text);
    }
    let shapes: [(&str, &[usize]); 11] = [
        ("embed_tokens", &[2048, 64]),
        ("norm", &[64]),
        ("layers.0.input_layernorm", &[64]),
        ("layers.0.post_attention_layernorm", &[64]),
        ("layers.0.self_attn.q_proj", &[64, 64]),
        ("layers.0.self_attn.k_proj", &[32, 64]),
        ("layers.0.self_attn.v_proj", &[32, 64]),
        ("layers.0.self_attn.o_proj", &[64, 64]),
        ("layers.0.mlp.gate_proj", &[160, 64]),
        ("layers.0.mlp.up_proj", &[160, 64]),
        ("layers.0.mlp.down_proj", &[64, 160]),
    ];
    let name = |name: &str| format!("model.{name}.weight");
    let tensors: Vec<(String, &[usize], Vec<f32>)> = shapes
        .iter()
        .enumerate()
        .map(|(seed, (tensor, shape))| {
            let n: usize = shape.iter().product();
            // Fractions of the golden ratio's multiples: spread evenly, no two alike.
            let value = |i: usize| ((i + 7919 * seed) as f64 * 0.618_033_988_75).fract() - 0.5;
            (name(tensor), *shape, (0..n).map(|i| value(i) as f32).collect())
        })
        .collect();
    let views: Vec<_> = tensors.iter().map(|(n, s, v)| (n.as_str(), *s, v.as_slice())).collect();
    sandbox.write(&format!("{folder}/model.safetensors"), safetensors(&views));
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

/// The weights of a package.
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

fn request(model: &Path, output: &Path) -> Request {
    Request {
        model: model.to_owned(),
        lora: Vec::new(),
        llm2vec: Vec::new(),
        encode_adapters: EncodeAdapters::Branches,
        seq_len: 32,
        prompt_chunk: 16,
        kv_cache: KvCacheForm::State,
        target: Target::IOS18,
        allow: Allow::default(),
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
    // Layers differ in gpt_neo alone; two of mistral tell one's weights from the other's. Every family in every form is
    // compared by `test_skeleton_equals_full.py`, whose pour is not ours.
    tiny(
        &sandbox,
        &[
            ("llama", "llama", ", layers=1"),
            ("mistral", "mistral", ", untied=True, shards=True"),
            ("qwen2", "qwen2", ", layers=1"),
            ("qwen3", "qwen3", ", untied=True, layers=1"),
            ("gpt2", "gpt2", ", layers=1"),
            ("gpt_neo", "gpt_neo", ""),
            ("bert", "bert", ", layers=1"),
        ],
    );
    let python = embedded(&sandbox);
    let cases = [
        ("llama", KvCacheForm::Io, Target::IOS17, &["init", "decode"][..]),
        ("mistral", KvCacheForm::State, Target::IOS18, &["init", "decode"]),
        ("llama", KvCacheForm::State, Target::IOS18, &["init", "decode"]),
        ("qwen2", KvCacheForm::Io, Target::IOS18, &["init", "decode"]),
        ("qwen2", KvCacheForm::State, Target::IOS18, &["init", "decode"]),
        ("qwen3", KvCacheForm::State, Target::IOS18, &["init", "decode"]),
        ("gpt2", KvCacheForm::State, Target::IOS18, &["init", "decode"]),
        ("gpt_neo", KvCacheForm::State, Target::IOS18, &["init", "decode"]),
        ("bert", KvCacheForm::State, Target::IOS18, &["main"]),
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
    let [model, lora, rslora, llm2vec] =
        ["dictlm", "lora", "rslora", "llm2vec"].map(|golden| first_layers(&sandbox, golden, 2));
    // Two of the chat, scaled by rank and by its root, that meet in one weight and are alone in others; one of `encode`.
    let output = sandbox.path().join("poured.mlpackage");
    let poured = Request {
        lora: vec![lora, rslora],
        llm2vec: vec![llm2vec],
        encode_adapters: EncodeAdapters::Merge,
        ..request(&model, &output)
    };
    let whole = Request { output: output.with_file_name("full.mlpackage"), ..poured.clone() };
    convert::run(&poured, &python, &Silent).unwrap();
    convert::run_full(&whole, &python, &Silent).unwrap();
    let [ours, theirs] = [&poured, &whole].map(|r| Package::open(&r.output).unwrap());
    assert_eq!(text(&ours), text(&theirs));
    let (got, want) = (constants(&ours), constants(&theirs));
    assert!(got.keys().eq(want.keys()));
    let (mut rounded, mut values) = (0, 0);
    for (name, (ty, bytes)) in &got {
        let (_, reference) = &want[name];
        if !ty.starts_with("fp16") {
            assert!(bytes == reference, "{name:?} differs");
            continue;
        }
        for (a, b) in places(bytes).zip(places(reference)) {
            assert!(a.abs_diff(b) <= 1, "{name:?} differs by {} places", a - b);
            rounded += usize::from(a != b);
            values += 1;
        }
    }
    // Other orders of summation in f32 end on the other side of a rounding once in a few thousand values.
    assert!(rounded * 500 < values, "{rounded} of {values} values differ");
    // What no adapter is for is as it was, what all of them are for is nowhere.
    let base = fs_err::read(model.join("model.safetensors")).unwrap();
    let base = ::safetensors::SafeTensors::deserialize(&base).unwrap();
    let held: BTreeSet<&[u8]> = got.values().map(|(_, bytes)| bytes.as_slice()).collect();
    for (tensor, stays) in [("embed_tokens", true), ("layers.1.self_attn.q_proj", false)] {
        let plain = base.tensor(&format!("model.{tensor}.weight")).unwrap();
        assert_eq!(held.contains(plain.data()), stays, "{tensor}");
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
fn python_packages_say_what_the_source_model_says() {
    let sandbox = Sandbox::with_python();
    for golden in ["dictlm", "lora", "llm2vec"] {
        first_layers(&sandbox, golden, 2);
    }
    let all: Value =
        serde_json::from_slice(&fs_err::read(root("goldens/sentences.json")).unwrap()).unwrap();
    sandbox.write("sentences.json", json!(all.as_array().unwrap()[..4]).to_string());
    sandbox.write(
        "prompts.json",
        json!(["In the beginning", "And the LORD said unto Moses,", "In computing, a compiler is"])
            .to_string(),
    );
    let sources = ["--lora-checkpoint", "lora", "--llm2vec-checkpoint", "llm2vec"];
    let verify = |package: &str, gates: &[&str]| {
        let measured = ["--prompts", "prompts.json", "--max-tokens", "8", "--sentences"];
        let reference = ["sentences.json", "--reference", "dictlm", "--format", "json"];
        let args = [&["verify", package][..], &sources, &measured, &reference, gates].concat();
        sandbox.run(&args)
    };
    for mode in ["branches", "merge"] {
        let package = format!("{mode}.mlpackage");
        let args = ["convert", "--model", "dictlm", "--seq-len", "64", "--prompt-chunk", "16"];
        let more = ["--encode-adapters", mode, "-q", "-o", &package];
        sandbox.run(&[&args[..], &sources, &more].concat()).ends(0);
        let gates = ["--gate", "transcripts=1", "--gate", "cosine=0.999"];
        let found = verify(&package, &gates).ends(0);
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
    let bytes = |path: &str| fs_err::metadata(sandbox.path().join(path)).unwrap().len() as f64;
    let checkpoint = bytes("dictlm/model.safetensors");
    let [shared, merged] = ["branches", "merge"]
        .map(|mode| bytes(&format!("{mode}.mlpackage/{WEIGHTS}")) / checkpoint);
    assert!(shared < 1.25 && merged > 1.5, "of the checkpoint: {shared} shared, {merged} merged");

    let args = ["quantize", "branches.mlpackage", "-r", "pal2-t", "-o", "coarse.mlpackage"];
    sandbox.run(&args).ends(0);
    let gates = ["--gate", "transcripts=1", "--gate", "cosine=0.99"];
    let judged = verify("coarse.mlpackage", &gates).ends(1);
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
    let python = embedded(&sandbox);
    llama(&sandbox, "m", &json!({}));
    let place = |name: &str| sandbox.path().join(name);
    convert::run(&request(&place("m"), &place("m.mlpackage")), &python, &Silent).unwrap();
    let dense = "dense_ios18.mlpackage";
    copy(&root("tests/fixtures/compression").join(dense), &place(dense));
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
        (dense, "pal4-g8-si"),
        (dense, "uniform4-g8"),
        (dense, "uint4-b0x16,/conv/=int8-b4x0x1x3"),
        (dense, "int4-b16-ls,/conv/=uint8-t-ls"),
        (dense, "sparse50"),
        (dense, "sparse50-b4+uint8-c"),
    ];
    for (i, (source, recipe)) in cases.iter().enumerate() {
        let source = Package::open(&place(source)).unwrap();
        let originals = constants(&source);
        let parsed: Recipe = recipe.parse().unwrap();
        let [package, out] = ["mlpackage", "safetensors"].map(|end| place(&format!("{i}.{end}")));
        compress::run(&source, &parsed, &package, &Options::default(), &Silent).unwrap();
        python.call(&json!({"op": "dequantize", "package": package, "out": out})).unwrap();
        let bytes = fs_err::read(out).unwrap();
        let read = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
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
fn python_what_only_python_knows_is_refused_as_plainly() {
    let sandbox = Sandbox::with_python();
    llama(&sandbox, "unknown", &json!({"model_type": "mamba"}));
    llama(&sandbox, "rotary", &json!({"rope_scaling": {"rope_type": "frob", "factor": 2.0}}));
    let before = sandbox.entries("");
    let convert = |rest: &str| format!("convert --seq-len 32 -q -o x.mlpackage --model {rest}");
    let lines = [convert("unknown"), convert("rotary --engine coremltools")];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let session = sandbox.session(&lines);
    assert_eq!(sandbox.entries(""), before);
    insta::assert_snapshot!(session);
}
