//! Packages that coremltools wrote, against what coremltools says of them.

use std::collections::BTreeMap;
use std::path::Path;

use coremill::interp::{Label, Model, Options, Precision, Tensor, Value};
use coremill::package::Package;

fn fixture(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/interp");
    let package = Package::open(&folder.join(name)).expect("the fixture opens");
    let options = Options { precision: Precision::Declared };
    Model::load(package.program(), &package.blobs(), options).expect("the fixture loads")
}

#[test]
fn compressed_constants_are_what_coremltools_expands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/interp");
    let text = fs_err::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, BTreeMap<String, Vec<f32>>> =
        serde_json::from_str(&text).unwrap();
    let mut forms = 0;
    for (package, constants) in expected {
        let model = fixture(&format!("{package}.mlpackage"));
        let function = model.function("main").unwrap();
        let x = Tensor::f32(&[8, 12], vec![0.0; 96]);
        let outputs = function.run(&[("x", x)], &mut model.state(), &[]).unwrap();
        for (form, want) in constants {
            let got = outputs.get(&form).unwrap().to_f32().unwrap();
            assert_eq!(got, want, "{package}/{form}");
            forms += 1;
        }
    }
    assert_eq!(forms, 21);
}

/// Shape and elements as `expected.json` holds them.
#[derive(serde::Deserialize)]
struct Plain {
    shape: Vec<usize>,
    values: Vec<f32>,
}

type Case = BTreeMap<String, BTreeMap<String, Plain>>;

fn edge(name: &str) -> (Model, Case) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/edge");
    let package = Package::open(&folder.join(format!("{name}.mlpackage"))).unwrap();
    let options = Options { precision: Precision::Declared };
    let model = Model::load(package.program(), &package.blobs(), options).unwrap();
    let text = fs_err::read_to_string(folder.join("expected.json")).unwrap();
    let mut cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    (model.with_rules(&package.model().rules().unwrap()), cases.remove(name).unwrap())
}

fn given(case: &Case) -> Vec<(&str, Tensor)> {
    let tensor = |t: &Plain| Tensor::f32(&t.shape, t.values.clone());
    case["inputs"].iter().map(|(name, t)| (name.as_str(), tensor(t))).collect()
}

#[test]
fn packages_with_loops_and_flexible_shapes_give_what_torch_gives() {
    for name in ["ranged", "control"] {
        let (model, case) = edge(name);
        let function = model.function("main").unwrap();
        let got = function.run(&given(&case), &mut model.state(), &[]).unwrap();
        for (output, want) in &case["outputs"] {
            let tensor = got.get(output).unwrap();
            assert_eq!(tensor.shape(), want.shape, "{name}/{output}");
            assert_eq!(tensor.to_f32().unwrap(), want.values, "{name}/{output}");
        }
    }
}

#[test]
fn a_classifier_names_the_class_of_an_image() {
    let (model, case) = edge("classifier");
    let function = model.function("main").unwrap();
    let got = function.run(&given(&case), &mut model.state(), &[]).unwrap();
    let want = &case["outputs"]["probabilities"].values;
    let Some(Value::Dictionary(probabilities)) = got.value("classLabel_probs") else {
        panic!("{got:?}");
    };
    for ((_, got), &want) in probabilities.iter().zip(want) {
        assert!((got - f64::from(want)).abs() < 1e-3, "{got} for {want}, in fp16");
    }
    let classes = ["cat", "dog", "owl", "fox"];
    let best = (0..4).max_by(|&a, &b| want[a].total_cmp(&want[b])).unwrap();
    let Some(Value::Label(Label::Text(label))) = got.value("classLabel") else { panic!("{got:?}") };
    assert_eq!(label, classes[best]);
}

#[test]
fn shapes_that_are_not_allowed_are_refused() {
    let cases: &[(&str, &str, &[usize], &str)] = &[
        ("ranged", "x", &[4, 8], ""),
        ("ranged", "x", &[1, 2], ""),
        (
            "ranged",
            "x",
            &[5, 8],
            "input `x` should be fp32[?, ?] of shape [1..=4, 2..=8], not fp32[5, 8]",
        ),
        (
            "classifier",
            "image",
            &[1, 3, 8, 9],
            "input `image` should be fp32[1, 3, 8, ?] of shape [1, 3, 8, 8] or [1, 3, 8, 12], \
             not fp32[1, 3, 8, 9]",
        ),
    ];
    for (name, input, shape, want) in cases {
        let model = edge(name).0;
        let tensor = Tensor::f32(shape, vec![1.0; shape.iter().product()]);
        let run = model.function("main").unwrap().run(&[(*input, tensor)], &mut model.state(), &[]);
        assert_eq!(run.err().map_or(String::new(), |e| e.to_string()), *want);
    }
}
