//! Nested blocks: what they see, what they may change, what goes wrong in them.

use super::lists::{make_list, write};
use super::*;
use crate::mil::{Data, Dim, TensorData, TensorType};

pub(super) fn block(inputs: Vec<NamedType>, ops: Vec<Op>, outputs: &[&str]) -> Block {
    let outputs = outputs.iter().map(|&o| o.to_owned()).collect();
    Block { inputs, outputs, ops, ..Block::default() }
}

pub(super) fn with_blocks(mut op: Op, blocks: Vec<Block>, outs: Vec<NamedType>) -> Op {
    op.blocks = blocks;
    op.outputs = outs;
    op
}

pub(super) fn open(name: &str, dtype: DType) -> NamedType {
    let shape = vec![Dim::Unknown { variadic: false }];
    let ty = Type::Tensor(TensorType { dtype, shape, attributes: BTreeMap::new() });
    NamedType { name: name.to_owned(), ty }
}

pub(super) fn list(name: &str) -> NamedType {
    let element = Type::tensor(DType::F32, &[2]);
    let ty = Type::List(Box::new(element), Dim::Fixed(1));
    NamedType { name: name.to_owned(), ty }
}

pub(super) fn row(name: &str) -> NamedType {
    named(name, DType::F32, &[2])
}

pub(super) fn number(name: &str) -> NamedType {
    named(name, DType::I32, &[])
}

pub(super) fn flag(name: &str) -> NamedType {
    named(name, DType::Bool, &[])
}

pub(super) fn int(n: i32) -> Arg {
    Arg::Value(Value::int(n))
}

pub(super) fn floats(values: &[f32]) -> Arg {
    Arg::Value(value(&Tensor::f32(&[values.len()], values.to_vec())))
}

pub(super) fn binary(kind: &str, x: Arg, y: Arg, out: NamedType) -> Op {
    op(kind, &[("x", x), ("y", y)], Some(out))
}

/// `out = x + 1 if p else x · k`, with a constant of the outer block and one of the branch.
fn choice() -> Program {
    let mut k = op("const", &[], Some(row("k")));
    let ten = Data::Tensor(TensorData::Floats(vec![10.0, 20.0]));
    k.attributes.insert("val".to_owned(), Value { ty: row("k").ty, data: ten });
    let plus = block(
        vec![],
        vec![
            binary("mul", floats(&[0.5, 0.5]), floats(&[2.0, 2.0]), row("ones")),
            binary("add", name("x"), name("ones"), row("more")),
        ],
        &["more"],
    );
    let times =
        block(vec![], vec![binary("mul", name("x"), name("k"), row("product"))], &["product"]);
    let choose = op("cond", &[("pred", name("p"))], None);
    program_of(
        vec![row("x"), flag("p")],
        vec![k, with_blocks(choose, vec![plus, times], vec![row("out")])],
        &["out"],
    )
}

#[test]
fn cond_takes_one_of_its_blocks() {
    let model = load(&choice()).unwrap();
    let function = model.function("main").unwrap();
    let x = Tensor::f32(&[2], vec![1.0, 2.0]);
    for (p, want) in [(true, [2.0, 3.0]), (false, [10.0, 40.0])] {
        let given = [("x", x.clone()), ("p", Tensor::bool(&[], vec![p]))];
        let got = function.run(&given, &mut model.state(), &[]).unwrap();
        assert_eq!(got.get("out").unwrap().to_f32().unwrap(), want);
        let tapped = function.run(&given, &mut model.state(), &["more"]).unwrap_err();
        assert_eq!(tapped.to_string(), "no value `more` to tap in function `main`");
    }
    assert_eq!(x.to_f32().unwrap(), [1.0, 2.0], "the caller's tensor");
}

/// Doubles `x` and adds the outer `y` while `i < n`; `grown` gains an element with each turn.
fn growth() -> Program {
    let vars = || vec![number("i"), row("x_in"), open("grown_in", DType::F32)];
    let go_on = block(vars(), vec![binary("less", name("i"), name("n"), flag("more"))], &["more"]);
    let one = named("one", DType::F32, &[1]);
    let mut longer =
        op("concat", &[("axis", int(0)), ("interleave", Arg::Value(Value::bool(false)))], None);
    longer.inputs.insert("values".to_owned(), vec![name("grown_in"), floats(&[1.0])]);
    longer.outputs = vec![open("longer", DType::F32)];
    let body = block(
        vars(),
        vec![
            binary("add", name("i"), int(1), number("next")),
            binary("add", name("x_in"), name("x_in"), row("twice")),
            binary("add", name("twice"), name("y"), row("sum")),
            binary("mul", floats(&[2.0]), floats(&[0.5]), one),
            longer,
        ],
        &["next", "sum", "longer"],
    );
    let mut looped = op("while_loop", &[], None);
    looped.inputs.insert("loop_vars".to_owned(), vec![int(0), name("x"), floats(&[1.0])]);
    let outs = vec![number("turns"), row("last"), open("grown", DType::F32)];
    program_of(
        vec![row("x"), row("y"), number("n")],
        vec![
            with_blocks(looped, vec![go_on, body], outs),
            // `x` and `y` are read again after the loop that read them.
            binary("add", name("x"), name("y"), row("after")),
        ],
        &["turns", "last", "grown", "after"],
    )
}

#[test]
fn while_loop_runs_as_long_as_its_condition_holds() {
    let model = load(&growth()).unwrap();
    let function = model.function("main").unwrap();
    for n in [0, 1, 4] {
        let (mut want, mut turns) = (vec![1.0, 2.0], 0);
        while turns < n {
            want = vec![want[0] * 2.0 + 0.5, want[1] * 2.0 + 0.25];
            turns += 1;
        }
        let given = [
            ("x", Tensor::f32(&[2], vec![1.0, 2.0])),
            ("y", Tensor::f32(&[2], vec![0.5, 0.25])),
            ("n", Tensor::i32(&[], vec![n])),
        ];
        let got = function.run(&given, &mut model.state(), &[]).unwrap();
        assert_eq!(got.get("turns").unwrap().as_i32().unwrap(), [n]);
        assert_eq!(got.get("last").unwrap().to_f32().unwrap(), want);
        assert_eq!(got.get("grown").unwrap().shape(), [n as usize + 1]);
        assert_eq!(got.get("after").unwrap().to_f32().unwrap(), [1.5, 2.25]);
    }
}

#[test]
fn a_loop_that_does_not_end_is_ended() {
    let model = load(&growth()).unwrap();
    let given = [
        ("x", Tensor::f32(&[2], vec![1.0, 2.0])),
        ("y", Tensor::f32(&[2], vec![0.5, 0.25])),
        ("n", Tensor::i32(&[], vec![i32::MAX])),
    ];
    let failed = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap_err();
    let want = "(`while_loop`) failed: the loops of one call take over 4096 turns";
    assert!(failed.to_string().ends_with(want), "{failed}");
}

#[test]
fn loops_in_loops_with_a_choice_inside() {
    // i counts to 3; each turn, j counts to i; odd sums are doubled.
    let outer_vars = || vec![number("i"), number("sum")];
    let inner_vars = || vec![number("j"), number("part")];
    let parity = vec![
        binary("mod", name("part"), int(2), number("rest")),
        binary("equal", name("rest"), int(1), flag("odd")),
    ];
    let double =
        block(vec![], vec![binary("mul", name("part"), int(2), number("doubled"))], &["doubled"]);
    let keep = block(vec![], vec![], &["part"]);
    let choose = op("cond", &[("pred", name("odd"))], None);
    let mut inner_ops = parity;
    inner_ops.push(with_blocks(choose, vec![double, keep], vec![number("chosen")]));
    inner_ops.push(binary("add", name("chosen"), name("i"), number("part_next")));
    inner_ops.push(binary("add", name("j"), int(1), number("j_next")));
    let mut inner = op("while_loop", &[], None);
    inner.inputs.insert("loop_vars".to_owned(), vec![int(0), name("sum")]);
    let inner = with_blocks(
        inner,
        vec![
            block(
                inner_vars(),
                vec![binary("less", name("j"), name("i"), flag("inner_on"))],
                &["inner_on"],
            ),
            block(inner_vars(), inner_ops, &["j_next", "part_next"]),
        ],
        vec![number("j_last"), number("inner_sum")],
    );
    let mut outer = op("while_loop", &[], None);
    outer.inputs.insert("loop_vars".to_owned(), vec![int(0), name("x")]);
    let outer = with_blocks(
        outer,
        vec![
            block(
                outer_vars(),
                vec![binary("less", name("i"), int(4), flag("outer_on"))],
                &["outer_on"],
            ),
            block(
                outer_vars(),
                vec![inner, binary("add", name("i"), int(1), number("i_next"))],
                &["i_next", "inner_sum"],
            ),
        ],
        vec![number("i_last"), number("y")],
    );
    let model = load(&program_of(vec![number("x")], vec![outer], &["y"])).unwrap();
    for x in 0..6 {
        let mut want = x;
        for i in 0..4 {
            for _ in 0..i {
                want = if want % 2 == 1 { want * 2 } else { want } + i;
            }
        }
        let given = [("x", Tensor::i32(&[], vec![x]))];
        let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap();
        assert_eq!(got.get("y").unwrap().as_i32().unwrap(), [want]);
    }
}

#[test]
fn states_change_in_nested_blocks() {
    let state = NamedType {
        name: "count".to_owned(),
        ty: Type::State(Box::new(Type::tensor(DType::F16, &[1]))),
    };
    let half = |n: &str| named(n, DType::F16, &[1]);
    let read = |out: &str| op("read_state", &[("input", name("count"))], Some(half(out)));
    let write =
        |data: &str| op("write_state", &[("input", name("count")), ("data", name(data))], None);
    let vars = || vec![number("i")];
    let body = block(
        vars(),
        vec![
            read("old"),
            binary("add", name("old"), floats(&[1.0]), half("new")),
            write("new"),
            binary("add", name("i"), int(1), number("next")),
        ],
        &["next"],
    );
    let go_on = block(vars(), vec![binary("less", name("i"), name("n"), flag("on"))], &["on"]);
    let mut looped = op("while_loop", &[], None);
    looped.inputs.insert("loop_vars".to_owned(), vec![int(0)]);
    let ops = vec![
        // Written further down, but read in the loop before that: it has to stay.
        read("before"),
        with_blocks(looped, vec![go_on, body], vec![number("turns")]),
        binary("mul", name("before"), floats(&[10.0]), half("scaled")),
        write("scaled"),
        read("after"),
    ];
    let model =
        load(&program_of(vec![number("n"), state], ops, &["before", "after", "turns"])).unwrap();
    let mut state = model.state();
    state.set("count", Tensor::f16(&[1], vec![half::f16::from_f32(2.0)])).unwrap();
    let given = [("n", Tensor::i32(&[], vec![3]))];
    let got = model.function("main").unwrap().run(&given, &mut state, &[]).unwrap();
    assert_eq!(got.get("after").unwrap().to_f32().unwrap(), [20.0]);
    assert_eq!(got.get("turns").unwrap().as_i32().unwrap(), [3]);
}

#[test]
fn what_goes_wrong_in_blocks_and_lists() {
    let fixed = Arg::Value(Value::bool(false));
    let long = i32::MAX;
    let choose = |pred: Arg, blocks: Vec<Block>| {
        with_blocks(op("cond", &[("pred", pred)], None), blocks, vec![row("y")])
    };
    let same = || block(vec![], vec![], &["a"]);
    let relu = || op("relu", &[("x", name("a"))], Some(row("inner")));
    let cases = [
        (
            vec![make_list(&[("dynamic_length", fixed)], "ls"), write("ls", 1, "a", "ls1")],
            "operation `ls1` (`list_write`) failed: index 1 is outside a list of 1",
        ),
        (
            vec![make_list(&[], "ls"), write("ls", long, "a", "ls1")],
            "operation `ls1` (`list_write`) failed: a list of 2147483648 elements is longer than 4194304",
        ),
        (
            vec![make_list(&[("init_length", int(-1))], "ls")],
            "operation `ls` (`make_list`) failed: a list of -1 elements",
        ),
        (
            vec![make_list(&[], "ls"), op("relu", &[("x", name("ls"))], Some(row("y")))],
            "function `main`: operation `y` (`relu`) cannot be planned: parameter `x` has type list<fp32[2], 1>",
        ),
        (
            vec![op("list_length", &[("ls", name("a"))], Some(number("y")))],
            "function `main`: operation `y` (`list_length`) cannot be planned: parameter `ls` is no list",
        ),
        (
            vec![choose(name("a"), vec![same(), same()])],
            "operation `y` (`cond`) failed: the condition is fp32[2], not one boolean",
        ),
        (
            vec![op("const", &[], Some(row("c"))), op("relu", &[("x", name("c"))], Some(row("y")))],
            "function `main`: operation `c` (`const`) cannot be planned: parameter `val` is missing",
        ),
        (
            // The loop's block says that its list is a tensor.
            vec![make_list(&[], "ls"), {
                let mut looped = op("while_loop", &[], None);
                looped.inputs.insert("loop_vars".to_owned(), vec![name("ls")]);
                let on = || floats(&[1.0, 2.0]);
                let go_on = binary("less", name("v"), on(), named("on", DType::Bool, &[2]));
                let blocks = vec![
                    block(vec![row("v")], vec![go_on], &["on"]),
                    block(vec![row("v")], vec![], &["v"]),
                ];
                with_blocks(looped, blocks, vec![row("y")])
            }],
            "operation `y` (`while_loop`) failed: block input `v` failed: \
             the result is list<fp32[2], 1>, declared is fp32[2]",
        ),
        (
            vec![choose(name("a"), vec![same()])],
            "function `main`: operation `y` (`cond`) cannot be planned: it has 1 nested blocks for 2",
        ),
        (
            vec![choose(name("a"), vec![same(), block(vec![], vec![], &[])])],
            "function `main`: operation `y` (`cond`) cannot be planned: block 1 takes 0 values and gives 0 for 0 and 1",
        ),
        (
            vec![choose(name("a"), vec![same(), block(vec![], vec![], &["b"])])],
            "function `main`: `b` is used and never defined",
        ),
        (
            vec![
                choose(name("a"), vec![block(vec![], vec![relu()], &["inner"]), same()]),
                op("relu", &[("x", name("inner"))], Some(row("z"))),
            ],
            "function `main`: operation `z` (`relu`) cannot be planned: nothing before it defines `inner`",
        ),
        (
            vec![op("relu", &[("x", name("a"))], Some(row("a")))],
            "function `main`: `a` is defined twice",
        ),
        (
            vec![choose(
                Arg::Value(Value::bool(true)),
                vec![
                    block(
                        vec![],
                        vec![op(
                            "relu",
                            &[("x", name("a"))],
                            Some(named("inner", DType::F32, &[3])),
                        )],
                        &["inner"],
                    ),
                    same(),
                ],
            )],
            "operation `y` (`cond`) failed: operation `inner` (`relu`) failed: \
             the result has shape [2], declared is [3]",
        ),
    ];
    for (ops, want) in cases {
        let program = program_of(vec![row("a")], ops, &["a"]);
        let given = [("a", Tensor::f32(&[2], vec![1.0, 2.0]))];
        let failed = load(&program).map_err(|e| e.to_string()).and_then(|model| {
            let function = model.function("main").unwrap();
            function.run(&given, &mut model.state(), &[]).map_err(|e| e.to_string())
        });
        assert_eq!(failed.map(|_| String::new()).unwrap_err(), want);
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| {
        let mut inner = block(vec![], vec![], &["a"]);
        for i in 0..levels {
            let choose = op("cond", &[("pred", Arg::Value(Value::bool(true)))], None);
            let out = format!("y{i}");
            let other = block(vec![], vec![], &["a"]);
            let op = with_blocks(choose, vec![inner, other], vec![row(&out)]);
            inner = block(vec![], vec![op], &[&out]);
        }
        let mut program = program_of(vec![row("a")], vec![], &[]);
        program.functions.get_mut("main").unwrap().block = inner;
        load(&program)
    };
    let failed = deep(40).unwrap_err().to_string();
    assert_eq!(failed, "function `main`: operation `y7` is nested deeper than 32 blocks");
    let model = deep(32).unwrap();
    let given = [("a", Tensor::f32(&[2], vec![1.0, 2.0]))];
    let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap();
    assert_eq!(got.get("y31").unwrap().to_f32().unwrap(), [1.0, 2.0]);
}

#[test]
fn a_branch_that_is_never_taken_does_no_harm() {
    // Constants that do not go together, where nobody comes.
    let bad = binary("add", floats(&[1.0, 2.0, 3.0]), floats(&[1.0, 2.0]), row("bad"));
    let choose = op("cond", &[("pred", name("p"))], None);
    let blocks = vec![block(vec![], vec![bad], &["bad"]), block(vec![], vec![], &["a"])];
    let ops = vec![with_blocks(choose, blocks, vec![row("y")])];
    let model = load(&program_of(vec![row("a"), flag("p")], ops, &["y"])).unwrap();
    let run = |p: bool| {
        let given = [("a", Tensor::f32(&[2], vec![1.0, 2.0])), ("p", Tensor::bool(&[], vec![p]))];
        model.function("main").unwrap().run(&given, &mut model.state(), &[])
    };
    assert_eq!(run(false).unwrap().get("y").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    assert!(run(true).is_err());
}

/// `x` and a random number more with each of `n` turns.
fn walk() -> Program {
    let vars = || vec![number("i"), row("x_in")];
    let go_on = block(vars(), vec![binary("less", name("i"), name("n"), flag("more"))], &["more"]);
    let shape = Arg::Value(value(&Tensor::i32(&[1], vec![2])));
    let body = block(
        vars(),
        vec![
            binary("add", name("i"), int(1), number("next")),
            op("random_uniform", &[("shape", shape)], Some(row("by"))),
            binary("add", name("x_in"), name("by"), row("sum")),
        ],
        &["next", "sum"],
    );
    let mut looped = op("while_loop", &[], None);
    looped.inputs.insert("loop_vars".to_owned(), vec![int(0), name("x")]);
    let looped = with_blocks(looped, vec![go_on, body], vec![number("turns"), row("last")]);
    program_of(vec![row("x"), number("n")], vec![looped], &["last"])
}

#[test]
fn each_turn_draws_its_own_numbers_and_each_run_the_same() {
    let model = load(&walk()).unwrap();
    let after = |n: i32| {
        let given = [("x", Tensor::f32(&[2], vec![0.0, 0.0])), ("n", Tensor::i32(&[], vec![n]))];
        let got = model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap();
        got.get("last").unwrap().to_f32().unwrap()
    };
    let (one, two) = (after(1), after(2));
    assert_eq!(after(1), one);
    for (one, two) in one.iter().zip(&two) {
        assert!((0.0..1.0).contains(one) && (0.0..1.0).contains(&(two - one)));
        assert_ne!(two - one, *one);
    }
}
