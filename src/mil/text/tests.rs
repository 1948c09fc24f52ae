//! The textual form: samples read as coremltools' messages would be, and any program back from its own text.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{read, write};
use crate::mil::{
    Arg, BlobRef, Block, DType, Data, Dim, Function, NamedType, Op, Program, TensorData,
    TensorType, Type, Value, verify,
};

/// As compilers write programs before iOS18: scalars as tensors of rank 0.
const LONG: &str = r#"program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-version", "3500.1"}, {"note", "a \"b\"\n"}})]
{
    func main<ios17>(tensor<int32, [1]> length, tensor<fp32, [1, ?]> signal) [FlexibleShapeInformation = tuple<tuple<tensor<string, []>, dict<tensor<string, []>, tensor<int32, [?]>>>, tuple<tensor<string, []>, dict<tensor<string, []>, list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"signal", [1, 1]}}), ("RangeDims", {{"signal", [[1, 1], [1, 320]]}})))] {
            tensor<fp32, []> scale = const()[name = tensor<string, []>("scale"), val = tensor<fp32, []>(0x1.f0a3d8p-1)];
            tensor<fp32, [2, 3]> table = const()[name = tensor<string, []>("table"), val = tensor<fp32, [2, 3]>([[0x1p+0, -0x1p-1, 0x0p+0], [inf, -inf, 0x1p-149]])];
            tensor<fp16, [4, 5]> weight = const()[name = tensor<string, []>("weight"), val = tensor<fp16, [4, 5]>(BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))];
            tensor<fp32, [1, ?]> a = mul(x = signal, y = scale)[name = tensor<string, []>("a")];
            tensor<int32, []> axis = const()[name = tensor<string, []>("axis"), val = tensor<int32, []>(-1)];
            tensor<fp32, [1, ?]> b = concat(axis = axis, interleave = tensor<bool, []>(false), values = (a, signal))[name = tensor<string, []>("b")];
            tensor<fp32, [1, ?]> c_0, tensor<fp32, [1, ?]> c_1 = split(axis = axis, num_splits = tensor<int32, []>(2), x = b)[name = tensor<string, []>("c")];
        } -> (c_0, c_1);
}
"#;

/// As they do from iOS18 on, with states and operations without results.
const SHORT: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "3520.1"}})]
{
    func infer<ios18>(state<tensor<fp16, [1, 4]>> cache, tensor<fp16, [1, 4]> x) {
            tensor<fp16, [1, 4]> old = read_state(input = cache)[name = string("old")];
            tensor<uint4, [2, 3]> indices = const()[name = string("indices"), val = tensor<uint4, [2, 3]>([[0, 15, 1], [2, 3, 4]])];
            tensor<fp16, [1, 4]> new = add(x = old, y = x)[name = string("new")];
            write_state(data = new, input = cache)[name = string("write")];
        } -> (new);
    func prefill<ios18>(state<tensor<fp16, [1, 4]>> cache, tensor<fp16, [1, 4]> x) {
            tensor<fp16, [1, 4]> y = relu(x = x)[name = string("y")];
        } -> (y);
}
"#;

#[test]
fn samples_are_written_as_they_were_read() {
    for text in [LONG, SHORT] {
        let program = read(text).unwrap();
        verify::program(&program).unwrap();
        assert_eq!(write(&program), text);
    }
}

#[test]
fn the_parts_stand_where_the_messages_have_them() {
    let program = read(LONG).unwrap();
    let main = &program.functions["main"];
    assert_eq!((program.version, main.opset.as_str()), (1, "CoreML7"));
    let unknown = Dim::Unknown { variadic: false };
    let signal = main.inputs[1].ty.as_tensor().unwrap();
    assert_eq!(signal.shape, [Dim::Fixed(1), unknown]);
    let op = |name: &str| main.block.ops.iter().find(|op| op.name() == name).unwrap();
    let Data::Tensor(TensorData::Floats(table)) = &op("table").const_value().unwrap().data else {
        panic!("no floats")
    };
    assert_eq!(table[..3], [1.0, -0.5, 0.0]);
    assert_eq!(table[5].to_bits(), 1);
    let blob = BlobRef { file: "@model_path/weights/weight.bin".to_owned(), offset: 64 };
    assert_eq!(op("weight").const_value().unwrap().as_blob(), Some(&blob));
    assert_eq!(op("b").inputs["values"].len(), 2);
    assert_eq!(op("b").inputs["interleave"], [Arg::Value(Value::bool(false))]);
    assert_eq!(op("c_0").outputs.len(), 2);
    let info = &program.attributes["buildInfo"];
    let Data::Dictionary(pairs) = &info.data else { panic!("no dictionary") };
    assert_eq!(pairs[1].1, Value::string("a \"b\"\n"));

    let infer = &read(SHORT).unwrap().functions["infer"];
    assert!(infer.inputs[0].ty.is_state());
    assert!(infer.block.ops[3].outputs.is_empty());
    let packed = TensorData::Bytes(vec![0xF0, 0x21, 0x43]);
    assert_eq!(infer.block.ops[1].const_value().unwrap().data, Data::Tensor(packed));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let op = |line: &str| {
        format!(
            "program(1.0)\n{{\n    func main<ios17>(tensor<fp32, [1]> x) {{\n  {line}\n}} -> (y);\n}}"
        )
    };
    let constant =
        |ty: &str, content: &str| op(&format!("{ty} y = const()[val = {ty}({content})];"));
    let cases = [
        ("", "1:1: expected `program`, found the end of the text"),
        ("program(x)", "1:9: expected a version such as `1.0`, found `x`"),
        ("program(1.0) {} tail", "1:17: expected the end of the text, found `tail`"),
        ("program(1.0) { func", "1:20: expected the function's name, found the end of the text"),
        ("program(1.0) {\n  \"abc", "2:3: string has no end"),
        ("program(1.0) /* {", "1:14: comment has no end"),
        ("program(1.0) #", "1:14: character '#' begins nothing"),
        (&op("tensor<fp99, [1]> y = relu(x = x);"), "4:10: expected an element type, found `fp99`"),
        (&op("vector<fp16, [1]> y = relu(x = x);"), "4:3: expected a type, found `vector`"),
        (&op("tensor<fp32, [-1]> y = relu(x = x);"), "4:17: expected an extent or `?`, found `-1`"),
        (&op("tensor<fp32, [1]> y = relu(x = x)"), "5:1: expected `;`, found `}`"),
        (&op("tensor<fp32, [1]> y = relu(x = x, x = x);"), "4:37: argument `x` is given twice"),
        (&op("tensor<fp32, [1]> y = relu(x x);"), "4:32: expected `=`, found `x`"),
        (&op("tensor<fp32, [1]> y = relu(x = 3);"), "4:34: expected a name or a value, found `3`"),
        (&constant("tensor<int8, []>", "300"), "4:55: `300` is no int8"),
        (&constant("tensor<uint2, []>", "-1"), "4:57: `-1` is no uint2"),
        (&constant("tensor<int32, []>", "1.5"), "4:57: `1.5` is no int32"),
        (&constant("tensor<fp32, []>", "0x"), "4:55: `0x` is no fp32"),
        (&constant("tensor<bool, []>", "2"), "4:55: expected a value of type bool, found `2`"),
        (&constant("string", "1"), "4:35: expected a value of type string, found `1`"),
        (&constant("string", r#""\q""#), r"4:36: `\q` is no escape sequence"),
        (&constant("string", r#""\xé1""#), r"4:36: `\x` is no escape sequence"),
        (&constant("tensor<int32, [2]>", "[1]"), "4:60: dimension of 2 has 1 elements"),
        (&constant("tensor<int32, [2]>", "1"), "4:59: expected `[`, found `1`"),
        (
            &constant("tuple<int32, int32>", "(1)"),
            "4:64: expected a value for each type of the tuple, found `)`",
        ),
        (&constant("tuple<int32>", ""), "4:47: expected `(`, found `)`"),
        (
            &constant("tensor<fp16, [1]>", "BLOBFILE(path = int32(1), offset = uint64(1))"),
            "4:73: expected a string, found int32[]",
        ),
        (
            "program(1.0) {\nfunc f<ios18>() {} -> ();\nfunc f<ios18>() {} -> ();\n}",
            "3:1: function `f` is given twice",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(read(text).unwrap_err().to_string(), want, "{text}");
    }
    let deep = format!("program(1.0)[a = {}", "tuple<".repeat(100_000));
    assert!(read(&deep).unwrap_err().to_string().ends_with("nested deeper than 32 levels"));
    let deep = op(&"cond() { b() { ".repeat(100_000));
    assert!(read(&deep).unwrap_err().to_string().ends_with("nested deeper than 32 levels"));
    let wide = format!("tuple<{}>", ["int8"; 200].join(", "));
    // Few characters each, and the whole type in memory.
    let repeated = format!("list<list<{wide}, ?>, ?>([{}])", ["[]"; 100].join(", "));
    let parts = "more than 16384 operations, arguments, types and values";
    for text in [
        format!("program(1.0)[a = {repeated}]{{}}"),
        op(&"a();".repeat(20_000)),
        op(&format!("a(x = ({}));", vec!["x"; 20_000].join(", "))),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.ends_with(parts), "{error}");
    }
}

#[test]
fn comments_and_a_byte_order_mark_are_passed_over() {
    let text = format!("\u{feff}// one\n/* two\n */{SHORT}");
    assert_eq!(read(&text).unwrap(), read(SHORT).unwrap());
}

#[test]
fn nested_blocks_come_back() {
    let text = r#"program(1.0)
{
    func main<ios15>(tensor<bool, []> p, tensor<fp32, [1]> x) {
            tensor<fp32, [1]> y = cond(pred = p)[name = tensor<string, []>("y")] {
                block0() {
                    tensor<fp32, [1]> a = relu(x = x);
                } -> (a);
                block1(tensor<fp32, [1]> "in 1") {
                } -> (x);
            };
        } -> (y);
}
"#;
    let program = read(text).unwrap();
    assert_eq!(program.functions["main"].block.ops[0].blocks.len(), 2);
    assert_eq!(write(&program), text);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_][a-z0-9_.]{0,6}", "[ -~\n\té]{0,4}"]
}

/// Values with their types: tensors of every element type, and what is built of them.
fn value() -> impl Strategy<Value = Value> {
    let dtype = proptest::sample::select(DType::all().collect::<Vec<_>>());
    let tensor = (dtype, vec(0_u64..4, 0..4), any::<u64>(), vec(name(), 64));
    let leaf = prop_oneof![
        tensor.prop_map(|(dtype, shape, seed, texts)| elements(dtype, &shape, seed, &texts)),
        (name(), any::<u64>()).prop_map(|(file, offset)| Value::blob(
            DType::F16,
            &[3],
            BlobRef { file, offset }
        )),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value {
                ty: Type::Tuple(values.iter().map(|v| v.ty.clone()).collect()),
                data: Data::Tuple(values),
            }),
            (inner.clone(), 0_usize..4).prop_map(|(value, n)| Value {
                ty: Type::List(Box::new(value.ty.clone()), Dim::Fixed(n as u64)),
                data: Data::List(vec![value; n]),
            }),
            (inner.clone(), inner, 0_usize..3).prop_map(|(key, value, n)| Value {
                ty: Type::Dictionary(Box::new(key.ty.clone()), Box::new(value.ty.clone())),
                data: Data::Dictionary(vec![(key, value); n]),
            }),
        ]
    })
}

fn elements(dtype: DType, shape: &[u64], seed: u64, texts: &[String]) -> Value {
    let n = shape.iter().product::<u64>() as usize;
    let random = |i: usize| {
        let x = (seed ^ i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    };
    let all = 0..n;
    // A NaN is written as `nan`, whatever its bits; it is not among these.
    let data = match dtype {
        DType::Bool => TensorData::Bools(all.map(|i| random(i) & 64 == 0).collect()),
        DType::Str => TensorData::Strings(all.map(|i| texts[i % texts.len()].clone()).collect()),
        DType::F32 => {
            let float = |i| f32::from_bits(random(i) as u32);
            TensorData::Floats(all.map(float).map(|x| if x.is_nan() { 1.5 } else { x }).collect())
        }
        DType::F64 => {
            let float = |i| f64::from_bits(random(i));
            TensorData::Doubles(all.map(float).map(|x| if x.is_nan() { 1.5 } else { x }).collect())
        }
        DType::I32 => TensorData::Ints(all.map(|i| random(i) as i32).collect()),
        DType::I16 => TensorData::Ints(all.map(|i| i32::from(random(i) as i16)).collect()),
        DType::U16 => TensorData::Ints(all.map(|i| i32::from(random(i) as u16)).collect()),
        DType::I64 | DType::U64 => TensorData::Longs(all.map(|i| random(i) as i64).collect()),
        DType::F16 | DType::Bf16 => TensorData::Bytes(
            all.flat_map(|i| [random(i) as u8, random(i + 7) as u8 & 0xBB]).collect(),
        ),
        DType::F8E4M3 | DType::F8E5M2 => {
            TensorData::Bytes(all.map(|i| random(i) as u8 & 0xBB).collect())
        }
        _ => {
            let bits = n * dtype.bits() as usize;
            let mut bytes: Vec<u8> = (0..bits.div_ceil(8)).map(|i| random(i) as u8).collect();
            // Bits behind the last element are zero.
            if let Some(last) = bytes.last_mut().filter(|_| !bits.is_multiple_of(8)) {
                *last &= (1 << (bits % 8)) - 1;
            }
            TensorData::Bytes(bytes)
        }
    };
    Value { ty: Type::tensor(dtype, shape), data: Data::Tensor(data) }
}

fn ty() -> impl Strategy<Value = Type> {
    let dim = prop_oneof![
        (0_u64..9).prop_map(Dim::Fixed),
        any::<bool>().prop_map(|variadic| Dim::Unknown { variadic })
    ];
    let tensor = vec(dim, 0..4).prop_map(|shape| {
        Type::Tensor(TensorType { dtype: DType::I8, shape, attributes: BTreeMap::new() })
    });
    tensor.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|t| Type::State(Box::new(t))),
            (inner.clone(), 0_u64..3).prop_map(|(t, n)| Type::List(Box::new(t), Dim::Fixed(n))),
            vec(inner, 0..3).prop_map(Type::Tuple),
        ]
    })
}

fn named() -> impl Strategy<Value = NamedType> {
    (name(), ty()).prop_map(|(name, ty)| NamedType { name, ty })
}

fn block(depth: u32) -> BoxedStrategy<Block> {
    let arg = prop_oneof![name().prop_map(Arg::Name), value().prop_map(Arg::Value)];
    let blocks =
        if depth == 0 { Just(Vec::new()).boxed() } else { vec(block(depth - 1), 0..2).boxed() };
    let op = (
        name(),
        btree_map(name(), vec(arg, 0..3), 0..3),
        vec(named(), 0..3),
        blocks,
        btree_map(name(), value(), 0..2),
    )
        .prop_map(|(kind, inputs, outputs, blocks, attributes)| Op {
            kind,
            inputs,
            outputs,
            blocks,
            attributes,
        });
    (vec(named(), 0..2), vec(name(), 0..3), vec(op, 0..3), btree_map(name(), value(), 0..2))
        .prop_map(|(inputs, outputs, ops, attributes)| Block { inputs, outputs, ops, attributes })
        .boxed()
}

fn program() -> impl Strategy<Value = Program> {
    let opset = proptest::sample::select(vec!["CoreML5", "CoreML7", "CoreML8", "Future1"]);
    let function = (vec(named(), 0..3), opset, block(1), btree_map(name(), value(), 0..2))
        .prop_map(|(inputs, opset, block, attributes)| {
            // A function's own block has neither inputs nor attributes.
            let block = Block { inputs: Vec::new(), attributes: BTreeMap::new(), ..block };
            Function { inputs, opset: opset.to_owned(), block, attributes }
        });
    (btree_map(name(), function, 0..3), btree_map(name(), value(), 0..2))
        .prop_map(|(functions, attributes)| Program { version: 1, functions, attributes })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_program_comes_back_from_its_text(program in program()) {
        let text = write(&program);
        let again = read(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&again, &program, "{}", text);
        prop_assert_eq!(write(&again), text);
    }

    #[test]
    fn damaged_text_is_read_or_refused(at in 0_usize..LONG.len(), with in "[ -~é]{0,2}", cut in 0_usize..3) {
        for sample in [LONG, SHORT] {
            let at = at % sample.len();
            let damaged = format!("{}{with}{}", &sample[..at], &sample[(at + cut).min(sample.len())..]);
            let _ = read(&damaged);
        }
    }
}
