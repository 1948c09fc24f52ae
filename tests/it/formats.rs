//! Models in the forms that others ship them in: compiled with text MIL, in parts, as bundles.

use std::ops::ControlFlow;
use std::path::Path;

use coremill::base::clock::FixedClock;
use coremill::interp::Precision;
use coremill::lm::{Artifact, Decoder, Engine, Request, Sampling, Scorer, generate};
use coremill::mil::text;
use coremill::package::Package;
use coremill::runtime::Interp;
use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Sandbox, copy, root, safetensors};

const RUNTIME: Interp = Interp { precision: Precision::Declared };

/// Writes the package `from` as a compiled model: program as text, blobs beside it.
fn compile(from: &Path, to: &Path) {
    let package = Package::open(from).unwrap();
    fs_err::create_dir_all(to).unwrap();
    fs_err::write(to.join("model.mil"), text::write(package.program())).unwrap();
    let weights = from.join("Data/com.apple.CoreML/weights");
    if weights.is_dir() {
        copy(&weights, &to.join("weights"));
    }
}

/// Copies the folder of a bundle, its packages compiled.
fn compile_bundle(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match name.strip_suffix(".mlpackage") {
            Some(stem) => compile(&path, &to.join(format!("{stem}.mlmodelc"))),
            None => drop(fs_err::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn bundles() -> std::path::PathBuf {
    root("tests/fixtures/anemll")
}

#[test]
fn programs_of_coremltools_come_back_from_their_text() {
    let fixtures = root("tests/fixtures");
    let packages = [
        "tiny.mlpackage",
        "tiny_multifunction.mlpackage",
        "interp/constexpr_ios16.mlpackage",
        "interp/constexpr_ios18.mlpackage",
        "anemll/chunked/tiny_FFN_PF_chunk_02of02.mlpackage",
        "anemll/chunked/tiny_embeddings.mlpackage",
        "anemll/whole/tiny_monolithic_full.mlpackage",
    ];
    for name in packages {
        let package = Package::open(&fixtures.join(name)).unwrap();
        let written = text::write(package.program());
        assert_eq!(&text::read(&written).unwrap(), package.program(), "{name}");
    }
}

#[test]
fn compiled_models_are_taken_as_packages_are() {
    let sandbox = Sandbox::bare();
    compile(&root("tests/fixtures/tiny.mlpackage"), &sandbox.path().join("tiny.mlmodelc"));
    sandbox.write(
        "tiny.mlmodelc/metadata.json",
        r#"[{"specificationVersion": 9, "userDefinedMetadata": {"k": "v"}}]"#,
    );
    copy(&root("tests/fixtures/tiny.mlpackage"), &sandbox.path().join("tiny.mlpackage"));
    sandbox.write("x.safetensors", safetensors(&[("x", &[1, 64], &[0.5; 64])]));
    assert_snapshot!(sandbox.session(&[
        "inspect tiny.mlmodelc",
        "inspect tiny.mlmodelc --mil",
        "predict tiny.mlmodelc -i x.safetensors -o compiled.safetensors",
        "predict tiny.mlpackage -i x.safetensors -o package.safetensors",
        "quantize tiny.mlmodelc -r int8-c -o small.mlpackage --quiet",
        "predict small.mlpackage -i x.safetensors -o small.safetensors",
    ]));
    let [compiled, package] = ["compiled", "package"]
        .map(|name| fs_err::read(sandbox.path().join(format!("{name}.safetensors"))).unwrap());
    assert!(compiled == package);
    let original = Package::open(&sandbox.path().join("tiny.mlpackage")).unwrap();
    let read = Package::open(&sandbox.path().join("tiny.mlmodelc")).unwrap();
    assert_eq!(read.program(), original.program());
    // What applications see was derived; the original states the same.
    let ports = |p: &Package| {
        let d = p.model().describe("main").unwrap();
        (d.input, d.output, d.state)
    };
    assert_eq!(ports(&read), ports(&original));
}

#[test]
fn compiled_models_that_cannot_be_read_say_why() {
    let sandbox = Sandbox::bare();
    let weights = |path: &str| {
        format!(
            r#"program(1.3) {{ func main<ios18>(tensor<fp32, [1]> x) {{
                tensor<fp32, [1]> w = const()[val = tensor<fp32, [1]>(BLOBFILE(path = string("{path}"), offset = uint64(64)))];
                tensor<fp32, [1]> y = add(x = x, y = w);
            }} -> (y); }}"#
        )
    };
    for (name, path) in [
        ("up", "@model_path/../secret.bin"),
        ("absolute", "/etc/passwd"),
        ("bare", "weights/weight.bin"),
        ("absent", "@model_path/weights/weight.bin"),
        ("link", "@model_path/weights/link.bin"),
    ] {
        sandbox.write(&format!("{name}.mlmodelc/model.mil"), weights(path));
    }
    sandbox.write("secret.bin", [0; 256]);
    fs_err::create_dir(sandbox.path().join("link.mlmodelc/weights")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(
        sandbox.path().join("secret.bin"),
        sandbox.path().join("link.mlmodelc/weights/link.bin"),
    )
    .unwrap();
    sandbox.write("network.mlmodelc/model.espresso.net", "{}");
    sandbox.write("network.mlmodelc/coremldata.bin", "");
    sandbox.write("pipeline.mlmodelc/model0/coremldata.bin", "");
    sandbox.write("tree.mlmodelc/coremldata.bin", "");
    sandbox.write("empty.mlmodelc/readme", "");
    sandbox.write(
        "wrong.mlmodelc/model.mil",
        "program(1.0)\n{\n  func main<ios17>(tensor<fp32, [1]> x) {\n    tensor<fp32, [1]> y = relu(x = z);\n  } -> (y)\n}",
    );
    sandbox.write("text.mlmodelc/model.mil", "program(1.0)\n{\n  func main<ios17>(vector<fp32> x)");
    sandbox.write("bytes.mlmodelc/model.mil", b"program(1.0)\xFF\xFE");
    sandbox.write("meta.mlmodelc/model.mil", weights("@model_path/w"));
    sandbox.write("meta.mlmodelc/metadata.json", "{");
    sandbox.write("x.safetensors", safetensors(&[("x", &[1], &[1.0])]));
    let names = [
        "up", "absolute", "bare", "absent", "link", "network", "pipeline", "tree", "empty",
        "wrong", "text", "bytes", "meta", "nowhere",
    ];
    let lines: Vec<_> = names
        .iter()
        .map(|name| format!("predict {name}.mlmodelc -i x.safetensors -o y.safetensors"))
        .collect();
    assert_snapshot!(sandbox.session(&lines.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn parts_run_as_one_chain() {
    let sandbox = Sandbox::bare();
    sandbox.write(
        "a.mlmodelc/model.mil",
        "program(1.3) { func main<ios18>(tensor<fp32, [2]> x, state<tensor<fp16, [2]>> s) {
            tensor<fp32, [2]> h = mul(x = x, y = fp32(3.0));
            tensor<fp16, [2]> old = read_state(input = s);
            tensor<fp16, [2]> half = cast(dtype = string(\"fp16\"), x = h);
            tensor<fp16, [2]> new = add(x = old, y = half);
            write_state(input = s, data = new);
        } -> (h); }",
    );
    sandbox.write(
        "b.mlmodelc/model.mil",
        "program(1.3) { func main<ios18>(tensor<fp32, [2]> h, state<tensor<fp16, [2]>> s) {
            tensor<fp16, [2]> all = read_state(input = s);
            tensor<fp32, [2]> wide = cast(dtype = string(\"fp32\"), x = all);
            tensor<fp32, [2]> y = add(x = wide, y = h);
        } -> (y); }",
    );
    sandbox.write("x.safetensors", safetensors(&[("x", &[2], &[1.0, 2.0])]));
    let line =
        "predict a.mlmodelc b.mlmodelc -i x.safetensors -o y.safetensors --state s.safetensors";
    assert_snapshot!(sandbox.session(&[
        line,
        line,
        "predict a.mlmodelc b.mlmodelc -i x.safetensors -o y.safetensors --format json --tap h",
        "predict b.mlmodelc a.mlmodelc -i x.safetensors -o y.safetensors",
    ]));
    sandbox.run(&line.split_whitespace().collect::<Vec<_>>()).ends(0);
    let bytes = fs_err::read(sandbox.path().join("y.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor("y").unwrap().data();
    let got: Vec<f32> = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    // 3x, and the state after the third run: three times 3x.
    assert_eq!(got, [12.0, 24.0]);
}

/// What torch says of the network of the bundles.
fn expected() -> Value {
    serde_json::from_slice(&fs_err::read(bundles().join("expected.json")).unwrap()).unwrap()
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every continuation of torch's, by the bundle at `path`.
#[track_caller]
fn continues_as_torch(path: &Path) {
    let artifact = Artifact::open(path).unwrap();
    let engine = Engine::load(&artifact, &RUNTIME, &FixedClock(0)).unwrap();
    let mut decoder = Decoder::new(&engine).unwrap();
    for one in expected()["continuations"].as_array().unwrap() {
        let (prompt, want) = (tokens(&one["prompt"]), tokens(&one["tokens"]));
        let request =
            Request { prompt: &prompt, max_tokens: 8, sampling: Sampling::Greedy, eos: &[] };
        let got = generate(&mut decoder, &request, &FixedClock(0), &mut |_| {
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(got.tokens, want, "{prompt:?}");
    }
}

#[test]
fn bundles_generate_what_torch_does() {
    let sandbox = Sandbox::bare();
    for name in ["chunked", "whole"] {
        continues_as_torch(&bundles().join(name));
        // As the hub has them: compiled; and as versions before 0.3.5 are run: one token at a time.
        let compiled = sandbox.path().join(name);
        compile_bundle(&bundles().join(name), &compiled);
        continues_as_torch(&compiled);
        let meta = fs_err::read_to_string(compiled.join("meta.yaml")).unwrap();
        let older = meta.replace("    prefill_dynamic_slice: true\n", "");
        assert_ne!(older, meta);
        fs_err::write(compiled.join("meta.yaml"), older).unwrap();
        continues_as_torch(&compiled);
    }
    // A head that gives the likeliest token of each of its parts.
    let argmax = sandbox.path().join("argmax");
    compile_bundle(&bundles().join("chunked"), &argmax);
    let head = bundles().join("argmax/tiny_lm_head_argmax.mlpackage");
    copy(&head, &argmax.join("tiny_lm_head_argmax.mlpackage"));
    let meta = fs_err::read_to_string(argmax.join("meta.yaml")).unwrap();
    let meta = meta.replace(
        "    lm_head: tiny_lm_head.mlmodelc\n",
        "    lm_head: tiny_lm_head_argmax.mlmodelc\n    argmax_in_model: true\n    vocab_size: 48\n",
    );
    fs_err::write(argmax.join("meta.yaml"), &meta).unwrap();
    continues_as_torch(&argmax);
    let artifact = Artifact::open(&argmax).unwrap();
    let engine = Engine::load(&artifact, &RUNTIME, &FixedClock(0)).unwrap();
    let error = Scorer::new(&artifact, &engine, &RUNTIME).err().unwrap().to_string();
    assert!(error.ends_with("gives the likeliest tokens, not their logits"), "{error}");
}

#[test]
fn bundles_score_a_text_as_torch_does() {
    let expected = expected();
    let text = tokens(&expected["text"]);
    let want: Vec<Vec<f32>> = serde_json::from_value(expected["logits"].clone()).unwrap();
    for name in ["chunked", "whole"] {
        let artifact = Artifact::open(&bundles().join(name)).unwrap();
        let engine = Engine::load(&artifact, &RUNTIME, &FixedClock(0)).unwrap();
        let scorer = Scorer::new(&artifact, &engine, &RUNTIME).unwrap();
        let mut nll = Vec::new();
        let usage = scorer.score(&text, &mut |position, logits| {
            let off = logits.iter().zip(&want[position]).map(|(a, b)| (a - b).abs());
            let worst = off.fold(0.0, f32::max);
            // Logits of about 10 in size, through four layers in fp16.
            assert!(worst < 0.08, "{name}: logits after {position} are off by {worst}");
            let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            nll.push(sum.ln() - f64::from(logits[text[position + 1] as usize]));
            Ok(())
        });
        assert_eq!(usage.unwrap().peak_resident, text.len() - 1);
        let perplexity = (nll.iter().sum::<f64>() / nll.len() as f64).exp();
        let torch = expected["perplexity"].as_f64().unwrap();
        assert!((perplexity / torch - 1.0).abs() < 0.01, "{name}: {perplexity} for {torch}");
    }
}

#[test]
fn bundles_are_run_from_the_command_line() {
    let sandbox = Sandbox::bare();
    copy(&bundles().join("chunked"), &sandbox.path().join("chunked"));
    compile_bundle(&bundles().join("whole"), &sandbox.path().join("whole"));
    assert_snapshot!(sandbox.session(&[
        "generate chunked --prompt w5 -n 8 --format json",
        "generate whole --prompt w1 -n 8",
        "inspect chunked",
        "embed chunked --text w1",
    ]));
    let args = ["generate", "chunked", "-n", "8", "--prompt", "w5 w9 w2", "--format", "json"];
    let answer = sandbox.run(&args).ends(0).json();
    assert_eq!(answer["tokens"], expected()["continuations"][1]["tokens"]);
    let settings = sandbox.run(&["inspect", "whole", "--format", "json"]).ends(0).json();
    assert_eq!(settings["settings"]["context_length"], 32);
    assert_eq!(settings["parts"][0]["part"], "whole");
}

#[test]
fn bundles_that_do_not_fit_together_say_why() {
    let sandbox = Sandbox::bare();
    let broken = |name: &str, from: &str, to: &str| {
        compile_bundle(&bundles().join("chunked"), &sandbox.path().join(name));
        let path = sandbox.path().join(name).join("meta.yaml");
        let meta = fs_err::read_to_string(&path).unwrap();
        let changed = meta.replace(from, to);
        assert_ne!(changed, meta, "{name}");
        fs_err::write(path, changed).unwrap();
    };
    broken("chunks", "num_chunks: 2", "num_chunks: 3");
    broken("context", "context_length: 32", "context_length: 64");
    broken("head", "lm_head: tiny_lm_head", "lm_head: tiny_embeddings");
    broken("order", "ffn: tiny_FFN_PF", "ffn: tiny_lm_head");
    broken("yaml", "    num_chunks: 2", "   - num_chunks: 2");
    assert_snapshot!(sandbox.session(&[
        "generate chunks --prompt w1",
        "generate context --prompt w1",
        "generate head --prompt w1",
        "generate order --prompt w1",
        "generate yaml --prompt w1",
    ]));
}
