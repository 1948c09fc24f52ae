//! Edits of a program: each leaves something that can be written and read again, and is mostly still planned.

use coremill::interp::ops;
use coremill::mil::{
    Arg, BlobRef, Block, DType, Data, Dim, NamedType, Op, Program, TensorData, TensorType, Type,
    Value,
};

use crate::chance::Dice;
use crate::seeds;

/// Words that parameters are compared with, besides names of types.
const WORDS: &[&str] = &[
    "valid",
    "same",
    "same_lower",
    "custom",
    "constant",
    "reflect",
    "replicate",
    "symmetric",
    "zeros",
    "EXACT",
    "TANH_APPROXIMATION",
    "forward",
    "reverse",
    "bidirectional",
    "tanh",
    "sigmoid",
    "relu",
    "linear",
    "nearest",
    "bilinear",
    "border",
    "reflection",
    "normalized_zero_to_one",
    "normalized_minus_one_to_one",
    "unnormalized",
    "CORNERS_XYXY",
    "CENTER_SIZE_HEIGHT_FIRST",
    "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS",
    "OFFSET_CORNERS",
    "DEFAULT",
    "UNALIGN_CORNERS",
    "update",
    "add",
    "sub",
    "mul",
    "div",
    "max",
    "min",
    "logits",
    "probs",
    "ij,jk->ik",
    "nchw,nwhu->nchu",
    "bij,bjk->bik",
    "->",
    "",
    "@model_path/weights/weight.bin",
    "../weight.bin",
    "@model_path/../../x",
    "@model_path//etc/passwd",
];

/// Tensors longer than this are not made longer.
const MOST_ELEMENTS: usize = 256;

/// Changes a program in one to four places.
pub fn edit(program: &mut Program, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let names: Vec<String> = program.functions.keys().cloned().collect();
        let Some(name) = dice.of(&names) else { return };
        if dice.one_in(40) {
            let copy = program.functions[name].clone();
            program.functions.insert(format!("{name}{}", dice.below(3)), copy);
            continue;
        }
        let Some(function) = program.functions.get_mut(name) else { return };
        match dice.below(24) {
            0 => {
                let opset = ["CoreML5", "CoreML6", "CoreML7", "CoreML8", "CoreML9"];
                function.opset = (*dice.of(&opset).unwrap_or(&"CoreML8")).to_owned();
            }
            1 | 2 => {
                if let Some(input) = dice.of_mut(&mut function.inputs) {
                    ty(&mut input.ty, dice);
                }
            }
            3 => {
                let shape = vec![Dim::Fixed(dice.extent(2)); dice.below(4)];
                let dtype = dtype(dice);
                let tensor = TensorType { shape, ..TensorType::fixed(dtype, &[]) };
                let name = format!("new{}", dice.below(8));
                function.inputs.push(NamedType { name, ty: Type::Tensor(tensor) });
            }
            _ => {
                let mut names: Vec<String> =
                    function.inputs.iter().map(|i| i.name.clone()).collect();
                block(&mut function.block, &mut names, dice);
            }
        }
    }
}

/// Changes a block or one nested in it; `names` are those defined around it.
fn block(block_: &mut Block, names: &mut Vec<String>, dice: &mut Dice) {
    names.extend(block_.inputs.iter().map(|i| i.name.clone()));
    let at = dice.below(block_.ops.len());
    for op in block_.ops.iter().take(at) {
        names.extend(op.outputs.iter().map(|o| o.name.clone()));
    }
    match dice.below(16) {
        0 => {
            if let Some(name) = dice.of(names) {
                let name = name.clone();
                match dice.of_mut(&mut block_.outputs) {
                    Some(output) => *output = name,
                    None => block_.outputs.push(name),
                }
            }
        }
        1 if at < block_.ops.len() => {
            block_.ops.remove(at);
        }
        2 => {
            let other = dice.below(block_.ops.len());
            if other < block_.ops.len() {
                block_.ops.swap(at, other);
            }
        }
        3 | 4 => {
            if let Some(op) = dice.of(seeds::ops()) {
                graft(block_, at, op.clone(), names, dice);
            }
        }
        5 => {
            if let Some(op) = block_.ops.get(at) {
                graft(block_, at, op.clone(), names, dice);
            }
        }
        _ => {
            let Some(op_) = block_.ops.get_mut(at) else { return };
            match dice.of_mut(&mut op_.blocks) {
                Some(inner) if !dice.one_in(4) => block(inner, names, dice),
                _ => op(op_, names, dice),
            }
        }
    }
}

/// Puts `new` before the operation `at`, with results of its own and arguments that are defined.
fn graft(block: &mut Block, at: usize, mut new: Op, names: &[String], dice: &mut Dice) {
    let mark = dice.below(10_000);
    for (i, output) in new.outputs.iter_mut().enumerate() {
        output.name = format!("g{mark}_{i}");
    }
    for arg in new.inputs.values_mut().flatten() {
        if let Arg::Name(name) = arg
            && !names.contains(name)
            && let Some(known) = dice.of(names)
        {
            name.clone_from(known);
        }
    }
    if let Some(output) = new.outputs.first() {
        // Mostly the new result is used, for nothing else would show what is wrong with it.
        if let Some(late) = block.outputs.first_mut().filter(|_| dice.below(3) > 0) {
            late.clone_from(&output.name);
        }
    }
    block.ops.insert(at.min(block.ops.len()), new);
}

fn op(op: &mut Op, names: &[String], dice: &mut Dice) {
    let parameters: Vec<String> = op.inputs.keys().cloned().collect();
    let parameter = dice.of(&parameters).cloned();
    match dice.below(16) {
        0 => {
            let kinds: Vec<_> = ops::supported().collect();
            if let Some((kind, ..)) = dice.of(&kinds) {
                op.kind = (*kind).to_owned();
            }
        }
        1 => {
            parameter.map(|p| op.inputs.remove(&p));
        }
        2 => {
            if let Some(donor) = dice.of(seeds::ops()) {
                let parameters: Vec<_> = donor.inputs.iter().collect();
                if let Some((name, args)) = dice.of(&parameters) {
                    op.inputs.insert((*name).clone(), (*args).clone());
                }
            }
        }
        3 | 4 => {
            if let Some(output) = dice.of_mut(&mut op.outputs) {
                ty(&mut output.ty, dice);
            }
        }
        5 => {
            if let Some(output) = op.outputs.first().cloned() {
                op.outputs.push(NamedType { name: format!("{}x", output.name), ty: output.ty });
            }
        }
        6 => {
            op.outputs.pop();
        }
        7 | 8 => {
            let args = parameter.and_then(|p| op.inputs.get_mut(&p));
            let (Some(args), Some(name)) = (args, dice.of(names)) else { return };
            match dice.of_mut(args) {
                Some(arg) if !dice.one_in(4) => *arg = Arg::Name(name.clone()),
                _ => args.push(Arg::Name(name.clone())),
            }
        }
        9 => {
            let copy = op.blocks.first().cloned();
            op.blocks.extend(copy);
        }
        _ => {
            let attributes = op.attributes.values_mut();
            let inline = op.inputs.values_mut().flatten().filter_map(|arg| match arg {
                Arg::Value(value) => Some(value),
                Arg::Name(_) => None,
            });
            let mut values: Vec<&mut Value> = attributes.chain(inline).collect();
            if let Some(found) = dice.of_mut(&mut values) {
                value(found, dice);
            }
        }
    }
}

fn dtype(dice: &mut Dice) -> DType {
    let all: Vec<_> = DType::all().collect();
    *dice.of(&all).unwrap_or(&DType::F32)
}

fn ty(of: &mut Type, dice: &mut Dice) {
    match of {
        Type::Tensor(tensor) => match dice.below(12) {
            0 | 1 => tensor.dtype = dtype(dice),
            2 => tensor.shape.push(Dim::Fixed(1)),
            3 => drop(tensor.shape.pop()),
            4 => tensor.shape = vec![Dim::Unknown { variadic: true }],
            5 => {
                let inner = Box::new(of.clone());
                *of = match dice.below(5) {
                    0 => Type::List(inner, Dim::Fixed(dice.extent(1))),
                    1 => Type::Tuple(vec![*inner]),
                    2 => Type::Dictionary(Box::new(Type::tensor(DType::Str, &[])), inner),
                    _ => Type::State(inner),
                };
            }
            _ => {
                if let Some(dim) = dice.of_mut(&mut tensor.shape) {
                    let old = if let Dim::Fixed(n) = dim { *n } else { 1 };
                    let unknown = dice.one_in(6);
                    *dim = if unknown {
                        Dim::Unknown { variadic: false }
                    } else {
                        Dim::Fixed(dice.extent(old))
                    };
                }
            }
        },
        Type::List(inner, _) | Type::State(inner) | Type::Dictionary(_, inner) => {
            if dice.one_in(4) {
                *of = (**inner).clone();
            } else {
                ty(inner, dice);
            }
        }
        Type::Tuple(types) => {
            if let Some(inner) = dice.of_mut(types) {
                ty(inner, dice);
            }
        }
    }
}

fn value(of: &mut Value, dice: &mut Dice) {
    if dice.one_in(8) {
        return ty(&mut of.ty, dice);
    }
    match &mut of.data {
        Data::Tensor(data) => {
            let resize = dice.one_in(4);
            elements(data, resize, dice);
            // A list of numbers mostly keeps a type that it fits.
            if resize && !dice.one_in(8) {
                let n = match data {
                    TensorData::Floats(v) => v.len(),
                    TensorData::Ints(v) => v.len(),
                    TensorData::Bools(v) => v.len(),
                    TensorData::Strings(v) => v.len(),
                    TensorData::Longs(v) => v.len(),
                    TensorData::Doubles(v) => v.len(),
                    TensorData::Bytes(v) => v.len(),
                };
                if let Type::Tensor(tensor) = &mut of.ty {
                    let bytes = matches!(data, TensorData::Bytes(_));
                    let n = if bytes { n * 8 / (tensor.dtype.bits() as usize).max(1) } else { n };
                    tensor.shape = vec![Dim::Fixed(n as u64)];
                }
            }
        }
        Data::Blob(at) => blob(at, dice),
        Data::Tuple(values) | Data::List(values) => match dice.below(4) {
            0 => drop(values.pop()),
            1 => values.extend(values.first().cloned()),
            _ => {
                if let Some(inner) = dice.of_mut(values) {
                    value(inner, dice);
                }
            }
        },
        Data::Dictionary(pairs) => {
            if let Some((key, inner)) = dice.of_mut(pairs) {
                value(if dice.one_in(3) { key } else { inner }, dice);
            }
        }
    }
}

fn blob(at: &mut BlobRef, dice: &mut Dice) {
    match dice.below(4) {
        0 => at.file = (*dice.of(WORDS).unwrap_or(&"")).to_owned(),
        1 => at.offset = dice.int(at.offset as i64) as u64,
        _ => at.offset = 64 * dice.below(64) as u64,
    }
}

fn elements(data: &mut TensorData, resize: bool, dice: &mut Dice) {
    fn change<T: Clone + Default>(
        values: &mut Vec<T>,
        resize: bool,
        dice: &mut Dice,
        mut new: impl FnMut(&T, &mut Dice) -> T,
    ) {
        if resize {
            match dice.below(3) {
                0 => drop(values.pop()),
                1 => values.push(values.last().cloned().unwrap_or_default()),
                _ if values.len() < MOST_ELEMENTS => values.extend(values.clone()),
                _ => {}
            }
        }
        for _ in 0..=dice.below(2) {
            if let Some(value) = dice.of_mut(values) {
                *value = new(value, dice);
            }
        }
    }
    match data {
        TensorData::Floats(v) => change(v, resize, dice, |_, d| d.float()),
        TensorData::Doubles(v) => change(v, resize, dice, |_, d| f64::from(d.float())),
        TensorData::Ints(v) => change(v, resize, dice, |&old, d| d.int(old.into()) as i32),
        TensorData::Longs(v) => change(v, resize, dice, |&old, d| d.int(old)),
        TensorData::Bools(v) => change(v, resize, dice, |old, _| !old),
        TensorData::Bytes(v) => change(v, resize, dice, |_, d| d.below(256) as u8),
        TensorData::Strings(v) => change(v, resize, dice, |_, d| {
            if d.one_in(3) {
                dtype(d).name().to_owned()
            } else {
                (*d.of(WORDS).unwrap_or(&"")).to_owned()
            }
        }),
    }
}
