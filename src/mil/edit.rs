//! Walks over all operations of a program and their references to blobs, nested blocks included.

use super::{Arg, BlobRef, Block, Data, Op, Program, Type, Value};

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

/// Calls `f` with each operation to change, in program order, outer before nested.
pub fn for_each_op_mut<E>(
    program: &mut Program,
    f: &mut dyn FnMut(&mut Op) -> Result<(), E>,
) -> Result<(), E> {
    fn walk<E>(block: &mut Block, f: &mut dyn FnMut(&mut Op) -> Result<(), E>) -> Result<(), E> {
        for op in &mut block.ops {
            f(op)?;
            for nested in &mut op.blocks {
                walk(nested, f)?;
            }
        }
        Ok(())
    }
    program.functions.values_mut().try_for_each(|function| walk(&mut function.block, f))
}

/// Puts what `f` makes of each operation in its place; nested ones before those that they are in.
pub fn map_ops(program: &mut Program, f: &mut dyn FnMut(Op) -> Vec<Op>) {
    fn walk(block: &mut Block, f: &mut dyn FnMut(Op) -> Vec<Op>) {
        block.ops = std::mem::take(&mut block.ops)
            .into_iter()
            .flat_map(|mut op| {
                op.blocks.iter_mut().for_each(|nested| walk(nested, f));
                f(op)
            })
            .collect();
    }
    program.functions.values_mut().for_each(|function| walk(&mut function.block, f));
}

/// Calls `f` with every reference of `op` to a blob: in its arguments and its attributes.
pub fn for_each_blob_mut<E>(
    op: &mut Op,
    f: &mut dyn FnMut(&Type, &mut BlobRef) -> Result<(), E>,
) -> Result<(), E> {
    fn walk<E>(
        value: &mut Value,
        f: &mut dyn FnMut(&Type, &mut BlobRef) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut value.data {
            Data::Blob(at) => f(&value.ty, at),
            Data::Tuple(values) | Data::List(values) => {
                values.iter_mut().try_for_each(|v| walk(v, f))
            }
            Data::Dictionary(pairs) => pairs.iter_mut().try_for_each(|(_, v)| walk(v, f)),
            Data::Tensor(_) => Ok(()),
        }
    }
    for arg in op.inputs.values_mut().flatten() {
        if let Arg::Value(value) = arg {
            walk(value, f)?;
        }
    }
    op.attributes.values_mut().try_for_each(|value| walk(value, f))
}

/// Calls `f` with every reference of `op` to a blob.
pub fn for_each_blob<'a>(op: &'a Op, f: &mut dyn FnMut(&'a BlobRef)) {
    fn walk<'a>(value: &'a Value, f: &mut dyn FnMut(&'a BlobRef)) {
        match &value.data {
            Data::Blob(at) => f(at),
            Data::Tuple(values) | Data::List(values) => values.iter().for_each(|v| walk(v, f)),
            Data::Dictionary(pairs) => pairs.iter().for_each(|(_, v)| walk(v, f)),
            Data::Tensor(_) => {}
        }
    }
    for arg in op.inputs.values().flatten() {
        if let Arg::Value(value) = arg {
            walk(value, f);
        }
    }
    op.attributes.values().for_each(|value| walk(value, f));
}
