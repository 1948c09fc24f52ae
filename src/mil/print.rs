//! A program as text, close to what coremltools prints, for people and for snapshots.

use std::fmt::Write as _;

use super::{Arg, Block, Data, Program, TensorData, Value};

/// Longer immediate lists are cut after this many elements.
const SHOWN: usize = 8;

/// The whole program as text.
pub fn program(program: &Program) -> String {
    let mut out = String::new();
    for (name, function) in &program.functions {
        let inputs: Vec<_> =
            function.inputs.iter().map(|i| format!("%{}: {}", i.name, i.ty)).collect();
        line(&mut out, 0, &format!("{name}[{}]({}) {{", function.opset, inputs.join(", ")));
        block(&mut out, &function.block, 1);
        line(&mut out, 0, "}");
    }
    out
}

fn block(out: &mut String, block_: &Block, depth: usize) {
    for op in &block_.ops {
        let results: Vec<_> = op.outputs.iter().map(|o| format!("%{}: {}", o.name, o.ty)).collect();
        let mut args: Vec<_> = op
            .inputs
            .iter()
            .map(|(parameter, bound)| format!("{parameter}={}", bindings(bound)))
            .collect();
        if let Some(val) = op.const_value() {
            args.push(format!("val={}", value(val)));
        }
        line(out, depth, &format!("{} = {}({})", results.join(", "), op.kind, args.join(", ")));
        for nested in &op.blocks {
            let inputs: Vec<_> =
                nested.inputs.iter().map(|i| format!("%{}: {}", i.name, i.ty)).collect();
            line(out, depth + 1, &format!("block({})", inputs.join(", ")));
            block(out, nested, depth + 2);
        }
    }
    let outputs: Vec<_> = block_.outputs.iter().map(|name| format!("%{name}")).collect();
    line(out, depth, &format!("-> ({})", outputs.join(", ")));
}

fn bindings(bound: &[Arg]) -> String {
    let one = |arg: &Arg| match arg {
        Arg::Name(name) => format!("%{name}"),
        Arg::Value(v) => value(v),
    };
    match bound {
        [single] => one(single),
        many => format!("({})", many.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

/// A constant as text: the first elements of a list, the place of a blob.
pub fn value(of: &Value) -> String {
    match &of.data {
        Data::Blob(blob) => format!("blob({}, {})", blob.file, blob.offset),
        Data::Tensor(data) => match data {
            TensorData::Floats(values) => list(values),
            TensorData::Ints(values) => list(values),
            TensorData::Bools(values) => list(values),
            TensorData::Strings(values) => list(values),
            TensorData::Longs(values) => list(values),
            TensorData::Doubles(values) => list(values),
            TensorData::Bytes(values) => format!("bytes{}", list(values)),
        },
        Data::Tuple(values) | Data::List(values) => {
            format!("({})", values.iter().map(value).collect::<Vec<_>>().join(", "))
        }
        Data::Dictionary(pairs) => {
            let pair = |(k, v): &(Value, Value)| format!("{}: {}", value(k), value(v));
            format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

fn list<T: std::fmt::Debug>(values: &[T]) -> String {
    if let [single] = values {
        return format!("{single:?}");
    }
    let mut out = String::from("[");
    for (i, v) in values.iter().take(SHOWN).enumerate() {
        write!(out, "{}{v:?}", if i == 0 { "" } else { ", " }).expect("writing to a string");
    }
    if values.len() > SHOWN {
        write!(out, ", … {} in all", values.len()).expect("writing to a string");
    }
    out.push(']');
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(text);
    out.push('\n');
}
