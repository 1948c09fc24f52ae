//! Walks over all operations and values of a program, nested blocks and in-place values included.

use super::{Arg, Block, Data, Op, Program, Value};

/// Calls `f` with the function's name and each operation, in program order, outer before nested.
pub fn for_each_op<'a>(program: &'a Program, f: &mut dyn FnMut(&'a str, &'a Op)) {
    fn walk<'a>(function: &'a str, block: &'a Block, f: &mut dyn FnMut(&'a str, &'a Op)) {
        for op in &block.ops {
            f(function, op);
            for nested in &op.blocks {
                walk(function, nested, f);
            }
        }
    }
    for (name, function) in &program.functions {
        walk(name, &function.block, f);
    }
}

/// Calls `f` on every value of the program that may be changed: arguments written in place, attributes of operations
/// (a constant's `val` among them), in program order.
pub fn for_each_value_mut<E>(
    program: &mut Program,
    f: &mut dyn FnMut(&mut Value) -> Result<(), E>,
) -> Result<(), E> {
    fn value<E>(v: &mut Value, f: &mut dyn FnMut(&mut Value) -> Result<(), E>) -> Result<(), E> {
        match &mut v.data {
            Data::Tuple(values) | Data::List(values) => {
                for inner in values {
                    value(inner, f)?;
                }
            }
            Data::Dictionary(pairs) => {
                for (_, inner) in pairs {
                    value(inner, f)?;
                }
            }
            Data::Tensor(_) | Data::Blob(_) => {}
        }
        f(v)
    }
    fn walk<E>(block: &mut Block, f: &mut dyn FnMut(&mut Value) -> Result<(), E>) -> Result<(), E> {
        for op in &mut block.ops {
            for arg in op.inputs.values_mut().flatten() {
                if let Arg::Value(v) = arg {
                    value(v, f)?;
                }
            }
            for v in op.attributes.values_mut() {
                value(v, f)?;
            }
            for nested in &mut op.blocks {
                walk(nested, f)?;
            }
        }
        Ok(())
    }
    for function in program.functions.values_mut() {
        walk(&mut function.block, f)?;
    }
    Ok(())
}
