//! Every scheme against what coremltools stores: `fixtures/compression/coremltools.json`, written by `make.py` beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coremill::base::digest;
use coremill::base::progress::Silent;
use coremill::compress::{self, Options, Recipe};
use coremill::mil::{Arg, DType, Data, Op, TensorData, Value, edit};
use coremill::package::Package;
use coremill::quant::{Bits, pack};
use regex::Regex;
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    weights: BTreeMap<String, Original>,
    packages: BTreeMap<String, BTreeMap<String, Case>>,
}

#[derive(Deserialize)]
struct Original {
    squares: f64,
}

#[derive(Deserialize)]
struct Case {
    error: Option<String>,
    #[serde(default)]
    weights: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    weight: String,
    skipped: Option<String>,
    error: Option<String>,
    #[serde(default)]
    ops: Vec<Stored>,
    squared_error: Option<f64>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Stored {
    #[serde(rename = "type")]
    kind: String,
    params: BTreeMap<String, Parameter>,
}

#[derive(Deserialize, Debug, PartialEq, Clone)]
#[serde(untagged)]
enum Parameter {
    From { from: serde_json::Value },
    Scalar { dtype: String, value: serde_json::Value },
    Tensor { dtype: String, shape: Vec<u64>, sha256: String },
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compression")
}

/// The operations that make `weight` in `package`, in the order of the program.
fn ops(package: &Package, weight: &str) -> Vec<Op> {
    let mut all: BTreeMap<String, Op> = BTreeMap::new();
    let mut order = Vec::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        if op.kind.starts_with("constexpr_") {
            all.extend(op.outputs.iter().map(|output| (output.name.clone(), op.clone())));
            order.push(op.clone());
        }
    });
    let mut wanted = vec![weight.to_owned()];
    let mut found: Vec<Op> = Vec::new();
    while let Some(name) = wanted.pop() {
        let Some(op) = all.get(&name) else { continue };
        if !found.contains(op) {
            found.push(op.clone());
        }
        wanted.extend(op.inputs.values().flatten().filter_map(|arg| match arg {
            Arg::Name(name) => Some(name.clone()),
            Arg::Value(_) => None,
        }));
    }
    order.retain(|op| found.contains(op));
    order
}

/// The elements of a value, types below a byte one a byte.
fn elements(package: &Package, value: &Value) -> Vec<u8> {
    let tensor = value.ty.as_tensor().unwrap();
    let n = usize::try_from(tensor.elements().unwrap()).unwrap();
    let bytes = match &value.data {
        Data::Blob(at) => package.blobs().blob(at).unwrap().bytes().to_vec(),
        Data::Tensor(TensorData::Bytes(bytes)) => bytes.clone(),
        Data::Tensor(TensorData::Ints(ints)) => ints.iter().flat_map(|i| i.to_le_bytes()).collect(),
        other => panic!("a parameter is {other:?}"),
    };
    match u8::try_from(tensor.dtype.bits()).ok().and_then(Bits::new) {
        None => bytes,
        Some(bits) => {
            let mut codes = pack::unpack(&bytes, bits, n).unwrap();
            if tensor.dtype == DType::I4 {
                for code in &mut codes {
                    *code = ((*code << 4) as i8 >> 4) as u8;
                }
            }
            codes
        }
    }
}

fn name(dtype: DType) -> String {
    dtype.to_string()
}

/// What is stored of an operation, as the oracle says it; the digests of parameters in `vague` are left out.
fn compare(package: &Package, found: &[Op], expected: &[Stored], exact: bool, at: &str) {
    let kinds: Vec<_> = found.iter().map(|op| op.kind.as_str()).collect();
    let wanted: Vec<_> = expected.iter().map(|op| op.kind.as_str()).collect();
    assert_eq!(kinds, wanted, "{at}");
    for (op, stored) in found.iter().zip(expected) {
        let arguments: BTreeMap<&str, Option<&Value>> = op
            .inputs
            .iter()
            .map(|(parameter, args)| match args.as_slice() {
                [Arg::Value(value)] => (parameter.as_str(), Some(value)),
                _ => (parameter.as_str(), None),
            })
            .chain(op.attributes.iter().map(|(name, value)| (name.as_str(), Some(value))))
            .filter(|(parameter, _)| *parameter != "name")
            .collect();
        let names: Vec<_> = arguments.keys().copied().collect();
        let expected_names: Vec<_> = stored.params.keys().map(String::as_str).collect();
        assert_eq!(names, expected_names, "{at}, {}", op.kind);
        for (parameter, value) in arguments {
            let place = format!("{at}, {}, {parameter}", op.kind);
            match (&stored.params[parameter], value) {
                (Parameter::From { .. }, None) => {}
                // Either the mask itself or what the operation before it says about it, which is the same.
                (Parameter::Tensor { .. }, None) if parameter == "mask" => {}
                (Parameter::Scalar { dtype, value: scalar }, Some(value)) => {
                    assert_eq!(name(value.ty.as_tensor().unwrap().dtype), *dtype, "{place}");
                    let bytes = elements(package, value);
                    let found = match value.ty.as_tensor().unwrap().dtype {
                        DType::F16 => f64::from(half::f16::from_le_bytes([bytes[0], bytes[1]])),
                        DType::I8 => f64::from(bytes[0] as i8),
                        DType::U8 => f64::from(bytes[0]),
                        _ => f64::from(i32::from_le_bytes(bytes.try_into().unwrap())),
                    };
                    assert!(
                        !exact || Some(found) == scalar.as_f64(),
                        "{place}: {found}, not {scalar}"
                    );
                }
                (Parameter::Tensor { dtype, shape, sha256 }, Some(value)) => {
                    let tensor = value.ty.as_tensor().unwrap();
                    assert_eq!(name(tensor.dtype), *dtype, "{place}");
                    let found_shape = tensor.fixed_shape().unwrap();
                    assert!(found_shape == *shape, "{place}: {found_shape:?}, not {shape:?}");
                    if exact {
                        let found = digest::of_bytes(&elements(package, value));
                        assert_eq!(found[..32], *sha256, "{place}");
                    }
                }
                (expected, found) => panic!("{place}: {found:?}, not {expected:?}"),
            }
        }
    }
}

/// Whether inputs have scales: coremltools repeats the tables for each of them, which then take more than the indices.
fn is_scaled(scheme: &str) -> bool {
    scheme.split('+').any(|word| word.ends_with("-si"))
}

/// The digests of the indices of a palette.
fn indices(package: &Package, found: &[Op], expected: &[Stored]) -> (String, String) {
    let table = |kind: &str| kind == "constexpr_lut_to_dense";
    let found = found.iter().find(|op| table(&op.kind)).unwrap();
    let [Arg::Value(value)] = found.inputs["indices"].as_slice() else { panic!("{found:?}") };
    let expected = expected.iter().find(|op| table(&op.kind)).unwrap();
    let Parameter::Tensor { sha256, .. } = &expected.params["indices"] else { panic!() };
    (digest::of_bytes(&elements(package, value))[..32].to_owned(), sha256.clone())
}

#[test]
fn what_coremltools_stores() {
    let text = fs_err::read_to_string(folder().join("coremltools.json")).unwrap();
    let oracle: Oracle = serde_json::from_str(&text).unwrap();
    let options = Options { may_skip: vec![Regex::new("").unwrap()], ..Options::default() };
    let (mut n_same, mut n_compared) = (0, 0);
    for (package, cases) in &oracle.packages {
        let dense = Package::open(&folder().join(format!("{package}.mlpackage"))).unwrap();
        for (scheme, case) in cases {
            let at = format!("{package}, {scheme}");
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("c.mlpackage");
            let rules: Vec<_> = match case.error {
                // What it refuses, ours may do; and nobody means to keep nothing.
                Some(_) => continue,
                None if scheme == "sparse100" => continue,
                None => case.weights.iter().map(|l| format!("/^{}$/={scheme}", l.weight)).collect(),
            };
            let Ok(recipe) = rules.join(",").parse::<Recipe>() else {
                // Forms that fail there too, or are another thing there.
                let failed = case.weights.iter().all(|l| l.error.is_some() || l.skipped.is_some());
                assert!(failed || is_scaled(scheme) || scheme == "uniform4-t-v2", "{at}");
                continue;
            };
            let made = compress::run(&dense, &recipe, &out, &options, &Silent)
                .unwrap_or_else(|error| panic!("{at}: {error}"));
            let written = Package::open(&out).unwrap();
            let kmeans = scheme.contains("pal");
            // Blocks of zeros: coremltools divides by their range, which is 0, and stores what comes of it.
            let divides = scheme.contains("int") || scheme.contains("uniform");
            for line in &case.weights {
                let at = format!("{at}, {}", line.weight);
                let skipped = made.skipped.iter().find(|s| s.name == line.weight);
                if line.skipped.is_some() || line.error.is_some() {
                    continue;
                }
                // It goes on after the first of two passes where the second does not fit.
                let half =
                    scheme.starts_with("sparse") && scheme.contains('+') && line.ops.len() == 1;
                if half {
                    assert!(skipped.is_some(), "{at}");
                    continue;
                }
                assert!(skipped.is_none(), "{at}: {skipped:?}");
                let found = ops(&written, &line.weight);
                // Tables of fewer than ten entries stay fp16 there, and those behind scales.
                let int8 = |op: &Stored| matches!(&op.params["data"], Parameter::Tensor { dtype, .. } if dtype == "int8");
                let small = scheme.ends_with("+lut8")
                    && !line
                        .ops
                        .iter()
                        .any(|op| op.kind == "constexpr_blockwise_shift_scale" && int8(op));
                let vague = kmeans || divides && line.weight == "blank_weight";
                let exact = !vague;
                if is_scaled(scheme) {
                    let (found, expected) = indices(&written, &found, &line.ops);
                    assert!(!exact || small || found == expected, "{at}");
                    n_same += usize::from(exact && !small);
                } else if !small {
                    compare(&written, &found, &line.ops, exact, &at);
                    n_same += usize::from(exact);
                }
                let audit = made.tensors.iter().find(|t| t.name == line.weight).unwrap();
                let squares = oracle.weights[&line.weight].squares;
                let error = audit.relative_error.unwrap().powi(2) * squares;
                let theirs = line.squared_error.unwrap();
                // Entries of eight bits against those that it leaves in sixteen.
                if !(small && is_scaled(scheme)) {
                    assert!(error <= theirs * 1.001 + 1e-12, "{at}: {error} against {theirs}");
                    n_compared += 1;
                }
            }
        }
    }
    assert!(n_same > 100 && n_compared > 200, "{n_same} and {n_compared}");
}
