//! One block: its operations in order, nested blocks first, those over constants computed at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::Planner;
use crate::interp::error::{LoadError, OpError};
use crate::interp::ops::{self, Cost, Opset, Purity};
use crate::interp::pool::Pool;
use crate::interp::run::{Body, BodyOut, In, Kernel, Out, OutType, Run, Step};
use crate::interp::site::{Binding, Scope, Site};
use crate::interp::state::State;
use crate::interp::tensor::{self, Tensor};
use crate::interp::value::Value;
use crate::mil::{self, Arg, Dim, NamedType, Type};

/// More elements than this, in all constants computed for one function, are left to be computed when it runs.
const MAX_FOLDED: usize = if cfg!(fuzzing) { 1 << 18 } else { 1 << 28 };

/// A product over constants that may take more multiplications than this is left to be computed when the function runs:
/// a program of a few lines must not take hours to load.
const MAX_FOLDED_WORK: usize = 1 << 32;

/// The names in sight, and those that the innermost blocks brought, in order.
#[derive(Default)]
pub(super) struct Names<'a> {
    scope: Scope<'a>,
    defined: Vec<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&Binding<'a>> {
        self.scope.get(name)
    }

    /// Forgets the names defined since there were `n`.
    fn leave(&mut self, n: usize) {
        for name in self.defined.drain(n..) {
            self.scope.remove(name);
        }
    }
}

/// What an operation becomes, and the slots that it reads.
struct Built {
    kernel: Kernel,
    reads: Vec<usize>,
    bodies: Vec<Body>,
    properties: (Purity, Cost),
}

impl<'a> Planner<'a> {
    pub(super) fn define(&mut self, name: &'a str, binding: Binding<'a>) -> Result<(), LoadError> {
        if self.names.scope.insert(name.to_owned(), binding).is_some() {
            return Err(LoadError::Twice { function: self.name.to_owned(), name: name.to_owned() });
        }
        self.names.defined.push(name);
        Ok(())
    }

    /// Defines a value that is computed, in a slot of its own.
    ///
    /// A label is declared as a tensor and is none.
    pub(super) fn define_slot(
        &mut self,
        named: &'a NamedType,
        label: bool,
    ) -> Result<usize, LoadError> {
        let slot = self.n_slots;
        let binding = match &named.ty {
            Type::Tensor(_) if label => Binding::Other(slot, &named.ty),
            Type::Tensor(_) => Binding::Slot(slot),
            Type::List(..) | Type::Dictionary(..) => Binding::Other(slot, &named.ty),
            Type::Tuple(_) | Type::State(_) => return Err(self.unfit_type(named)),
        };
        self.define(&named.name, binding)?;
        self.n_slots += 1;
        Ok(slot)
    }

    /// The steps of a block in the names that are in sight.
    pub(super) fn block(&mut self, block: &'a mil::Block) -> Result<Vec<Step>, LoadError> {
        let mut steps = Vec::new();
        for (i, op) in block.ops.iter().enumerate() {
            if let Some(value) = op.const_value() {
                self.define(op.name(), Binding::Const(value))?;
                continue;
            }
            if op.kind == "const" {
                return Err(self.failed(op, OpError::Missing("val".to_owned())));
            }
            let Some(built) = self.build(op, &block.ops[i + 1..])? else {
                // Reported with everything else that is missing; what follows only needs the names.
                for out in &op.outputs {
                    self.define_slot(out, false)?;
                }
                continue;
            };
            if let Kernel::Stored(constants) = built.kernel {
                for (out, stored) in op.outputs.iter().zip(constants) {
                    self.define(&out.name, Binding::Stored(stored))?;
                }
                continue;
            }
            let mut step = Step {
                kind: op.kind.clone(),
                kernel: built.kernel,
                outs: self.outs(op)?,
                reads: built.reads,
                frees: vec![],
                takes: vec![],
                bodies: built.bodies,
            };
            if let Some(constants) = self.fold(op, &step, built.properties)? {
                for (out, tensor) in op.outputs.iter().zip(constants) {
                    self.define(&out.name, Binding::Tensor(tensor))?;
                }
                continue;
            }
            for (out, named) in step.outs.iter_mut().zip(&op.outputs) {
                out.slot = self.define_slot(named, matches!(out.ty, OutType::Label(_)))?;
            }
            steps.push(step);
        }
        Ok(steps)
    }

    /// The kernel of an operation; nothing when this runtime does not have it.
    fn build(&mut self, op: &'a mil::Op, later: &'a [mil::Op]) -> Result<Option<Built>, LoadError> {
        let opset = Opset::from_name(&self.function.opset);
        let entry = opset.and_then(|o| ops::lookup(&op.kind, o));
        let first_inner = self.n_slots;
        let bodies = op.blocks.iter().map(|b| self.nested(b)).collect::<Result<Vec<_>, _>>()?;
        let Some(entry) = entry else { return Ok(None) };
        let site = Site {
            op,
            scope: &self.names.scope,
            blobs: self.blobs,
            budget: self.budget,
            precision: self.options.precision,
            later,
            bodies: &bodies,
            reads: RefCell::default(),
        };
        match (entry.build)(&site) {
            Ok(kernel) => {
                let mut reads = site.reads.into_inner();
                outer_reads(&bodies, first_inner, &mut reads);
                let properties = (entry.purity, entry.cost);
                Ok(Some(Built { kernel, reads, bodies, properties }))
            }
            Err(OpError::Unsupported(form)) => {
                self.missing.add(self.name, op, &self.function.opset, Some(form));
                Ok(None)
            }
            Err(source) => Err(self.failed(op, source)),
        }
    }

    /// A nested block: it sees the names around it and keeps its own.
    fn nested(&mut self, block: &'a mil::Block) -> Result<Body, LoadError> {
        let outside = self.names.defined.len();
        let mut inputs = Vec::new();
        for input in &block.inputs {
            let ty = self.out_type(input, false)?;
            let slot = self.define_slot(input, false)?;
            inputs.push(Out { name: input.name.clone(), slot, ty });
        }
        let depth = self.depth;
        self.depth += 1;
        let steps = self.block(block)?;
        self.depth = depth;
        let out = |name: &String| Ok(BodyOut { from: self.output(name)?, take: false });
        let outputs = block.outputs.iter().map(out).collect::<Result<_, LoadError>>()?;
        self.names.leave(outside);
        Ok(Body { inputs, steps, outputs })
    }

    /// Computes an operation over constants, where the results are not too large to keep.
    fn fold(
        &mut self,
        op: &mil::Op,
        step: &Step,
        (purity, cost): (Purity, Cost),
    ) -> Result<Option<Vec<Tensor>>, LoadError> {
        if !step.reads.is_empty() || !step.bodies.is_empty() || purity == Purity::Impure {
            return Ok(None);
        }
        let mut elements = 0_usize;
        for out in &step.outs {
            let OutType::Tensor { shape: Some(shape), .. } = &out.ty else { return Ok(None) };
            let shape: Option<Vec<usize>> = shape.iter().copied().collect();
            let Some(n) = shape.and_then(|s| tensor::elements(&s).ok()) else { return Ok(None) };
            elements = elements.saturating_add(n);
        }
        let work = || self.taken(op).saturating_mul(elements);
        if self.folded.saturating_add(elements) > MAX_FOLDED
            || (cost == Cost::Product && work() > MAX_FOLDED_WORK)
        {
            return Ok(None);
        }
        let mut slots = vec![None; step.outs.len()];
        let mut run = Run {
            slots: &mut slots,
            takes: &[],
            bodies: &[],
            outs: &step.outs,
            precision: self.options.precision,
            state: &mut State::default(),
            pool: &RefCell::new(Pool::default()),
            draws: &RefCell::default(),
            turns: &Cell::default(),
        };
        match step.run(&mut run) {
            Ok(()) => {}
            // A branch that is never taken does no harm.
            Err(_) if self.depth > 0 => return Ok(None),
            Err(source) => return Err(self.failed(op, source)),
        }
        self.folded += elements;
        let tensor = |slot| if let Some(Value::Tensor(t)) = slot { Some(t) } else { None };
        Ok(slots.into_iter().map(tensor).collect())
    }

    /// The elements of all constants that an operation takes.
    fn taken(&self, op: &mil::Op) -> usize {
        let of = |value: &mil::Value| {
            let n = value.ty.as_tensor().and_then(mil::TensorType::elements);
            n.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let elements = |arg: &Arg| match arg {
            Arg::Value(value) => of(value),
            Arg::Name(name) => match self.names.get(name) {
                Some(Binding::Const(value)) => of(value),
                Some(Binding::Tensor(tensor)) => tensor.len(),
                Some(Binding::Stored(stored)) => stored.len(),
                Some(Binding::Slot(_) | Binding::Other(..) | Binding::State(_)) | None => 0,
            },
        };
        op.inputs.values().flatten().map(elements).fold(0, usize::saturating_add)
    }

    /// The declared results, numbered from 0: their slots are given when it is known that they need some.
    fn outs(&self, op: &mil::Op) -> Result<Vec<Out>, LoadError> {
        let label = op.kind == "classify";
        let out = |(slot, named): (usize, &NamedType)| {
            Ok(Out { name: named.name.clone(), slot, ty: self.out_type(named, label)? })
        };
        op.outputs.iter().enumerate().map(out).collect()
    }

    fn out_type(&self, named: &NamedType, label: bool) -> Result<OutType, LoadError> {
        Ok(match &named.ty {
            Type::Tensor(tensor) if label => OutType::Label(tensor.dtype),
            Type::Tensor(tensor) => {
                let variadic = tensor.shape.contains(&Dim::Unknown { variadic: true });
                let shape = self.extents(named, tensor)?;
                OutType::Tensor { dtype: tensor.dtype, shape: (!variadic).then_some(shape) }
            }
            Type::List(element, _) => {
                let element = element.as_tensor().ok_or_else(|| self.unfit_type(named))?;
                OutType::List(element.dtype)
            }
            Type::Dictionary(..) => OutType::Dictionary,
            Type::Tuple(_) | Type::State(_) => return Err(self.unfit_type(named)),
        })
    }
}

/// Adds the slots outside of nested blocks that these read or give, each once.
fn outer_reads(bodies: &[Body], first_inner: usize, reads: &mut Vec<usize>) {
    let mut outer = BTreeSet::new();
    for body in bodies {
        let given = body.outputs.iter().filter_map(|out| match &out.from {
            In::Slot(slot) => Some(slot),
            In::Const(_) => None,
        });
        let read = body.steps.iter().flat_map(|step| &step.reads);
        outer.extend(read.chain(given).copied().filter(|&slot| slot < first_inner));
    }
    reads.extend(outer);
}
