//! The operations of a function on both sides: those of one name are compared, then their order.

use std::collections::{BTreeMap, VecDeque};

use super::super::audit::is_constant;
use super::super::select::compressed_name;
use super::Difference;
use crate::mil::{Arg, Block, Function, Op, Value};

/// The most operations of a function that are named one by one.
const NAMED: usize = 20;

/// What differs between the operations of `function`, in the order of the left one, then what only the right one has:
/// at most [`NAMED`] operations, and how many more.
pub(super) fn differences(function: &str, left: &[&Op], right: &[&Op]) -> Vec<Difference> {
    let found = |what: String, left: Option<String>, right: Option<String>| {
        let function = Some(function.to_owned());
        Difference { function, what, left, right }
    };
    let pairs = pairs(left, right);
    let differing = pairs.iter().filter(|(a, b)| {
        let [a, b] = [a.map(|at| left[at]), b.map(|at| right[at])];
        a.map(bare) != b.map(bare)
    });
    let differing: Vec<_> = differing.collect();
    let mut all: Vec<Difference> = differing
        .iter()
        .take(NAMED)
        .map(|(a, b)| {
            let (at, op) = match (a, b) {
                (Some(a), _) => (*a, left[*a]),
                (None, Some(b)) => (*b, right[*b]),
                (None, None) => unreachable!("a pair has one side at least"),
            };
            let [mut one, mut another] = [a.map(|at| call(left[at])), b.map(|at| call(right[at]))];
            if one == another {
                (one, another) = (Some("one".to_owned()), Some("another".to_owned()));
            }
            found(format!("operation {}, `{}`", at + 1, op.name()), one, another)
        })
        .collect();
    if differing.len() > NAMED {
        all.push(found(format!("{} more operations", differing.len() - NAMED), None, None));
    }
    let both: Vec<(usize, usize)> = pairs.iter().filter_map(|(a, b)| a.zip(*b)).collect();
    let moved = both.windows(2).find(|pair| pair[1].1 < pair[0].1);
    if let Some([(before, _), (after, _)]) = moved {
        let [before, after] = [before, after].map(|at| left[*at].name());
        let order = |a: &str, b: &str| Some(format!("`{a}`, `{b}`"));
        all.push(found(
            "order of operations".to_owned(),
            order(before, after),
            order(after, before),
        ));
    }
    all
}

/// The places of the operations of one name together; those of the left in their order, then those only on the right.
fn pairs(left: &[&Op], right: &[&Op]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut others: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for (at, op) in right.iter().enumerate() {
        others.entry(op.name()).or_default().push_back(at);
    }
    let other = |op: &Op| others.get_mut(op.name()).and_then(VecDeque::pop_front);
    let mut pairs: Vec<_> =
        left.iter().copied().map(other).enumerate().map(|(at, b)| (Some(at), b)).collect();
    let mut alone: Vec<usize> = others.into_values().flatten().collect();
    alone.sort_unstable();
    pairs.extend(alone.into_iter().map(|at| (None, Some(at))));
    pairs
}

/// Each operation of a function, in order, nested ones after the one that they are part of; no constants.
pub(super) fn of(function: &Function) -> Vec<&Op> {
    each(function).into_iter().filter(|op| !is_constant(op)).collect()
}

/// Each operation of a function with its constants, in order.
pub(super) fn each(function: &Function) -> Vec<&Op> {
    fn walk<'a>(block: &'a Block, ops: &mut Vec<&'a Op>) {
        for op in &block.ops {
            ops.push(op);
            op.blocks.iter().for_each(|nested| walk(nested, ops));
        }
    }
    let mut ops = Vec::new();
    walk(&function.block, &mut ops);
    ops
}

/// An operation with its parameters, as a difference shows it.
fn call(op: &Op) -> String {
    let parameters: Vec<&str> = op.inputs.keys().map(String::as_str).collect();
    format!("{}({})", op.kind, parameters.join(", "))
}

/// An operation without what compression changes: the names of its constants.
fn bare(op: &Op) -> impl PartialEq + '_ {
    let arguments: Vec<(&str, Vec<Argument<'_>>)> = (op.inputs.iter())
        .map(|(parameter, args)| (parameter.as_str(), args.iter().map(Argument::of).collect()))
        .collect();
    let blocks: Vec<_> = op.blocks.iter().map(|block| (&block.inputs, &block.outputs)).collect();
    (op.kind.as_str(), arguments, &op.outputs, &op.attributes, blocks)
}

#[derive(PartialEq)]
enum Argument<'a> {
    Name(&'a str),
    Value(&'a Value),
}

impl<'a> Argument<'a> {
    fn of(arg: &'a Arg) -> Self {
        match arg {
            Arg::Name(name) => Self::Name(compressed_name(name)),
            Arg::Value(value) => Self::Value(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::{DType, NamedType, Type};

    /// `relu:a` is an operation `relu` named `a`.
    fn ops(text: &str) -> Vec<Op> {
        let op = |(kind, name): (&str, &str)| Op {
            kind: kind.to_owned(),
            inputs: BTreeMap::new(),
            outputs: vec![NamedType { name: name.to_owned(), ty: Type::tensor(DType::F16, &[1]) }],
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        };
        text.split_whitespace().map(|word| op(word.split_once(':').unwrap())).collect()
    }

    #[test]
    fn operations_are_compared_by_their_names() {
        let many = |kind: &str| {
            let all: Vec<String> = (0..23).map(|i| format!("{kind}:n{i}")).collect();
            all.join(" ")
        };
        let line = |i: usize| format!("operation {}, `n{i}`: relu() → tanh()\n", i + 1);
        let first_twenty = (0..20).map(line).collect::<Vec<_>>().concat();
        let cases = [
            ("relu:a tanh:b", "relu:a tanh:b", String::new()),
            // What is put in or left out does not make all that follows differ.
            ("relu:a tanh:b exp:c", "tanh:b exp:c", "operation 1, `a`: relu() → –\n".to_owned()),
            ("relu:a exp:c", "relu:a tanh:b exp:c", "operation 2, `b`: – → tanh()\n".to_owned()),
            (
                "relu:a tanh:b exp:c sin:d",
                "relu:a sin:b exp:c cos:d",
                "operation 2, `b`: tanh() → sin()\noperation 4, `d`: sin() → cos()\n".to_owned(),
            ),
            (
                "relu:a tanh:b exp:c",
                "relu:a exp:c tanh:b",
                "order of operations: `b`, `c` → `c`, `b`\n".to_owned(),
            ),
            (&many("relu"), &many("tanh"), format!("{first_twenty}3 more operations: – → –\n")),
        ];
        for (left, right, want) in cases {
            let [left, right] = [left, right].map(ops);
            let [left, right] = [&left, &right].map(|ops| ops.iter().collect::<Vec<_>>());
            let side = |side: Option<String>| side.unwrap_or_else(|| "–".to_owned());
            let got: Vec<String> = differences("main", &left, &right)
                .into_iter()
                .map(|d| format!("{}: {} → {}\n", d.what, side(d.left), side(d.right)))
                .collect();
            assert_eq!(got.concat(), want);
        }
    }
}
