//! Extracts the LM head from `init`: a separate program from hidden states to logits at every position.
//!
//! `init` gives logits of the last position only. Its operations between [`TAP`] and the logits are copied with the
//! constants they use, in the form these are stored in, so that a compressed head is measured as it is shipped.
//! Operations that choose the last position, or drop the axis of positions, are left out.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::base::error::Hint;
use crate::mil::{Arg, Block, Dim, Function, NamedType, Op, Program, TensorType, Type};

/// The value of `init` that enters the head: hidden states of the whole chunk after the last norm, [1, C, H].
pub(super) const TAP: &str = "hidden_states";

/// The function's name in the head's program.
pub(super) const FUNCTION: &str = "main";

/// Operations that choose positions or change the rank only.
const SELECT: [&str; 6] =
    ["gather", "slice_by_index", "slice_by_size", "squeeze", "expand_dims", "reshape"];

/// Operations that treat every position alike.
const APPLY: [&str; 12] = [
    "linear", "matmul", "add", "sub", "mul", "real_div", "tanh", "cast", "clip", "sigmoid",
    "maximum", "minimum",
];

/// An error of extracting the LM head.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadError {
    /// No value to tap.
    #[error("function `init` computes no `{TAP}` of shape [1, C, H]")]
    NoTap,
    /// The logits do not come from it.
    #[error("function `init`: `logits` does not come from `{TAP}`")]
    Detached,
    /// An operation that cannot be applied to every position.
    #[error(
        "function `init`: operation `{op}` (`{kind}`) between `{TAP}` and `logits` cannot be applied to every position"
    )]
    Op {
        /// The operation's name.
        op: String,
        /// Its kind.
        kind: String,
    },
    /// Something that depends on the inputs in another way.
    #[error(
        "function `init`: operation `{op}` (`{kind}`) between `{TAP}` and `logits` uses `{name}`, which is not constant"
    )]
    NotConstant {
        /// The operation's name.
        op: String,
        /// Its kind.
        kind: String,
        /// Buffers of the search.
        name: String,
    },
}

impl Hint for HeadError {
    fn hint(&self) -> Option<String> {
        matches!(self, Self::NoTap).then(|| {
            "convert the checkpoint again: perplexity needs that value in the package".to_owned()
        })
    }
}

/// The head as a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// One function, [`FUNCTION`], with the input [`TAP`].
    pub program: Program,
    /// The name of its output, [1, rows, V].
    pub output: String,
    /// Positions that one call takes.
    pub rows: usize,
    /// Width of a hidden state.
    pub width: usize,
}

impl Head {
    /// Copies the head of `init` for `rows` positions at once.
    pub fn of(init: &Function, rows: usize) -> Result<Self, HeadError> {
        let ops: BTreeMap<&str, &Op> = init
            .block
            .ops
            .iter()
            .flat_map(|op| op.outputs.iter().map(move |output| (output.name.as_str(), op)))
            .collect();
        let tapped = ops.get(TAP).and_then(|op| tensor(op, TAP)).ok_or(HeadError::NoTap)?;
        let [Dim::Fixed(1), _, Dim::Fixed(width)] = tapped.shape[..] else {
            return Err(HeadError::NoTap);
        };
        let mut copy =
            Copy { ops, rows, copied: BTreeMap::new(), kept: BTreeSet::new(), out: Vec::new() };
        let output = copy.path("logits")?.ok_or(HeadError::Detached)?;
        let dtype = tapped.dtype;
        let shape = [1, rows as u64, width];
        let function = Function {
            inputs: vec![NamedType { name: TAP.to_owned(), ty: Type::tensor(dtype, &shape) }],
            opset: init.opset.clone(),
            block: Block { ops: copy.out, outputs: vec![output.clone()], ..Block::default() },
            attributes: BTreeMap::new(),
        };
        let functions = BTreeMap::from([(FUNCTION.to_owned(), function)]);
        let program = Program { version: 1, functions, attributes: BTreeMap::new() };
        let width = usize::try_from(width).map_err(|_| HeadError::NoTap)?;
        Ok(Self { program, output, rows, width })
    }
}

struct Copy<'a> {
    ops: BTreeMap<&'a str, &'a Op>,
    rows: usize,
    /// Values that come from the tap, and under which name they stand in the copy.
    copied: BTreeMap<&'a str, Option<String>>,
    /// Constants copied already.
    kept: BTreeSet<&'a str>,
    out: Vec<Op>,
}

impl<'a> Copy<'a> {
    /// The name in the copy of a value that comes from the tap, or nothing for a value that does not.
    fn path(&mut self, name: &'a str) -> Result<Option<String>, HeadError> {
        if name == TAP {
            return Ok(Some(TAP.to_owned()));
        }
        if let Some(done) = self.copied.get(name) {
            return Ok(done.clone());
        }
        let Some(&op) = self.ops.get(name) else { return Ok(None) };
        let mut from_tap = BTreeMap::new();
        for (parameter, arg) in named(op) {
            if let Some(source) = self.path(arg)? {
                from_tap.insert(arg, (parameter, source));
            }
        }
        let done = if from_tap.is_empty() { None } else { Some(self.step(op, &from_tap)?) };
        self.copied.insert(name, done.clone());
        Ok(done)
    }

    /// Copies one operation whose arguments `from_tap` come from the tap; gives the name of its result.
    fn step(
        &mut self,
        op: &'a Op,
        from_tap: &BTreeMap<&'a str, (&'a str, String)>,
    ) -> Result<String, HeadError> {
        let refuse = || HeadError::Op { op: op.name().to_owned(), kind: op.kind.clone() };
        let [output] = op.outputs.as_slice() else { return Err(refuse()) };
        if SELECT.contains(&op.kind.as_str()) {
            // The features must come through whole; only positions may have been chosen.
            let x = op.input_name("x").ok_or_else(refuse)?;
            let (_, source) = from_tap.get(x).ok_or_else(refuse)?;
            let whole = self.features(x) == output.ty.as_tensor().and_then(last);
            return if whole && from_tap.len() == 1 { Ok(source.clone()) } else { Err(refuse()) };
        }
        if !APPLY.contains(&op.kind.as_str()) {
            return Err(refuse());
        }
        for (_, arg) in named(op).filter(|(_, arg)| !from_tap.contains_key(arg)) {
            self.constant(op, arg)?;
        }
        let ty = output.ty.as_tensor().ok_or_else(refuse)?;
        let features = last(ty).ok_or_else(refuse)?;
        let mut copied = op.clone();
        for arg in copied.inputs.values_mut().flatten() {
            if let Arg::Name(name) = arg
                && let Some((_, source)) = from_tap.get(name.as_str())
            {
                name.clone_from(source);
            }
        }
        copied.outputs[0].ty = Type::tensor(ty.dtype, &[1, self.rows as u64, features]);
        self.out.push(copied);
        Ok(output.name.clone())
    }

    /// Copies a constant with everything it is made from.
    fn constant(&mut self, user: &'a Op, name: &'a str) -> Result<(), HeadError> {
        if self.kept.contains(name) {
            return Ok(());
        }
        let op = self.ops.get(name).copied();
        let Some(op) = op.filter(|op| op.kind == "const" || op.kind.starts_with("constexpr_"))
        else {
            return Err(HeadError::NotConstant {
                op: user.name().to_owned(),
                kind: user.kind.clone(),
                name: name.to_owned(),
            });
        };
        for (_, arg) in named(op) {
            self.constant(op, arg)?;
        }
        self.kept.extend(op.outputs.iter().map(|output| output.name.as_str()));
        self.out.push(op.clone());
        Ok(())
    }

    fn features(&self, name: &str) -> Option<u64> {
        self.ops.get(name).and_then(|op| tensor(op, name)).and_then(last)
    }
}

/// The arguments of an operation that are names.
fn named(op: &Op) -> impl Iterator<Item = (&str, &str)> {
    op.inputs.iter().flat_map(|(parameter, args)| {
        args.iter().filter_map(move |arg| match arg {
            Arg::Name(name) => Some((parameter.as_str(), name.as_str())),
            Arg::Value(_) => None,
        })
    })
}

fn tensor<'a>(op: &'a Op, name: &str) -> Option<&'a TensorType> {
    op.outputs.iter().find(|output| output.name == name)?.ty.as_tensor()
}

fn last(ty: &TensorType) -> Option<u64> {
    match ty.shape.last()? {
        Dim::Fixed(n) => Some(*n),
        Dim::Unknown { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::{DType, verify};

    /// `name = kind(parameter=argument, ...) : d0 d1 ...`, one per line.
    fn init(text: &str) -> Function {
        let ops = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let (name, rest) = line.split_once(" = ").unwrap();
            let (call, shape) = rest.split_once(" : ").unwrap();
            let (kind, args) = call.trim_end_matches(')').split_once('(').unwrap();
            let shape: Vec<u64> = shape.split_whitespace().map(|n| n.parse().unwrap()).collect();
            let args = args.split(", ").filter(|arg| !arg.is_empty()).map(|arg| {
                let (parameter, value) = arg.split_once('=').unwrap();
                (parameter.to_owned(), vec![Arg::Name(value.to_owned())])
            });
            let ty = Type::tensor(DType::F16, &shape);
            Op {
                kind: kind.to_owned(),
                inputs: args.collect(),
                outputs: vec![NamedType { name: name.to_owned(), ty }],
                blocks: Vec::new(),
                attributes: BTreeMap::new(),
            }
        });
        Function {
            inputs: vec![NamedType {
                name: "length".to_owned(),
                ty: Type::tensor(DType::I32, &[1]),
            }],
            opset: "CoreML8".to_owned(),
            block: Block {
                ops: ops.collect(),
                outputs: vec!["logits".to_owned()],
                ..Block::default()
            },
            attributes: BTreeMap::new(),
        }
    }

    fn lines(head: &Head) -> Vec<String> {
        let function = &head.program.functions[FUNCTION];
        let line = |op: &Op| {
            let args: Vec<_> = named(op).map(|(p, name)| format!("{p}={name}")).collect();
            let ty = &op.outputs[0].ty;
            format!("{} = {}({}) : {ty}", op.name(), op.kind, args.join(", "))
        };
        function.block.ops.iter().map(line).collect()
    }

    const STEM: &str = "
        ids = const() : 1 4
        hidden_states = relu(x=ids) : 1 4 8
        at = sub(x=length, y=length) : 1
        row = gather(x=hidden_states, indices=at) : 1 1 8
        w_indices = const() : 20 8
        w_lut = const() : 1 1 16 1
        w = constexpr_lut_to_dense(indices=w_indices, lut=w_lut) : 20 8
        b = const() : 20
    ";

    #[test]
    fn the_compressed_head_is_copied_for_every_position() {
        let text = format!(
            "{STEM}
            scores = linear(x=row, weight=w, bias=b) : 1 1 20
            capped = tanh(x=scores) : 1 1 20
            logits = squeeze(x=capped) : 1 20"
        );
        let head = Head::of(&init(&text), 3).unwrap();
        verify::program(&head.program).unwrap();
        assert_eq!((head.output.as_str(), head.width, head.rows), ("capped", 8, 3));
        assert_eq!(
            lines(&head),
            [
                "b = const() : fp16[20]",
                "w_indices = const() : fp16[20, 8]",
                "w_lut = const() : fp16[1, 1, 16, 1]",
                "w = constexpr_lut_to_dense(indices=w_indices, lut=w_lut) : fp16[20, 8]",
                "scores = linear(bias=b, weight=w, x=hidden_states) : fp16[1, 3, 20]",
                "capped = tanh(x=scores) : fp16[1, 3, 20]",
            ]
        );
    }

    #[test]
    fn heads_that_cannot_be_taken_out() {
        let cases = [
            (
                "logits = const() : 1 20",
                "function `init` computes no `hidden_states` of shape [1, C, H]",
            ),
            (
                &format!("{STEM} logits = linear(x=ids, weight=w) : 1 20"),
                "function `init`: `logits` does not come from `hidden_states`",
            ),
            (
                &format!("{STEM} logits = softmax(x=row) : 1 20"),
                "function `init`: operation `logits` (`softmax`) between `hidden_states` and `logits` cannot be \
                 applied to every position",
            ),
            (
                // A part of the features, not of the positions.
                &format!("{STEM} logits = slice_by_index(x=row) : 1 1 4"),
                "function `init`: operation `logits` (`slice_by_index`) between `hidden_states` and `logits` cannot \
                 be applied to every position",
            ),
            (
                &format!("{STEM} logits = mul(x=row, y=at) : 1 8"),
                "function `init`: operation `logits` (`mul`) between `hidden_states` and `logits` uses `at`, which \
                 is not constant",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(Head::of(&init(text), 3).unwrap_err().to_string(), want);
        }
    }
}
