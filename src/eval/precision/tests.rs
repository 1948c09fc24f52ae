//! A normalization that overflows in fp16 is found, and where.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::blob::Blob;
use crate::interp::{Model, Options, Tensor};
use crate::mil::{
    Arg, BlobRef, Blobs, Block, ConstError, DType, NamedType, Op, Program, Type, Value,
};

struct NoBlobs;

impl Blobs for NoBlobs {
    fn blob(&self, at: &BlobRef) -> Result<Blob, ConstError> {
        Err(ConstError::Outside { name: at.file.clone() })
    }
}

/// One operation on values that were named before, or on numbers.
fn op(kind: &str, out: &str, shape: &[u64], args: &[(&str, Arg)]) -> Op {
    let ty = Type::tensor(DType::F16, shape);
    Op {
        kind: kind.to_owned(),
        inputs: args.iter().map(|(p, a)| ((*p).to_owned(), vec![a.clone()])).collect(),
        outputs: vec![NamedType { name: out.to_owned(), ty }],
        blocks: Vec::new(),
        attributes: BTreeMap::new(),
    }
}

fn name(name: &str) -> Arg {
    Arg::Name(name.to_owned())
}

/// x / √(mean x² + ε), written out as converters write it.
fn rms_norm() -> Program {
    let half = |v: f32| {
        let bytes = half::f16::from_f32(v).to_le_bytes().to_vec();
        let data = mil::Data::Tensor(mil::TensorData::Bytes(bytes));
        Arg::Value(Value { ty: Type::tensor(DType::F16, &[]), data })
    };
    let axes = mil::Data::Tensor(mil::TensorData::Ints(vec![-1]));
    let axes = Arg::Value(Value { ty: Type::tensor(DType::I32, &[1]), data: axes });
    let keep = Arg::Value(Value::bool(true));
    let ops = vec![
        op("mul", "squares", &[1, 4], &[("x", name("x")), ("y", name("x"))]),
        op(
            "reduce_mean",
            "mean",
            &[1, 1],
            &[("x", name("squares")), ("axes", axes), ("keep_dims", keep)],
        ),
        op("add", "shifted", &[1, 1], &[("x", name("mean")), ("y", half(1e-5))]),
        op("rsqrt", "scale", &[1, 1], &[("x", name("shifted")), ("epsilon", half(1e-12))]),
        op("mul", "y", &[1, 4], &[("x", name("x")), ("y", name("scale"))]),
    ];
    let x = NamedType { name: "x".to_owned(), ty: Type::tensor(DType::F16, &[1, 4]) };
    let function = mil::Function {
        inputs: vec![x],
        opset: "CoreML8".to_owned(),
        block: Block { outputs: vec!["y".to_owned()], ops, ..Block::default() },
        attributes: BTreeMap::new(),
    };
    let functions = BTreeMap::from([("main".to_owned(), function)]);
    Program { version: 1, functions, attributes: BTreeMap::new() }
}

fn report(x: [f32; 4]) -> Precisions {
    let program = rms_norm();
    let blobs: Arc<dyn Blobs> = Arc::new(NoBlobs);
    let [declared, f32] = [Precision::Declared, Precision::F32]
        .map(|precision| Model::load(&program, &blobs, Options { precision }).unwrap());
    let watched = Watched::of(declared.function("main").unwrap(), &program.functions["main"]);
    let inputs = [("x", Tensor::f32(&[1, 4], x.to_vec()))];
    of_function(
        &watched,
        (declared.function("main").unwrap(), &declared.state()),
        (f32.function("main").unwrap(), &f32.state()),
        &inputs,
    )
    .unwrap()
}

#[test]
fn a_normalization_that_overflows() {
    // 300² = 90 000 is beyond 65 504, the largest fp16; the mean follows, 1 / √∞ is 0, and so is the result.
    let found = report([300.0, -1.0, 2.0, 3.0]);
    assert_eq!(found.first().map(|op| (op.name.as_str(), op.index)), Some(("squares", 1)));
    let counts: Vec<_> = found
        .operations
        .iter()
        .map(|op| (op.at.as_str(), op.overflows, op.nans, op.underflows))
        .collect();
    let want = [
        ("main/squares", 1, 0, 0),
        ("main/mean", 1, 0, 0),
        ("main/shifted", 1, 0, 0),
        ("main/scale", 0, 0, 1),
        ("main/y", 0, 0, 4),
    ];
    assert_eq!(counts, want);
    let [squares, .., y] = found.operations.as_slice() else { panic!("five operations") };
    assert_eq!((squares.largest, squares.elements, squares.inputs_rms_error), (90_000.0, 4, None));
    assert_eq!((y.rms_error, y.max_error, y.inputs_rms_error), (1.0, 1.0, Some(1.0)));
    let worst: Vec<_> = found.worst(2).iter().map(|op| op.name.as_str()).collect();
    assert_eq!(worst, ["squares", "mean"]);
}

#[test]
fn one_that_does_not() {
    let found = report([3.0, -1.0, 2.0, 3.0]);
    assert_eq!((found.first, found.calls), (None, 1));
    for op in &found.operations {
        // Half a unit in the last place of fp16 for each operation so far.
        assert!(op.max_error <= 5.0 / 2048.0 && op.rms_error <= 1.001 * op.max_error, "{op:?}");
    }
    // 3² and 1² are exact; their mean of 5.75 too.
    assert!(found.operations[1].rms_error <= 0.0);
    assert!(found.worst(9).iter().all(|op| !["squares", "mean"].contains(&op.name.as_str())));
}

#[test]
fn values_are_held_in_batches() {
    let of = |bytes: &[u64]| -> Vec<Watched> {
        let one = |&bytes: &u64| Watched {
            name: String::new(),
            kind: String::new(),
            dtype: DType::F16,
            bytes,
            reads: Vec::new(),
        };
        bytes.iter().map(one).collect()
    };
    let cases: [(&[u64], Vec<std::ops::Range<usize>>); 4] = [
        (&[], vec![]),
        (&[4, 4, 4], vec![0..2, 2..3]),
        (&[99, 1, 1], vec![0..1, 1..3]),
        (&[u64::MAX, u64::MAX], vec![0..1, 1..2]),
    ];
    for (bytes, want) in cases {
        assert_eq!(batches(&of(bytes), 8), want);
    }
}
