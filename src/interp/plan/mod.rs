//! From a program to steps: names to slots, constants folded, last uses found, everything missing listed at once.

mod block;
mod live;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::constant::{self, Budget};
use super::error::{LoadError, OpError, Unsupported};
use super::exec::Operand;
use super::function::{Function, Workspace};
use super::op_context::Binding;
use super::ops::{self, Opset};
use super::options::Options;
use super::port::Port;
use super::stored;
use super::tensor;
use crate::mil::{self, Blobs, Dim, NamedType, Program, Rule, TensorType, edit};

/// Deeper nesting of blocks than any converter writes; planning and running go down one call for each level.
const MAX_NESTING: usize = 32;

/// Plans all functions.
pub(super) fn program(
    program: &Program,
    blobs: &dyn Blobs,
    options: Options,
) -> Result<BTreeMap<String, Function>, LoadError> {
    for (name, function) in &program.functions {
        check_nesting(name, &function.block, 0)?;
    }
    let mut missing = Missing::default();
    edit::for_each_op(program, &mut |function, op| {
        let opset = program.functions.get(function).map_or("", |f| f.opset.as_str());
        let known = op.kind == "const"
            || Opset::from_name(opset).is_some_and(|o| ops::lookup(&op.kind, o).is_some());
        if !known {
            missing.add(function, op, opset, None);
        }
    });
    let budget = Budget::default();
    let mut functions = BTreeMap::new();
    for (name, function) in &program.functions {
        let planner = Planner {
            name,
            function,
            blobs,
            budget: &budget,
            options,
            missing: &mut missing,
            names: block::Names::default(),
            n_slots: 0,
            folded: 0,
            depth: 0,
        };
        functions.insert(name.clone(), planner.function()?);
    }
    if missing.list.is_empty() { Ok(functions) } else { Err(LoadError::Unsupported(missing.list)) }
}

fn check_nesting(function: &str, block: &mil::Block, depth: usize) -> Result<(), LoadError> {
    for op in &block.ops {
        for nested in &op.blocks {
            if depth == MAX_NESTING {
                return Err(LoadError::Depth {
                    function: function.to_owned(),
                    op: op.name().to_owned(),
                    limit: MAX_NESTING,
                });
            }
            check_nesting(function, nested, depth + 1)?;
        }
    }
    Ok(())
}

/// What this runtime does not have, in the order in which it occurs.
#[derive(Default)]
struct Missing {
    list: Vec<Unsupported>,
    /// Places in the list by kind, opset and form.
    places: BTreeMap<(String, String, Option<String>), usize>,
}

impl Missing {
    fn add(&mut self, function: &str, op: &mil::Op, opset: &str, form: Option<String>) {
        let key = (op.kind.clone(), opset.to_owned(), form.clone());
        let place = *self.places.entry(key).or_insert(self.list.len());
        if let Some(known) = self.list.get_mut(place) {
            known.count += 1;
            return;
        }
        self.list.push(Unsupported {
            kind: op.kind.clone(),
            opset: opset.to_owned(),
            form,
            count: 1,
            first: format!("{function}/{}", op.name()),
        });
    }
}

struct Planner<'a> {
    name: &'a str,
    function: &'a mil::Function,
    blobs: &'a dyn Blobs,
    budget: &'a Budget,
    options: Options,
    missing: &'a mut Missing,
    names: block::Names<'a>,
    /// The next free slot: a value that is defined later has a greater one.
    n_slots: usize,
    /// Nested blocks around the one that is planned.
    depth: usize,
    /// Elements of all constants that have been computed.
    folded: usize,
}

impl Planner<'_> {
    fn function(mut self) -> Result<Function, LoadError> {
        let (mut inputs, mut input_slots, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for input in &self.function.inputs {
            let port = self.port(input)?;
            if input.ty.is_state() {
                self.define(&input.name, Binding::State(input.name.clone()))?;
                states.push(port);
            } else {
                input_slots.push(self.define_slot(input, false)?);
                inputs.push(port);
            }
        }
        let mut steps = self.block(&self.function.block)?;
        let (outputs, output_args) = self.outputs()?;
        live::function(&mut steps, &output_args);
        Ok(Function {
            name: self.name.to_owned(),
            inputs,
            outputs,
            states,
            input_slots,
            output_args,
            steps,
            n_slots: self.n_slots,
            precision: self.options.precision,
            room: Mutex::new(Workspace::default()),
        })
    }

    fn failed(&self, op: &mil::Op, source: OpError) -> LoadError {
        LoadError::Op {
            function: self.name.to_owned(),
            op: op.name().to_owned(),
            kind: op.kind.clone(),
            source,
        }
    }

    fn outputs(&self) -> Result<(Vec<NamedType>, Vec<Operand>), LoadError> {
        let block = &self.function.block;
        let defined = block.ops.iter().flat_map(|op| &op.outputs).chain(&self.function.inputs);
        let types: BTreeMap<&str, &NamedType> = defined.map(|n| (n.name.as_str(), n)).collect();
        let mut outputs = Vec::new();
        let mut args = Vec::new();
        for name in &block.outputs {
            let ty = types.get(name.as_str()).ok_or_else(|| self.undefined(name))?;
            outputs.push((*ty).clone());
            args.push(self.output(name)?);
        }
        Ok((outputs, args))
    }

    fn undefined(&self, name: &str) -> LoadError {
        LoadError::Undefined { function: self.name.to_owned(), name: name.to_owned() }
    }

    /// Where a result of a block is found.
    fn output(&self, name: &str) -> Result<Operand, LoadError> {
        let failed = |source| LoadError::Op {
            function: self.name.to_owned(),
            op: name.to_owned(),
            kind: "const".to_owned(),
            source,
        };
        Ok(match self.names.get(name).ok_or_else(|| self.undefined(name))? {
            Binding::Slot(slot) | Binding::Other(slot, _) => Operand::Slot(*slot),
            Binding::Tensor(tensor) => Operand::Const(tensor.clone()),
            Binding::Stored(stored) => {
                self.budget.take(stored.len()).map_err(failed)?;
                Operand::Const(stored::expand(&**stored))
            }
            Binding::Const(value) => {
                Operand::Const(constant::tensor(value, self.blobs, self.budget).map_err(failed)?)
            }
            Binding::State(_) => {
                return Err(failed(OpError::invalid("a state cannot be an output")));
            }
        })
    }

    fn port(&self, named: &NamedType) -> Result<Port, LoadError> {
        let tensor = named.ty.as_tensor().ok_or_else(|| self.unfit_type(named))?;
        let shape = self.extents(named, tensor)?;
        Ok(Port { name: named.name.clone(), dtype: tensor.dtype, shape, rule: Rule::default() })
    }

    /// The extents of a declared type, nothing for those known only when run; refused where no tensor could have them.
    fn extents(
        &self,
        named: &NamedType,
        tensor: &TensorType,
    ) -> Result<Vec<Option<usize>>, LoadError> {
        let huge = || LoadError::Huge {
            function: self.name.to_owned(),
            name: named.name.clone(),
            ty: named.ty.to_string(),
        };
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(n) => usize::try_from(*n).map(Some).map_err(|_| huge()),
            Dim::Unknown { .. } => Ok(None),
        };
        let shape = tensor.shape.iter().map(extent).collect::<Result<Vec<_>, _>>()?;
        let known: Vec<usize> = shape.iter().flatten().copied().collect();
        tensor::elements(&known).map_err(|_| huge())?;
        Ok(shape)
    }

    fn unfit_type(&self, named: &NamedType) -> LoadError {
        LoadError::Type {
            function: self.name.to_owned(),
            name: named.name.clone(),
            ty: named.ty.to_string(),
        }
    }
}
