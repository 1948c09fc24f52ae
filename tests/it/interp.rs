//! Packages that coremltools wrote, against what coremltools says of them.

use std::collections::BTreeMap;
use std::path::Path;

use coremill::interp::{Model, Options, Precision, Tensor};
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
