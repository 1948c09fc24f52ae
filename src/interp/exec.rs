//! Going through the steps of a planned function.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::error::OpError;
use super::kernel::round;
use super::list::List;
use super::options::Precision;
use super::pool::Pool;
use super::state::State;
use super::tensor::{MAX_RANK, Tensor, show, wrap};
use super::value::{Label, Value};
use crate::mil::DType;

/// Where an operation finds one of its arguments.
#[derive(Debug, Clone)]
pub(crate) enum Operand {
    /// A constant, known when the program was planned.
    Const(Tensor),
    /// The value in a slot.
    Slot(usize),
}

type Call<T> = dyn Fn(&mut ExecContext<'_>) -> Result<T, OpError> + Send + Sync;

/// What an operation does when it runs.
pub(crate) enum Kernel {
    /// One result.
    One(Box<Call<Tensor>>),
    /// Several results, or none.
    Many(Box<Call<Vec<Tensor>>>),
    /// Results that are not all tensors.
    Values(Box<Call<Vec<Value>>>),
    /// A constant in its stored form: nothing is left to run.
    Stored(Vec<super::stored::Shared>),
}

impl Kernel {
    /// A kernel with one result.
    pub(crate) fn one(
        f: impl Fn(&mut ExecContext<'_>) -> Result<Tensor, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::One(Box::new(f))
    }

    /// A kernel with any number of results.
    pub(crate) fn many(
        f: impl Fn(&mut ExecContext<'_>) -> Result<Vec<Tensor>, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::Many(Box::new(f))
    }

    /// A kernel with results that are not all tensors.
    pub(crate) fn values(
        f: impl Fn(&mut ExecContext<'_>) -> Result<Vec<Value>, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::Values(Box::new(f))
    }
}

/// A result of a step: its slot and declared type.
#[derive(Debug, Clone)]
pub(crate) struct OutputSpec {
    pub(crate) name: String,
    pub(crate) slot: usize,
    pub(crate) ty: OutputType,
}

/// What a result is declared to be.
#[derive(Debug, Clone)]
pub(crate) enum OutputType {
    Tensor {
        dtype: DType,
        /// Declared extents; nothing where the number of dimensions is known only when run.
        shape: Option<Vec<Option<usize>>>,
    },
    /// A list of tensors of this type; its length is known only when run.
    List(DType),
    Dictionary,
    /// The class that a classifier chose, which no operation takes.
    Label(DType),
}

/// One operation with everything decided that can be before it runs.
pub(crate) struct Step {
    pub(crate) kind: String,
    pub(crate) kernel: Kernel,
    pub(crate) outs: Vec<OutputSpec>,
    /// Slots that it reads, once per reading; emptied when last uses have been found.
    pub(crate) uses: Vec<usize>,
    /// Slots that nobody reads after this step.
    pub(crate) released: Vec<usize>,
    /// Those of `frees` that this step reads once, so that it may change them in place; in rising order.
    pub(crate) donated: Vec<usize>,
    /// The nested blocks of `cond` and `while_loop`.
    pub(crate) bodies: Vec<Subgraph>,
}

/// A planned nested block: its values have slots of their own beside those of the function.
pub(crate) struct Subgraph {
    pub(crate) inputs: Vec<OutputSpec>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<SubgraphOutput>,
}

/// A result of a nested block.
pub(crate) struct SubgraphOutput {
    pub(crate) from: Operand,
    /// True if the value may leave its slot: the block owns it and gives it once.
    pub(crate) take: bool,
}

/// More turns than this, of all loops in one call together, are refused: whether a loop ends is decided by data.
const MAX_TURNS: u64 = if cfg!(fuzzing) {
    1 << 6
} else if cfg!(test) {
    1 << 12
} else {
    1 << 24
};

/// What a kernel sees while it runs.
pub(crate) struct ExecContext<'a> {
    pub(crate) slots: &'a mut [Option<Value>],
    pub(crate) donated: &'a [usize],
    pub(crate) bodies: &'a [Subgraph],
    /// The results of the step that runs.
    pub(crate) outs: &'a [OutputSpec],
    pub(crate) precision: Precision,
    pub(crate) state: &'a mut State,
    pub(crate) pool: &'a RefCell<Pool>,
    /// How often each operation that draws by chance did so in this call.
    pub(crate) draws: &'a RefCell<BTreeMap<u64, u64>>,
    /// Turns of loops in this call.
    pub(crate) turns: &'a Cell<u64>,
}

impl ExecContext<'_> {
    /// How often the operation with this mark asked before in this call.
    pub(crate) fn next_rng_counter(&self, mark: u64) -> u64 {
        let mut draws = self.draws.borrow_mut();
        let count = draws.entry(mark).or_default();
        *count += 1;
        *count - 1
    }

    /// Counts one turn of a loop.
    pub(crate) fn turn(&self) -> Result<(), OpError> {
        let turns = self.turns.get() + 1;
        self.turns.set(turns);
        if turns > MAX_TURNS {
            return Err(OpError::invalid(format!(
                "the loops of one call take over {MAX_TURNS} turns"
            )));
        }
        Ok(())
    }

    /// An argument.
    pub(crate) fn get<'s>(&'s self, from: &'s Operand) -> &'s Tensor {
        match from {
            Operand::Const(tensor) => tensor,
            Operand::Slot(slot) => match &self.slots[*slot] {
                Some(Value::Tensor(tensor)) => tensor,
                other => shape_mismatch(other.as_ref()),
            },
        }
    }

    /// An argument to change: its elements are not shared when this is their last use.
    pub(crate) fn take(&mut self, from: &Operand) -> Tensor {
        match self.take_value(from) {
            Value::Tensor(tensor) => tensor,
            other => shape_mismatch(Some(&other)),
        }
    }

    /// An argument that is a list.
    pub(crate) fn list(&self, slot: usize) -> &List {
        match &self.slots[slot] {
            Some(Value::List(list)) => list,
            other => shape_mismatch(other.as_ref()),
        }
    }

    /// A list to change.
    pub(crate) fn take_list(&mut self, slot: usize) -> List {
        match self.take_value(&Operand::Slot(slot)) {
            Value::List(list) => list,
            other => shape_mismatch(Some(&other)),
        }
    }

    /// An argument of any kind.
    pub(crate) fn take_value(&mut self, from: &Operand) -> Value {
        match from {
            Operand::Const(tensor) => Value::Tensor(tensor.clone()),
            Operand::Slot(slot) => {
                let value = &mut self.slots[*slot];
                let last = self.donated.binary_search(slot).is_ok();
                let value = if last { value.take() } else { value.clone() };
                value.expect("values live until their last use")
            }
        }
    }

    /// True if [`Self::take`] would hand the argument over.
    pub(crate) fn owns(&self, from: &Operand) -> bool {
        matches!(from, Operand::Slot(slot) if self.donated.binary_search(slot).is_ok())
    }

    /// True if the step's one result is rounded to fp16: a kernel that does so itself saves a pass over it, and hands
    /// it over through [`Self::result`].
    pub(crate) fn rounds_to_f16(&self) -> bool {
        self.precision == Precision::Declared
            && matches!(
                self.outs,
                [OutputSpec { ty: OutputType::Tensor { dtype: DType::F16, .. }, .. }]
            )
    }

    /// The step's one result, rounded to fp16 already where [`Self::halves`] says so.
    pub(crate) fn result(&self, shape: &[usize], values: Vec<f32>) -> Tensor {
        let dtype = if self.rounds_to_f16() { DType::F16 } else { DType::F32 };
        Tensor::f32(shape, values).tagged(dtype)
    }

    /// An empty vector with room for `n` elements, used before where possible.
    pub(crate) fn buffer(&self, n: usize) -> Vec<f32> {
        self.pool.borrow_mut().take(n)
    }

    /// A vector of `n` elements, all of which are then written: until then they are anything.
    pub(crate) fn uninit_buffer(&self, n: usize) -> Vec<f32> {
        self.pool.borrow_mut().take_filled(n)
    }

    /// Runs a nested block on its inputs and gives its results.
    pub(crate) fn body(&mut self, i: usize, inputs: Vec<Value>) -> Result<Vec<Value>, OpError> {
        let body = &self.bodies[i];
        for (input, value) in body.inputs.iter().zip(inputs) {
            let value = input
                .round_to_declared(value, self.precision)
                .map_err(|e| e.within(&input.name))?;
            self.slots[input.slot] = Some(value);
        }
        for step in &body.steps {
            let mut inner = ExecContext {
                slots: &mut *self.slots,
                donated: &step.donated,
                bodies: &step.bodies,
                outs: &step.outs,
                precision: self.precision,
                state: &mut *self.state,
                pool: self.pool,
                draws: self.draws,
                turns: self.turns,
            };
            step.run(&mut inner).map_err(|source| OpError::Within {
                place: format!("operation `{}` (`{}`)", step.name(), step.kind),
                source: Box::new(source),
            })?;
        }
        let results = body.outputs.iter().map(|out| match &out.from {
            Operand::Const(tensor) => Value::Tensor(tensor.clone()),
            Operand::Slot(slot) => {
                let value = &mut self.slots[*slot];
                let value = if out.take { value.take() } else { value.clone() };
                value.expect("results live to the end of their block")
            }
        });
        let results = results.collect();
        for input in &body.inputs {
            self.slots[input.slot] = None;
        }
        Ok(results)
    }
}

/// The types of arguments are checked when a program is planned.
fn shape_mismatch(value: Option<&Value>) -> ! {
    match value {
        Some(value) => {
            unreachable!("an argument of another kind was planned: {}", value.describe())
        }
        None => unreachable!("values live until their last use"),
    }
}

impl Step {
    /// The name of the operation.
    pub(crate) fn name(&self) -> &str {
        self.outs.first().map_or(&self.kind, |out| &out.name)
    }

    /// Runs the step and leaves its results in their slots.
    pub(crate) fn run(&self, run: &mut ExecContext<'_>) -> Result<(), OpError> {
        match &self.kernel {
            Kernel::One(kernel) => {
                let result = kernel(run)?;
                let [out] = self.outs.as_slice() else {
                    return Err(OpError::invalid(format!(
                        "it has {} results for 1",
                        self.outs.len()
                    )));
                };
                run.slots[out.slot] = Some(out.declare_tensor(result, run.precision)?.into());
            }
            Kernel::Many(kernel) => {
                let results = kernel(run)?;
                self.keep(run, results.into_iter().map(Value::Tensor))?;
            }
            Kernel::Values(kernel) => {
                let results = kernel(run)?;
                self.keep(run, results.into_iter())?;
            }
            Kernel::Stored(_) => {}
        }
        for &slot in &self.released {
            if let Some(value) = run.slots[slot].take() {
                run.pool.borrow_mut().release(value);
            }
        }
        Ok(())
    }

    fn keep(
        &self,
        run: &mut ExecContext<'_>,
        results: impl ExactSizeIterator<Item = Value>,
    ) -> Result<(), OpError> {
        if results.len() != self.outs.len() {
            let (n, declared) = (results.len(), self.outs.len());
            return Err(OpError::invalid(format!("{declared} results are declared for {n}")));
        }
        for (out, result) in self.outs.iter().zip(results) {
            run.slots[out.slot] = Some(out.round_to_declared(result, run.precision)?);
        }
        Ok(())
    }
}

impl OutputSpec {
    /// The result as the program declares it: of its type and shape, rounded to what the type has.
    fn round_to_declared(&self, result: Value, precision: Precision) -> Result<Value, OpError> {
        let fits = match (&result, &self.ty) {
            (Value::List(list), OutputType::List(dtype)) => list.dtype() == *dtype,
            (Value::Label(label), OutputType::Label(dtype)) => {
                *dtype == if matches!(label, Label::Text(_)) { DType::Str } else { DType::I64 }
            }
            (Value::Tensor(_), _) | (Value::Dictionary(_), OutputType::Dictionary) => true,
            _ => false,
        };
        match result {
            Value::Tensor(tensor) => self.declare_tensor(tensor, precision).map(Value::Tensor),
            other if fits => Ok(other),
            other => Err(self.shape_mismatch(&other.describe())),
        }
    }

    fn declare_tensor(&self, result: Tensor, precision: Precision) -> Result<Tensor, OpError> {
        let OutputType::Tensor { dtype, shape } = &self.ty else {
            return Err(self.shape_mismatch(&result.describe()));
        };
        if result.rank() > MAX_RANK {
            let rank = result.rank();
            return Err(OpError::invalid(format!(
                "the result has {rank} dimensions, more than {MAX_RANK}"
            )));
        }
        let fits = |shape: &Vec<Option<usize>>| {
            shape.len() == result.rank()
                && shape.iter().zip(result.shape()).all(|(d, &n)| d.is_none_or(|d| d == n))
        };
        if !shape.as_ref().is_none_or(fits) {
            let (got, declared) = (result.shape(), show(shape.as_deref().unwrap_or(&[])));
            return Err(OpError::invalid(format!(
                "the result has shape {got:?}, declared is {declared}"
            )));
        }
        round_to_declared(result, *dtype, precision)
    }

    fn shape_mismatch(&self, result: &str) -> OpError {
        let declared = match &self.ty {
            OutputType::Tensor { dtype, shape } => {
                format!("{dtype}{}", show(shape.as_deref().unwrap_or(&[])))
            }
            OutputType::List(dtype) => format!("a list of {dtype}"),
            OutputType::Dictionary => "a dictionary".to_owned(),
            OutputType::Label(dtype) => format!("{dtype}[]"),
        };
        OpError::invalid(format!("the result is {result}, declared is {declared}"))
    }
}

/// Gives a tensor its declared type; floats of another type are rounded.
pub(crate) fn round_to_declared(
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
        if result.i32s()?.iter().all(|&n| wrap(n, dtype) == n) {
            return Ok(result.tagged(dtype));
        }
        let wrapped = result.i32s()?.iter().map(|&n| wrap(n, dtype)).collect();
        return Ok(Tensor::i32(result.shape(), wrapped).tagged(dtype));
    }
    Err(OpError::invalid(format!("the result is {}, declared is {dtype}", result.describe())))
}
