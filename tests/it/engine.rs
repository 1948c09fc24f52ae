//! `quantize --engine coremltools`: what is refused before Python starts, and what its answers become.

use insta::assert_snapshot;

use crate::support::{Sandbox, copy, root};

fn with_packages(sandbox: &Sandbox) {
    for name in ["tiny", "tiny_multifunction", "compression/dense_ios18"] {
        let to = name.rsplit('/').next().unwrap_or_default();
        let fixture = root(&format!("tests/fixtures/{name}.mlpackage"));
        copy(&fixture, &sandbox.path().join(format!("{to}.mlpackage")));
    }
}

#[test]
fn what_coremltools_cannot_do_is_said_before_it_starts() {
    let sandbox = Sandbox::bare();
    with_packages(&sandbox);
    let before = sandbox.entries("");
    let quantize = |rest: &str| format!("quantize --engine coremltools -o out.mlpackage {rest}");
    let lines = [
        quantize("tiny_multifunction.mlpackage -r pal4-g16"),
        quantize("tiny.mlpackage -r pal4-g16 --exact"),
        quantize("tiny.mlpackage -r head=pal4-g16"),
        quantize("tiny.mlpackage -r pal4-g16 -o tiny.mlpackage").replace("-o out.mlpackage ", ""),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_snapshot!(sandbox.session(&lines));
    assert_eq!(sandbox.entries(""), before);
}

#[cfg(feature = "python")]
#[test]
fn python_compresses_what_the_recipe_names_and_says_what_it_left() {
    let sandbox = Sandbox::with_python();
    with_packages(&sandbox);
    let quantize = |rest: &str| format!("quantize -q --engine coremltools {rest}");
    let before = sandbox.entries("");
    // conv_transpose has 24 output channels.
    let refused = quantize("dense_ios18.mlpackage -r pal4-g16 -o out.mlpackage");
    assert_snapshot!("refused", sandbox.show(&refused));
    assert_eq!(sandbox.entries(""), before);

    let line =
        quantize("dense_ios18.mlpackage -r int8-c,/conv_w/=uint8-t,/blank/=fp16 -o out.mlpackage");
    assert_snapshot!("done", sandbox.show(&line));
    // Our threshold takes 2,048 elements, coremltools' does not.
    let line = quantize("tiny.mlpackage -r int8-c -o out.mlpackage --force --format json");
    let args: Vec<&str> = line.split_whitespace().collect();
    let answer = sandbox.run(&args).ends(0).json();
    assert_eq!(answer["search"], "coremltools");
    assert_eq!(answer["skipped"][0]["name"], "linear_0_weight_0");
    assert_eq!(answer["tensors"][0]["form"], "fp16");
    assert_eq!(sandbox.entries("").len(), before.len() + 1);
}
