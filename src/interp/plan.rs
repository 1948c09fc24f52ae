//! From a program to steps: names to slots, constants folded, last uses found, everything missing listed at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::error::{LoadError, OpError, Unsupported};
use super::model::{Function, Options, Port, Room};
use super::ops::{self, Opset};
use super::pool::Pool;
use super::run::{In, Kernel, Out, Run, Step};
use super::site::{Binding, Scope, Site};
use super::state::State;
use crate::mil::{self, Blobs, Dim, Program, edit};

/// Plans all functions.
pub(super) fn program(
    program: &Program,
    blobs: &dyn Blobs,
    options: Options,
) -> Result<BTreeMap<String, Function>, LoadError> {
    let mut missing = Missing::default();
    edit::for_each_op(program, &mut |function, op| {
        let opset = program.functions.get(function).map_or("", |f| f.opset.as_str());
        let known = op.kind == "const"
            || Opset::from_name(opset).is_some_and(|o| ops::lookup(&op.kind, o).is_some());
        if !known {
            missing.add(function, op, opset, None);
        }
    });
    let mut functions = BTreeMap::new();
    for (name, function) in &program.functions {
        let planned =
            Planner { name, function, blobs, options, missing: &mut missing }.function()?;
        functions.insert(name.clone(), planned);
    }
    if missing.0.is_empty() { Ok(functions) } else { Err(LoadError::Unsupported(missing.0)) }
}

/// What this runtime does not have, in the order in which it occurs.
#[derive(Default)]
struct Missing(Vec<Unsupported>);

impl Missing {
    fn add(&mut self, function: &str, op: &mil::Op, opset: &str, form: Option<String>) {
        let same = |u: &&mut Unsupported| u.kind == op.kind && u.opset == opset && u.form == form;
        match self.0.iter_mut().find(same) {
            Some(known) => known.count += 1,
            None => self.0.push(Unsupported {
                kind: op.kind.clone(),
                opset: opset.to_owned(),
                form,
                count: 1,
                first: format!("{function}/{}", op.name()),
            }),
        }
    }
}

struct Planner<'a> {
    name: &'a str,
    function: &'a mil::Function,
    blobs: &'a dyn Blobs,
    options: Options,
    missing: &'a mut Missing,
}

impl<'a> Planner<'a> {
    fn function(mut self) -> Result<Function, LoadError> {
        let mut scope: Scope<'a> = BTreeMap::new();
        let (mut inputs, mut input_slots, mut states) = (Vec::new(), Vec::new(), Vec::new());
        let mut n_slots = 0;
        for input in &self.function.inputs {
            let port = self.port(input)?;
            if input.ty.is_state() {
                scope.insert(input.name.clone(), Binding::State(input.name.clone()));
                states.push(port);
            } else {
                scope.insert(input.name.clone(), Binding::Slot(n_slots));
                input_slots.push(n_slots);
                inputs.push(port);
                n_slots += 1;
            }
        }
        let mut steps = Vec::new();
        let mut reads = Vec::new();
        let ops = &self.function.block.ops;
        for (i, op) in ops.iter().enumerate() {
            if let Some(value) = op.const_value() {
                scope.insert(op.name().to_owned(), Binding::Const(value));
                continue;
            }
            let Some((kernel, read)) = self.kernel(op, &ops[i + 1..], &scope)? else {
                // Reported with everything else that is missing; what follows only needs the names.
                for out in &op.outputs {
                    scope.insert(out.name.clone(), Binding::Slot(n_slots));
                    n_slots += 1;
                }
                continue;
            };
            if let Kernel::Stored(constants) = kernel {
                for (out, stored) in op.outputs.iter().zip(constants) {
                    scope.insert(out.name.clone(), Binding::Stored(stored));
                }
                continue;
            }
            let outs = self.outs(op, n_slots)?;
            let step = Step { kind: op.kind.clone(), kernel, outs, frees: vec![], takes: vec![] };
            if read.is_empty() && ops::is_pure(&op.kind) {
                for (out, tensor) in step.outs.iter().zip(self.fold(op, &step, n_slots)?) {
                    scope.insert(out.name.clone(), Binding::Tensor(tensor));
                }
                continue;
            }
            for out in &step.outs {
                scope.insert(out.name.clone(), Binding::Slot(out.slot));
            }
            n_slots += step.outs.len();
            steps.push(step);
            reads.push(read);
        }
        let (outputs, output_args) = self.outputs(&scope)?;
        last_uses(&mut steps, &reads, &input_slots, &output_args);
        Ok(Function {
            name: self.name.to_owned(),
            inputs,
            outputs,
            states,
            input_slots,
            output_args,
            steps,
            n_slots,
            precision: self.options.precision,
            room: Mutex::new(Room::default()),
        })
    }

    /// The kernel of an operation and the slots it reads; nothing when this runtime does not have it.
    fn kernel(
        &mut self,
        op: &'a mil::Op,
        later: &'a [mil::Op],
        scope: &Scope<'a>,
    ) -> Result<Option<(Kernel, Vec<usize>)>, LoadError> {
        let opset = Opset::from_name(&self.function.opset);
        let Some(entry) = opset.and_then(|o| ops::lookup(&op.kind, o)) else { return Ok(None) };
        let site = Site {
            op,
            scope,
            blobs: self.blobs,
            precision: self.options.precision,
            later,
            reads: RefCell::default(),
        };
        match (entry.build)(&site) {
            Ok(kernel) => Ok(Some((kernel, site.reads.into_inner()))),
            Err(OpError::Unsupported(form)) => {
                self.missing.add(self.name, op, &self.function.opset, Some(form));
                Ok(None)
            }
            Err(source) => Err(self.failed(op, source)),
        }
    }

    fn failed(&self, op: &mil::Op, source: OpError) -> LoadError {
        LoadError::Op {
            function: self.name.to_owned(),
            op: op.name().to_owned(),
            kind: op.kind.clone(),
            source,
        }
    }

    /// Computes an operation over constants.
    fn fold(
        &self,
        op: &mil::Op,
        step: &Step,
        first: usize,
    ) -> Result<Vec<super::Tensor>, LoadError> {
        let mut slots = vec![None; first + step.outs.len()];
        let mut run = Run {
            slots: &mut slots,
            takes: &[],
            state: &mut State::default(),
            pool: &RefCell::new(Pool::default()),
        };
        step.run(&mut run, self.options.precision).map_err(|e| self.failed(op, e))?;
        Ok(slots.into_iter().skip(first).flatten().collect())
    }

    fn outs(&self, op: &mil::Op, first: usize) -> Result<Vec<Out>, LoadError> {
        op.outputs
            .iter()
            .enumerate()
            .map(|(i, named)| {
                let port = self.port(named)?;
                let variadic = named.ty.as_tensor().is_some_and(|t| {
                    t.shape.iter().any(|d| matches!(d, Dim::Unknown { variadic: true }))
                });
                let shape = (!variadic).then_some(port.shape);
                Ok(Out { name: port.name, slot: first + i, dtype: port.dtype, shape })
            })
            .collect()
    }

    fn outputs(&self, scope: &Scope<'a>) -> Result<(Vec<Port>, Vec<In>), LoadError> {
        let mut ports = Vec::new();
        let mut args = Vec::new();
        for name in &self.function.block.outputs {
            let ops = self.function.block.ops.iter().flat_map(|op| &op.outputs);
            let defined = ops.chain(&self.function.inputs).find(|n| &n.name == name);
            let undefined =
                || LoadError::Undefined { function: self.name.to_owned(), name: name.clone() };
            ports.push(self.port(defined.ok_or_else(undefined)?)?);
            let site_error = |source| LoadError::Op {
                function: self.name.to_owned(),
                op: name.clone(),
                kind: "const".to_owned(),
                source,
            };
            args.push(match scope.get(name).ok_or_else(undefined)? {
                Binding::Slot(slot) => In::Slot(*slot),
                Binding::Tensor(tensor) => In::Const(tensor.clone()),
                Binding::Stored(stored) => In::Const(super::stored::expand(&**stored)),
                Binding::Const(value) => {
                    In::Const(super::constant::tensor(value, self.blobs).map_err(site_error)?)
                }
                Binding::State(_) => {
                    return Err(site_error(OpError::invalid("a state cannot be an output")));
                }
            });
        }
        Ok((ports, args))
    }

    fn port(&self, named: &mil::NamedType) -> Result<Port, LoadError> {
        let tensor = named.ty.as_tensor().ok_or_else(|| LoadError::Type {
            function: self.name.to_owned(),
            name: named.name.clone(),
            ty: named.ty.to_string(),
        })?;
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(n) => usize::try_from(*n).ok(),
            Dim::Unknown { .. } => None,
        };
        Ok(Port {
            name: named.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.iter().map(extent).collect(),
        })
    }
}

/// Tells each step which values nobody reads after it.
fn last_uses(steps: &mut [Step], reads: &[Vec<usize>], inputs: &[usize], outputs: &[In]) {
    let mut needed: std::collections::BTreeSet<usize> = outputs
        .iter()
        .filter_map(|o| if let In::Slot(slot) = o { Some(*slot) } else { None })
        .collect();
    // Inputs are cloned from the caller's tensors and may be freed as any other value.
    debug_assert!(inputs.windows(2).all(|w| w[0] < w[1]), "slots are given in order");
    for (step, reads) in steps.iter_mut().zip(reads).rev() {
        for &slot in reads {
            if needed.insert(slot) {
                step.frees.push(slot);
                if reads.iter().filter(|&&r| r == slot).count() == 1 {
                    step.takes.push(slot);
                }
            }
        }
    }
}
