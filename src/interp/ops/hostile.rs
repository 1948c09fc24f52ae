//! Parameters and values that no program should have: each gives an error that says what is wrong, none a panic.

use crate::interp::tensor::Tensor;
use crate::interp::testing::{Check, check, floats};
use crate::mil::DType;

const MOST: i32 = i32::MAX;
const LEAST: i32 = i32::MIN;

fn square() -> Tensor {
    floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])
}

fn ints(values: &[i32]) -> Tensor {
    Tensor::i32(&[values.len()], values.to_vec())
}

/// As many zeros as an extent asks for, along the first of two dimensions or the second.
fn line(n: usize, first: bool) -> Tensor {
    let shape = if first { [n, 1] } else { [1, n] };
    floats(&shape, &vec![0.0; n])
}

fn fails(cases: Vec<(Check, &str)>) {
    for (check, want) in cases {
        let failed = check.fails();
        assert!(failed.ends_with(want), "{failed}\nshould end in\n{want}");
    }
}

#[test]
fn compressed_constants() {
    let codes = |dtype: DType| Tensor::i32(&[4], vec![1, 0, 1, 0]).tagged(dtype);
    let two = floats(&[2], &[1.0, 2.0]);
    let sparse = |mask: &Tensor| {
        check("constexpr_sparse_to_dense").constant("mask", mask).constant("nonzero_data", &two)
    };
    let table = |indices: DType| {
        check("constexpr_lut_to_sparse")
            .constant("indices_mask", &codes(DType::U8))
            .constant("indices_nonzero_data", &codes(indices))
            .constant("lut", &floats(&[1, 2, 1], &[1.0, 2.0]))
    };
    fails(vec![
        (sparse(&codes(DType::I16)), "`mask` is int16[4], no whole numbers of at most 8 bits"),
        (sparse(&floats(&[4], &[1.0; 4])), "`mask` is fp32[4], no whole numbers of at most 8 bits"),
        (
            table(DType::I32).outs(&[DType::U8, DType::F32], 1),
            "`indices_nonzero_data` is int32[4], no whole numbers of at most 8 bits",
        ),
    ]);
}

#[test]
fn elementwise() {
    const MANY: usize = 1 << 17;
    let pair = |kind: &str| check(kind).input("x", line(MANY, true)).input("y", line(MANY, false));
    let many = "shape [131072, 131072] has more than 2147483648 elements";
    let three = || check("select").input("a", square()).input("b", floats(&[3], &[0.0; 3]));
    fails(vec![
        (pair("add"), many),
        (pair("less").out(DType::Bool), many),
        (
            check("add").input("x", square()).input("y", ints(&[1, 2])),
            "a value of type int32[2] should hold floats",
        ),
        (
            check("add").input("x", square()).input("y", floats(&[3], &[0.0; 3])),
            "shapes [2, 2] and [3] do not stretch to one another",
        ),
        (
            check("logical_and").input("x", square()).input("y", square()).out(DType::Bool),
            "a value of type fp32[2, 2] should hold booleans",
        ),
        (
            three().input("cond", Tensor::bool(&[1], vec![true])),
            "shapes [2, 2] and [3] do not stretch to one another",
        ),
        (check("sqrt").input("x", ints(&[1])), "a value of type int32[1] should hold floats"),
        (
            check("cast").input("x", square()).text("dtype", "string"),
            "`cast` (dtype `string`) of CoreML8, 1 times, first at `main/out`",
        ),
        (check("clip").input("x", square()), "parameter `alpha` is missing"),
        (
            check("clip")
                .input("x", square())
                .floats_const(&[("alpha", 1.0)])
                .ints("beta", &[1, 2]),
            "parameter `beta` should be one number, not int32[2]",
        ),
        (
            check("prelu")
                .input("x", floats(&[2], &[0.0; 2]))
                .constant("alpha", &floats(&[1], &[0.0])),
            "axis 1 is outside rank 1",
        ),
        (
            check("prelu").input("x", square()).constant("alpha", &floats(&[0], &[])),
            "parameter `alpha` is empty",
        ),
        (check("softmax").input("x", square()).int("axis", -3), "axis -3 is outside rank 2"),
    ]);
}

/// Where arithmetic has no result, one is defined.
#[test]
fn whole_numbers_at_their_ends() {
    let cases = [
        ("real_div", MOST, 0, 0),
        ("real_div", LEAST, -1, LEAST),
        ("floor_div", LEAST, 0, 0),
        ("floor_div", LEAST, -1, LEAST),
        ("mod", LEAST, -1, 0),
        ("mod", 5, 0, 5),
        ("pow", 2, MOST, MOST),
        ("pow", 0, LEAST, MOST),
        ("mul", LEAST, LEAST, 0),
    ];
    for (kind, x, y, want) in cases {
        let got = check(kind).input("x", ints(&[x])).input("y", ints(&[y])).out(DType::I32).runs();
        assert_eq!(got[0].as_i32().unwrap(), [want], "{kind} of {x} and {y}");
    }
    let ends = || ints(&[LEAST, LEAST, LEAST, MOST]);
    for kind in
        ["reduce_sum_square", "reduce_l2_norm", "reduce_l1_norm", "reduce_prod", "reduce_mean"]
    {
        check(kind).input("x", ends()).ints("axes", &[0]).out(DType::I32).rank(0).runs();
    }
    for kind in ["abs", "sign", "square", "exp2"] {
        check(kind).input("x", ends()).out(DType::I32).runs();
    }
    let floats = floats(&[3], &[f32::NAN, f32::INFINITY, -1e30]);
    for (dtype, name) in [(DType::I32, "int32"), (DType::U8, "uint8"), (DType::Bool, "bool")] {
        check("cast").input("x", floats.clone()).text("dtype", name).out(dtype).runs();
    }
}

#[test]
fn reductions() {
    let c = |kind: &str| check(kind).input("x", square());
    fails(vec![
        (c("reduce_sum").ints("axes", &[2]), "axis 2 is outside rank 2"),
        (c("reduce_sum").ints("axes", &[LEAST]), "axis -2147483648 is outside rank 2"),
        (c("reduce_argmax").int("axis", 2).out(DType::I32), "axis 2 is outside rank 2"),
        (
            check("reduce_argmax").input("x", floats(&[], &[1.0])).out(DType::I32),
            "axis -1 is outside rank 0",
        ),
        (check("cumsum").input("x", floats(&[], &[1.0])), "axis 0 is outside rank 0"),
    ]);
    check("reduce_max")
        .input("x", floats(&[0, 2], &[]))
        .ints("axes", &[0])
        .gives(&[2], &[f32::NEG_INFINITY; 2]);
    check("reduce_mean")
        .input("x", floats(&[2, 0], &[]))
        .ints("axes", &[1])
        .gives(&[2], &[f32::NAN; 2]);
}

#[test]
fn gathers_and_scatters() {
    let at = |kind: &str, x: &str, shape: &[usize], indices: Vec<i32>| {
        check(kind).input(x, square()).input("indices", Tensor::i32(shape, indices))
    };
    let wide = || check("gather").input("x", line(1 << 17, false)).int("axis", 0);
    let scatter = |kind: &str, shape: &[usize], indices: Vec<i32>, updates: &[usize]| {
        let n = updates.iter().product();
        at(kind, "data", shape, indices).input("updates", floats(updates, &vec![0.0; n]))
    };
    fails(vec![
        (at("gather", "x", &[1], vec![0]).int("axis", 2), "axis 2 is outside rank 2"),
        (at("gather", "x", &[1], vec![0]).int("batch_dims", -1), "batch_dims below 0"),
        (
            at("gather", "x", &[1], vec![0]).int("batch_dims", MOST),
            "shapes [2, 2] and [1] do not share 2147483647 batch dimensions",
        ),
        (
            wide().input("indices", ints(&vec![0; 1 << 16])),
            "shape [65536, 131072] has more than 2147483648 elements",
        ),
        (
            check("gather").input("x", floats(&[0, 2], &[])).input("indices", ints(&[0])),
            "index 0 is outside 0..0",
        ),
        (
            at("gather_along_axis", "x", &[2, 2], vec![0; 4]).int("axis", -3),
            "axis -3 is outside rank 2",
        ),
        (at("gather_nd", "x", &[], vec![0]), "shapes [2, 2] and [] do not gather"),
        (at("gather_nd", "x", &[5, 0], vec![]), "shapes [2, 2] and [5, 0] do not gather"),
        (at("gather_nd", "x", &[1, 3], vec![0; 3]), "shapes [2, 2] and [1, 3] do not gather"),
        (
            at("gather_nd", "x", &[1, 1], vec![0]).int("batch_dims", 2),
            "shapes [2, 2] and [1, 1] do not gather",
        ),
        (scatter("scatter", &[1], vec![5], &[1, 2]).opset("CoreML6"), "index 5 is outside 0..2"),
        (
            scatter("scatter", &[1], vec![LEAST], &[1, 2]).flag("validate_indices", true),
            "index -2147483648 is outside 0..2",
        ),
        (scatter("scatter", &[3], vec![0; 3], &[1, 2]), "6 places for updates fp32[1, 2]"),
        (scatter("scatter", &[1], vec![0], &[1, 2]).int("axis", 7), "axis 7 is outside rank 2"),
        (scatter("scatter_along_axis", &[2, 2], vec![0; 4], &[1]), "4 places for updates fp32[1]"),
        (scatter("scatter_nd", &[], vec![0], &[1]), "shapes [2, 2] and [] do not scatter"),
        (
            scatter("scatter_nd", &[1, 3], vec![0; 3], &[1]),
            "shapes [2, 2] and [1, 3] do not scatter",
        ),
        (scatter("scatter_nd", &[5, 0], vec![], &[5]), "shapes [2, 2] and [5, 0] do not scatter"),
        (scatter("scatter_nd", &[1, 1], vec![1], &[1]), "2 places for updates fp32[1]"),
    ]);
}

#[test]
fn slices() {
    let c = |begin: &[i32], end: &[i32]| {
        check("slice_by_index").input("x", square()).ints("begin", begin).ints("end", end)
    };
    let size = |begin: &[i32], size: &[i32]| {
        check("slice_by_size").input("x", square()).ints("begin", begin).ints("size", size)
    };
    fails(vec![
        (c(&[0, 0], &[1, 1]).ints("stride", &[0, 1]), "a stride of 0"),
        (c(&[0], &[1]), "begin [0] and end [1] for rank 2"),
        (c(&[0, 0], &[1, 1]).ints("stride", &[1]), "begin [0, 0] and end [1, 1] for rank 2"),
        (c(&[0, 0], &[1, 1]).flags("end_mask", &[true]), "begin [0, 0] and end [1, 1] for rank 2"),
        (c(&[0, 2], &[1, 1]).flags("squeeze_mask", &[false, true]), "index 2 is outside 0..2"),
        (size(&[0, 3], &[1, 1]), "begin [0, 3] and size [1, 1] for shape [2, 2]"),
        (size(&[0, 0], &[1, MOST]), "begin [0, 0] and size [1, 2147483647] for shape [2, 2]"),
        (size(&[0, 0], &[1, -2]), "begin [0, 0] and size [1, -2] for shape [2, 2]"),
        (size(&[LEAST, 0], &[1, 1]), "begin [-2147483648, 0] and size [1, 1] for shape [2, 2]"),
        (
            check("slice_update")
                .input("x", square())
                .input("update", ints(&[1]))
                .ints("begin", &[0, 0])
                .ints("end", &[1, 1]),
            "a value of type int32[1] should hold floats",
        ),
    ]);
    c(&[1, LEAST], &[LEAST, MOST]).ints("stride", &[LEAST, MOST]).gives(&[1, 1], &[3.0]);
}

#[test]
fn tensors_put_together() {
    let list = |kind: &str, parts: Vec<Tensor>, axis: i32| {
        check(kind).list("values", parts).int("axis", axis)
    };
    let pad = |pad: &[i32], mode: &str| {
        check("pad").input("x", square()).ints("pad", pad).text("mode", mode)
    };
    let range = |start: f32, end: f32, step: f32| {
        let one = |v: f32| floats(&[], &[v]);
        check("range_1d").input("start", one(start)).input("end", one(end)).input("step", one(step))
    };
    let split = |sizes: &[i32]| {
        check("split")
            .input("x", square())
            .int("axis", 0)
            .ints("split_sizes", sizes)
            .outs(&[DType::F32; 2], 2)
    };
    let hot = |size: i32| {
        check("one_hot")
            .input("indices", ints(&[0, LEAST]))
            .int("one_hot_vector_size", size)
            .out(DType::I32)
    };
    let scalar = floats(&[], &[1.0]);
    fails(vec![
        (list("concat", vec![square(), square()], 2), "axis 2 is outside rank 2"),
        (list("concat", vec![scalar, square()], 0), "axis 0 is outside rank 0"),
        (
            list("concat", vec![square(), ints(&[1, 2])], 0),
            "shapes [2, 2], [2] do not join along axis 0",
        ),
        (
            list("concat", vec![square(), line(2, false)], 0).flag("interleave", true),
            "parts of 2 elements and of others do not interleave",
        ),
        (list("stack", vec![square(), square()], -4), "axis -4 is outside rank 3"),
        (split(&[1, 2]), "2 elements do not split into [1, 2]"),
        (split(&[-1, 3]), "an extent of -1 in [-1, 3]"),
        (
            check("split").input("x", line(3, true)).int("axis", 0).outs(&[DType::F32; 2], 2),
            "3 elements do not split into [1, 1]",
        ),
        (check("tile").input("x", square()).ints("reps", &[1]), "reps [1] for shape [2, 2]"),
        (
            check("tile").input("x", square()).ints("reps", &[MOST, MOST]),
            "shape [4294967294, 4294967294] has more than 2147483648 elements",
        ),
        (pad(&[1], "constant"), "pad [1] for shape [2, 2]"),
        (pad(&[0, -1], "constant"), "an extent of -1 in [0, -1]"),
        (
            pad(&[MOST, MOST, MOST, MOST], "constant"),
            "shape [4294967296, 4294967296] has more than 2147483648 elements",
        ),
        (pad(&[0, 2], "reflect"), "pad [0, 2] for shape [2, 2]"),
        (
            check("pad")
                .input("x", floats(&[0, 1], &[]))
                .ints("pad", &[1, 0, 0, 0])
                .text("mode", "replicate"),
            "pad [1, 0, 0, 0] for shape [0, 1]",
        ),
        (
            check("fill").ints("shape", &[MOST, MOST, MOST, 0]),
            "shape [2147483647, 2147483647, 2147483647, 0] has more than 2147483648 elements",
        ),
        (check("fill").ints("shape", &[-1]), "an extent of -1 in [-1]"),
        (range(0.0, 1.0, 0.0), "a range from 0 to 1 by 0"),
        (range(0.0, f32::NAN, 1.0), "a range from 0 to NaN by 1"),
        (range(0.0, 1e30, 1.0), "shape [18446744073709551615] has more than 2147483648 elements"),
        (check("band_part").input("x", floats(&[2], &[0.0; 2])), "shape [2] has no matrix"),
        (hot(-1), "a size of -1"),
        (
            check("topk").input("x", square()).int("k", 3).outs(&[DType::F32, DType::I32], 2),
            "3 of 2 elements",
        ),
        (
            check("topk").input("x", square()).int("k", -2).outs(&[DType::F32, DType::I32], 2),
            "k of -2",
        ),
        (
            check("argsort").input("x", square()).int("axis", 2).out(DType::I32),
            "axis 2 is outside rank 2",
        ),
    ]);
    hot(2).gives(&[2, 2], &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn other_shapes() {
    let c = |kind: &str, parameter: &str, values: &[i32]| {
        check(kind).input("x", square()).ints(parameter, values)
    };
    fails(vec![
        (
            c("reshape", "shape", &[65_536, 65_536, 65_536, 65_536]),
            "shape [65536, 65536, 65536, 65536] has more than 2147483648 elements",
        ),
        (c("reshape", "shape", &[-1, -1]), "shape [2, 2] does not become [-1, -1]"),
        (
            c("reshape", "shape", &[0, 0, -1]).opset("CoreML6"),
            "shape [2, 2] does not become [0, 0, -1]",
        ),
        (c("transpose", "perm", &[0, 0]), "perm [0, 0] names a dimension twice"),
        (c("transpose", "perm", &[0, 1, 2]), "perm [0, 1, 2] for shape [2, 2]"),
        (c("transpose", "perm", &[0, MOST]), "axis 2147483647 is outside rank 2"),
        (c("expand_dims", "axes", &[4]), "axis 4 is outside rank 3"),
        (c("squeeze", "axes", &[LEAST]), "axis -2147483648 is outside rank 2"),
        (c("reverse", "axes", &[2]), "axis 2 is outside rank 2"),
        (check("flatten2d").input("x", square()).int("axis", 3), "axis 3 is outside rank 2"),
    ]);
}
