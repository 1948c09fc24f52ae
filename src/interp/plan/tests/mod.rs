//! Programs made by hand: what is folded, what stays in place, what is refused.

mod bounds;
mod lists;
mod nested;

use std::sync::Arc;

use super::*;
use crate::interp::testing::{NoBlobs, value};
use crate::interp::{Model, Precision, State, Tensor};
use crate::mil::{Arg, Block, DType, NamedType, Op, Type, Value};

fn named(name: &str, dtype: DType, shape: &[u64]) -> NamedType {
    NamedType { name: name.to_owned(), ty: Type::tensor(dtype, shape) }
}

fn op(kind: &str, args: &[(&str, Arg)], out: Option<NamedType>) -> Op {
    Op {
        kind: kind.to_owned(),
        inputs: args.iter().map(|(p, a)| ((*p).to_owned(), vec![a.clone()])).collect(),
        outputs: out.into_iter().collect(),
        blocks: Vec::new(),
        attributes: BTreeMap::new(),
    }
}

fn name(name: &str) -> Arg {
    Arg::Name(name.to_owned())
}

fn program_of(inputs: Vec<NamedType>, ops: Vec<Op>, outputs: &[&str]) -> Program {
    let outputs = outputs.iter().map(|&o| o.to_owned()).collect();
    let function = mil::Function {
        inputs,
        opset: "CoreML8".to_owned(),
        block: Block { outputs, ops, ..Block::default() },
        attributes: BTreeMap::new(),
    };
    let functions = BTreeMap::from([("main".to_owned(), function)]);
    Program { version: 1, functions, attributes: BTreeMap::new() }
}

fn load(program: &Program) -> Result<Model, LoadError> {
    let blobs: Arc<dyn Blobs> = Arc::new(NoBlobs);
    Model::load(program, &blobs, Options { precision: Precision::Declared })
}

/// `cache[at:at+1] = x`, twice, as a decoder with two layers does it.
fn cache() -> Program {
    let state = NamedType {
        name: "cache".to_owned(),
        ty: Type::State(Box::new(Type::tensor(DType::F16, &[2, 3]))),
    };
    let at = |i| Arg::Value(value(&Tensor::i32(&[2], i)));
    let layer = |i: i32, read: &str, new: &str| {
        vec![
            op("read_state", &[("input", name("cache"))], Some(named(read, DType::F16, &[2, 3]))),
            op(
                "slice_update",
                &[
                    ("x", name(read)),
                    ("update", name("x")),
                    ("begin", at(vec![i, 0])),
                    ("end", at(vec![i + 1, 3])),
                ],
                Some(named(new, DType::F16, &[2, 3])),
            ),
            op("write_state", &[("input", name("cache")), ("data", name(new))], None),
        ]
    };
    let mut ops = layer(0, "old_0", "new_0");
    ops.extend(layer(1, "old_1", "new_1"));
    ops.push(op(
        "read_state",
        &[("input", name("cache"))],
        Some(named("seen", DType::F16, &[2, 3])),
    ));
    let ones = Arg::Value(value(&Tensor::f32(&[], vec![1.0])));
    ops.push(op("add", &[("x", name("seen")), ("y", ones)], Some(named("y", DType::F16, &[2, 3]))));
    program_of(vec![named("x", DType::F16, &[1, 3]), state], ops, &["y"])
}

#[test]
fn states_change_in_place_and_stay() {
    let model = load(&cache()).unwrap();
    let function = model.function("main").unwrap();
    let mut state = model.state();
    assert_eq!((state.names().collect::<Vec<_>>(), state.bytes()), (vec!["cache"], 12));
    let address = |state: &State| match state.get("cache").unwrap().storage() {
        tensor::Slice::F16(v) => v.as_ptr().addr(),
        _ => panic!("an fp16 state takes two bytes an element"),
    };
    let place = address(&state);
    let x = |v: f32| [("x", Tensor::f32(&[1, 3], vec![v, 0.1, 2.0]))];
    let y = function.run(&x(5.0), &mut state, &[]).unwrap();
    assert_eq!(y.get("y").unwrap().to_f32().unwrap()[..2], [6.0, 1.099_609_4]);
    function.run(&x(7.0), &mut state, &[]).unwrap();
    assert_eq!(address(&state), place, "nothing was copied");
    let rounded = half::f16::from_f32(0.1).to_f32();
    let want = [7.0, rounded, 2.0, 7.0, rounded, 2.0];
    assert_eq!(state.get("cache").unwrap().to_f32().unwrap(), want);
    // Somebody else's copy does not change with it.
    let kept = state.clone();
    function.run(&x(9.0), &mut state, &[]).unwrap();
    assert_eq!(kept.get("cache").unwrap().to_f32().unwrap(), want);
}

#[test]
fn taps_see_values_that_are_later_changed_in_place() {
    let one = || Arg::Value(value(&Tensor::f32(&[1], vec![1.0])));
    let add = |x: &str, y: &str| {
        op("add", &[("x", name(x)), ("y", one())], Some(named(y, DType::F32, &[1])))
    };
    let program = program_of(
        vec![named("x", DType::F32, &[1])],
        vec![add("x", "a"), add("a", "b"), add("b", "c")],
        &["c"],
    );
    let model = load(&program).unwrap();
    let function = model.function("main").unwrap();
    let given = [("x", Tensor::f32(&[1], vec![1.0]))];
    let got = function.run(&given, &mut model.state(), &["a", "x"]).unwrap();
    let values: Vec<_> = got.iter().map(|(n, t)| (n, t.to_f32().unwrap()[0])).collect();
    assert_eq!(values, [("a", 2.0), ("c", 4.0), ("x", 1.0)]);
    let failed = function.run(&given, &mut model.state(), &["z"]).unwrap_err();
    assert_eq!(failed.to_string(), "no value `z` to tap in function `main`");
}

#[test]
fn results_that_nobody_keeps_are_room_for_the_next() {
    let ones = Arg::Value(value(&Tensor::f32(&[500], vec![1.0; 500])));
    let add = op("add", &[("x", name("x")), ("y", ones)], Some(named("y", DType::F32, &[500])));
    let program = program_of(vec![named("x", DType::F32, &[1])], vec![add], &["y"]);
    let model = load(&program).unwrap();
    let function = model.function("main").unwrap();
    let run = |x: f32| {
        let given = [("x", Tensor::f32(&[1], vec![x]))];
        function.run(&given, &mut model.state(), &[]).unwrap().get("y").unwrap().clone()
    };
    let seen = |y: &Tensor| (y.f32s().unwrap().as_ptr().addr(), y.f32s().unwrap()[499]);
    let first = run(1.0);
    let place = seen(&first).0;
    let second = run(2.0);
    assert_eq!((seen(&first), seen(&second).1), ((place, 2.0), 3.0));
    let place = seen(&second).0;
    drop(second);
    assert_eq!((seen(&run(3.0)), seen(&first).1), ((place, 4.0), 2.0));
}

#[test]
fn operations_over_constants_are_folded() {
    let two = || Arg::Value(value(&Tensor::f32(&[1], vec![2.0])));
    let ops = vec![
        op("mul", &[("x", two()), ("y", two())], Some(named("four", DType::F32, &[1]))),
        op("add", &[("x", name("x")), ("y", name("four"))], Some(named("y", DType::F32, &[1]))),
    ];
    let model = load(&program_of(vec![named("x", DType::F32, &[1])], ops, &["y", "four"])).unwrap();
    let function = model.function("main").unwrap();
    assert_eq!(function.n_steps(), 1);
    let given = [("x", Tensor::f32(&[1], vec![1.0]))];
    let got = function.run(&given, &mut model.state(), &[]).unwrap();
    assert_eq!(got.get("y").unwrap().to_f32().unwrap(), [5.0]);
    assert_eq!(got.get("four").unwrap().to_f32().unwrap(), [4.0]);
}

#[test]
fn everything_missing_is_listed_at_once() {
    let x = || [("x", name("x"))];
    let out = |name: &str| Some(named(name, DType::F32, &[1]));
    let gelu = [("x", name("x")), ("mode", Arg::Value(Value::string("GUESS")))];
    let ops = vec![
        op("make_coffee", &x(), out("a")),
        op("relu", &x(), out("b")),
        op("gelu", &gelu, out("c")),
        op("make_coffee", &x(), out("d")),
    ];
    let failed = load(&program_of(vec![named("x", DType::F32, &[1])], ops, &["d"])).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "2 kinds of operations are not supported: `make_coffee` of CoreML8, 2 times, first at `main/a`; \
         `gelu` (mode `GUESS`) of CoreML8, 1 times, first at `main/c`"
    );
}

#[test]
fn inputs_are_checked_and_cast() {
    let ops = vec![op("identity", &[("x", name("x"))], Some(named("y", DType::I32, &[2])))];
    let model = load(&program_of(vec![named("x", DType::I32, &[2])], ops, &["y"])).unwrap();
    let function = model.function("main").unwrap();
    let run = |given: &[(&str, Tensor)]| {
        function.run(given, &mut model.state(), &[]).map_err(|e| e.to_string())
    };
    let cases = [
        (vec![("x", Tensor::f32(&[2], vec![1.0, 2.0]))], ""),
        (vec![], "input `x` of type int32[2] is not given"),
        (vec![("z", Tensor::f32(&[1], vec![1.0]))], "`z` is no input, only x"),
        (
            vec![("x", Tensor::i32(&[1, 2], vec![1, 2]))],
            "input `x` should be int32[2], not int32[1, 2]",
        ),
        (
            vec![("x", Tensor::f32(&[2], vec![1.5, 2.0]))],
            "input `x` should be int32[2], not fp32[2]",
        ),
    ];
    for (given, want) in cases {
        match run(&given) {
            Ok(got) => assert_eq!(got.get("y").unwrap().as_i32().unwrap(), [1, 2]),
            Err(error) => assert_eq!(error, want),
        }
    }
    let missing = model.function("decode").unwrap_err().to_string();
    assert_eq!(missing, "no function `decode`, only main");
}

#[test]
fn a_result_must_be_what_is_declared() {
    let cases = [
        (
            named("y", DType::F32, &[3]),
            "operation `y` (`relu`) failed: the result has shape [2], declared is [3]",
        ),
        (
            named("y", DType::I32, &[2]),
            "operation `y` (`relu`) failed: the result is fp32[2], declared is int32",
        ),
    ];
    for (out, want) in cases {
        let ops = vec![op("relu", &[("x", name("x"))], Some(out))];
        let model = load(&program_of(vec![named("x", DType::F32, &[2])], ops, &["y"])).unwrap();
        let given = [("x", Tensor::f32(&[2], vec![1.0, 2.0]))];
        let failed =
            model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap_err();
        assert_eq!(failed.to_string(), want);
    }
}
