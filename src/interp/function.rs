//! `Function`: a planned function, ready to run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::error::RunError;
use super::exec::{ExecContext, Operand, OutputSpec, OutputType, Step, round_to_declared};
use super::options::Precision;
use super::pool::Pool;
use super::port::Port;
use super::state::State;
use super::tensor::Tensor;
use super::value::Value;
use crate::mil::{DType, NamedType, Rule};

/// The results of a run by name, tapped values among them.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    values: BTreeMap<String, Value>,
}

impl Outputs {
    /// A result that is a tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.value(name)?.as_tensor()
    }

    /// A result.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Hands a result that is a tensor over.
    pub fn take(&mut self, name: &str) -> Option<Tensor> {
        match self.values.remove(name)? {
            Value::Tensor(tensor) => Some(tensor),
            other => {
                self.values.insert(name.to_owned(), other);
                None
            }
        }
    }

    /// All results that are tensors, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.values().filter_map(|(name, value)| Some((name, value.as_tensor()?)))
    }

    /// Takes all results of `other`, in place of those of the same name.
    pub(super) fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
    }

    /// Keeps the results that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.values.retain(|name, _| keep(name));
    }

    /// All results in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// One planned function.
pub struct Function {
    pub(super) name: String,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<NamedType>,
    pub(super) states: Vec<Port>,
    pub(super) input_slots: Vec<usize>,
    pub(super) output_args: Vec<Operand>,
    pub(super) steps: Vec<Step>,
    pub(super) n_slots: usize,
    pub(super) precision: Precision,
    pub(super) room: Mutex<Workspace>,
}

/// What one run leaves for the next: the slots (empty) and free vectors.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    slots: Vec<Option<Value>>,
    pool: RefCell<Pool>,
    draws: RefCell<BTreeMap<u64, u64>>,
}

impl Function {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs in order, without states.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs in order.
    pub fn outputs(&self) -> &[NamedType] {
        &self.outputs
    }

    /// The states that the function reads or writes.
    pub fn states(&self) -> &[Port] {
        &self.states
    }

    /// True if `name` is a value that a run computes or is given, so that it can be tapped.
    pub fn computes(&self, name: &str) -> bool {
        self.steps.iter().flat_map(|step| &step.outs).any(|out| out.name == name)
            || self.inputs.iter().any(|port| port.name == name)
            || self.outputs.iter().any(|output| output.name == name)
    }

    /// The number of operations that run, after constants are folded.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// The tensors that operations compute when the function runs, in order, each with its kind of operation.
    ///
    /// Those of nested blocks are left out. A tensor of unknown rank is given one unknown extent.
    pub fn computed(&self) -> impl Iterator<Item = (&str, Port)> {
        let port = |out: &OutputSpec| match &out.ty {
            OutputType::Tensor { dtype, shape } => Some(Port {
                name: out.name.clone(),
                dtype: *dtype,
                shape: shape.clone().unwrap_or_else(|| vec![None]),
                rule: Rule::default(),
            }),
            OutputType::List(_) | OutputType::Dictionary | OutputType::Label(_) => None,
        };
        let of = move |step: &Step| step.outs.iter().filter_map(port).collect::<Vec<_>>();
        self.steps
            .iter()
            .flat_map(move |step| of(step).into_iter().map(|p| (step.kind.as_str(), p)))
    }

    /// Runs the function: inputs are cast to their declared types, states change in place, `taps` are intermediate
    /// values to return besides the outputs.
    pub fn run(
        &self,
        inputs: &[(&str, Tensor)],
        state: &mut State,
        taps: &[&str],
    ) -> Result<Outputs, RunError> {
        // On one of the threads that the kernels' tasks run on: handing every step to them would wake one each time.
        rayon::scope(|_| self.run_here(inputs, state, taps))
    }

    fn run_here(
        &self,
        inputs: &[(&str, Tensor)],
        state: &mut State,
        taps: &[&str],
    ) -> Result<Outputs, RunError> {
        self.check_states(state)?;
        let mut room = self.room.try_lock().map_or_else(
            |locked| match locked {
                std::sync::TryLockError::Poisoned(p) => {
                    std::mem::take(&mut *PoisonError::into_inner(p))
                }
                std::sync::TryLockError::WouldBlock => Workspace::default(),
            },
            |mut free| std::mem::take(&mut *free),
        );
        room.draws.borrow_mut().clear();
        room.pool.borrow_mut().reclaim();
        let turns = Cell::default();
        room.slots.clear();
        room.slots.resize(self.n_slots, None);
        self.fill_inputs(inputs, &mut room.slots)?;
        let mut outputs = Outputs::default();
        let mut tapped = self.tap_inputs(taps, &room.slots, &mut outputs);
        for step in &self.steps {
            let mut run = ExecContext {
                slots: &mut room.slots,
                donated: &step.donated,
                bodies: &step.bodies,
                outs: &step.outs,
                precision: self.precision,
                state: &mut *state,
                pool: &room.pool,
                draws: &room.draws,
                turns: &turns,
            };
            step.run(&mut run).map_err(|source| RunError::Op {
                op: step.name().to_owned(),
                kind: step.kind.clone(),
                source,
            })?;
            if tapped < taps.len() {
                for out in step.outs.iter().filter(|o| taps.contains(&o.name.as_str())) {
                    if let Some(value) = &room.slots[out.slot] {
                        outputs.values.insert(out.name.clone(), value.clone());
                        tapped += 1;
                    }
                }
            }
        }
        for (port, from) in self.outputs.iter().zip(&self.output_args) {
            let value = match from {
                Operand::Const(tensor) => Some(tensor.clone().into()),
                Operand::Slot(slot) => room.slots[*slot].clone(),
            };
            let value = value.expect("outputs live to the end");
            outputs.values.insert(port.name.clone(), value.leaving());
        }
        for tap in taps {
            if outputs.value(tap).is_none() {
                return Err(RunError::NoTap {
                    name: (*tap).to_owned(),
                    function: self.name.clone(),
                });
            }
        }
        room.slots.clear();
        outputs.values.values().for_each(|value| room.pool.borrow_mut().track(value));
        if let Ok(mut free) = self.room.try_lock() {
            *free = room;
        }
        Ok(outputs)
    }

    fn check_states(&self, state: &State) -> Result<(), RunError> {
        for port in &self.states {
            let tensor = state.get(&port.name);
            if !tensor.is_some_and(|t| port.holds(t) && t.dtype() == port.dtype) {
                return Err(RunError::State {
                    name: port.name.clone(),
                    expected: port.to_string(),
                    actual: tensor.map_or_else(
                        || "absent, or lost in a run that failed".to_owned(),
                        Tensor::describe,
                    ),
                });
            }
        }
        Ok(())
    }

    fn fill_inputs(
        &self,
        inputs: &[(&str, Tensor)],
        slots: &mut [Option<Value>],
    ) -> Result<(), RunError> {
        for (name, _) in inputs {
            if !self.inputs.iter().any(|port| port.name == *name) {
                return Err(RunError::NotAnInput {
                    name: (*name).to_owned(),
                    present: self.inputs.iter().map(|p| p.name.clone()).collect(),
                });
            }
        }
        for (port, &slot) in self.inputs.iter().zip(&self.input_slots) {
            let given = inputs.iter().find(|(name, _)| *name == port.name);
            let tensor = match (given, port.default()) {
                (Some((_, tensor)), _) => tensor.clone(),
                (None, Some(Ok(default))) => default,
                (None, _) => {
                    let expected = port.to_string();
                    return Err(RunError::NoInput { name: port.name.clone(), expected });
                }
            };
            // Applications give a scalar as one element of rank 1, and files one element as a scalar.
            let tensor = &match (port.shape.len(), tensor.rank()) {
                (0, 1..) if tensor.len() == 1 => tensor.reshaped(Vec::new()),
                (1, 0) => tensor.reshaped(vec![1]),
                _ => tensor,
            };
            let wrong = || RunError::Input {
                name: port.name.clone(),
                expected: port.to_string(),
                actual: tensor.describe(),
            };
            if !port.holds(tensor) {
                return Err(wrong());
            }
            let cast = cast_input(tensor, port.dtype).ok_or_else(wrong)?;
            let declared =
                round_to_declared(cast, port.dtype, self.precision).map_err(|_| wrong())?;
            slots[slot] = Some(declared.into());
        }
        Ok(())
    }

    fn tap_inputs(&self, taps: &[&str], slots: &[Option<Value>], outputs: &mut Outputs) -> usize {
        let mut tapped = 0;
        for (port, &slot) in self.inputs.iter().zip(&self.input_slots) {
            if taps.contains(&port.name.as_str())
                && let Some(value) = &slots[slot]
            {
                outputs.values.insert(port.name.clone(), value.clone());
                tapped += 1;
            }
        }
        tapped
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("states", &self.states)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

/// The elements in the storage of `dtype`; nothing where something would be lost.
fn cast_input(tensor: &Tensor, dtype: DType) -> Option<Tensor> {
    let from = tensor.dtype();
    if from == dtype || (from.is_float() && dtype.is_float()) {
        return Some(tensor.clone());
    }
    let range = dtype.range();
    let fits = |i: i64| range.is_none_or(|(low, high)| (low..=high).contains(&i128::from(i)));
    if let (true, Some(ints)) = (dtype.is_int(), tensor.as_i32()) {
        return ints.iter().all(|&i| fits(i64::from(i))).then(|| tensor.clone());
    }
    let values = tensor.to_f32()?;
    if dtype.is_float() {
        return Some(Tensor::f32(tensor.shape(), values));
    }
    if values.iter().any(|v| v.fract() != 0.0 || v.abs() > 16_777_216.0 || !fits(*v as i64)) {
        return None;
    }
    match dtype {
        DType::Str => None,
        DType::Bool => {
            Some(Tensor::bool(tensor.shape(), values.iter().map(|&v| v != 0.0).collect()))
        }
        _ => Some(Tensor::i32(tensor.shape(), values.iter().map(|&v| v as i32).collect())),
    }
}
