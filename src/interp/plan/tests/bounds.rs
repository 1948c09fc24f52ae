//! Shapes and numbers that a program or its data make up: refused before anything is allocated.

use super::*;
use crate::mil::{Data, Dim, TensorData, TensorType};

fn ints(values: &[i32]) -> Arg {
    Arg::Value(value(&Tensor::i32(&[values.len()], values.to_vec())))
}

fn int(n: i32) -> Arg {
    Arg::Value(Value::int(n))
}

fn open(rank: usize) -> NamedType {
    let shape = vec![Dim::Unknown { variadic: false }; rank];
    let ty = TensorType { dtype: DType::F32, shape, attributes: BTreeMap::new() };
    NamedType { name: "y".to_owned(), ty: Type::Tensor(ty) }
}

fn any_rank() -> NamedType {
    let shape = vec![Dim::Unknown { variadic: true }];
    let ty = TensorType { dtype: DType::F32, shape, attributes: BTreeMap::new() };
    NamedType { name: "y".to_owned(), ty: Type::Tensor(ty) }
}

fn outcome(op: Op) -> String {
    let x = named("x", DType::F32, &[2, 3]);
    let n = named("n", DType::I32, &[2]);
    let program = program_of(vec![x, n], vec![op], &["x"]);
    let run = || -> Result<String, String> {
        let model = load(&program).map_err(|e| e.to_string())?;
        let given =
            [("x", Tensor::f32(&[2, 3], vec![1.0; 6])), ("n", Tensor::i32(&[2], vec![1 << 20; 2]))];
        let function = model.function("main").unwrap();
        function.run(&given, &mut model.state(), &[]).map_err(|e| e.to_string())?;
        Ok("ran".to_owned())
    };
    run().unwrap_or_else(|e| e)
}

#[test]
fn results_too_large_are_refused() {
    let million = 1 << 20;
    let floats = |n: f32| Arg::Value(value(&Tensor::f32(&[], vec![n])));
    let deep: Vec<i32> = [2, 3].into_iter().chain([1; 31]).collect();
    let cases = [
        (
            op("fill", &[("shape", name("n"))], Some(open(2))),
            "operation `y` (`fill`) failed: shape [1048576, 1048576] has more than 2147483648 elements",
        ),
        (
            // Over constants alone: not computed when it is loaded, and refused when it runs.
            op("fill", &[("shape", ints(&[million, million]))], Some(open(2))),
            "operation `y` (`fill`) failed: shape [1048576, 1048576] has more than 2147483648 elements",
        ),
        (
            op(
                "fill",
                &[("shape", ints(&[million, million]))],
                Some(named("y", DType::F32, &[1 << 20, 1 << 20])),
            ),
            "function `main`: `y` has type fp32[1048576, 1048576], too large to be held",
        ),
        (
            op("relu", &[("x", name("x"))], Some(named("y", DType::F32, &[u64::MAX, 4]))),
            "function `main`: `y` has type fp32[18446744073709551615, 4], too large to be held",
        ),
        (
            op("relu", &[("x", name("x"))], Some(named("y", DType::F32, &[1 << 40, 1 << 40, 0]))),
            "function `main`: `y` has type fp32[1099511627776, 1099511627776, 0], too large to be held",
        ),
        (
            op("tile", &[("x", name("x")), ("reps", name("n"))], Some(open(2))),
            "operation `y` (`tile`) failed: shape [2097152, 3145728] has more than 2147483648 elements",
        ),
        (
            op("pad", &[("x", name("x")), ("pad", ints(&[i32::MAX, 0, 0, 0]))], Some(open(2))),
            "operation `y` (`pad`) failed: shape [2147483649, 3] has more than 2147483648 elements",
        ),
        (
            op(
                "range_1d",
                &[("start", floats(0.0)), ("end", floats(1e30)), ("step", floats(1.0))],
                Some(open(1)),
            ),
            "operation `y` (`range_1d`) failed: shape [1000000015047466219876688855040] has more",
        ),
        (
            op(
                "one_hot",
                &[("indices", name("n")), ("one_hot_vector_size", int(i32::MAX))],
                Some(open(2)),
            ),
            "operation `y` (`one_hot`) failed: shape [2, 2147483647] has more than 2147483648 elements",
        ),
        (
            op("reshape", &[("x", name("x")), ("shape", ints(&[i32::MAX; 4]))], Some(open(4))),
            "operation `y` (`reshape`) failed: \
             shape [2147483647, 2147483647, 2147483647, 2147483647] has more than 2147483648 elements",
        ),
        (
            op("reshape", &[("x", name("x")), ("shape", ints(&deep))], Some(any_rank())),
            "operation `y` (`reshape`) failed: the result has 33 dimensions, more than 32",
        ),
    ];
    for (op, want) in cases {
        let got = outcome(op);
        // The greatest usize stands for a float beyond it.
        let want = want.replace("1000000015047466219876688855040", &usize::MAX.to_string());
        assert!(got.starts_with(&want), "{got}\n{want}");
    }
}

#[test]
fn products_that_take_long_are_left_to_the_run() {
    for (n, steps) in [(64, 0), (512, 1)] {
        let square = || Arg::Value(value(&Tensor::f32(&[n, n], vec![1.0; n * n])));
        let y = named("y", DType::F32, &[n as u64, n as u64]);
        let product = op("matmul", &[("x", square()), ("y", square())], Some(y));
        let model = load(&program_of(vec![], vec![product], &["y"])).unwrap();
        let function = model.function("main").unwrap();
        assert_eq!(function.n_steps(), steps, "{n}");
        let got = function.run(&[], &mut model.state(), &[]).unwrap();
        assert_eq!(got.get("y").unwrap().f32s().unwrap()[n * n - 1], n as f32);
    }
}

#[test]
fn inputs_and_states_of_made_up_shapes_are_refused() {
    let huge = Type::tensor(DType::F16, &[1 << 30, 1 << 30]);
    for ty in [huge.clone(), Type::State(Box::new(huge))] {
        let shown = ty.to_string();
        let input = NamedType { name: "huge".to_owned(), ty };
        let x = named("x", DType::F32, &[1]);
        let failed = load(&program_of(vec![x, input], vec![], &["x"])).unwrap_err();
        assert_eq!(
            failed.to_string(),
            format!("function `main`: `huge` has type {shown}, too large to be held")
        );
    }
}

#[test]
fn casts_round_towards_zero_and_wrap_around() {
    // As numpy has it, which computes constants for coremltools; beyond int32 numpy's answer depends on the processor.
    let cases: &[(f32, [i32; 5])] = &[
        (1.9, [1, 1, 1, 1, 1]),
        (-1.9, [-1, 255, -1, 65535, -1]),
        (127.5, [127, 127, 127, 127, 127]),
        (128.0, [-128, 128, 128, 128, 128]),
        (300.0, [44, 44, 300, 300, 300]),
        (-129.0, [127, 127, -129, 65407, -129]),
        (65535.0, [-1, 255, -1, 65535, 65535]),
        (70000.0, [112, 112, 4464, 4464, 70000]),
    ];
    let types = [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32];
    for (k, &dtype) in types.iter().enumerate() {
        let cast = |from: &str, to: &str, dtype: DType| {
            let args = [("x", name(from)), ("dtype", Arg::Value(Value::string(dtype.name())))];
            op("cast", &args, Some(named(to, dtype, &[8])))
        };
        let ops = vec![
            cast("x", "from_float", dtype),
            cast("x", "whole", DType::I32),
            cast("whole", "from_int", dtype),
            cast("from_int", "back", DType::F32),
        ];
        let outputs = ["from_float", "from_int", "back"];
        let model = load(&program_of(vec![named("x", DType::F32, &[8])], ops, &outputs)).unwrap();
        let x = Tensor::f32(&[8], cases.iter().map(|c| c.0).collect());
        let got =
            model.function("main").unwrap().run(&[("x", x)], &mut model.state(), &[]).unwrap();
        let want: Vec<i32> = cases.iter().map(|c| c.1[k]).collect();
        for output in &outputs[..2] {
            let tensor = got.get(output).unwrap();
            assert_eq!((tensor.dtype(), tensor.as_i32().unwrap()), (dtype, &want[..]), "{output}");
        }
        let back: Vec<f32> = want.iter().map(|&n| n as f32).collect();
        assert_eq!(got.get("back").unwrap().to_f32().unwrap(), back);
    }
    let beyond = [f32::INFINITY, -3e9, f32::NAN];
    let args = [("x", name("x")), ("dtype", Arg::Value(Value::string("int32")))];
    let ops = vec![op("cast", &args, Some(named("y", DType::I32, &[3])))];
    let model = load(&program_of(vec![named("x", DType::F32, &[3])], ops, &["y"])).unwrap();
    let given = [("x", Tensor::f32(&[3], beyond.to_vec()))];
    let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap();
    assert_eq!(got.get("y").unwrap().as_i32().unwrap(), [i32::MAX, i32::MIN, 0]);
}

fn constant(dtype: DType, shape: &[u64], data: TensorData) -> Op {
    let mut made = op("const", &[], Some(named("c", dtype, shape)));
    let ty = Type::tensor(dtype, shape);
    made.attributes.insert("val".to_owned(), Value { ty, data: Data::Tensor(data) });
    made
}

#[test]
fn constants_that_many_operations_read_are_counted_each_time() {
    let n = 1 << 20;
    let ops = |uses: usize| {
        let read = |i: usize| {
            let y = named(&format!("y{i}"), DType::I32, &[n as u64]);
            op("add", &[("x", name("c")), ("y", name("k"))], Some(y))
        };
        let many = constant(DType::I32, &[n as u64], TensorData::Ints(vec![1; n]));
        std::iter::once(many).chain((0..uses).map(read)).collect()
    };
    let loaded = |uses| load(&program_of(vec![named("k", DType::I32, &[])], ops(uses), &["y0"]));
    loaded(2).unwrap();
    let failed = loaded(3).unwrap_err().to_string();
    let want = "operation `y2` (`add`) cannot be planned: the constants up to here have over 4194304 elements outside of \
                blob files";
    assert!(failed.ends_with(want), "{failed}");
    let text = constant(DType::Str, &[1 << 40], TensorData::Bytes(Vec::new()));
    let failed = load(&program_of(vec![], vec![text], &["c"])).unwrap_err().to_string();
    assert!(
        failed.ends_with("the value of type string[1099511627776] is no tensor of fixed shape"),
        "{failed}"
    );
}

#[test]
fn constants_of_every_type() {
    let bytes = |b: &[u8]| TensorData::Bytes(b.to_vec());
    let cases = [
        (DType::I8, bytes(&[0xff, 0x80, 0x7f]), [-1.0, -128.0, 127.0]),
        (DType::U8, bytes(&[0xff, 0x80, 0x7f]), [255.0, 128.0, 127.0]),
        (DType::I16, TensorData::Ints(vec![-1, -32768, 32767]), [-1.0, -32768.0, 32767.0]),
        (DType::U16, TensorData::Ints(vec![65535, 1, 0]), [65535.0, 1.0, 0.0]),
        (DType::I32, TensorData::Ints(vec![-5, 0, 1 << 24]), [-5.0, 0.0, 16_777_216.0]),
        (DType::U32, bytes(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]), [1.0, 2.0, 16_777_216.0]),
        (DType::I64, TensorData::Longs(vec![-5, 0, 7]), [-5.0, 0.0, 7.0]),
        (DType::U64, TensorData::Longs(vec![5, 0, 7]), [5.0, 0.0, 7.0]),
        (DType::I4, bytes(&[0x8f, 0x07]), [-1.0, -8.0, 7.0]),
        (DType::U4, bytes(&[0x8f, 0x07]), [15.0, 8.0, 7.0]),
        (DType::U6, bytes(&[0xff, 0x10, 0x00]), [63.0, 3.0, 1.0]),
        (DType::U3, bytes(&[0xd7, 0x00]), [7.0, 2.0, 3.0]),
        (DType::U2, bytes(&[0b10_01_11]), [3.0, 1.0, 2.0]),
        (DType::U1, bytes(&[0b101]), [1.0, 0.0, 1.0]),
        (DType::F64, TensorData::Doubles(vec![0.5, -2.0, 1e-3]), [0.5, -2.0, 1e-3]),
        (DType::F32, TensorData::Floats(vec![0.5, -2.0, 1e-3]), [0.5, -2.0, 1e-3]),
        (DType::F16, bytes(&[0x00, 0x38, 0x00, 0xc0, 0x00, 0x3c]), [0.5, -2.0, 1.0]),
        (DType::Bf16, bytes(&[0x00, 0x3f, 0x00, 0xc0, 0x80, 0x3f]), [0.5, -2.0, 1.0]),
        (DType::Bool, TensorData::Bools(vec![true, false, true]), [1.0, 0.0, 1.0]),
    ];
    for (dtype, data, want) in cases {
        let ops = vec![constant(dtype, &[3], data)];
        let model = load(&program_of(vec![], ops, &["c"])).unwrap();
        let got = model.function("main").unwrap().run(&[], &mut model.state(), &[]).unwrap();
        let c = got.get("c").unwrap();
        assert_eq!((c.dtype(), c.to_f32().unwrap()), (dtype, want.to_vec()));
    }
    let texts = TensorData::Strings(vec!["a".to_owned(), "b".to_owned()]);
    let model = load(&program_of(vec![], vec![constant(DType::Str, &[2], texts)], &["c"])).unwrap();
    let got = model.function("main").unwrap().run(&[], &mut model.state(), &[]).unwrap();
    assert_eq!(got.get("c").unwrap().as_strings().unwrap(), ["a", "b"]);
}

#[test]
fn constants_that_do_not_hold_together() {
    let place = "function `main`: operation `c` (`const`) cannot be planned: ";
    let cases = [
        (
            DType::I64,
            vec![1],
            TensorData::Longs(vec![1 << 40]),
            "1099511627776 of type int64 beyond int32 is not supported",
        ),
        (
            DType::U64,
            vec![1],
            TensorData::Longs(vec![-1]),
            "18446744073709551615 of type uint64 beyond int32 is not supported",
        ),
        (
            DType::F32,
            vec![3],
            TensorData::Floats(vec![1.0]),
            "a value of type fp32[3] needs 12 bytes and has 4",
        ),
        (
            DType::Str,
            vec![3],
            TensorData::Strings(vec![]),
            "3 strings are declared and 0 are there",
        ),
        (
            DType::F32,
            vec![0, 1 << 40, 1 << 40],
            TensorData::Floats(vec![]),
            "the value of type fp32[0, 1099511627776, 1099511627776] is no tensor of fixed shape",
        ),
    ];
    for (dtype, shape, data, want) in cases {
        let ops = vec![constant(dtype, &shape, data)];
        let failed = load(&program_of(vec![], ops, &["c"])).unwrap_err().to_string();
        assert_eq!(failed, format!("{place}{want}"));
    }
}
