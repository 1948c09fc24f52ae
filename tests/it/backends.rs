//! What runs packages: the choice by argument and by `config.toml`, and what is said where there is no framework.

use insta::assert_snapshot;

use crate::support::{Sandbox, copy, root, safetensors};

fn tiny() -> Sandbox {
    let sandbox = Sandbox::bare();
    copy(&root("tests/fixtures/tiny.mlpackage"), &sandbox.path().join("tiny.mlpackage"));
    sandbox.write("x.safetensors", safetensors(&[("x", &[1, 64], &[0.5; 64])]));
    sandbox
}

#[cfg(not(target_os = "macos"))]
#[test]
fn without_the_framework_the_interpreter_runs_unless_it_is_not_wanted() {
    let sandbox = tiny();
    let predict = "predict tiny.mlpackage -i x.safetensors -o y.safetensors";
    assert_snapshot!(sandbox.session(&[
        &format!("{predict} --backend auto --format json"),
        &format!("{predict} --backend coreml,interp --compute-units CPU_AND_NE"),
        &format!("{predict} --backend coreml"),
        &format!("{predict} --backend coreml --tap linear_0_cast_fp16"),
        &format!("{predict} --backend coremill"),
        &format!("{predict} --compute-units GPU"),
        "verify tiny.mlpackage --backend both",
        "verify tiny.mlpackage --backend both --reference model",
        "verify tiny.mlpackage --backend coreml --reference model",
        "evaluate tiny.mlpackage --backend coreml --reference model",
        "inspect tiny.mlpackage --compute-plan",
        "inspect tiny.mlpackage --compute-units ALL",
    ]));
}

#[test]
fn the_configuration_chooses_where_no_argument_does() {
    let sandbox = tiny();
    let backend = |args: &[&str]| {
        let predict = ["predict", "tiny.mlpackage", "-i", "x.safetensors", "-o", "y.safetensors"];
        let all = [&predict, args, &["--format", "json"]].concat();
        sandbox.run(&all).ends(0).json()["backend"]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(backend(&[]), "it was asked for");
    sandbox.configure("backend = \"coreml\"\n");
    assert_eq!(backend(&["--backend", "interp"]), "it was asked for");
    if cfg!(not(target_os = "macos")) {
        let refused = sandbox.run(&["predict", "tiny.mlpackage", "-i", "x.safetensors", "-o", "z"]);
        refused.ends(4);
    }
    sandbox.configure("bakend = \"interp\"\n");
    let line = sandbox.show("predict tiny.mlpackage -i x.safetensors -o y.safetensors");
    assert_snapshot!(line);
    // What asks for no runtime does not read it.
    sandbox.run(&["inspect", "tiny.mlpackage"]).ends(0);
}

#[test]
fn the_doctor_names_the_runtime_and_its_reason() {
    let sandbox = Sandbox::bare();
    sandbox.configure("compute_units = \"CPU_ONLY\"\nbackend = \"interp\"\n");
    let found = sandbox.run(&["doctor", "--format", "json"]).ends(0).json();
    let runtime = &found["runtime"];
    assert_eq!(runtime["backend"]["name"], "interp");
    assert_eq!(runtime["compute_units"], "CPU_ONLY");
    assert_eq!(runtime["chain"], "interp");
    assert_eq!(runtime["coreml"].is_object(), cfg!(target_os = "macos"));
    assert!(found["os"].is_string(), "the rest is still there");
}
