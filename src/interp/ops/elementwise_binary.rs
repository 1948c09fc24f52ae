//! Elementwise functions of two tensors whose shapes stretch to one another, and `select`.

use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::kernel::broadcast::{self, Left, zip, zip_floats};
use crate::interp::kernel::fp16;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Slice, Tensor, elements};

type Built = Result<Kernel, OpError>;

/// Floats to floats and whole numbers to whole numbers.
fn arithmetic(
    site: &OpContext<'_, '_>,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
    i: impl Fn(i32, i32) -> i32 + Copy + Send + Sync + 'static,
) -> Built {
    let (x, y) = (site.input("x")?, site.input("y")?);
    Ok(Kernel::one(move |run| {
        if let (Slice::I32(a), Slice::I32(b)) = (run.get(&x).storage(), run.get(&y).storage()) {
            let (p, q) = (run.get(&x).shape(), run.get(&y).shape());
            let shape = broadcast::shape(p, q)?;
            let mut out = Vec::with_capacity(shape.iter().product());
            zip((a, p), (b, q), &shape, &mut out, i);
            return Ok(Tensor::i32(&shape, out));
        }
        floats(run, &x, &y, f)
    }))
}

fn floats(
    run: &mut ExecContext<'_>,
    x: &Operand,
    y: &Operand,
    f: impl Fn(f32, f32) -> f32 + Copy + Sync,
) -> Result<Tensor, OpError> {
    let shape = broadcast::shape(run.get(x).shape(), run.get(y).shape())?;
    let halves = run.rounds_to_f16();
    let finish = |piece: &mut [f32]| {
        if halves {
            fp16::round(piece);
        }
    };
    // The result takes the place of `x` when it has its shape and nobody else needs `x`.
    if run.get(x).shape() == shape && run.owns(x) {
        let mut out = run.take(x).into_f32s()?;
        let b = run.get(y);
        zip_floats(Left::Result, (&b.f32s()?, b.shape()), &shape, &mut out, f, finish);
        return Ok(run.result(&shape, out));
    }
    let n = elements(&shape)?;
    let mut out = run.uninit_buffer(n);
    let (a, b) = (run.get(x), run.get(y));
    let left = a.f32s()?;
    let left = Left::Other(&left, a.shape());
    zip_floats(left, (&b.f32s()?, b.shape()), &shape, &mut out, f, finish);
    Ok(run.result(&shape, out))
}

/// Numbers to booleans.
fn comparison(
    site: &OpContext<'_, '_>,
    f: impl Fn(f32, f32) -> bool + Copy + Send + Sync + 'static,
    i: impl Fn(i32, i32) -> bool + Copy + Send + Sync + 'static,
) -> Built {
    let (x, y) = (site.input("x")?, site.input("y")?);
    Ok(Kernel::one(move |run| {
        let (a, b) = (run.get(&x), run.get(&y));
        let (p, q) = (a.shape(), b.shape());
        let shape = broadcast::shape(p, q)?;
        let mut out = Vec::with_capacity(shape.iter().product());
        match (a.storage(), b.storage()) {
            (Slice::I32(a), Slice::I32(b)) => zip((a, p), (b, q), &shape, &mut out, i),
            (Slice::Bool(a), Slice::Bool(b)) => {
                zip((a, p), (b, q), &shape, &mut out, |a, b| i(a.into(), b.into()));
            }
            _ => zip((&a.f32s()?, p), (&b.f32s()?, q), &shape, &mut out, f),
        }
        Ok(Tensor::bool(&shape, out))
    }))
}

/// Booleans to booleans.
fn logic(
    site: &OpContext<'_, '_>,
    f: impl Fn(bool, bool) -> bool + Copy + Send + Sync + 'static,
) -> Built {
    let (x, y) = (site.input("x")?, site.input("y")?);
    Ok(Kernel::one(move |run| {
        let (a, b) = (run.get(&x), run.get(&y));
        let shape = broadcast::shape(a.shape(), b.shape())?;
        let mut out = Vec::with_capacity(shape.iter().product());
        zip((a.bools()?, a.shape()), (b.bools()?, b.shape()), &shape, &mut out, f);
        Ok(Tensor::bool(&shape, out))
    }))
}

/// x + y.
pub(super) fn add(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| a + b, i32::wrapping_add)
}

/// x − y.
pub(super) fn sub(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| a - b, i32::wrapping_sub)
}

/// x · y.
pub(super) fn mul(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| a * b, i32::wrapping_mul)
}

/// x / y; whole numbers lose the fraction, and division by zero gives zero.
pub(super) fn real_div(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| a / b, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) })
}

/// ⌊x / y⌋.
pub(super) fn floor_div(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| (a / b).floor(), floor_div_i32)
}

fn floor_div_i32(a: i32, b: i32) -> i32 {
    if b == 0 {
        return 0;
    }
    let (quotient, rest) = (a.wrapping_div(b), a.wrapping_rem(b));
    if rest != 0 && (rest < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// x − ⌊x / y⌋·y: the sign of y.
pub(super) fn modulo(site: &OpContext<'_, '_>) -> Built {
    arithmetic(
        site,
        |a, b| a - (a / b).floor() * b,
        |a, b| a.wrapping_sub(floor_div_i32(a, b).wrapping_mul(b)),
    )
}

/// xʸ.
pub(super) fn pow(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, f32::powf, |a, b| f64::from(a).powi(b) as i32)
}

/// x > y ? x : y, NaN when either is.
pub(super) fn maximum(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| if a > b || a.is_nan() { a } else { b }, i32::max)
}

/// x < y ? x : y, NaN when either is.
pub(super) fn minimum(site: &OpContext<'_, '_>) -> Built {
    arithmetic(site, |a, b| if a < b || a.is_nan() { a } else { b }, i32::min)
}

/// x = y.
pub(super) fn equal(site: &OpContext<'_, '_>) -> Built {
    comparison(site, |a, b| a == b, |a, b| a == b)
}

/// x ≠ y.
pub(super) fn not_equal(site: &OpContext<'_, '_>) -> Built {
    comparison(site, |a, b| a != b, |a, b| a != b)
}

/// x > y.
pub(super) fn greater(site: &OpContext<'_, '_>) -> Built {
    comparison(site, |a, b| a > b, |a, b| a > b)
}

/// x ≥ y.
pub(super) fn greater_equal(site: &OpContext<'_, '_>) -> Built {
    comparison(site, |a, b| a >= b, |a, b| a >= b)
}

/// x < y.
pub(super) fn less(site: &OpContext<'_, '_>) -> Built {
    comparison(site, |a, b| a < b, |a, b| a < b)
}

/// x ≤ y.
pub(super) fn less_equal(site: &OpContext<'_, '_>) -> Built {
    comparison(site, |a, b| a <= b, |a, b| a <= b)
}

/// x and y.
pub(super) fn logical_and(site: &OpContext<'_, '_>) -> Built {
    logic(site, |a, b| a && b)
}

/// x or y.
pub(super) fn logical_or(site: &OpContext<'_, '_>) -> Built {
    logic(site, |a, b| a || b)
}

/// Either x or y.
pub(super) fn logical_xor(site: &OpContext<'_, '_>) -> Built {
    logic(site, |a, b| a != b)
}

/// cond ? a : b.
pub(super) fn select(site: &OpContext<'_, '_>) -> Built {
    let (cond, a, b) = (site.input("cond")?, site.input("a")?, site.input("b")?);
    Ok(Kernel::one(move |run| {
        let (cond, a, b) = (run.get(&cond), run.get(&a), run.get(&b));
        let (p, q) = (a.shape(), b.shape());
        let shape = broadcast::shape(cond.shape(), &broadcast::shape(p, q)?)?;
        let cond = broadcast::expand(cond.bools()?, cond.shape(), &shape);
        let to = &shape;
        Ok(match (a.storage(), b.storage()) {
            (Slice::I32(x), Slice::I32(y)) => {
                let picked =
                    pick(&cond, &broadcast::expand(x, p, to), &broadcast::expand(y, q, to));
                Tensor::i32(&shape, picked).tagged(a.dtype())
            }
            (Slice::Bool(x), Slice::Bool(y)) => Tensor::bool(
                &shape,
                pick(&cond, &broadcast::expand(x, p, to), &broadcast::expand(y, q, to)),
            ),
            _ => {
                let (x, y) = (a.f32s()?, b.f32s()?);
                Tensor::f32(
                    &shape,
                    pick(&cond, &broadcast::expand(&x, p, to), &broadcast::expand(&y, q, to)),
                )
            }
        })
    }))
}

fn pick<T: Copy>(cond: &[bool], a: &[T], b: &[T]) -> Vec<T> {
    cond.iter().zip(a.iter().zip(b)).map(|(&c, (&a, &b))| if c { a } else { b }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    #[test]
    fn floats_and_whole_numbers() {
        let (x, y) = ([7.0, -7.0, 2.0, 0.0], [2.0, 2.0, -3.0, 5.0]);
        let cases: &[(&str, [f32; 4], [f32; 4])] = &[
            ("add", [9.0, -5.0, -1.0, 5.0], [9.0, -5.0, -1.0, 5.0]),
            ("sub", [5.0, -9.0, 5.0, -5.0], [5.0, -9.0, 5.0, -5.0]),
            ("mul", [14.0, -14.0, -6.0, 0.0], [14.0, -14.0, -6.0, 0.0]),
            ("real_div", [3.5, -3.5, -2.0 / 3.0, 0.0], [3.0, -3.0, 0.0, 0.0]),
            ("floor_div", [3.0, -4.0, -1.0, 0.0], [3.0, -4.0, -1.0, 0.0]),
            ("mod", [1.0, 1.0, -1.0, 0.0], [1.0, 1.0, -1.0, 0.0]),
            ("pow", [49.0, 49.0, 0.125, 0.0], [49.0, 49.0, 0.0, 0.0]),
            ("maximum", [7.0, 2.0, 2.0, 5.0], [7.0, 2.0, 2.0, 5.0]),
            ("minimum", [2.0, -7.0, -3.0, 0.0], [2.0, -7.0, -3.0, 0.0]),
        ];
        for (kind, want_f, want_i) in cases {
            check(kind)
                .input("x", floats(&[4], &x))
                .input("y", floats(&[4], &y))
                .gives(&[4], want_f);
            let ints = |v: [f32; 4]| Tensor::i32(&[4], v.map(|v| v as i32).to_vec());
            check(kind).input("x", ints(x)).input("y", ints(y)).out(DType::I32).gives(&[4], want_i);
        }
    }

    #[test]
    fn comparisons_and_logic() {
        let cases = [
            ("equal", [0.0, 1.0, 0.0]),
            ("not_equal", [1.0, 0.0, 1.0]),
            ("greater", [0.0, 0.0, 1.0]),
            ("greater_equal", [0.0, 1.0, 1.0]),
            ("less", [1.0, 0.0, 0.0]),
            ("less_equal", [1.0, 1.0, 0.0]),
        ];
        for (kind, want) in cases {
            check(kind)
                .input("x", floats(&[3], &[1.0, 2.0, 3.0]))
                .input("y", floats(&[1], &[2.0]))
                .out(DType::Bool)
                .gives(&[3], &want);
        }
        let cases = [
            ("logical_and", [1.0, 0.0, 0.0]),
            ("logical_or", [1.0, 1.0, 0.0]),
            ("logical_xor", [0.0, 1.0, 0.0]),
        ];
        for (kind, want) in cases {
            let (x, y) = (
                Tensor::bool(&[3], vec![true, true, false]),
                Tensor::bool(&[3], vec![true, false, false]),
            );
            check(kind).input("x", x).input("y", y).out(DType::Bool).gives(&[3], &want);
        }
    }

    #[test]
    fn shapes_stretch() {
        let (x, y) = (floats(&[2, 1], &[1.0, 2.0]), floats(&[3], &[10.0, 20.0, 30.0]));
        check("add")
            .input("x", x)
            .input("y", y)
            .gives(&[2, 3], &[11.0, 21.0, 31.0, 12.0, 22.0, 32.0]);
        let failed = check("add")
            .input("x", floats(&[2], &[0.0; 2]))
            .input("y", floats(&[3], &[0.0; 3]))
            .fails();
        assert_eq!(
            failed,
            "operation `out` (`add`) failed: shapes [2] and [3] do not stretch to one another"
        );
    }

    #[test]
    fn fp16_results_overflow_as_on_a_device() {
        let x = || floats(&[2], &[60_000.0, 1.0]);
        let y = || floats(&[2], &[60_000.0, 0.0004]);
        check("add")
            .input("x", x())
            .input("y", y())
            .out(DType::F16)
            .gives(&[2], &[f32::INFINITY, 1.0]);
        check("add")
            .input("x", x())
            .input("y", y())
            .out(DType::F16)
            .unrounded()
            .gives(&[2], &[120_000.0, 1.0004]);
    }

    #[test]
    fn selects() {
        let cond = Tensor::bool(&[2, 1], vec![true, false]);
        let (a, b) = (floats(&[2], &[1.0, 2.0]), floats(&[], &[9.0]));
        check("select")
            .input("cond", cond)
            .input("a", a)
            .input("b", b)
            .gives(&[2, 2], &[1.0, 2.0, 9.0, 9.0]);
    }
}
