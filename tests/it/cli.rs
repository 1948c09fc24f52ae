//! What every command says and how it ends, as far as no Python is needed: sessions in a folder, as snapshots.

use insta::assert_snapshot;
use safetensors::SafeTensors;

use crate::support::{Sandbox, copy, root, safetensors};

/// A folder with the packages that coremltools wrote: `tiny` (64 to 32, relu of a linear) and one of two functions.
fn packages() -> Sandbox {
    let sandbox = Sandbox::bare();
    for name in ["tiny", "tiny_multifunction"] {
        let package = format!("{name}.mlpackage");
        copy(&root("tests/fixtures").join(&package), &sandbox.path().join(&package));
    }
    sandbox
}

#[test]
fn usage_is_answered_without_work() {
    let sandbox = Sandbox::bare();
    assert_snapshot!(sandbox.session(&[
        "--version",
        "frobnicate",
        "convert --model m",
        "convert --model m --seq-len 0 -o x.mlpackage",
        "convert --model m --seq-len 32 --prompt-chunk 0 -o x.mlpackage",
        "convert --model m --seq-len 32 -o x.mlmodel",
        "convert --model m --seq-len many -o x.mlpackage",
        "convert --model m --seq-len 32 -o x.mlpackage --kv-cache heap",
        "convert --model m --seq-len 32 -o x.mlpackage --minimum-deployment-target iOS19",
        "convert --model m --seq-len 32 -o x.mlpackage --wbits 4 --recipe int8-c",
        "embed x.mlpackage",
        "report pie report.json",
    ]));
    assert!(sandbox.entries("").is_empty());
}

#[test]
fn help_comes_on_stdout_when_asked_for() {
    let sandbox = Sandbox::bare();
    let asked = sandbox.run(&["--help"]).ends(0);
    assert!(asked.stderr.is_empty());
    let bare = sandbox.run(&[]).ends(2);
    let short = sandbox.run(&["-h"]).ends(0);
    assert_eq!((bare.stdout.as_str(), bare.stderr.as_str()), ("", short.stdout.as_str()));
    assert_snapshot!(sandbox.plain(&asked.stdout));
}

#[test]
fn gates_are_explained() {
    let sandbox = Sandbox::bare();
    let names = sandbox.run(&["explain", "--format", "json"]).ends(0).json();
    let mut listed = 0;
    for (name, summary) in names.as_object().unwrap() {
        let text = sandbox.run(&["explain", name]).ends(0).stdout;
        assert!(text.contains(summary.as_str().unwrap().trim_end_matches('.')), "{name}: {text}");
        listed += 1;
    }
    assert!(listed >= 7, "{listed} gates");
    assert_snapshot!(sandbox.session(&[
        "explain",
        "explain cosine",
        "explain cosin",
        "explain xyz"
    ]));
}

#[test]
fn packages_are_inspected() {
    let sandbox = packages();
    sandbox.write("empty.mlpackage/Manifest.json", "{}");
    sandbox.write("file.mlpackage", "no folder");
    assert_snapshot!(sandbox.session(&[
        "inspect tiny.mlpackage",
        "inspect tiny_multifunction.mlpackage --format json",
        "inspect tiny.mlpackage --program",
        "inspect nowhere.mlpackage",
        "inspect empty.mlpackage",
        "inspect file.mlpackage",
    ]));
}

#[test]
fn weights_are_measured_and_packages_compared() {
    let sandbox = packages();
    let dense = root("tests/fixtures/compression/dense_ios18.mlpackage");
    copy(&dense, &sandbox.path().join("dense.mlpackage"));
    let recipe = "/linear/=pal4-g16,/conv_weight/=sparse50+int8-c,embedding=int4-b16";
    sandbox.run(&["quantize", "dense.mlpackage", "-r", recipe, "-o", "small.mlpackage"]).ends(0);
    assert_snapshot!(sandbox.session(&[
        "inspect small.mlpackage",
        "inspect small.mlpackage --baseline dense.mlpackage",
        "inspect tiny.mlpackage --baseline dense.mlpackage",
        "inspect --diff dense.mlpackage small.mlpackage",
        "inspect --diff small.mlpackage small.mlpackage",
        "inspect --diff tiny.mlpackage tiny_multifunction.mlpackage",
        "inspect --diff nowhere.mlpackage small.mlpackage",
        "inspect small.mlpackage --baseline nowhere.mlpackage",
        "inspect small.mlpackage --baseline dense.mlpackage --diff dense.mlpackage",
    ]));
    let json = |args: &[&str]| sandbox.run(&[args, &["--format", "json"]].concat()).ends(0).json();
    let measured = json(&["inspect", "small.mlpackage", "--baseline", "dense.mlpackage"]);
    assert_eq!(measured["baseline"]["compared"], 6);
    let lines = measured["weights"]["tensors"].as_array().unwrap();
    let line = lines.iter().find(|line| line["name"] == "linear_weight").unwrap();
    assert_eq!(line["stored"]["tables"]["grid"], serde_json::json!([3, 1]));
    assert!(line["psnr_db"].as_f64().unwrap() > 10.0, "{line}");
    let diff = json(&["inspect", "--diff", "dense.mlpackage", "small.mlpackage"]);
    assert_eq!((&diff["equal"], &diff["equal_weights"]), (&false.into(), &3.into()));
    assert_eq!(diff["weights"][0]["what"], "form");
}

#[test]
fn images_classes_and_flexible_shapes_stand_at_the_edge() {
    let sandbox = Sandbox::bare();
    for name in ["ranged", "classifier", "control"] {
        let package = format!("{name}.mlpackage");
        copy(&root("tests/fixtures/edge").join(&package), &sandbox.path().join(&package));
    }
    let image: Vec<f32> = (0..192).map(|i| (i * 7 % 256) as f32).collect();
    sandbox.write("image.safetensors", safetensors(&[("image", &[1, 3, 8, 8], &image)]));
    sandbox.write("wide.safetensors", safetensors(&[("image", &[1, 3, 8, 9], &[0.0; 216])]));
    sandbox.write("x.safetensors", safetensors(&[("x", &[1, 4], &[1.0, 2.0, 3.0, 4.0])]));
    sandbox.write("long.safetensors", safetensors(&[("x", &[1, 9], &[1.0; 9])]));
    assert_snapshot!(sandbox.session(&[
        "inspect ranged.mlpackage",
        "inspect classifier.mlpackage",
        "inspect control.mlpackage --program",
        "predict ranged.mlpackage -i x.safetensors -o y.safetensors",
        "predict ranged.mlpackage -i long.safetensors -o y.safetensors",
        "predict classifier.mlpackage -i image.safetensors -o y.safetensors",
        "predict classifier.mlpackage -i image.safetensors -o y.safetensors --format json",
        "predict classifier.mlpackage -i wide.safetensors -o y.safetensors",
    ]));
}

#[test]
fn several_recipes_make_several_packages() {
    let sandbox = Sandbox::bare();
    let fixtures = root("tests/fixtures/compression");
    for target in ["ios16", "ios18"] {
        let package = format!("dense_{target}.mlpackage");
        copy(&fixtures.join(&package), &sandbox.path().join(&package));
    }
    assert_snapshot!(sandbox.session(&[
        "quantize dense_ios18.mlpackage -r int8-c,/^linear/=pal4-g16 -r pal4-g16,/^conv/=int8-c -r int8-c -o out --quiet",
        "quantize dense_ios18.mlpackage -r int8-c -r int8-c-sym -o twice",
        "quantize dense_ios18.mlpackage -r int8-c -r pal4-t -o out.mlpackage",
        "quantize dense_ios18.mlpackage -r int8-c -r int4-b7 -o nothing",
        "quantize dense_ios18.mlpackage -r pal4-g16 -o skipped.mlpackage --allow-skip ^conv_transpose",
        "quantize dense_ios18.mlpackage -r pal3-g4 --weight-threshold 3500 -o cpu.mlpackage --compute-units CPU_ONLY",
        "quantize dense_ios16.mlpackage -r int8-c -o old.mlpackage --quiet",
        "quantize dense_ios16.mlpackage -r int4-b32 -o older.mlpackage",
        "explain schemes",
    ]));
    let made = sandbox.entries("");
    assert!(!made.iter().any(|name| name == "nothing" || name == "twice"), "{made:?}");
    // What two recipes want of a weight is the same in both packages, and as if each had been alone.
    let alone =
        ["quantize", "dense_ios18.mlpackage", "-r", "int8-c", "-o", "alone.mlpackage", "-q"];
    sandbox.run(&alone).ends(0);
    let weights = "Data/com.apple.CoreML/weights/weight.bin";
    let read = |package: &str| fs_err::read(sandbox.path().join(package).join(weights)).unwrap();
    assert!(read("alone.mlpackage") == read("out/dense_ios18-int8-c.mlpackage"));
}

#[test]
fn a_package_is_compressed_or_nothing_is_written() {
    let sandbox = packages();
    let before = sandbox.entries("");
    assert_snapshot!(
        "quantize_fails",
        sandbox.session(&[
            "quantize tiny.mlpackage -r pal4-g17 -o out.mlpackage",
            "quantize tiny.mlpackage -r int4-b48 -o out.mlpackage",
            "quantize tiny.mlpackage -r pal5-g16 -o out.mlpackage",
            "quantize tiny.mlpackage -r palette -o out.mlpackage",
            "quantize tiny.mlpackage -r atention=pal4-g16 -o out.mlpackage",
            "quantize tiny.mlpackage -r head=pal4-g16 -o out.mlpackage",
            "quantize tiny.mlpackage -r pal4-g16 -o out.mlmodel",
            "quantize tiny.mlpackage -r pal4-g16 -o tiny.mlpackage",
            "quantize nowhere.mlpackage -r pal4-g16 -o out.mlpackage",
        ])
    );
    assert_eq!(sandbox.entries(""), before);
    assert_snapshot!(
        "quantize_succeeds",
        sandbox.session(&[
            "quantize tiny.mlpackage -r pal4-g16 -o out.mlpackage",
            "quantize tiny.mlpackage -r int8-c -o out.mlpackage",
            "quantize tiny.mlpackage -r int8-c -o out.mlpackage --force --format json",
            "quantize tiny.mlpackage -r pal2-t --exact -o exact.mlpackage --quiet",
            "inspect out.mlpackage",
        ])
    );
    assert_eq!(sandbox.entries("").len(), before.len() + 2);
}

#[test]
fn a_compressed_package_comes_out_the_same_twice() {
    let sandbox = packages();
    for recipe in ["pal4-g16", "int4-b32", "int8-c", "pal6-t"] {
        for name in ["a.mlpackage", "b.mlpackage"] {
            let args = ["quantize", "tiny.mlpackage", "-r", recipe, "-o", name, "--force"];
            sandbox.run(&args).ends(0);
        }
        let [a, b] = ["a", "b"].map(|n| sandbox.path().join(format!("{n}.mlpackage")));
        let files = coremill::base::fs::files_below(&a).unwrap();
        assert_eq!(files.len(), 3);
        for file in files {
            let [a, b] = [&a, &b].map(|folder| fs_err::read(folder.join(&file)).unwrap());
            assert!(a == b, "{recipe}: {file}");
        }
    }
}

#[test]
fn predict_computes_what_the_package_says() {
    let sandbox = packages();
    // Column i of the weight comes out for the i-th unit vector.
    let mut x = vec![0.0_f32; 64];
    x[3] = 2.0;
    sandbox.write("x.safetensors", safetensors(&[("x", &[1, 64], &x)]));
    let answer = sandbox
        .run(&["predict", "tiny.mlpackage", "-i", "x.safetensors", "-o", "y.safetensors"])
        .ends(0);
    assert_eq!(answer.stdout, "out: fp32[1, 32]\n");
    let bytes = fs_err::read(sandbox.path().join("y.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor("out").unwrap().data();
    let got: Vec<f32> = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let package = coremill::package::Package::open(&sandbox.path().join("tiny.mlpackage")).unwrap();
    let weight = weight(&package);
    let want: Vec<f32> = (0..32).map(|row| (2.0 * weight[row * 64 + 3]).max(0.0)).collect();
    assert_eq!(got, want);
    assert!(got.iter().filter(|y| **y > 0.0).count() > 4, "{got:?}");
}

#[test]
fn predict_names_what_does_not_fit() {
    let sandbox = packages();
    sandbox.write("x.safetensors", safetensors(&[("x", &[1, 64], &[1.0; 64])]));
    sandbox.write("y.safetensors", safetensors(&[("y", &[1, 64], &[1.0; 64])]));
    sandbox.write("long.safetensors", safetensors(&[("x", &[1, 65], &[1.0; 65])]));
    sandbox.write("none.safetensors", safetensors(&[]));
    sandbox.write("text.safetensors", "no tensors at all");
    assert_snapshot!(sandbox.session(&[
        "predict tiny.mlpackage -i y.safetensors -o out.safetensors",
        "predict tiny.mlpackage -i long.safetensors -o out.safetensors",
        "predict tiny.mlpackage -i none.safetensors -o out.safetensors",
        "predict tiny.mlpackage -i text.safetensors -o out.safetensors",
        "predict tiny.mlpackage -i absent.safetensors -o out.safetensors",
        "predict tiny.mlpackage -f decode -i x.safetensors -o out.safetensors",
        "predict tiny.mlpackage --tap nothing -i x.safetensors -o out.safetensors",
    ]));
    assert!(!sandbox.path().join("out.safetensors").exists());
    assert_snapshot!("predict_succeeds", sandbox.session(&[
        "predict tiny.mlpackage --tap linear_0_cast_fp16 -i x.safetensors -o out.safetensors --format json",
        "predict tiny_multifunction.mlpackage -f second -i x.safetensors -o second.safetensors",
        "predict tiny_multifunction.mlpackage -i x.safetensors -o first.safetensors",
    ]));
}

#[test]
fn a_precision_report_names_where_a_norm_overflows() {
    let sandbox = packages();
    copy(&root("tests/fixtures/rms_norm.mlpackage"), &sandbox.path().join("rms_norm.mlpackage"));
    let x = |largest: f32| -> Vec<f32> {
        let at = |i: usize| if i == 40 { largest } else { (i % 7) as f32 - 3.0 };
        (0..128).map(at).collect()
    };
    let tensors = |values: &[f32]| safetensors(&[("x", &[1, 4, 32], values)]);
    sandbox.write("large.safetensors", tensors(&x(300.0)));
    sandbox.write("small.safetensors", tensors(&x(3.0)));
    assert_snapshot!(sandbox.session(&[
        "predict rms_norm.mlpackage -i large.safetensors --precision-report",
        "predict rms_norm.mlpackage -i small.safetensors --precision-report --worst 3",
        "predict rms_norm.mlpackage -i small.safetensors",
        "predict rms_norm.mlpackage -i small.safetensors -o y.safetensors --precision-report",
        "evaluate rms_norm.mlpackage --precision-report",
        "evaluate tiny_multifunction.mlpackage --precision-report",
    ]));
    let args = ["predict", "rms_norm.mlpackage", "-i", "large.safetensors", "--precision-report"];
    let answer = sandbox.run(&[&args[..], &["--format", "json"]].concat()).ends(0).json();
    let function = &answer[0]["functions"][0];
    let operations = function["operations"].as_array().unwrap();
    let first = operations.iter().find(|op| op["at"] == function["first"]).unwrap();
    assert_eq!((&first["overflows"], &first["largest"]), (&1.into(), &90_000.0.into()));
    // The row with the large value is normalized to zeros, and the other three are not.
    let zeros = operations.iter().map(|op| op["underflows"].as_u64().unwrap()).max();
    assert_eq!(zeros, Some(64));
}

#[test]
fn manifests_that_cannot_be_read_say_why() {
    let sandbox = packages();
    sandbox.write("list.manifest.json", "[]");
    sandbox.write("cut.manifest.json", "{\"schema_version\": 1,");
    assert_snapshot!(sandbox.session(&[
        "manifest check absent.manifest.json",
        "manifest check list.manifest.json",
        "manifest check cut.manifest.json",
        "manifest show cut.manifest.json",
    ]));
}

/// The report that `report`'s own tests pin: one variant for each way to end.
fn sample_report() -> serde_json::Value {
    let file = "coremill__report__tests__json_is_read_back_and_written_the_same.snap";
    let text = fs_err::read_to_string(root("src/report/snapshots").join(file)).unwrap();
    let (_, json) = text.trim_start_matches("---").split_once("\n---\n").unwrap();
    serde_json::from_str(json).unwrap()
}

/// A folder with that report whole, and with those of its variants alone that end with each status.
fn reports() -> Sandbox {
    let sandbox = Sandbox::bare();
    let whole = sample_report();
    sandbox.write("report.json", whole.to_string());
    for status in ["pass", "fail", "inconclusive", "invalid", "error"] {
        let mut part = whole.clone();
        let variants = part["variants"].as_array_mut().unwrap();
        variants.retain(|variant| variant["status"] == status);
        assert!(status == "inconclusive" || !variants.is_empty(), "{status}");
        sandbox.write(&format!("{status}.json"), part.to_string());
    }
    sandbox.write("cut.json", "{\"schema_version\": 1");
    let mut future = whole;
    future["schema_version"] = 99.into();
    sandbox.write("future.json", future.to_string());
    sandbox
}

#[test]
fn a_report_is_drawn_again() {
    let sandbox = reports();
    assert_snapshot!(sandbox.session(&[
        "report table report.json",
        "report markdown report.json",
        "report table absent.json",
        "report table cut.json",
        "report table future.json",
    ]));
    let again = sandbox.run(&["report", "table", "report.json", "--format", "json"]).ends(0).json();
    assert_eq!(again, sample_report());
}

#[test]
fn reports_are_drawn_for_machines_merged_and_compared() {
    let sandbox = reports();
    let mut other = sample_report();
    other["spec_sha256"] = "0".repeat(64).into();
    sandbox.write("other.json", other.to_string());
    assert_snapshot!(sandbox.session(&[
        "report github report.json",
        "report junit report.json -o junit.xml",
        "report csv absent.json",
        "report html report.json",
        "report html cut.json -o page.html",
        "report merge pass.json fail.json invalid.json -o merged.json",
        "report merge pass.json other.json -o merged.json",
        "report compare pass.json report.json",
        "report compare pass.json",
    ]));
    sandbox.run(&["report", "html", "report.json", "fail.json", "-o", "page.html"]).ends(0);
    let read = |name: &str| fs_err::read_to_string(sandbox.path().join(name)).unwrap();
    let page = read("page.html");
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    let merged = read("merged.json");
    let merged: serde_json::Value = serde_json::from_str(&merged).unwrap();
    assert_eq!(merged["summary"]["variants"], 3);
    assert_eq!(merged["shards"].as_array().unwrap().len(), 3);
    let args = ["report", "compare", "pass.json", "report.json", "--format", "json"];
    let compared = sandbox.run(&args).ends(0).json();
    assert_eq!(compared["only_second"].as_array().unwrap().len(), 4);
}

#[test]
fn a_report_is_judged_by_its_own_gates_or_by_others() {
    let sandbox = reports();
    let cases = [
        ("gate pass.json", 0),
        ("gate fail.json", 1),
        ("gate invalid.json", 3),
        ("gate report.json", 1),
        ("gate pass.json --gate cosine=0.9999999", 1),
        ("gate pass.json --gate cosine=off", 0),
        // 0.0001 more perplexity with a standard error of 0.00005 straddles a limit of 0.00015.
        ("gate pass.json --gate perplexity_increase=0.015%", 3),
        ("gate pass.json --gate cosin=0.9", 2),
        ("gate pass.json --gate cosine", 2),
        ("gate pass.json --gate cosine=high", 2),
        ("gate absent.json", 2),
    ];
    for (line, code) in cases {
        let args: Vec<&str> = line.split_whitespace().collect();
        let ran = sandbox.run(&args);
        assert_eq!(ran.code, Some(code), "{line}: {ran:?}");
    }
    let lines: Vec<&str> = cases.iter().map(|(line, _)| *line).collect();
    assert_snapshot!(sandbox.session(&lines[4..]));
    let verdicts = sandbox.run(&["gate", "report.json", "--format", "json"]).ends(1).json();
    assert_eq!(verdicts.as_array().unwrap().len(), 5);
}

#[test]
fn a_report_is_judged_by_an_older_one() {
    let sandbox = reports();
    // The variant, the figure as it was, and the exit code of what is now against that.
    let cases: &[(&str, &str, f64, u8)] = &[
        ("same", "/measurements/peak_memory", 0.0, 0),
        ("diverged less", "/measurements/perplexity/divergence/value", -1.0, 1),
        ("diverged more", "/measurements/perplexity/divergence/value", 1.0, 0),
        ("was smaller", "/size_bytes", -0.5, 1),
        ("was nearer", "/measurements/similarity/minimum/value", 0.002, 1),
        ("took less memory", "/measurements/peak_memory", -0.5, 1),
        ("was faster", "/measurements/latency/decode/p50", -0.5, 1),
    ];
    let mut now = sample_report();
    now["variants"].as_array_mut().unwrap().retain(|variant| variant["status"] == "pass");
    for (name, pointer, change, code) in cases {
        let mut old = now.clone();
        for variant in old["variants"].as_array_mut().unwrap() {
            let figure = variant.pointer_mut(pointer).unwrap();
            let value = figure.as_f64().unwrap();
            let relative = !pointer.contains("divergence") && !pointer.contains("minimum");
            let was = if relative { value * (1.0 + change) } else { value + change };
            *figure = if figure.is_u64() { (was as u64).into() } else { was.into() };
        }
        let file = format!("{}.json", name.replace(' ', "-"));
        sandbox.write(&file, old.to_string());
        let ran = sandbox.run(&["gate", "pass.json", "--baseline", &file]);
        assert_eq!(ran.code, Some(i32::from(*code)), "{name}: {ran:?}");
    }
    // Times of another machine say nothing.
    let mut old = now.clone();
    old["environment"]["cores"] = "96".into();
    sandbox.write("elsewhere.json", old.to_string());
    assert_snapshot!(sandbox.session(&[
        "gate pass.json --baseline elsewhere.json --gate speed_regression=5%",
        "gate pass.json --baseline was-smaller.json --gate size_regression=off",
        "gate pass.json --baseline was-smaller.json --form junit",
        "gate pass.json --baseline was-smaller.json --form github",
        "gate pass.json --baseline was-smaller.json --form markdown",
        "gate pass.json --baseline absent.json",
    ]));
}

/// A llama of 8 ids and width 4, complete in its one file.
const CONFIG: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 8,
    "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": true, "torch_dtype": "float32"}"#;

fn weights() -> Vec<u8> {
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![8, 4]),
        ("model.norm.weight".to_owned(), vec![4]),
        (layer("input_layernorm"), vec![4]),
        (layer("post_attention_layernorm"), vec![4]),
        (layer("self_attn.q_proj"), vec![4, 4]),
        (layer("self_attn.k_proj"), vec![2, 4]),
        (layer("self_attn.v_proj"), vec![2, 4]),
        (layer("self_attn.o_proj"), vec![4, 4]),
        (layer("mlp.gate_proj"), vec![8, 4]),
        (layer("mlp.up_proj"), vec![8, 4]),
        (layer("mlp.down_proj"), vec![4, 8]),
    ];
    let values: Vec<Vec<f32>> = shapes
        .iter()
        .map(|(_, shape)| (0..shape.iter().product::<usize>()).map(|i| i as f32 / 8.0).collect())
        .collect();
    let tensors: Vec<(&str, &[usize], &[f32])> = shapes
        .iter()
        .zip(&values)
        .map(|((name, shape), values)| (name.as_str(), shape.as_slice(), values.as_slice()))
        .collect();
    safetensors(&tensors)
}

fn tokenizer(n: usize) -> String {
    let vocab: serde_json::Map<_, _> = (0..n).map(|i| (format!("w{i}"), i.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    })
    .to_string()
}

/// The checkpoint at `name`, to be damaged.
fn checkpoint(sandbox: &Sandbox, name: &str) {
    sandbox.write(&format!("{name}/config.json"), CONFIG);
    sandbox.write(&format!("{name}/model.safetensors"), weights());
    sandbox.write(&format!("{name}/tokenizer.json"), tokenizer(8));
}

#[cfg(feature = "hub")]
fn adapter(sandbox: &Sandbox, name: &str, width: usize, b: f32) {
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}"#;
    sandbox.write(&format!("{name}/adapter_config.json"), config);
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj";
    let (a, b_name) = (format!("{prefix}.lora_A.weight"), format!("{prefix}.lora_B.weight"));
    let tensors: [(&str, &[usize], &[f32]); 2] =
        [(&a, &[2, width], &vec![0.5; 2 * width]), (&b_name, &[width, 2], &vec![b; 2 * width])];
    sandbox.write(&format!("{name}/adapter_model.safetensors"), safetensors(&tensors));
}

#[cfg(feature = "hub")]
#[test]
fn a_checkpoint_that_cannot_be_converted_is_refused_before_python_starts() {
    let sandbox = Sandbox::bare();
    for name in ["good", "cut", "lost", "greedy", "noconfig", "badindex"] {
        checkpoint(&sandbox, name);
    }
    let whole = weights();
    sandbox.write("cut/model.safetensors", &whole[..whole.len() - 10]);
    fs_err::remove_file(sandbox.path().join("lost/model.safetensors")).unwrap();
    let index = r#"{"metadata": {}, "weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}"#;
    sandbox.write("lost/model.safetensors.index.json", index);
    sandbox.write("badindex/model.safetensors.index.json", "{\"weight_map\": 3}");
    fs_err::remove_file(sandbox.path().join("badindex/model.safetensors")).unwrap();
    sandbox.write("greedy/tokenizer.json", tokenizer(9));
    fs_err::remove_file(sandbox.path().join("noconfig/config.json")).unwrap();
    adapter(&sandbox, "wide", 6, 0.5);
    adapter(&sandbox, "idle", 4, 0.0);
    fs_err::create_dir(sandbox.path().join("noadapter")).unwrap();
    sandbox.write("taken.mlpackage/Manifest.json", "{}");
    sandbox.write("split.decode.mlpackage/Manifest.json", "{}");
    let before = sandbox.entries("");
    let convert =
        |rest: &str| format!("convert --seq-len 32 --prompt-chunk 16 -o x.mlpackage {rest}");
    let lines = [
        convert("--model ./nowhere"),
        convert("--model not-there"),
        convert("--model noconfig"),
        convert("--model cut"),
        convert("--model lost"),
        convert("--model badindex"),
        convert("--model greedy"),
        "convert --model good --seq-len 128 -o x.mlpackage".to_owned(),
        "convert --model good --seq-len 40 --prompt-chunk 16 -o x.mlpackage".to_owned(),
        "convert --model good --seq-len 32 -o taken.mlpackage".to_owned(),
        "convert --model good --seq-len 32 -o taken.mlpackage --recipe int8-c".to_owned(),
        convert("--model good --minimum-deployment-target iOS17"),
        "convert --model good --seq-len 32 -o split.mlpackage --kv-cache io --minimum-deployment-target iOS17"
            .to_owned(),
        convert("--model good --lora-checkpoint wide"),
        convert("--model good --lora-checkpoint idle"),
        convert("--model good --lora-checkpoint noadapter"),
        convert("--model good --lora-checkpoint ./nowhere"),
        convert("--model good --llm2vec-checkpoint wide"),
        convert("--model good --recipe pal5-g16"),
        convert("--model good --wbits 5"),
        convert("--model good --wbits 4 --mixed-precision attention"),
        convert("--model good --wbits 4 --mixed-precision atention=6"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let session = sandbox.session(&lines);
    assert_eq!(sandbox.entries(""), before);
    assert_snapshot!(session);
}

#[test]
fn a_dry_run_foretells_and_writes_nothing() {
    let sandbox = Sandbox::bare();
    checkpoint(&sandbox, "good");
    let args = ["convert", "--model", "good", "--seq-len", "32", "-o", "x.mlpackage", "--dry-run"];
    let told = sandbox.run(&args).ends(0);
    assert!(told.stdout.starts_with("188 parameters; expected: package "), "{}", told.stdout);
    let json = sandbox.run(&[&args[..], &["--format", "json"]].concat()).ends(0).json();
    assert_eq!(json["parameters"], 188);
    assert_eq!(sandbox.entries(""), ["good"]);
}

#[cfg(feature = "python")]
#[test]
fn without_network_the_first_conversion_says_what_it_needs() {
    let sandbox = Sandbox::bare();
    checkpoint(&sandbox, "good");
    let args = ["convert", "--model", "good", "--seq-len", "32", "-o", "x.mlpackage"];
    let ran = sandbox.run(&args).ends(4);
    assert!(ran.stdout.is_empty());
    let (before, last) = ran.stderr.trim_end().rsplit_once('\n').unwrap();
    assert!(last.starts_with("hint: "), "{}", ran.stderr);
    assert!(before.lines().last().unwrap().starts_with("error: "), "{}", ran.stderr);
    assert_eq!(sandbox.entries(""), ["good"]);
}

#[cfg(not(feature = "python"))]
#[test]
fn a_build_without_python_says_so() {
    let sandbox = Sandbox::bare();
    checkpoint(&sandbox, "good");
    assert_snapshot!(
        sandbox.session(&["convert --model good --seq-len 32 -o x.mlpackage --quiet"])
    );
    assert_eq!(sandbox.entries(""), ["good"]);
}

#[test]
fn a_sweep_with_mistakes_is_refused_in_its_line() {
    let sandbox = Sandbox::bare();
    checkpoint(&sandbox, "good");
    let good = "[model]\npath = \"good\"\nseq_len = 32\n\n[output]\ndir = \"out\"\n\n[variants]\nrecipes = [\"pal4-t\"]\n";
    sandbox.write("good.toml", good);
    sandbox.write("key.toml", good.replace("seq_len", "seq_length"));
    sandbox.write("recipe.toml", good.replace("pal4-t", "pal5-t"));
    sandbox.write("type.toml", good.replace("= 32", "= \"32\""));
    sandbox.write("place.toml", good.replace("\"good\"", "\"bad\""));
    sandbox.write("cut.toml", "[model\n");
    assert_snapshot!(sandbox.session(&[
        "sweep absent.toml",
        "sweep key.toml",
        "sweep recipe.toml",
        "sweep type.toml",
        "sweep place.toml",
        "sweep cut.toml",
        "sweep good.toml --dry-run",
    ]));
    assert!(sandbox.entries("out").is_empty());
}

#[test]
fn evaluations_without_what_they_need_are_refused() {
    let sandbox = packages();
    checkpoint(&sandbox, "good");
    sandbox.write("prompts.json", "[1, 2]");
    assert_snapshot!(sandbox.session(&[
        "verify tiny.mlpackage",
        "verify tiny.mlpackage --reference good --gate speed=9",
        "verify tiny.mlpackage --reference good --prompts prompts.json",
        "verify tiny.mlpackage --reference good --prompts absent.json",
        "generate tiny.mlpackage -p hello",
        "generate nowhere.mlpackage -p hello",
        "embed tiny.mlpackage -t hello",
    ]));
}

#[test]
fn json_answers_are_json_and_nothing_else() {
    let sandbox = reports();
    copy(&root("tests/fixtures/tiny.mlpackage"), &sandbox.path().join("tiny.mlpackage"));
    sandbox.write("x.safetensors", safetensors(&[("x", &[1, 64], &[1.0; 64])]));
    let answered = [
        "explain",
        "explain cosine",
        "inspect tiny.mlpackage",
        "quantize tiny.mlpackage -r int4-b32 -o out.mlpackage",
        "predict tiny.mlpackage -i x.safetensors -o y.safetensors",
        "report table report.json",
        "report markdown report.json",
        "gate pass.json",
        "doctor",
    ];
    for line in answered {
        let args: Vec<&str> = line.split_whitespace().chain(["--format", "json"]).collect();
        let ran = sandbox.run(&args);
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        ran.json();
    }
    for line in ["explain cosin", "inspect nowhere.mlpackage", "gate absent.json"] {
        let args: Vec<&str> = line.split_whitespace().chain(["--format", "json"]).collect();
        let ran = sandbox.run(&args).ends(2);
        assert!(ran.stdout.is_empty(), "{line}: {}", ran.stdout);
    }
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
}

/// The one weight matrix of `tiny`, row-major.
fn weight(package: &coremill::package::Package) -> Vec<f32> {
    let mut found = Vec::new();
    coremill::mil::edit::for_each_op(package.program(), &mut |_, op| {
        let value = op.const_value().filter(|v| v.as_blob().is_some());
        let shape =
            value.and_then(|v| v.ty.as_tensor()).and_then(coremill::mil::TensorType::fixed_shape);
        if let (Some(value), Some([32, 64])) = (value, shape.as_deref()) {
            let blobs = package.blobs();
            let mut mapped = None;
            let bytes = coremill::mil::constant_bytes(value, &*blobs, &mut mapped).unwrap();
            found = halves(&bytes);
        }
    });
    assert_eq!(found.len(), 32 * 64);
    found
}
