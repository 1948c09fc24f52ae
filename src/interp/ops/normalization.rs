//! `layer_norm`, `l2_norm`, `batch_norm`: sums in f64, one rounding at the end.

use rayon::prelude::*;

use super::axes;
use crate::interp::error::OpError;
use crate::interp::kernel::strided::{around, transpose};
use crate::interp::run::Kernel;
use crate::interp::site::Site;
use crate::interp::tensor::Tensor;

type Built = Result<Kernel, OpError>;

/// (x − mean) / √(variance + epsilon) · gamma + beta over some axes.
pub(super) fn layer_norm(site: &Site<'_, '_>) -> Built {
    let x = site.input("x")?;
    let over = site.ints("axes")?;
    let epsilon = f64::from(site.float("epsilon", Some(1e-5))?);
    let constant = |parameter: &str| -> Result<Option<Vec<f32>>, OpError> {
        site.constant(parameter)?.map(|t| Ok(t.f32s()?.into_owned())).transpose()
    };
    let (gamma, beta) = (constant("gamma")?, constant("beta")?);
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
pub(super) fn l2_norm(site: &Site<'_, '_>) -> Built {
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
pub(super) fn batch_norm(site: &Site<'_, '_>) -> Built {
    let x = site.input("x")?;
    let epsilon = f64::from(site.float("epsilon", Some(1e-5))?);
    let constant = |parameter: &str| -> Result<Option<Vec<f32>>, OpError> {
        site.constant(parameter)?.map(|t| Ok(t.f32s()?.into_owned())).transpose()
    };
    let required = |parameter: &str| {
        constant(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))
    };
    let (mean, variance) = (required("mean")?, required("variance")?);
    let (gamma, beta) = (constant("gamma")?, constant("beta")?);
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
        let (_, _, after) = around(&shape, 1);
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

#[cfg(test)]
mod tests {
    use crate::interp::testing::{check, floats};

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
