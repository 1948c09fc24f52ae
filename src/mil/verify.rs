//! Whether a program hangs together: every name is defined once, before it is used, and names and lists of them have
//! lengths that whoever goes through them can bear.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Arg, Block, Program};

/// More functions than this, and more inputs or outputs of one, no model has: callers go through them name by name.
const MAX_PORTS: usize = 1 << 12;

/// A longer name nobody gives; names are copied wherever they stand for something.
const MAX_NAME: usize = 1 << 12;

/// What does not hang together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// An operation uses a name that nothing before it defines.
    #[error(
        "function `{function}`: operation `{op}` (`{kind}`) uses `{name}` in `{parameter}`, which nothing before it defines"
    )]
    Undefined {
        /// The function.
        function: String,
        /// The operation's name.
        op: String,
        /// The operation's kind.
        kind: String,
        /// The parameter.
        parameter: String,
        /// The name used.
        name: String,
    },
    /// Two definitions of one name.
    #[error("function `{function}`: `{name}` is defined twice")]
    Twice {
        /// The function.
        function: String,
        /// The name.
        name: String,
    },
    /// More functions, inputs or outputs than anybody calls by name.
    #[error("{place} has {n} {what}, more than {MAX_PORTS}")]
    Many {
        /// `the program` or the function.
        place: String,
        /// `functions`, `inputs` or `outputs`.
        what: &'static str,
        /// Count.
        n: usize,
    },
    /// A name longer than any.
    #[error("name `{start}…` has {n} bytes, more than {MAX_NAME}")]
    Long {
        /// How it begins.
        start: String,
        /// Its length.
        n: usize,
    },
    /// A block's output that nothing defines.
    #[error("function `{function}`: output `{name}` is never defined")]
    NoOutput {
        /// The function.
        function: String,
        /// The output.
        name: String,
    },
}

/// Checks all functions of `program`.
pub fn program(program: &Program) -> Result<(), VerifyError> {
    few(|| "the program".to_owned(), "functions", program.functions.len())?;
    for (name, function) in &program.functions {
        short(name)?;
        short(&function.opset)?;
        let place = || format!("function `{name}`");
        few(place, "inputs", function.inputs.len())?;
        few(place, "outputs", function.block.outputs.len())?;
        let mut known = BTreeSet::new();
        for input in &function.inputs {
            define(name, &input.name, &mut known)?;
        }
        block(name, &function.block, &mut known)?;
    }
    Ok(())
}

fn few(place: impl Fn() -> String, what: &'static str, n: usize) -> Result<(), VerifyError> {
    if n > MAX_PORTS { Err(VerifyError::Many { place: place(), what, n }) } else { Ok(()) }
}

fn short(name: &str) -> Result<(), VerifyError> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(VerifyError::Long { start: name.chars().take(32).collect(), n: name.len() })
}

/// Checks a block; the names that it defines are known in it alone.
fn block<'a>(
    function: &str,
    block_: &'a Block,
    known: &mut BTreeSet<&'a str>,
) -> Result<(), VerifyError> {
    for input in &block_.inputs {
        define(function, &input.name, known)?;
    }
    for op in &block_.ops {
        short(&op.kind)?;
        for (parameter, args) in &op.inputs {
            for arg in args {
                if let Arg::Name(name) = arg
                    && !known.contains(name.as_str())
                {
                    return Err(VerifyError::Undefined {
                        function: function.to_owned(),
                        op: op.name().to_owned(),
                        kind: op.kind.clone(),
                        parameter: parameter.clone(),
                        name: name.clone(),
                    });
                }
            }
        }
        for nested in &op.blocks {
            block(function, nested, known)?;
        }
        for output in &op.outputs {
            define(function, &output.name, known)?;
        }
    }
    for name in &block_.outputs {
        if !known.contains(name.as_str()) {
            return Err(VerifyError::NoOutput {
                function: function.to_owned(),
                name: name.clone(),
            });
        }
    }
    let inner = block_.inputs.iter().chain(block_.ops.iter().flat_map(|op| &op.outputs));
    for named in inner {
        known.remove(named.name.as_str());
    }
    Ok(())
}

fn define<'a>(
    function: &str,
    name: &'a str,
    known: &mut BTreeSet<&'a str>,
) -> Result<(), VerifyError> {
    short(name)?;
    if known.insert(name) {
        return Ok(());
    }
    Err(VerifyError::Twice { function: function.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mil::{DType, Function, NamedType, Op, Type};

    fn op(kind: &str, x: &str, out: &str) -> Op {
        Op {
            kind: kind.to_owned(),
            inputs: BTreeMap::from([("x".to_owned(), vec![Arg::Name(x.to_owned())])]),
            outputs: vec![NamedType { name: out.to_owned(), ty: Type::tensor(DType::F16, &[1]) }],
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn programs_that_do_not_hang_together() {
        let cases = [
            (vec![op("relu", "x", "y")], "y", None),
            (
                vec![op("relu", "z", "y")],
                "y",
                Some(
                    "function `main`: operation `y` (`relu`) uses `z` in `x`, which nothing before it defines",
                ),
            ),
            (vec![op("relu", "x", "x")], "x", Some("function `main`: `x` is defined twice")),
            (vec![op("relu", "x", "y")], "w", Some("function `main`: output `w` is never defined")),
        ];
        for (ops, output, want) in cases {
            let function = Function {
                inputs: vec![NamedType {
                    name: "x".to_owned(),
                    ty: Type::tensor(DType::F16, &[1]),
                }],
                opset: "CoreML8".to_owned(),
                block: Block { ops, outputs: vec![output.to_owned()], ..Block::default() },
                attributes: BTreeMap::new(),
            };
            let functions = BTreeMap::from([("main".to_owned(), function)]);
            let outcome = program(&Program { version: 1, functions, attributes: BTreeMap::new() });
            assert_eq!(outcome.err().map(|e| e.to_string()).as_deref(), want);
        }
    }
}
