//! A way through a sequence: the weights of each direction, what the inputs give to every gate, the states handed out.

use super::super::activation::logistic;
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Operand};
use crate::interp::kernel::columns::Columns;
use crate::interp::kernel::matmul;
use crate::interp::kernel::row::Row;
use crate::interp::op_context::OpContext;
use crate::interp::stored::{Shared, Stored};
use crate::interp::tensor::{Tensor, elements};
use crate::mil::DType;

/// What a gate applies to its sum.
#[derive(Debug, Clone, Copy)]
pub(super) enum Activation {
    Tanh,
    Sigmoid,
    HardSigmoid,
    Relu,
    Linear,
}

impl Activation {
    pub(super) fn of(
        site: &OpContext<'_, '_>,
        parameter: &str,
        default: Self,
    ) -> Result<Self, OpError> {
        let Some(name) = site.text(parameter)? else { return Ok(default) };
        Ok(match name.to_ascii_lowercase().as_str() {
            // `scaled_tanh` has no parameters here and its defaults scale by 1.
            "tanh" | "scaled_tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "hard_sigmoid" | "sigmoid_hard" => Self::HardSigmoid,
            "relu" => Self::Relu,
            "linear" => Self::Linear,
            _ => return Err(OpError::Unsupported(format!("{parameter} `{name}`"))),
        })
    }

    pub(super) fn apply(self, v: f32) -> f32 {
        match self {
            Self::Tanh => v.tanh(),
            Self::Sigmoid => logistic(v),
            Self::HardSigmoid => (0.2 * v + 0.5).clamp(0.0, 1.0),
            // A NaN stays one.
            Self::Relu => {
                if v < 0.0 {
                    0.0
                } else {
                    v
                }
            }
            Self::Linear => v,
        }
    }
}

/// The way through the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Reverse,
    Bidirectional,
}

impl Direction {
    fn of(site: &OpContext<'_, '_>, both: bool) -> Result<Self, OpError> {
        let name = site.text("direction")?.unwrap_or_else(|| "forward".to_owned());
        Ok(match name.as_str() {
            "forward" => Self::Forward,
            "reverse" => Self::Reverse,
            "bidirectional" if both => Self::Bidirectional,
            _ => return Err(OpError::Unsupported(format!("direction `{name}`"))),
        })
    }
}

/// Some rows of a stored weight.
pub(super) struct Rows {
    pub(super) whole: Shared,
    pub(super) first: usize,
    pub(super) shape: [usize; 2],
}

impl Rows {
    fn at(&self) -> usize {
        self.first * self.shape[1]
    }
}

impl Stored for Rows {
    fn dtype(&self) -> DType {
        self.whole.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, at: usize, out: &mut [f32]) {
        self.whole.fill(self.at() + at, out);
    }

    fn run(&self, at: usize, n: usize) -> Option<Row<'_>> {
        self.whole.run(self.at() + at, n)
    }
}

/// The weights of one direction: `gates · hidden` rows for the input and for the state, and their bias.
pub(super) struct Cell {
    input: Shared,
    pub(super) state: Shared,
    pub(super) bias: Vec<f32>,
    pub(super) hidden: usize,
}

impl Cell {
    fn of(site: &OpContext<'_, '_>, suffix: &str, gates: usize) -> Result<Self, OpError> {
        let weight = |name: &str| -> Result<Shared, OpError> {
            let name = format!("{name}{suffix}");
            match site.stored(&name)? {
                Some(weight) => Ok(weight),
                None if site.optional(&name)?.is_some() => Err(OpError::NotConstant(name)),
                None => Err(OpError::Missing(name)),
            }
        };
        let (input, state) = (weight("weight_ih")?, weight("weight_hh")?);
        let shape_mismatch = || {
            let (i, h) = (input.shape(), state.shape());
            OpError::invalid(format!("weights {i:?} and {h:?} for {gates} gates"))
        };
        let (&[n, _], &[m, hidden]) = (input.shape(), state.shape()) else {
            return Err(shape_mismatch());
        };
        if n != m || hidden.checked_mul(gates) != Some(m) {
            return Err(shape_mismatch());
        }
        let bias = vector(site, &format!("bias{suffix}"), n)?.unwrap_or_else(|| vec![0.0; n]);
        Ok(Self { input, state, bias, hidden })
    }

    fn gates(&self) -> usize {
        self.bias.len()
    }
}

/// A constant vector of `n` floats, where it is given.
pub(super) fn vector(
    site: &OpContext<'_, '_>,
    parameter: &str,
    n: usize,
) -> Result<Option<Vec<f32>>, OpError> {
    let Some(tensor) = site.constant(parameter)? else { return Ok(None) };
    if tensor.len() != n {
        let fact = format!("parameter `{parameter}` is {}, {n} are needed", tensor.describe());
        return Err(OpError::invalid(fact));
    }
    Ok(Some(tensor.f32s()?.into_owned()))
}

/// The sequence that an operation goes through.
pub(super) struct Sequence {
    x: Operand,
    output_all: bool,
    direction: Direction,
    pub(super) cells: Vec<Cell>,
}

/// The gates of one step before their activations: what the inputs gave, with the bias.
pub(super) struct Given<'a> {
    /// `[gates · hidden, steps · batch]`.
    products: &'a [f32],
    bias: &'a [f32],
    columns: usize,
    first: usize,
}

impl Given<'_> {
    pub(super) fn at(&self, row: usize, i: usize) -> f32 {
        self.products[row * self.columns + self.first + i] + self.bias[row]
    }
}

impl Sequence {
    pub(super) fn of(site: &OpContext<'_, '_>, gates: usize, both: bool) -> Result<Self, OpError> {
        let direction = Direction::of(site, both)?;
        let mut cells = vec![Cell::of(site, "", gates)?];
        if direction == Direction::Bidirectional {
            let back = Cell::of(site, "_back", gates)?;
            if (back.hidden, back.input.shape()) != (cells[0].hidden, cells[0].input.shape()) {
                return Err(OpError::invalid(
                    "the two directions have weights of different shapes",
                ));
            }
            cells.push(back);
        }
        let output_all = site.bool("output_sequence", false)?;
        Ok(Self { x: site.input("x")?, output_all, direction, cells })
    }

    /// Extents of the run: steps and batch.
    pub(super) fn extents(&self, run: &ExecContext<'_>) -> Result<(usize, usize), OpError> {
        let (x, weight) = (run.get(&self.x).shape(), self.cells[0].input.shape());
        match (x, weight) {
            (&[steps, batch, features], &[_, k]) if features == k => Ok((steps, batch)),
            _ => Err(OpError::invalid(format!("a sequence {x:?} for input weights {weight:?}"))),
        }
    }

    /// The first state of each direction, `[batch, hidden]` each.
    pub(super) fn initial(
        &self,
        run: &ExecContext<'_>,
        from: &Operand,
        batch: usize,
    ) -> Result<Vec<Vec<f32>>, OpError> {
        let (state, hidden) = (run.get(from), self.cells[0].hidden);
        let width = hidden * self.cells.len();
        if state.shape() != [batch, width] {
            let shape = state.shape();
            return Err(OpError::invalid(format!(
                "an initial state {shape:?}, [{batch}, {width}] is needed"
            )));
        }
        let values = state.f32s()?;
        let part = |d: usize| -> Vec<f32> {
            let rows = values.chunks(width.max(1));
            rows.flat_map(|row| &row[d * hidden..(d + 1) * hidden]).copied().collect()
        };
        Ok((0..self.cells.len()).map(part).collect())
    }

    /// Goes through the sequence in every direction: `step(direction, given, state)` makes the next state in place.
    ///
    /// Returns the states handed out, `[steps or 1, batch, directions · hidden]`, and leaves the last in `states`.
    pub(super) fn walk(
        &self,
        run: &ExecContext<'_>,
        states: &mut [Vec<f32>],
        mut step: impl FnMut(usize, &Given<'_>, &mut [f32]),
    ) -> Result<Tensor, OpError> {
        let (steps, batch) = self.extents(run)?;
        let x = run.get(&self.x).f32s()?;
        let (hidden, width) = (self.cells[0].hidden, self.cells[0].hidden * self.cells.len());
        let shape = [if self.output_all { steps } else { 1 }, batch, width];
        let mut out = run.buffer(elements(&shape)?);
        out.resize(elements(&shape)?, 0.0);
        for (d, (cell, state)) in self.cells.iter().zip(states).enumerate() {
            let columns = steps * batch;
            let mut products = run.buffer(elements(&[cell.gates(), columns])?);
            products.resize(cell.gates() * columns, 0.0);
            let k = cell.input.shape()[1];
            let each = Columns { data: &x, t: columns, k_stride: 1, t_stride: k };
            matmul::rows(&*cell.input, (cell.gates(), k), &each, &mut products);
            let backward = d == 1 || self.direction == Direction::Reverse;
            for i in 0..steps {
                let at = if backward { steps - 1 - i } else { i };
                let (products, bias) = (products.as_slice(), cell.bias.as_slice());
                let given = Given { products, bias, columns, first: at * batch };
                step(d, &given, state);
                if self.output_all {
                    let place = if d == 1 { at } else { i };
                    put(&mut out[place * batch * width..], state, hidden, width, d);
                }
            }
            if !self.output_all {
                put(&mut out, state, hidden, width, d);
            }
            run.pool.borrow_mut().give(products);
        }
        Ok(Tensor::f32(&shape, out))
    }

    /// The states of all directions side by side, `[batch, directions · hidden]`.
    pub(super) fn joined(&self, batch: usize, states: &[Vec<f32>]) -> Tensor {
        let hidden = self.cells[0].hidden;
        let width = hidden * states.len();
        let mut out = vec![0.0; batch * width];
        for (d, state) in states.iter().enumerate() {
            put(&mut out, state, hidden, width, d);
        }
        Tensor::f32(&[batch, width], out)
    }
}

/// Writes the state of direction `d` into rows of `width`.
fn put(out: &mut [f32], state: &[f32], hidden: usize, width: usize, d: usize) {
    if hidden == 0 {
        return;
    }
    for (row, state) in out.chunks_mut(width).zip(state.chunks(hidden)) {
        row[d * hidden..(d + 1) * hidden].copy_from_slice(state);
    }
}

/// `weight · state` for a state `[batch, k]`: `[n, batch]`.
pub(super) fn times(weight: &dyn Stored, state: &[f32], batch: usize, out: &mut [f32]) {
    let (n, k) = (weight.shape()[0], weight.shape()[1]);
    let columns = Columns { data: state, t: batch, k_stride: 1, t_stride: k };
    matmul::rows(weight, (n, k), &columns, out);
}
