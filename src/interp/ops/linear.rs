//! `linear` and `matmul`: products, with constant weights used in the form they are stored in.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::kernel::broadcast;
use crate::interp::kernel::gemm::{Matrix, multiply};
use crate::interp::kernel::matmul::{self, Epilogue};
use crate::interp::op_context::OpContext;
use crate::interp::stored::{Shared, Stored, of_tensor};
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// Rows of the left side that one thread multiplies at a time.
const BAND: usize = 64;

/// x · weightᵀ + bias, with weight stored `[out, in]`.
pub(super) fn linear(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    if site.out_dtype(0)?.is_int() {
        let (weight, bias) = (site.input("weight")?, site.optional("bias")?);
        return Ok(Kernel::one(move |run| {
            let product = batched(run, (&x, false), (&weight, true))?;
            let mut out = as_i32(&product)?.into_owned();
            if let Some(bias) = &bias {
                let bias = as_i32(run.get(bias))?;
                if product.shape().last() != Some(&bias.len()) {
                    return Err(shape_mismatch(product.shape(), run.get(&weight).shape()));
                }
                let bias = bias.iter().cycle();
                out.iter_mut().zip(bias).for_each(|(o, &b)| *o = o.wrapping_add(b));
            }
            Ok(Tensor::i32(product.shape(), out))
        }));
    }
    let weight = site.stored("weight")?;
    let dynamic = if weight.is_none() { Some(site.input("weight")?) } else { None };
    let bias = site.optional("bias")?;
    Ok(Kernel::one(move |run| {
        let halves = run.rounds_to_f16();
        let weight = match (&weight, &dynamic) {
            (Some(weight), _) => Shared::clone(weight),
            (None, Some(weight)) => of_tensor(run.get(weight).clone()),
            (None, None) => return Err(OpError::Missing("weight".to_owned())),
        };
        let bias = bias.as_ref().map(|b| as_f32(run.get(b))).transpose()?;
        times_rows(run, &x, &*weight, Epilogue { bias: bias.as_deref(), halves })
    }))
}

/// `x` of `[.., k]` times the rows of a weight `[n, k]`.
fn times_rows(
    run: &ExecContext<'_>,
    x: &Operand,
    weight: &dyn Stored,
    finish: Epilogue<'_>,
) -> Result<Tensor, OpError> {
    let x = run.get(x);
    let (&[n, k], Some((&last, outer))) = (weight.shape(), x.shape().split_last()) else {
        return Err(shape_mismatch(x.shape(), weight.shape()));
    };
    if last != k || finish.bias.is_some_and(|b| b.len() != n) {
        return Err(shape_mismatch(x.shape(), weight.shape()));
    }
    let values = x.f32s()?;
    let t = outer.iter().product::<usize>();
    let mut shape = outer.to_vec();
    shape.push(n);
    let mut out = run.uninit_buffer(n * t);
    matmul::linear(weight, (n, k), &values, finish, &mut out);
    Ok(run.result(&shape, out))
}

/// x · y over the last two dimensions, either side transposed, the others stretched.
pub(super) fn matmul(site: &OpContext<'_, '_>) -> Built {
    let transpose_x = site.bool("transpose_x", false)?;
    let transpose_y = site.bool("transpose_y", false)?;
    let ints = site.out_dtype(0)?.is_int();
    if let Some(weight) = site.stored("y")?
        && weight.shape().len() == 2
        && !transpose_x
        && !ints
    {
        let x = site.input("x")?;
        return Ok(Kernel::one(move |run| {
            let finish = Epilogue { bias: None, halves: run.rounds_to_f16() };
            if transpose_y {
                times_rows(run, &x, &*weight, finish)
            } else {
                times_columns(run, &x, &*weight)
            }
        }));
    }
    let (x, y) = (site.input("x")?, site.input("y")?);
    Ok(Kernel::one(move |run| {
        let product = batched(run, (&x, transpose_x), (&y, transpose_y))?;
        Ok(if ints {
            Tensor::i32(product.shape(), as_i32(&product)?.into_owned())
        } else {
            product
        })
    }))
}

/// Floats, or whole numbers as floats: from iOS17 on a constant side may have another type than the other one.
fn as_f32(tensor: &Tensor) -> Result<Cow<'_, [f32]>, OpError> {
    match tensor.as_i32() {
        Some(ints) => Ok(ints.iter().map(|&i| i as f32).collect()),
        None => tensor.f32s(),
    }
}

/// Whole numbers, or floats cut to them.
fn as_i32(tensor: &Tensor) -> Result<Cow<'_, [i32]>, OpError> {
    match tensor.as_i32() {
        Some(ints) => Ok(Cow::Borrowed(ints)),
        None => Ok(tensor.f32s()?.iter().map(|&v| v as i32).collect()),
    }
}

/// `x` of `[.., k]` times a weight `[k, n]`.
fn times_columns(
    run: &ExecContext<'_>,
    x: &Operand,
    weight: &dyn Stored,
) -> Result<Tensor, OpError> {
    let x = run.get(x);
    let (&[k, n], Some((&last, outer))) = (weight.shape(), x.shape().split_last()) else {
        return Err(shape_mismatch(x.shape(), weight.shape()));
    };
    if last != k {
        return Err(shape_mismatch(x.shape(), weight.shape()));
    }
    let values = x.f32s()?;
    let t = outer.iter().product();
    let mut shape = outer.to_vec();
    shape.push(n);
    let mut out = run.buffer(n * t);
    out.resize(n * t, 0.0);
    matmul::columns(weight, (k, n), &values, t, &mut out);
    Ok(Tensor::f32(&shape, out))
}

/// One side of a product: its batch extents and how its matrices lie.
struct Side {
    batch: Vec<usize>,
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl Side {
    fn of(shape: &[usize], transposed: bool, left: bool) -> Option<Self> {
        let (batch, m, n) = match shape {
            [] => return None,
            // A vector is one row on the left and one column on the right.
            [k] if left => (&[][..], 1, *k),
            [k] => (&[][..], *k, 1),
            [batch @ .., m, n] => (batch, *m, *n),
        };
        let batch = batch.to_vec();
        Some(if transposed && shape.len() > 1 {
            Self { batch, rows: n, columns: m, row: 1, column: n }
        } else {
            Self { batch, rows: m, columns: n, row: n, column: 1 }
        })
    }
}

fn batched(
    run: &ExecContext<'_>,
    x: (&Operand, bool),
    y: (&Operand, bool),
) -> Result<Tensor, OpError> {
    let (a, b) = (run.get(x.0), run.get(y.0));
    let shape_mismatch = || shape_mismatch(a.shape(), b.shape());
    let left = Side::of(a.shape(), x.1, true).ok_or_else(shape_mismatch)?;
    let right = Side::of(b.shape(), y.1, false).ok_or_else(shape_mismatch)?;
    if left.columns != right.rows {
        return Err(shape_mismatch());
    }
    let batch = broadcast::shape(&left.batch, &right.batch).map_err(|_| shape_mismatch())?;
    let (m, n, k) = (left.rows, right.columns, left.columns);
    let mut shape = batch.clone();
    shape.extend((a.rank() > 1).then_some(m));
    shape.extend((b.rank() > 1).then_some(n));
    elements(&shape)?;
    let (size_a, size_b) = (m * k, k * n);
    let offsets = |side: &Side, size: usize| -> Vec<usize> {
        let count = side.batch.iter().product::<usize>();
        let each: Vec<usize> = (0..count).map(|i| i * size).collect();
        broadcast::expand(&each, &side.batch, &batch)
    };
    let (at_a, at_b) = (offsets(&left, size_a), offsets(&right, size_b));
    if let (Some(p), Some(q)) = (a.as_i32(), b.as_i32()) {
        let mut out = Vec::with_capacity(shape.iter().product());
        for (&i, &j) in at_a.iter().zip(&at_b) {
            for r in 0..m {
                for c in 0..n {
                    let term = |d: usize| {
                        p[i + r * left.row + d * left.column]
                            .wrapping_mul(q[j + d * right.row + c * right.column])
                    };
                    out.push((0..k).map(term).fold(0, i32::wrapping_add));
                }
            }
        }
        return Ok(Tensor::i32(&shape, out));
    }
    let (p, q) = (as_f32(a)?, as_f32(b)?);
    let mut out = run.buffer(shape.iter().product());
    out.resize(shape.iter().product(), 0.0);
    if !out.is_empty() {
        let bands = m.div_ceil(BAND);
        let mut tasks = Vec::with_capacity(at_a.len() * bands);
        for (whole, (&i, &j)) in out.chunks_mut(m * n).zip(at_a.iter().zip(&at_b)) {
            for (band, part) in whole.chunks_mut(BAND * n).enumerate() {
                tasks.push((i + band * BAND * left.row, j, part));
            }
        }
        tasks.into_par_iter().for_each(|(i, j, part)| {
            let a = Matrix::new(&p[i.min(p.len())..], left.row, left.column);
            let b = Matrix::new(&q[j.min(q.len())..], right.row, right.column);
            multiply((part.len() / n, n, k), a, b, part, n, false);
        });
    }
    Ok(Tensor::f32(&shape, out))
}

fn shape_mismatch(a: &[usize], b: &[usize]) -> OpError {
    OpError::invalid(format!("shapes {a:?} and {b:?} do not multiply"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    #[test]
    fn linear_with_a_weight_that_is_constant_or_computed() {
        let x = || floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let w = || floats(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let bias = || floats(&[3], &[0.5, 0.0, -1.0]);
        let want = [1.5, 2.0, 2.0, 3.5, 4.0, 6.0];
        check("linear")
            .input("x", x())
            .constant("weight", &w())
            .constant("bias", &bias())
            .gives(&[1, 2, 3], &want);
        check("linear")
            .input("x", x())
            .input("weight", w())
            .input("bias", bias())
            .gives(&[1, 2, 3], &want);
        let failed = check("linear")
            .input("x", floats(&[1, 8, 64], &[0.0; 512]))
            .constant("weight", &floats(&[2, 32], &[0.0; 64]))
            .fails();
        assert_eq!(
            failed,
            "operation `out` (`linear`) failed: shapes [1, 8, 64] and [2, 32] do not multiply"
        );
    }

    #[test]
    fn a_constant_side_of_another_type() {
        let ints = |shape: &[usize], v: &[i32]| Tensor::i32(shape, v.to_vec());
        let (x, w) = (|| floats(&[1, 2], &[1.5, 2.0]), || ints(&[1, 2], &[4, 5]));
        check("linear")
            .input("x", x())
            .constant("weight", &w())
            .constant("bias", &ints(&[1], &[7]))
            .gives(&[1, 1], &[23.0]);
        check("linear")
            .input("x", w())
            .constant("weight", &x())
            .constant("bias", &floats(&[1], &[7.0]))
            .out(DType::I32)
            .gives(&[1, 1], &[23.0]);
        let c = || check("matmul").flag("transpose_y", true);
        c().input("x", x()).constant("y", &w()).gives(&[1, 1], &[16.0]);
        c().constant("x", &w()).input("y", x()).gives(&[1, 1], &[16.0]);
        c().input("x", w()).constant("y", &x()).out(DType::I32).gives(&[1, 1], &[16.0]);
        check("matmul")
            .input("x", x())
            .constant("y", &ints(&[2, 1], &[4, 5]))
            .gives(&[1, 1], &[16.0]);
    }

    #[test]
    fn matmul_of_every_side() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let y = [1.0, 0.0, 2.0, 0.0, 1.0, 3.0];
        let want = [7.0, 11.0, 16.0, 23.0];
        let y_turned = [1.0, 0.0, 0.0, 1.0, 2.0, 3.0];
        // [2, 3] · [3, 2] with y = [[1, 0], [0, 1], [2, 3]].
        for constant in [true, false] {
            for (shape, values, turned) in [([3, 2], y_turned, false), ([2, 3], y, true)] {
                let c = check("matmul").input("x", floats(&[2, 3], &x)).flag("transpose_y", turned);
                let c = if constant {
                    c.constant("y", &floats(&shape, &values))
                } else {
                    c.input("y", floats(&shape, &values))
                };
                c.gives(&[2, 2], &want);
            }
        }
        let turned = floats(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        check("matmul")
            .input("x", turned)
            .flag("transpose_x", true)
            .input("y", floats(&[3, 2], &y_turned))
            .gives(&[2, 2], &want);
    }

    #[test]
    fn matmul_stretches_batches_and_takes_vectors() {
        let x = floats(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let y = floats(&[3, 2, 1], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        check("matmul")
            .input("x", x)
            .input("y", y)
            .gives(&[2, 3, 1, 1], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
        check("matmul")
            .input("x", floats(&[2], &[1.0, 2.0]))
            .input("y", floats(&[2], &[3.0, 4.0]))
            .gives(&[], &[11.0]);
        let (x, y) = (Tensor::i32(&[1, 2], vec![1, 2]), Tensor::i32(&[2, 1], vec![3, 4]));
        check("matmul").input("x", x).input("y", y).out(DType::I32).gives(&[1, 1], &[11.0]);
        let failed = check("matmul")
            .input("x", floats(&[1, 2], &[0.0; 2]))
            .input("y", floats(&[3, 1], &[0.0; 3]))
            .fails();
        assert_eq!(
            failed,
            "operation `out` (`matmul`) failed: shapes [1, 2] and [3, 1] do not multiply"
        );
    }
}
