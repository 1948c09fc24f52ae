//! `StoredWeight`: a weight with the operations that make it, which are one constant or compressed constants that nest.

use std::collections::{BTreeMap, BTreeSet};

use super::parts::Role;
use crate::compress::recipe::Component;
use crate::compress::select::{self, compressed_name, dense_name};
use crate::mil::{Arg, BlobRef, DType, Op, Program, TensorType, Value, edit};

/// A weight as a program stores it, dense or compressed.
#[derive(Debug, Clone)]
pub struct StoredWeight<'a> {
    /// Its name in the first function that uses it, without what compression appends.
    pub name: String,
    /// The part of the model.
    pub component: Component,
    /// The shape of the dense weight.
    pub shape: Vec<u64>,
    /// The type of its elements once it is dense.
    pub dtype: DType,
    /// The functions that use it, in the order of their names.
    pub functions: Vec<&'a str>,
    /// What makes it in the first of them, in the order of execution; the last gives it.
    pub ops: Vec<&'a Op>,
}

/// The operations of one function that make constants, by the names of their results.
type Constants<'a> = BTreeMap<&'a str, &'a Op>;

impl<'a> StoredWeight<'a> {
    fn new(
        name: &str,
        op: &'a Op,
        functions: Vec<&'a str>,
        constants: &Constants<'a>,
    ) -> Option<Self> {
        let tensor = op.outputs.first()?.ty.as_tensor()?;
        let shape = tensor.fixed_shape()?;
        tensor.elements()?;
        let ops = gather(op, constants)?;
        let component = Component::of(name);
        Some(Self { name: name.to_owned(), component, shape, dtype: tensor.dtype, functions, ops })
    }

    /// Elements of the dense weight.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Blobs that store it, each once, with their roles.
    pub fn blobs(&self) -> Vec<(Role, &'a BlobRef)> {
        let mut known = BTreeSet::new();
        let mut blobs = Vec::new();
        for (role, value) in self.values() {
            if let Some(at) = value.as_blob()
                && known.insert(at)
            {
                blobs.push((role, at));
            }
        }
        blobs
    }

    /// The values it is made of, with what each holds, also those that are written in the program.
    pub fn values(&self) -> Vec<(Role, &'a Value)> {
        let Some(last) = self.ops.last() else { return Vec::new() };
        if let Some(value) = last.const_value() {
            return vec![(Role::Codes, value)];
        }
        let mut values = Vec::new();
        collect(last, None, &self.makers(), &mut Vec::new(), &mut values);
        values
    }

    /// Its operations by the names of their results.
    pub(super) fn makers(&self) -> Constants<'a> {
        let named = |op: &&'a Op| {
            let op = *op;
            op.outputs.iter().map(move |output| (output.name.as_str(), op))
        };
        self.ops.iter().flat_map(named).collect()
    }
}

/// A parameter's value: written at the operation, or that of a constant with a name.
pub(super) fn argument<'a>(
    op: &'a Op,
    parameter: &str,
    constants: &Constants<'a>,
) -> Option<Argument<'a>> {
    let of = |value: &'a Value| Some(Argument::Value(value));
    match op.inputs.get(parameter).map(Vec::as_slice) {
        Some([Arg::Value(value)]) => of(value),
        Some([Arg::Name(name)]) => {
            let maker = constants.get(name.as_str())?;
            maker.const_value().map_or(Some(Argument::Made(maker)), of)
        }
        Some(_) => None,
        // Before iOS18 parameters are attributes.
        None => op.attributes.get(parameter).and_then(of),
    }
}

/// Binding of a parameter.
pub(super) enum Argument<'a> {
    /// A constant.
    Value(&'a Value),
    /// A result of a compressed constant.
    Made(&'a Op),
}

impl<'a> Argument<'a> {
    /// The type, as far as the constant's own value says it.
    pub(super) fn tensor(&self) -> Option<&'a TensorType> {
        match self {
            Self::Value(value) => value.ty.as_tensor(),
            Self::Made(_) => None,
        }
    }
}

/// The values below `op`; what stands where the codes of a table or of scales would be is part of the table or the scales.
fn collect<'a>(
    op: &'a Op,
    under: Option<Role>,
    constants: &Constants<'a>,
    seen: &mut Vec<&'a Op>,
    values: &mut Vec<(Role, &'a Value)>,
) {
    if seen.iter().any(|known| std::ptr::eq(*known, op)) {
        return;
    }
    seen.push(op);
    for (parameter, role) in op.inputs.keys().chain(op.attributes.keys()).filter_map(Role::of) {
        let role = if role == Role::Codes { under.unwrap_or(role) } else { role };
        match argument(op, parameter, constants) {
            Some(Argument::Value(value)) => values.push((role, value)),
            // A mask that an operation hands on is found with the values that it belongs to.
            Some(Argument::Made(_)) if role == Role::Mask => {}
            Some(Argument::Made(maker)) => {
                let under = if role == Role::Codes { under } else { Some(role) };
                collect(maker, under, constants, seen, values);
            }
            None => {}
        }
    }
}

/// More operations than this make no weight; compression writes three at most.
const MAX_OPS: usize = 16;

/// The operations that `op` needs and itself, each once, after those that it needs; nothing where they are too many or
/// need each other.
fn gather<'a>(op: &'a Op, constants: &Constants<'a>) -> Option<Vec<&'a Op>> {
    fn walk<'a>(
        op: &'a Op,
        constants: &Constants<'a>,
        begun: &mut Vec<&'a Op>,
        ended: &mut Vec<&'a Op>,
    ) -> Option<()> {
        let among = |ops: &[&Op]| ops.iter().any(|known| std::ptr::eq(*known, op));
        if among(ended) {
            return Some(());
        }
        if among(begun) || begun.len() == MAX_OPS {
            return None;
        }
        begun.push(op);
        for arg in op.inputs.values().flatten() {
            if let Arg::Name(name) = arg
                && let Some(maker) = constants.get(name.as_str())
            {
                walk(maker, constants, begun, ended)?;
            }
        }
        ended.push(op);
        Some(())
    }
    let mut ops = Vec::new();
    walk(op, constants, &mut Vec::new(), &mut ops)?;
    Some(ops)
}

/// True if an operation makes a constant, dense or compressed.
pub(in crate::compress) fn is_constant(op: &Op) -> bool {
    op.kind == "const" || op.kind.starts_with("constexpr_")
}

/// The operations of each function that make constants.
fn constants(program: &Program) -> BTreeMap<&str, Constants<'_>> {
    let mut all: BTreeMap<&str, Constants<'_>> = BTreeMap::new();
    edit::for_each_op(program, &mut |function, op| {
        if is_constant(op) {
            let names = op.outputs.iter().map(|output| (output.name.as_str(), op));
            all.entry(function).or_default().extend(names);
        }
    });
    all
}

/// The weights of `program`, dense ones of `least` elements and more, in the order of their first blobs in the file.
///
/// A compressed weight is one whatever the number of its operations; one that functions share is one. Compressed
/// constants that are written in the program, without a blob, are none.
pub fn stored_weights(program: &Program, least: u64) -> Vec<StoredWeight<'_>> {
    let (constants, parts) = (constants(program), parts(program));
    let mut found: BTreeMap<Vec<&BlobRef>, StoredWeight<'_>> = BTreeMap::new();
    let dense = select::weights(program, least);
    let dense: BTreeMap<&BlobRef, &select::Weight> = dense.iter().map(|w| (&w.at, w)).collect();
    edit::for_each_op(program, &mut |function, op| {
        let compressed = op.kind.starts_with("constexpr_");
        let place = op.const_value().and_then(Value::as_blob);
        let weight = place.and_then(|place| dense.get(place));
        let Some(constants) = constants.get(function) else { return };
        let name = match weight {
            Some(weight) => weight.name.as_str(),
            None if compressed => compressed_name(op.name()),
            None => return,
        };
        let Some(stored) = StoredWeight::new(name, op, vec![function], constants) else { return };
        let mut blobs: Vec<_> = stored.blobs().into_iter().map(|(_, at)| at).collect();
        blobs.sort();
        let is_part = op.outputs.iter().any(|out| parts.contains(&(function, out.name.as_str())));
        if blobs.is_empty() || (compressed && is_part) {
            return;
        }
        let known = found.entry(blobs).or_insert(stored);
        if known.functions.last() != Some(&function) {
            known.functions.push(function);
        }
    });
    found.into_values().collect()
}

/// The names that compressed constants of each function are made of.
fn parts(program: &Program) -> BTreeSet<(&str, &str)> {
    let mut names = BTreeSet::new();
    edit::for_each_op(program, &mut |function, op| {
        if op.kind.starts_with("constexpr_") {
            names.extend(op.inputs.values().flatten().filter_map(|arg| match arg {
                Arg::Name(name) => Some((function, name.as_str())),
                Arg::Value(_) => None,
            }));
        }
    });
    names
}

/// Every float constant of each function, dense and compressed, by function and name: what a weight of another package
/// can be compared with.
pub fn float_constants(program: &Program) -> BTreeMap<(&str, &str), StoredWeight<'_>> {
    let constants = constants(program);
    let mut all = BTreeMap::new();
    edit::for_each_op(program, &mut |function, op| {
        let Some(constants) = constants.get(function).filter(|_| is_constant(op)) else { return };
        let name = if op.kind == "const" { dense_name } else { compressed_name }(op.name());
        let stored = StoredWeight::new(name, op, vec![function], constants);
        if let Some(stored) = stored.filter(|stored| stored.dtype.is_float()) {
            all.entry((function, name)).or_insert(stored);
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::{Block, Function, NamedType, Type};

    fn op(kind: &str, out: &str, inputs: &[(&str, Arg)]) -> Op {
        let ty = Type::tensor(DType::F16, &[64, 64]);
        Op {
            kind: kind.to_owned(),
            inputs: inputs.iter().map(|(p, arg)| ((*p).to_owned(), vec![arg.clone()])).collect(),
            outputs: vec![NamedType { name: out.to_owned(), ty }],
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    fn blob(offset: u64) -> Arg {
        let at = BlobRef { file: "weight.bin".to_owned(), offset };
        Arg::Value(Value::blob(DType::F16, &[64, 64], at))
    }

    fn name(name: &str) -> Arg {
        Arg::Name(name.to_owned())
    }

    fn program(functions: &[(&str, Vec<Op>)]) -> Program {
        let function = |ops: &Vec<Op>| Function {
            inputs: Vec::new(),
            opset: "CoreML8".to_owned(),
            block: Block { ops: ops.clone(), ..Block::default() },
            attributes: BTreeMap::new(),
        };
        let functions =
            functions.iter().map(|(name, ops)| ((*name).to_owned(), function(ops))).collect();
        Program { version: 1, functions, attributes: BTreeMap::new() }
    }

    /// Name, functions, and offsets with roles.
    type Found = (String, Vec<String>, Vec<(Role, u64)>);

    /// The weights found.
    fn found(program: &Program) -> Vec<Found> {
        let told = |weight: StoredWeight<'_>| {
            let blobs = weight.blobs().into_iter().map(|(role, at)| (role, at.offset)).collect();
            (weight.name, weight.functions.iter().map(|&f| f.to_owned()).collect(), blobs)
        };
        stored_weights(program, 1).into_iter().map(told).collect()
    }

    const SCALED: &str = "constexpr_blockwise_shift_scale";

    #[test]
    fn operations_that_nest_are_one_weight() {
        use Role::{Codes, Mask, Scales, Tables};
        let table = op(SCALED, "lut", &[("data", blob(2)), ("scale", blob(3))]);
        let sparse = op(
            "constexpr_lut_to_sparse",
            "w_nonzero",
            &[("indices_mask", blob(0)), ("indices_nonzero_data", blob(1)), ("lut", name("lut"))],
        );
        let both = [("mask", name("w_nonzero")), ("nonzero_data", name("w_nonzero"))];
        let dense = op("constexpr_sparse_to_dense", "w_to_fp16_palettized", &both);
        let ops = vec![table, sparse, dense];
        let shared = program(&[("a", ops.clone()), ("b", ops)]);
        let blobs = vec![(Mask, 0), (Codes, 1), (Tables, 2), (Scales, 3)];
        assert_eq!(found(&shared), [("w".to_owned(), vec!["a".to_owned(), "b".to_owned()], blobs)]);
    }

    #[test]
    fn what_needs_itself_is_no_weight() {
        let a = op(SCALED, "a", &[("data", name("b")), ("scale", blob(1))]);
        let b = op(SCALED, "b", &[("data", name("a")), ("scale", blob(2))]);
        let end = op(SCALED, "end", &[("data", name("a")), ("scale", blob(3))]);
        assert_eq!(found(&program(&[("main", vec![a, b, end])])), []);
        // A chain longer than any compression writes.
        let mut chain = vec![op(SCALED, "c0", &[("data", blob(0)), ("scale", blob(1))])];
        for i in 1..40 {
            let (out, before) = (format!("c{i}"), format!("c{}", i - 1));
            chain.push(op(SCALED, &out, &[("data", name(&before)), ("scale", blob(1))]));
        }
        assert_eq!(found(&program(&[("main", chain)])), []);
    }
}
