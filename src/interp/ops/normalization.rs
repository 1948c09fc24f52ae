//! `layer_norm`, `l2_norm`, `batch_norm`, `instance_norm`, `local_response_norm`: sums in f64, one rounding at the end.

use rayon::prelude::*;

use super::axes;
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::{split_at_axis, transpose};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::Tensor;

type Built = Result<Kernel, OpError>;

/// (x − mean) / √(variance + epsilon) · gamma + beta over some axes.
pub(super) fn layer_norm(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let over = site.ints("axes")?;
    let epsilon = f64::from(site.float("epsilon", Some(1e-5))?);
    let (gamma, beta) = (site.floats("gamma")?, site.floats("beta")?);
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let shape = t.shape().to_vec();
        let rank = shape.len();
        let over = match &over {
            Some(over) => axes(over, rank)?,
            None => (0..rank).collect(),
        };
        // The axes moved to the end, so that what is normalised lies together.
        let kept = (0..rank).filter(|a| !over.contains(a));
        let perm: Vec<usize> = kept.chain(over.iter().copied()).collect();
        let n: usize = over.iter().map(|&a| shape[a]).product();
        for parameter in [&gamma, &beta].into_iter().flatten() {
            if parameter.len() != n {
                let m = parameter.len();
                return Err(OpError::invalid(format!("gamma or beta of {m} elements for {n}")));
            }
        }
        let in_place = perm.is_sorted();
        let values = t.into_f32s()?;
        let mut values = if in_place { values } else { transpose(&values, &shape, &perm) };
        values.par_chunks_mut(n.max(1)).for_each(|row| {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let variance =
                row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (variance + epsilon).sqrt();
            for (i, v) in row.iter_mut().enumerate() {
                let scale = gamma.as_ref().map_or(1.0, |g| f64::from(g[i]));
                let shift = beta.as_ref().map_or(0.0, |b| f64::from(b[i]));
                *v = ((f64::from(*v) - mean) * factor * scale + shift) as f32;
            }
        });
        if in_place {
            return Ok(Tensor::f32(&shape, values));
        }
        let moved: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        let mut back = vec![0; rank];
        perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
        Ok(Tensor::f32(&shape, transpose(&values, &moved, &back)))
    }))
}

/// x / √(Σ x² + epsilon) over the last three dimensions.
pub(super) fn l2_norm(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let epsilon = f64::from(site.float("epsilon", Some(1e-6))?);
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let shape = t.shape().to_vec();
        let n: usize = shape.iter().rev().take(3).product();
        let mut values = t.into_f32s()?;
        values.par_chunks_mut(n.max(1)).for_each(|row| {
            let sum: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
            let factor = 1.0 / (sum + epsilon).sqrt();
            for v in row.iter_mut() {
                *v = (f64::from(*v) * factor) as f32;
            }
        });
        Ok(Tensor::f32(&shape, values))
    }))
}

/// gamma · (x − mean) / √(variance + epsilon) + beta for each channel (axis 1), all of them constant.
pub(super) fn batch_norm(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let epsilon = f64::from(site.float("epsilon", Some(1e-5))?);
    let required = |parameter: &str| {
        site.floats(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))
    };
    let (mean, variance) = (required("mean")?, required("variance")?);
    let (gamma, beta) = (site.floats("gamma")?, site.floats("beta")?);
    let n = mean.len();
    let lengths = [Some(&variance), gamma.as_ref(), beta.as_ref()];
    if lengths.into_iter().flatten().any(|p| p.len() != n) {
        return Err(OpError::invalid("mean, variance, gamma and beta of different lengths"));
    }
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let shape = t.shape().to_vec();
        if shape.get(1) != Some(&n) {
            return Err(OpError::invalid(format!("{n} channels for shape {shape:?}")));
        }
        let (_, _, after) = split_at_axis(&shape, 1);
        let mut values = t.into_f32s()?;
        for (i, run) in values.chunks_mut(after.max(1)).enumerate() {
            let c = i % n;
            let scale = gamma.as_ref().map_or(1.0, |g| f64::from(g[c]))
                / (f64::from(variance[c]) + epsilon).sqrt();
            let shift = beta.as_ref().map_or(0.0, |b| f64::from(b[c]));
            for v in run {
                *v = ((f64::from(*v) - f64::from(mean[c])) * scale + shift) as f32;
            }
        }
        Ok(Tensor::f32(&shape, values))
    }))
}

/// gamma · (x − mean) / √(variance + epsilon) + beta, with mean and variance of each channel of each example.
pub(super) fn instance_norm(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let epsilon = f64::from(site.float("epsilon", Some(1e-5))?);
    let (gamma, beta) = (site.floats("gamma")?, site.floats("beta")?);
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let shape = t.shape().to_vec();
        let &[_, channels, ref size @ ..] = shape.as_slice() else {
            return Err(OpError::invalid(format!("shape {shape:?} has no channels")));
        };
        if let Some(p) = [&gamma, &beta].into_iter().flatten().find(|p| p.len() != channels) {
            let n = p.len();
            return Err(OpError::invalid(format!("gamma or beta of {n} elements for {channels}")));
        }
        let n: usize = size.iter().product();
        let mut values = t.into_f32s()?;
        values.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, plane)| {
            let mean = plane.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let variance =
                plane.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n as f64;
            let of = |p: &Option<Vec<f32>>, or: f64| {
                p.as_ref().map_or(or, |p| f64::from(p[i % channels]))
            };
            let (scale, shift) = (of(&gamma, 1.0) / (variance + epsilon).sqrt(), of(&beta, 0.0));
            for v in plane {
                *v = ((f64::from(*v) - mean) * scale + shift) as f32;
            }
        });
        Ok(Tensor::f32(&shape, values))
    }))
}

/// x / (k + alpha / size · Σ x²)^beta, summed over `size` channels around each; what is uneven comes before.
///
/// Channels are axis 1, but axis 0 of rank 3: so coremltools' own test has it, against the documentation.
pub(super) fn local_response_norm(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let size = site.int("size", None)?;
    let size = usize::try_from(size).ok().filter(|&s| s > 0);
    let size = size.ok_or_else(|| OpError::invalid("a size below 1"))?;
    let number =
        |parameter: &str, default: f32| site.float(parameter, Some(default)).map(f64::from);
    let (alpha, beta, k) = (number("alpha", 1e-4)?, number("beta", 0.75)?, number("k", 1.0)?);
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        if t.rank() < 3 {
            return Err(OpError::invalid(format!("shape {:?} has no channels", t.shape())));
        }
        let (_, channels, area) = split_at_axis(t.shape(), usize::from(t.rank() > 3));
        let values = t.f32s()?;
        let mut out = run.buffer(values.len());
        out.resize(values.len(), 0.0);
        out.par_chunks_mut(area.max(1)).enumerate().for_each(|(i, out)| {
            let c = i % channels;
            let around = i - c.min(size / 2)..i + (channels - c).min((size - 1) / 2 + 1);
            for (j, out) in out.iter_mut().enumerate() {
                let at = |plane: usize| f64::from(values[plane * area + j]);
                let sum: f64 = around.clone().map(|plane| at(plane).powi(2)).sum();
                *out = (at(i) / (k + alpha / size as f64 * sum).powf(beta)) as f32;
            }
        });
        Ok(Tensor::f32(t.shape(), out))
    }))
}

#[cfg(test)]
mod tests {
    use crate::interp::testing::{check, floats};

    /// Values of coremltools' own tests of these operations.
    #[test]
    fn of_each_channel() {
        let x = floats(
            &[1, 3, 2, 2],
            &[-16.0, 13.0, 11.0, 16.0, 13.0, 15.0, 13.0, 9.0, -9.0, 4.0, -6.0, 3.0],
        );
        let c = || check("instance_norm").input("x", x.clone()).floats_const(&[("epsilon", 1e-2)]);
        let plain = [
            -1.715_246_6,
            0.545_760_3,
            0.389_828_74,
            0.779_657_5,
            0.229_174_63,
            1.145_873_2,
            0.229_174_63,
            -1.604_222_4,
            -1.247_021_2,
            1.068_875_3,
            -0.712_583_54,
            0.890_729_4,
        ];
        c().gives(&[1, 3, 2, 2], &plain);
        let scaled = [
            14.637_218,
            -5.711_842,
            -4.308_459,
            -7.816_917_4,
            4.133_359,
            7.066_794,
            4.133_359,
            -1.733_511_6,
            -0.421_127_57,
            2.589_538,
            0.273_641_4,
            2.357_948_3,
        ];
        c().constant("gamma", &floats(&[3], &[-9.0, 3.2, 1.3]))
            .constant("beta", &floats(&[3], &[-0.8, 3.4, 1.2]))
            .gives(&[1, 3, 2, 2], &scaled);
        let failed = c().constant("beta", &floats(&[2], &[0.0; 2])).fails();
        assert!(failed.ends_with("gamma or beta of 2 elements for 3"), "{failed}");
    }

    /// Values of coremltools' own tests of these operations.
    #[test]
    fn of_channels_around() {
        let x = || floats(&[1, 3, 2], &[1.0, -7.0, 5.0, -6.0, -3.0, -5.0]);
        let c = || check("local_response_norm").input("x", x());
        c().int("size", 2).gives(
            &[1, 3, 2],
            &[0.999_962_57, -6.987_165_5, 4.995_317_5, -5.991_913, -2.998_988, -4.995_317_5],
        );
        c().int("size", 3).gives(
            &[1, 3, 2],
            &[0.999_974_97, -6.991_437, 4.996_876_7, -5.994_606, -2.999_325, -4.996_876_7],
        );
        c().int("size", i32::MAX)
            .floats_const(&[("alpha", 0.0), ("k", 2.0), ("beta", 1.0)])
            .gives(&[1, 3, 2], &[0.5, -3.5, 2.5, -3.0, -1.5, -2.5]);
        check("local_response_norm")
            .input("x", floats(&[1, 3, 1, 1], &[1.0, 5.0, -3.0]))
            .int("size", 2)
            .floats_const(&[("alpha", 1.0), ("beta", 1.0)])
            .gives(&[1, 3, 1, 1], &[1.0 / 1.5, 5.0 / 14.0, -3.0 / 18.0]);
        let failed = c().int("size", 0).fails();
        assert!(failed.ends_with("cannot be planned: a size below 1"), "{failed}");
        let failed =
            check("local_response_norm").input("x", floats(&[2], &[0.0; 2])).int("size", 1).fails();
        assert!(failed.ends_with("failed: shape [2] has no channels"), "{failed}");
    }

    #[test]
    fn values() {
        let x = || floats(&[2, 2], &[1.0, 3.0, 10.0, 30.0]);
        let c = || check("layer_norm").input("x", x()).floats_const(&[("epsilon", 0.0)]);
        c().ints("axes", &[-1]).gives(&[2, 2], &[-1.0, 1.0, -1.0, 1.0]);
        c().ints("axes", &[0]).gives(&[2, 2], &[-1.0, -1.0, 1.0, 1.0]);
        let (gamma, beta) = (floats(&[2], &[2.0, 3.0]), floats(&[2], &[0.5, 0.0]));
        c().ints("axes", &[1])
            .constant("gamma", &gamma)
            .constant("beta", &beta)
            .gives(&[2, 2], &[-1.5, 3.0, -1.5, 3.0]);
        check("l2_norm")
            .input("x", floats(&[1, 1, 1, 2], &[3.0, 4.0]))
            .floats_const(&[("epsilon", 0.0)])
            .gives(&[1, 1, 1, 2], &[0.6, 0.8]);
        let c = check("batch_norm")
            .input("x", x())
            .floats_const(&[("epsilon", 0.0)])
            .constant("mean", &floats(&[2], &[1.0, 0.0]));
        c.constant("variance", &floats(&[2], &[4.0, 9.0])).gives(&[2, 2], &[0.0, 1.0, 4.5, 10.0]);
    }
}
