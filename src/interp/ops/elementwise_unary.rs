//! Elementwise functions of one tensor: `exp`, `rsqrt`, `cast` and the like.

use super::map_f32;
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::simd;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Slice, Tensor, wrap};
use crate::mil::DType;

type Built = Result<Kernel, OpError>;

fn floats(site: &OpContext<'_, '_>, f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| map_f32(run, &x, &f)))
}

/// The same for whole numbers, where the operation takes them.
fn numbers(
    site: &OpContext<'_, '_>,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
    i: impl Fn(i32) -> i32 + Send + Sync + 'static,
) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        match t.as_i32() {
            Some(v) => Ok(t.with_i32(t.shape().to_vec(), v.iter().map(|&v| i(v)).collect())),
            None => map_f32(run, &x, &f),
        }
    }))
}

/// |x|.
pub(super) fn abs(site: &OpContext<'_, '_>) -> Built {
    numbers(site, f32::abs, i32::wrapping_abs)
}

/// Inverse cosine.
pub(super) fn acos(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::acos)
}

/// Inverse sine.
pub(super) fn asin(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::asin)
}

/// Inverse tangent.
pub(super) fn atan(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::atan)
}

/// Inverse hyperbolic tangent.
pub(super) fn atanh(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::atanh)
}

/// The next whole number above.
pub(super) fn ceil(site: &OpContext<'_, '_>) -> Built {
    numbers(site, f32::ceil, |v| v)
}

/// min(max(x, alpha), beta).
pub(super) fn clip(site: &OpContext<'_, '_>) -> Built {
    let (alpha, beta) = (site.float("alpha", None)?, site.float("beta", None)?);
    // NaN stays NaN; `clamp` would panic on bounds in the wrong order.
    numbers(
        site,
        move |v| {
            if v < alpha {
                alpha.min(beta)
            } else if v > beta {
                beta
            } else {
                v
            }
        },
        move |v| v.max(alpha as i32).min(beta as i32),
    )
}

/// Cosine.
pub(super) fn cos(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::cos)
}

/// Hyperbolic cosine.
pub(super) fn cosh(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::cosh)
}

/// The error function.
pub(super) fn erf(site: &OpContext<'_, '_>) -> Built {
    floats(site, |v| libm::erf(f64::from(v)) as f32)
}

/// eˣ.
pub(super) fn exp(site: &OpContext<'_, '_>) -> Built {
    floats(site, simd::exp)
}

/// 2ˣ.
pub(super) fn exp2(site: &OpContext<'_, '_>) -> Built {
    numbers(site, f32::exp2, |v| 2_f64.powi(v) as i32)
}

/// The next whole number below.
pub(super) fn floor(site: &OpContext<'_, '_>) -> Built {
    numbers(site, f32::floor, |v| v)
}

/// 1 / (x + epsilon).
pub(super) fn inverse(site: &OpContext<'_, '_>) -> Built {
    let epsilon = site.float("epsilon", Some(1e-4))?;
    floats(site, move |v| 1.0 / (v + epsilon))
}

/// ln(x + epsilon).
pub(super) fn log(site: &OpContext<'_, '_>) -> Built {
    let epsilon = site.float("epsilon", Some(1e-45))?;
    floats(site, move |v| (v + epsilon).ln())
}

/// Not.
pub(super) fn logical_not(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        Ok(Tensor::bool(t.shape(), t.bools()?.iter().map(|b| !b).collect()))
    }))
}

/// The nearest whole number, ties to even.
pub(super) fn round(site: &OpContext<'_, '_>) -> Built {
    numbers(site, f32::round_ties_even, |v| v)
}

/// 1 / √(x + epsilon).
pub(super) fn rsqrt(site: &OpContext<'_, '_>) -> Built {
    let epsilon = site.float("epsilon", Some(1e-12))?;
    floats(site, move |v| (1.0 / f64::from(v + epsilon).sqrt()) as f32)
}

/// −1, 0 or 1.
pub(super) fn sign(site: &OpContext<'_, '_>) -> Built {
    numbers(site, |v| if v == 0.0 || v.is_nan() { v } else { v.signum() }, i32::signum)
}

/// Sine.
pub(super) fn sin(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::sin)
}

/// Hyperbolic sine.
pub(super) fn sinh(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::sinh)
}

/// √x.
pub(super) fn sqrt(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::sqrt)
}

/// x².
pub(super) fn square(site: &OpContext<'_, '_>) -> Built {
    numbers(site, |v| v * v, |v| v.wrapping_mul(v))
}

/// Tangent.
pub(super) fn tan(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::tan)
}

/// Hyperbolic tangent.
pub(super) fn tanh(site: &OpContext<'_, '_>) -> Built {
    floats(site, f32::tanh)
}

/// max(x, alpha).
pub(super) fn threshold(site: &OpContext<'_, '_>) -> Built {
    let alpha = site.float("alpha", None)?;
    numbers(site, move |v| v.max(alpha), move |v| v.max(alpha as i32))
}

/// Another element type: floats lose their fraction, what a type cannot hold becomes its nearest value.
pub(super) fn cast(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let name = site.text("dtype")?.ok_or_else(|| OpError::Missing("dtype".to_owned()))?;
    let to = DType::from_name(&name)
        .filter(|t| *t != DType::Str)
        .ok_or_else(|| OpError::Unsupported(format!("dtype `{name}`")))?;
    Ok(Kernel::one(move |run| Ok(cast_to(run.get(&x), to))))
}

fn cast_to(t: &Tensor, to: DType) -> Tensor {
    let shape = t.shape();
    // Towards zero; what int32 does not hold saturates, what a narrower type does not hold wraps around.
    let whole = |v: f64| wrap(v as i32, to);
    match (t.storage(), to) {
        (_, to) if t.dtype() == to => t.clone(),
        (Slice::F32(_) | Slice::F16(_), float) if float.is_float() => {
            // Left to the rounding of the result; a narrower tag would pass unrounded values.
            t.clone().tagged(DType::F32)
        }
        (Slice::F32(v), DType::Bool) => Tensor::bool(shape, v.iter().map(|&v| v != 0.0).collect()),
        (Slice::F16(v), DType::Bool) => {
            Tensor::bool(shape, v.iter().map(|v| v.to_f32() != 0.0).collect())
        }
        (Slice::I32(v), DType::Bool) => Tensor::bool(shape, v.iter().map(|&v| v != 0).collect()),
        (Slice::F32(v), _) => {
            Tensor::i32(shape, v.iter().map(|&v| whole(f64::from(v))).collect()).tagged(to)
        }
        (Slice::F16(v), _) => {
            Tensor::i32(shape, v.iter().map(|v| whole(v.to_f64())).collect()).tagged(to)
        }
        (Slice::I32(v), float) if float.is_float() => {
            Tensor::f32(shape, v.iter().map(|&v| v as f32).collect())
        }
        (Slice::I32(v), _) => {
            Tensor::i32(shape, v.iter().map(|&v| wrap(v, to)).collect()).tagged(to)
        }
        (Slice::Bool(v), float) if float.is_float() => {
            Tensor::f32(shape, v.iter().map(|&v| f32::from(u8::from(v))).collect())
        }
        (Slice::Bool(v), _) => {
            Tensor::i32(shape, v.iter().map(|&v| i32::from(v)).collect()).tagged(to)
        }
        (Slice::Str(_), _) => t.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};

    /// Operation, constant parameters, x, result.
    type Case = (&'static str, &'static [(&'static str, f32)], &'static [f32], &'static [f32]);

    #[test]
    fn values() {
        let cases: &[Case] = &[
            ("abs", &[], &[-1.5, 2.0], &[1.5, 2.0]),
            ("acos", &[], &[0.0], &[1.570_796_4]),
            ("asin", &[], &[1.0], &[1.570_796_4]),
            ("atan", &[], &[1.0], &[std::f32::consts::FRAC_PI_4]),
            ("atanh", &[], &[0.5], &[0.549_306_1]),
            ("ceil", &[], &[1.2, -1.2], &[2.0, -1.0]),
            ("clip", &[("alpha", -1.0), ("beta", 1.0)], &[-3.0, 0.5, 3.0], &[-1.0, 0.5, 1.0]),
            ("cos", &[], &[1.0], &[0.540_302_3]),
            ("cosh", &[], &[1.0], &[1.543_080_7]),
            ("erf", &[], &[0.5], &[0.520_499_9]),
            ("exp", &[], &[1.0], &[std::f32::consts::E]),
            ("exp2", &[], &[3.0], &[8.0]),
            ("floor", &[], &[1.2, -1.2], &[1.0, -2.0]),
            ("inverse", &[("epsilon", 0.0)], &[4.0], &[0.25]),
            ("log", &[("epsilon", 0.0)], &[1.0, 0.0], &[0.0, f32::NEG_INFINITY]),
            ("round", &[], &[0.5, 1.5, -2.5], &[0.0, 2.0, -2.0]),
            ("rsqrt", &[("epsilon", 0.0)], &[4.0, 16.0], &[0.5, 0.25]),
            ("sign", &[], &[-3.0, 0.0, 2.0], &[-1.0, 0.0, 1.0]),
            ("sin", &[], &[1.0], &[0.841_471]),
            ("sinh", &[], &[1.0], &[1.175_201_2]),
            ("sqrt", &[], &[2.25], &[1.5]),
            ("square", &[], &[-3.0], &[9.0]),
            ("tan", &[], &[1.0], &[1.557_407_7]),
            ("tanh", &[], &[1.0], &[0.761_594_2]),
            ("threshold", &[("alpha", 1.0)], &[0.0, 2.0], &[1.0, 2.0]),
        ];
        for (kind, parameters, x, want) in cases {
            check(kind)
                .input("x", floats(&[x.len()], x))
                .floats_const(parameters)
                .gives(&[want.len()], want);
        }
    }

    #[test]
    fn casts() {
        let cases: &[(&str, DType, &[f32], &[f32])] = &[
            ("int32", DType::I32, &[1.9, -1.9, 1e12], &[1.0, -1.0, 2_147_483_647.0]),
            ("int8", DType::I8, &[200.0, -200.0], &[-56.0, 56.0]),
            ("uint8", DType::U8, &[300.0, -1.0], &[44.0, 255.0]),
            ("bool", DType::Bool, &[0.0, 0.5, -1.0], &[0.0, 1.0, 1.0]),
            ("fp16", DType::F16, &[2049.0, 70_000.0], &[2048.0, f32::INFINITY]),
        ];
        for (name, dtype, x, want) in cases {
            check("cast")
                .input("x", floats(&[x.len()], x))
                .text("dtype", name)
                .out(*dtype)
                .gives(&[want.len()], want);
        }
        let ints = Tensor::i32(&[2], vec![-1, 3]);
        check("cast").input("x", ints.clone()).text("dtype", "fp32").gives(&[2], &[-1.0, 3.0]);
        check("cast")
            .input("x", ints)
            .text("dtype", "uint16")
            .out(DType::U16)
            .gives(&[2], &[65535.0, 3.0]);
        let bools = Tensor::bool(&[2], vec![true, false]);
        check("cast")
            .input("x", bools)
            .text("dtype", "fp16")
            .out(DType::F16)
            .gives(&[2], &[1.0, 0.0]);
    }

    #[test]
    fn whole_numbers_and_booleans() {
        let x = || Tensor::i32(&[2], vec![-3, 2]);
        check("abs").input("x", x()).out(DType::I32).gives(&[2], &[3.0, 2.0]);
        check("square").input("x", x()).out(DType::I32).gives(&[2], &[9.0, 4.0]);
        check("sign").input("x", x()).out(DType::I32).gives(&[2], &[-1.0, 1.0]);
        let b = Tensor::bool(&[2], vec![true, false]);
        check("logical_not").input("x", b).out(DType::Bool).gives(&[2], &[0.0, 1.0]);
    }

    #[test]
    fn results_are_rounded_to_the_declared_type() {
        check("exp")
            .input("x", floats(&[2], &[1.0, 12.0]))
            .out(DType::F16)
            .gives(&[2], &[2.718_75, f32::INFINITY]);
    }
}
