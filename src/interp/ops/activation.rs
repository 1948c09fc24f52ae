//! Activations: `relu`, `gelu`, `silu`, `softmax` and their kin, computed in f32.

use rayon::prelude::*;

use super::{axis, map_f32};
use crate::interp::error::OpError;
use crate::interp::exec::{Kernel, Operand};
use crate::interp::kernel::simd::exp;
use crate::interp::kernel::softmax::softmax as softmax_row;
use crate::interp::kernel::strided::{split_at_axis, transpose};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::Tensor;

type Built = Result<Kernel, OpError>;

fn each(site: &OpContext<'_, '_>, f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| map_f32(run, &x, &f)))
}

/// 1 / (1 + e^−x).
#[inline]
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// max(x, 0).
pub(super) fn relu(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        if let Some(ints) = t.as_i32() {
            return Ok(t.with_i32(t.shape().to_vec(), ints.iter().map(|&i| i.max(0)).collect()));
        }
        // NaN stays NaN.
        map_f32(run, &x, |v| if v < 0.0 { 0.0 } else { v })
    }))
}

/// min(max(x, 0), 6).
pub(super) fn relu6(site: &OpContext<'_, '_>) -> Built {
    each(site, |v| v.clamp(0.0, 6.0))
}

/// x ≥ 0 ? min(beta, x) : min(beta, alpha·x).
pub(super) fn clamped_relu(site: &OpContext<'_, '_>) -> Built {
    let (alpha, beta) = (site.float("alpha", None)?, site.float("beta", None)?);
    each(site, move |v| beta.min(if v >= 0.0 { v } else { alpha * v }))
}

/// x < 0 ? alpha·(eˣ − 1) : x.
pub(super) fn elu(site: &OpContext<'_, '_>) -> Built {
    let alpha = site.float("alpha", Some(1.0))?;
    each(site, move |v| if v < 0.0 { alpha * v.exp_m1() } else { v })
}

/// x·Φ(x), exactly or by one of two approximations.
pub(super) fn gelu(site: &OpContext<'_, '_>) -> Built {
    let mode = site.text("mode")?;
    match mode.as_deref().unwrap_or("EXACT") {
        "EXACT" => each(site, |v| {
            let x = f64::from(v);
            (0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
        }),
        "TANH_APPROXIMATION" => each(site, |v| {
            let x = f64::from(v);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            (0.5 * x * (1.0 + inner.tanh())) as f32
        }),
        "SIGMOID_APPROXIMATION" => each(site, |v| v * logistic(1.702 * v)),
        other => Err(OpError::Unsupported(format!("mode `{other}`"))),
    }
}

/// x < 0 ? alpha·x : x.
pub(super) fn leaky_relu(site: &OpContext<'_, '_>) -> Built {
    let alpha = site.float("alpha", Some(0.01))?;
    each(site, move |v| if v < 0.0 { alpha * v } else { v })
}

/// alpha·x + beta.
pub(super) fn linear_activation(site: &OpContext<'_, '_>) -> Built {
    let (alpha, beta) = (site.float("alpha", Some(1.0))?, site.float("beta", Some(0.0))?);
    each(site, move |v| alpha * v + beta)
}

/// `leaky_relu` with an alpha for each channel (axis 1).
pub(super) fn prelu(site: &OpContext<'_, '_>) -> Built {
    let alpha = per_channel(site, "alpha")?;
    channels(site, move |c, v| if v < 0.0 { alpha[c % alpha.len()] * v } else { v })
}

/// alpha·tanh(beta·x).
pub(super) fn scaled_tanh(site: &OpContext<'_, '_>) -> Built {
    let (alpha, beta) = (site.float("alpha", Some(1.0))?, site.float("beta", Some(1.0))?);
    each(site, move |v| alpha * (beta * v).tanh())
}

/// 1 / (1 + e^−x).
pub(super) fn sigmoid(site: &OpContext<'_, '_>) -> Built {
    each(site, logistic)
}

/// min(max(alpha·x + beta, 0), 1).
pub(super) fn sigmoid_hard(site: &OpContext<'_, '_>) -> Built {
    let (alpha, beta) = (site.float("alpha", Some(0.2))?, site.float("beta", Some(0.5))?);
    each(site, move |v| (alpha * v + beta).clamp(0.0, 1.0))
}

/// x·sigmoid(x).
pub(super) fn silu(site: &OpContext<'_, '_>) -> Built {
    each(site, |v| v * logistic(v))
}

fn log1p_exp(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// ln(1 + eˣ).
pub(super) fn softplus(site: &OpContext<'_, '_>) -> Built {
    each(site, log1p_exp)
}

/// alpha·ln(1 + e^(beta·x)) with alpha and beta for each channel (axis 1).
pub(super) fn softplus_parametric(site: &OpContext<'_, '_>) -> Built {
    let (alpha, beta) = (per_channel(site, "alpha")?, per_channel(site, "beta")?);
    channels(site, move |c, v| alpha[c % alpha.len()] * log1p_exp(beta[c % beta.len()] * v))
}

/// x / (1 + |x|).
pub(super) fn softsign(site: &OpContext<'_, '_>) -> Built {
    each(site, |v| v / (1.0 + v.abs()))
}

/// x ≥ alpha ? x : 0.
pub(super) fn thresholded_relu(site: &OpContext<'_, '_>) -> Built {
    let alpha = site.float("alpha", Some(1.0))?;
    each(site, move |v| if v >= alpha { v } else { 0.0 })
}

/// eˣ / Σ eˣ along one axis.
pub(super) fn softmax(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let along = site.int("axis", Some(-1))?;
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let shape = t.shape().to_vec();
        let along = axis(along, shape.len())?;
        let mut values = t.into_f32s()?;
        let (_, n, after) = split_at_axis(&shape, along);
        if n == 0 || after == 0 {
            return Ok(Tensor::f32(&shape, values));
        }
        if after == 1 {
            values.par_chunks_mut(n).for_each(softmax_row);
            return Ok(Tensor::f32(&shape, values));
        }
        let before = values.len() / (n * after);
        let mut turned = transpose(&values, &[before, n, after], &[0, 2, 1]);
        turned.par_chunks_mut(n).for_each(softmax_row);
        Ok(Tensor::f32(&shape, transpose(&turned, &[before, after, n], &[0, 2, 1])))
    }))
}

fn per_channel(site: &OpContext<'_, '_>, parameter: &str) -> Result<Vec<f32>, OpError> {
    let tensor = site.constant(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))?;
    let values = tensor.f32s()?.into_owned();
    if values.is_empty() {
        return Err(OpError::invalid(format!("parameter `{parameter}` is empty")));
    }
    Ok(values)
}

fn channels(
    site: &OpContext<'_, '_>,
    f: impl Fn(usize, f32) -> f32 + Send + Sync + 'static,
) -> Built {
    let x: Operand = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let shape = t.shape().to_vec();
        let (_, n, after) = split_at_axis(&shape, axis(1, shape.len())?);
        let mut values = t.into_f32s()?;
        for (i, run) in values.chunks_mut(after.max(1)).enumerate() {
            for v in run {
                *v = f(i % n.max(1), *v);
            }
        }
        Ok(Tensor::f32(&shape, values))
    }))
}

#[cfg(test)]
mod tests {
    use crate::interp::testing::{check, floats};

    /// Operation, constant parameters, x, result.
    type Case = (&'static str, &'static [(&'static str, f32)], &'static [f32], &'static [f32]);

    #[test]
    fn values() {
        let cases: &[Case] = &[
            ("relu", &[], &[-1.0, 0.5], &[0.0, 0.5]),
            ("relu6", &[], &[-1.0, 0.5, 7.0], &[0.0, 0.5, 6.0]),
            (
                "clamped_relu",
                &[("alpha", 0.5), ("beta", 2.0)],
                &[-1.0, 1.0, 3.0],
                &[-0.5, 1.0, 2.0],
            ),
            ("elu", &[("alpha", 2.0)], &[-1.0, 1.0], &[-1.264_241_1, 1.0]),
            ("gelu", &[], &[-1.0, 0.0, 1.0, 3.0], &[-0.158_655_25, 0.0, 0.841_344_7, 2.995_950_2]),
            ("leaky_relu", &[("alpha", 0.5)], &[-1.0, 1.0], &[-0.5, 1.0]),
            ("linear_activation", &[("alpha", 2.0), ("beta", 1.0)], &[-1.0, 1.0], &[-1.0, 3.0]),
            ("scaled_tanh", &[("alpha", 2.0), ("beta", 0.5)], &[1.0], &[0.924_234_3]),
            ("sigmoid", &[], &[0.0, 1.0], &[0.5, 0.731_058_6]),
            (
                "sigmoid_hard",
                &[("alpha", 1.0), ("beta", 0.5)],
                &[-1.0, 0.25, 1.0],
                &[0.0, 0.75, 1.0],
            ),
            ("silu", &[], &[-1.0, 1.0], &[-0.268_941_4, 0.731_058_6]),
            ("softmax", &[], &[0.0, 0.0, std::f32::consts::LN_2], &[0.25, 0.25, 0.5]),
            ("softplus", &[], &[0.0, 100.0], &[std::f32::consts::LN_2, 100.0]),
            ("softsign", &[], &[-1.0, 3.0], &[-0.5, 0.75]),
            ("thresholded_relu", &[("alpha", 1.0)], &[0.5, 1.0, 2.0], &[0.0, 1.0, 2.0]),
        ];
        for (kind, parameters, x, want) in cases {
            check(kind)
                .input("x", floats(&[x.len()], x))
                .floats_const(parameters)
                .gives(&[want.len()], want);
        }
    }

    #[test]
    fn gelu_modes() {
        for (mode, want) in
            [("TANH_APPROXIMATION", 0.841_192), ("SIGMOID_APPROXIMATION", 0.845_795_7)]
        {
            check("gelu").input("x", floats(&[1], &[1.0])).text("mode", mode).gives(&[1], &[want]);
        }
        let failed = check("gelu").input("x", floats(&[1], &[1.0])).text("mode", "GUESS").fails();
        assert!(
            failed.contains("`gelu` (mode `GUESS`) of CoreML8, 1 times, first at `main/out`"),
            "{failed}"
        );
    }

    #[test]
    fn softmax_along_an_inner_axis() {
        let x = floats(&[1, 2, 2], &[0.0, 1.0, 0.0, 1.0]);
        check("softmax").input("x", x).int("axis", 1).gives(&[1, 2, 2], &[0.5; 4]);
    }

    #[test]
    fn parameters_per_channel() {
        let x = || floats(&[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0]);
        let alpha = || floats(&[2], &[0.5, 0.25]);
        check("prelu")
            .input("x", x())
            .constant("alpha", &alpha())
            .gives(&[1, 2, 2], &[-0.5, 1.0, -0.25, 1.0]);
        let beta = floats(&[2], &[0.0, 0.0]);
        let want = [0.346_573_6, 0.346_573_6, 0.173_286_8, 0.173_286_8];
        check("softplus_parametric")
            .input("x", x())
            .constant("alpha", &alpha())
            .constant("beta", &beta)
            .gives(&[1, 2, 2], &want);
    }
}
