//! Lists, alone and in loops, and the two outputs of a classifier.

use super::nested::{binary, block, flag, int, list, number, open, row, with_blocks};
use super::*;
use crate::mil::{Data, Dim, TensorData};

pub(super) fn make_list(extra: &[(&str, Arg)], out: &str) -> Op {
    let mut made = op("make_list", extra, Some(list(out)));
    made.inputs.insert("elem_shape".to_owned(), vec![int(2)]);
    made
}

pub(super) fn write(ls: &str, at: i32, element: &str, out: &str) -> Op {
    let args = [("ls", name(ls)), ("index", int(at)), ("value", name(element))];
    op("list_write", &args, Some(list(out)))
}

fn ints(values: &[i32]) -> Arg {
    Arg::Value(value(&Tensor::i32(&[values.len()], values.to_vec())))
}

#[test]
fn lists_as_coremltools_tests_them() {
    let pairs = Arg::Value(value(&Tensor::f32(&[2, 2], vec![-1.0, -2.0, -4.0, -5.0])));
    let scatter = [("ls", name("ls2")), ("indices", ints(&[2, 1])), ("value", pairs)];
    let read = |ls: &str, at: i32, out: &str| {
        op("list_read", &[("ls", name(ls)), ("index", int(at))], Some(row(out)))
    };
    let gather = [("ls", name("ls3")), ("indices", ints(&[4, 2, 3]))];
    let ops = vec![
        make_list(&[("init_length", int(2))], "ls0"),
        read("ls0", 0, "initial"),
        write("ls0", 0, "a", "ls1"),
        // Beyond the end: the list grows.
        write("ls1", 4, "b", "ls2"),
        op("list_scatter", &scatter, Some(list("ls3"))),
        read("ls3", 0, "first"),
        op("list_gather", &gather, Some(named("some", DType::F32, &[3, 2]))),
        op("list_length", &[("ls", name("ls3"))], Some(number("length"))),
        // The list as it was before.
        op("list_length", &[("ls", name("ls0"))], Some(number("short"))),
    ];
    let outputs = ["initial", "first", "some", "length", "short"];
    let model = load(&program_of(vec![row("a"), row("b")], ops, &outputs)).unwrap();
    let given =
        [("a", Tensor::f32(&[2], vec![1.0, 3.0])), ("b", Tensor::f32(&[2], vec![2.0, 4.0]))];
    let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap();
    let floats = |name: &str| got.get(name).unwrap().to_f32().unwrap();
    assert_eq!(floats("initial"), [0.0, 0.0]);
    assert_eq!(floats("first"), [1.0, 3.0]);
    assert_eq!(floats("some"), [2.0, 4.0, -1.0, -2.0, 0.0, 0.0]);
    assert_eq!(floats("length"), [5.0]);
    assert_eq!(floats("short"), [2.0]);
}

#[test]
fn lists_grow_in_loops() {
    let vars = || vec![number("i"), list("ls_in")];
    let go_on = block(vars(), vec![binary("less", name("i"), name("n"), flag("on"))], &["on"]);
    let write = [("ls", name("ls_in")), ("index", name("i")), ("value", name("scaled"))];
    let body = block(
        vars(),
        vec![
            op(
                "cast",
                &[("x", name("i")), ("dtype", Arg::Value(Value::string("fp32")))],
                Some(named("f", DType::F32, &[])),
            ),
            binary("mul", name("a"), name("f"), row("scaled")),
            op("list_write", &write, Some(list("ls_out"))),
            binary("add", name("i"), int(1), number("next")),
        ],
        &["next", "ls_out"],
    );
    let mut looped = op("while_loop", &[], None);
    looped.inputs.insert("loop_vars".to_owned(), vec![int(0), name("ls")]);
    let range = [("start", int(0)), ("end", name("length")), ("step", int(1))];
    let gather = [("ls", name("all")), ("indices", name("places"))];
    let mut result = open("y", DType::F32);
    if let Type::Tensor(tensor) = &mut result.ty {
        tensor.shape.push(Dim::Fixed(2));
    }
    let ops = vec![
        make_list(&[], "ls"),
        with_blocks(looped, vec![go_on, body], vec![number("turns"), list("all")]),
        op("list_length", &[("ls", name("all"))], Some(number("length"))),
        op("range_1d", &range, Some(open("places", DType::I32))),
        op("list_gather", &gather, Some(result)),
    ];
    let model = load(&program_of(vec![row("a"), number("n")], ops, &["y"])).unwrap();
    let given = [("a", Tensor::f32(&[2], vec![1.0, 2.0])), ("n", Tensor::i32(&[], vec![3]))];
    let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap();
    let y = got.get("y").unwrap();
    assert_eq!((y.shape(), y.to_f32().unwrap()), (&[3, 2][..], vec![0.0, 0.0, 1.0, 2.0, 2.0, 4.0]));
}

fn classes(values: Vec<TensorData>, dtype: DType) -> Arg {
    let scalar = |data| Value { ty: Type::tensor(dtype, &[]), data: Data::Tensor(data) };
    let length = Dim::Fixed(values.len() as u64);
    let ty = Type::List(Box::new(Type::tensor(dtype, &[])), length);
    Arg::Value(Value { ty, data: Data::List(values.into_iter().map(scalar).collect()) })
}

#[test]
fn classify_gives_a_label_and_a_dictionary() {
    use crate::interp::{Dictionary, Label, Labels, Value as Held};
    let texts = |all: &[&str]| {
        let one = |t: &&str| TensorData::Strings(vec![(*t).to_owned()]);
        classes(all.iter().map(one).collect(), DType::Str)
    };
    let ints = |all: &[i64]| {
        classes(all.iter().map(|&n| TensorData::Longs(vec![n])).collect(), DType::I64)
    };
    let dict = |key| {
        let (key, value) = (Type::tensor(key, &[]), Type::tensor(DType::F64, &[]));
        NamedType { name: "probs".to_owned(), ty: Type::Dictionary(Box::new(key), Box::new(value)) }
    };
    let wrong = |kind: &str| {
        let mut classify = op("classify", &[("probabilities", name("x"))], None);
        classify.inputs.insert("classes".to_owned(), vec![texts(&["a", "b"])]);
        classify.outputs = vec![named("label", DType::Str, &[]), dict(DType::Str)];
        let used = op(kind, &[("x", name("label"))], Some(named("y", DType::Str, &[])));
        load(&program_of(vec![row("x")], vec![classify, used], &["y"])).unwrap_err().to_string()
    };
    assert_eq!(
        wrong("identity"),
        "function `main`: operation `y` (`identity`) cannot be planned: parameter `x` has type string[]"
    );
    let run = |classes: Arg, key: DType, x: [f32; 3]| {
        let mut classify =
            op("classify", &[("probabilities", name("x")), ("classes", classes)], None);
        classify.outputs = vec![named("label", key, &[]), dict(key)];
        let program =
            program_of(vec![named("x", DType::F32, &[1, 3])], vec![classify], &["label", "probs"]);
        let model = load(&program).unwrap();
        let given = [("x", Tensor::f32(&[1, 3], x.to_vec()))];
        let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]);
        let got = got.map_err(|e| e.to_string())?;
        match (got.value("label"), got.value("probs")) {
            (Some(Held::Label(label)), Some(Held::Dictionary(probs))) => {
                Ok((label.clone(), probs.clone()))
            }
            other => Err(format!("{other:?}")),
        }
    };
    let (label, probs) = run(texts(&["cat", "dog", "owl"]), DType::Str, [0.25, 0.5, 0.5]).unwrap();
    assert_eq!(label, Label::Text("dog".to_owned()));
    assert_eq!(probs.values, [0.25, 0.5, 0.5]);
    let big = i64::MAX;
    let (label, probs) = run(ints(&[7, -1, big]), DType::I64, [f32::NAN, 0.0, 1.0]).unwrap();
    assert_eq!(label, Label::Int(big));
    let Dictionary { keys: Labels::Ints(keys), .. } = probs else { panic!("{probs:?}") };
    assert_eq!(*keys, [7, -1, big]);
    assert_eq!(
        run(texts(&["cat"]), DType::Str, [0.0; 3]).unwrap_err(),
        "operation `label` (`classify`) failed: 1 classes for probabilities fp32[1, 3]"
    );
    assert_eq!(
        run(texts(&["a", "b", "c"]), DType::I64, [0.0; 3]).unwrap_err(),
        "operation `label` (`classify`) failed: the result is string[], declared is int64[]"
    );
}
