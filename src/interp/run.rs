//! Going through the steps of a planned function.

use std::cell::RefCell;

use super::error::OpError;
use super::kernel::round;
use super::model::Precision;
use super::pool::Pool;
use super::state::State;
use super::tensor::Tensor;
use crate::mil::DType;

/// Where an operation finds one of its arguments.
#[derive(Debug, Clone)]
pub(crate) enum In {
    /// A constant, known when the program was planned.
    Const(Tensor),
    /// The value in a slot.
    Slot(usize),
}

type Call<T> = dyn Fn(&mut Run<'_>) -> Result<T, OpError> + Send + Sync;

/// What an operation does when it runs.
pub(crate) enum Kernel {
    /// One result.
    One(Box<Call<Tensor>>),
    /// Several results, or none.
    Many(Box<Call<Vec<Tensor>>>),
    /// A constant in its stored form: nothing is left to run.
    Stored(Vec<super::stored::Shared>),
}

impl Kernel {
    /// A kernel with one result.
    pub(crate) fn one(
        f: impl Fn(&mut Run<'_>) -> Result<Tensor, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::One(Box::new(f))
    }

    /// A kernel with any number of results.
    pub(crate) fn many(
        f: impl Fn(&mut Run<'_>) -> Result<Vec<Tensor>, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::Many(Box::new(f))
    }
}

/// A result of a step: its slot and declared type.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    pub(crate) name: String,
    pub(crate) slot: usize,
    pub(crate) dtype: DType,
    /// Declared extents; nothing where one is known only when run.
    pub(crate) shape: Option<Vec<Option<usize>>>,
}

/// One operation with everything decided that can be before it runs.
pub(crate) struct Step {
    pub(crate) kind: String,
    pub(crate) kernel: Kernel,
    pub(crate) outs: Vec<Out>,
    /// Slots that nobody reads after this step.
    pub(crate) frees: Vec<usize>,
    /// Those of `frees` that this step reads once, so that it may change them in place.
    pub(crate) takes: Vec<usize>,
}

/// What a kernel sees while it runs.
pub(crate) struct Run<'a> {
    pub(crate) slots: &'a mut [Option<Tensor>],
    pub(crate) takes: &'a [usize],
    pub(crate) state: &'a mut State,
    pub(crate) pool: &'a RefCell<Pool>,
}

impl Run<'_> {
    /// An argument.
    pub(crate) fn get<'s>(&'s self, from: &'s In) -> &'s Tensor {
        match from {
            In::Const(tensor) => tensor,
            In::Slot(slot) => self.slots[*slot].as_ref().expect("values live until their last use"),
        }
    }

    /// An argument to change: its elements are not shared when this is their last use.
    pub(crate) fn take(&mut self, from: &In) -> Tensor {
        match from {
            In::Const(tensor) => tensor.clone(),
            In::Slot(slot) => {
                let value = &mut self.slots[*slot];
                let value = if self.takes.contains(slot) { value.take() } else { value.clone() };
                value.expect("values live until their last use")
            }
        }
    }

    /// Whether [`Self::take`] would hand the argument over.
    pub(crate) fn owns(&self, from: &In) -> bool {
        matches!(from, In::Slot(slot) if self.takes.contains(slot))
    }

    /// An empty vector with room for `n` elements, used before where possible.
    pub(crate) fn buffer(&self, n: usize) -> Vec<f32> {
        self.pool.borrow_mut().take(n)
    }
}

impl Step {
    /// Runs the step and leaves its results in their slots.
    pub(crate) fn run(&self, run: &mut Run<'_>, precision: Precision) -> Result<(), OpError> {
        match &self.kernel {
            Kernel::One(kernel) => {
                let result = kernel(run)?;
                let [out] = self.outs.as_slice() else {
                    return Err(OpError::invalid(format!(
                        "it has {} results for 1",
                        self.outs.len()
                    )));
                };
                run.slots[out.slot] = Some(out.declare(result, precision)?);
            }
            Kernel::Many(kernel) => {
                let results = kernel(run)?;
                if results.len() != self.outs.len() {
                    let (n, declared) = (results.len(), self.outs.len());
                    return Err(OpError::invalid(format!(
                        "{declared} results are declared for {n}"
                    )));
                }
                for (out, result) in self.outs.iter().zip(results) {
                    run.slots[out.slot] = Some(out.declare(result, precision)?);
                }
            }
            Kernel::Stored(_) => {}
        }
        for &slot in &self.frees {
            if let Some(vector) = run.slots[slot].take().and_then(Tensor::reclaim) {
                run.pool.borrow_mut().give(vector);
            }
        }
        Ok(())
    }
}

impl Out {
    /// The result as the program declares it: of its type and shape, rounded to what the type has.
    pub(crate) fn declare(&self, result: Tensor, precision: Precision) -> Result<Tensor, OpError> {
        let fits = |shape: &Vec<Option<usize>>| {
            shape.len() == result.rank()
                && shape.iter().zip(result.shape()).all(|(d, &n)| d.is_none_or(|d| d == n))
        };
        if !self.shape.as_ref().is_none_or(fits) {
            let (got, declared) = (result.shape(), show(self.shape.as_deref().unwrap_or(&[])));
            return Err(OpError::invalid(format!(
                "the result has shape {got:?}, declared is {declared}"
            )));
        }
        declare(result, self.dtype, precision)
    }
}

/// Extents in the program's words: `[1, ?, 64]`.
pub(crate) fn show(shape: &[Option<usize>]) -> String {
    let dims: Vec<_> = shape.iter().map(|d| d.map_or("?".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// Gives a tensor its declared type; floats of another type are rounded.
pub(crate) fn declare(
    result: Tensor,
    dtype: DType,
    precision: Precision,
) -> Result<Tensor, OpError> {
    let from = result.dtype();
    if from == dtype {
        return Ok(result);
    }
    if from.is_float() && dtype.is_float() {
        if precision == Precision::F32 || !matches!(dtype, DType::F16 | DType::Bf16) {
            return Ok(result.tagged(dtype));
        }
        let shape = result.shape().to_vec();
        let mut values = result.into_f32s()?;
        round::to(dtype, &mut values);
        return Ok(Tensor::f32(&shape, values).tagged(dtype));
    }
    if from.is_int() && dtype.is_int() {
        return Ok(result.tagged(dtype));
    }
    Err(OpError::invalid(format!("the result is {}, declared is {dtype}", result.describe())))
}
