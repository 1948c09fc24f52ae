//! `conv`: 1-D, 2-D and 3-D convolution; kernels of one place are products with the stored weight.

use candle_core::{Device, Tensor as Candle};

use crate::interp::error::OpError;
use crate::interp::kernel::product::{self, Columns};
use crate::interp::run::{In, Kernel, Run};
use crate::interp::site::Site;
use crate::interp::stored::{Shared, Stored, expand, of_tensor};
use crate::interp::tensor::Tensor;

type Built = Result<Kernel, OpError>;

/// The parameters, one number per spatial dimension.
#[derive(Debug, Clone)]
struct Geometry {
    strides: Vec<usize>,
    dilations: Vec<usize>,
    groups: usize,
    padding: Padding,
}

#[derive(Debug, Clone)]
enum Padding {
    /// Before and after each dimension.
    Custom(Vec<(usize, usize)>),
    /// The result has ⌈n / stride⌉ places; what is uneven goes after, or before.
    Same { more_before: bool },
}

/// x ⋆ weight + bias, with weight stored `[out, in / groups, kernel..]`.
pub(super) fn conv(site: &Site<'_, '_>) -> Built {
    let x = site.input("x")?;
    let weight = site.stored("weight")?;
    let dynamic = if weight.is_none() { Some(site.input("weight")?) } else { None };
    let bias = site.optional("bias")?;
    let out_rank =
        site.op.outputs.first().and_then(|o| o.ty.as_tensor()).map_or(0, |t| t.shape.len());
    let spatial =
        out_rank.checked_sub(2).ok_or_else(|| OpError::invalid("a result without channels"))?;
    let geometry = geometry(site, spatial)?;
    Ok(Kernel::one(move |run| {
        let weight = match (&weight, &dynamic) {
            (Some(weight), _) => Shared::clone(weight),
            (None, Some(weight)) => of_tensor(run.get(weight).clone()),
            (None, None) => return Err(OpError::Missing("weight".to_owned())),
        };
        let bias = bias.as_ref().map(|b| run.get(b).f32s()).transpose()?;
        convolve(run, &x, &*weight, bias.as_deref(), &geometry)
    }))
}

fn geometry(site: &Site<'_, '_>, spatial: usize) -> Result<Geometry, OpError> {
    let per_dim = |parameter: &str| -> Result<Vec<usize>, OpError> {
        let given = site.ints(parameter)?.unwrap_or_else(|| vec![1; spatial]);
        let sizes = super::extents(&given)?;
        if sizes.len() == spatial && !sizes.contains(&0) {
            Ok(sizes)
        } else {
            Err(OpError::invalid(format!("{parameter} {given:?} for {spatial} dimensions")))
        }
    };
    let padding = match site.text("pad_type")?.as_deref().unwrap_or("valid") {
        "valid" => Padding::Custom(vec![(0, 0); spatial]),
        "custom" => {
            let pad = super::extents(&site.ints("pad")?.unwrap_or_else(|| vec![0; 2 * spatial]))?;
            let (pairs, rest) = pad.as_chunks::<2>();
            if pairs.len() != spatial || !rest.is_empty() {
                return Err(OpError::invalid(format!("pad {pad:?} for {spatial} dimensions")));
            }
            Padding::Custom(pairs.iter().map(|&[before, after]| (before, after)).collect())
        }
        "same" => Padding::Same { more_before: false },
        "same_lower" => Padding::Same { more_before: true },
        other => return Err(OpError::Unsupported(format!("pad_type `{other}`"))),
    };
    let groups = usize::try_from(site.int("groups", Some(1))?).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| OpError::invalid("groups below 1"))?;
    Ok(Geometry { strides: per_dim("strides")?, dilations: per_dim("dilations")?, groups, padding })
}

fn convolve(
    run: &Run<'_>,
    x: &In,
    weight: &dyn Stored,
    bias: Option<&[f32]>,
    geometry: &Geometry,
) -> Result<Tensor, OpError> {
    let x = run.get(x);
    let unfit = || {
        let (x, w, g) = (x.shape(), weight.shape(), geometry.groups);
        OpError::invalid(format!("shapes {x:?} and {w:?} with {g} groups do not convolve"))
    };
    let ([batch, channels, size @ ..], [n, depth, kernel @ ..]) = (x.shape(), weight.shape())
    else {
        return Err(unfit());
    };
    let same_rank = size.len() == kernel.len() && size.len() == geometry.strides.len();
    if !same_rank
        || *channels != depth * geometry.groups
        || n % geometry.groups != 0
        || bias.is_some_and(|b| b.len() != *n)
    {
        return Err(unfit());
    }
    let pads = pads(size, kernel, geometry);
    let mut places = Vec::new();
    for (i, (&s, &k)) in size.iter().zip(kernel).enumerate() {
        let span = (k - 1) * geometry.dilations[i] + 1;
        let padded = s + pads[i].0 + pads[i].1;
        places.push(padded.checked_sub(span).ok_or_else(unfit)? / geometry.strides[i] + 1);
    }
    let shape: Vec<usize> = [*batch, *n].into_iter().chain(places.iter().copied()).collect();
    let values = x.f32s()?;
    let t: usize = places.iter().product();
    let pointwise = kernel.iter().all(|&k| k == 1)
        && geometry.groups == 1
        && geometry.strides.iter().all(|&s| s == 1)
        && pads.iter().all(|&p| p == (0, 0));
    let mut out = if pointwise {
        let mut out = vec![0.0; batch * n * t];
        for (x, out) in values.chunks(channels * t).zip(out.chunks_mut(n * t)) {
            let columns = Columns { data: x, t, k_stride: t, t_stride: 1 };
            product::rows(weight, (*n, *channels), &columns, out);
        }
        out
    } else {
        let weight = expand(weight);
        let weight = weight.f32s()?;
        match with_candle(&values, x.shape(), &weight, (*n, *depth, kernel), &pads, geometry)? {
            Some(out) => out,
            None => {
                plain(&values, x.shape(), &weight, (*n, *depth, kernel), &pads, geometry, &places)
            }
        }
    };
    if let Some(bias) = bias {
        for (i, out) in out.chunks_mut(t.max(1)).enumerate() {
            for v in out {
                *v += bias[i % n];
            }
        }
    }
    Ok(Tensor::f32(&shape, out))
}

fn pads(size: &[usize], kernel: &[usize], geometry: &Geometry) -> Vec<(usize, usize)> {
    let Padding::Same { more_before } = geometry.padding else {
        let Padding::Custom(pads) = &geometry.padding else { unreachable!("one of two") };
        return pads.clone();
    };
    let one = |i: usize| {
        let (stride, span) = (geometry.strides[i], (kernel[i] - 1) * geometry.dilations[i] + 1);
        let total = ((size[i].div_ceil(stride) - 1) * stride + span).saturating_sub(size[i]);
        let (less, more) = (total / 2, total - total / 2);
        if more_before { (more, less) } else { (less, more) }
    };
    (0..size.len()).map(one).collect()
}

/// The convolution by candle, where it has one of this form: even padding and the same numbers on each axis.
fn with_candle(
    x: &[f32],
    shape: &[usize],
    weight: &[f32],
    (n, depth, kernel): (usize, usize, &[usize]),
    pads: &[(usize, usize)],
    geometry: &Geometry,
) -> Result<Option<Vec<f32>>, OpError> {
    let uniform = |v: &[usize]| v.windows(2).all(|w| w[0] == w[1]);
    let even = pads.iter().all(|&(before, after)| before == after && before == pads[0].0);
    let fits =
        matches!(kernel.len(), 1 | 2) && uniform(&geometry.strides) && uniform(&geometry.dilations);
    if !even || !fits {
        return Ok(None);
    }
    let weight_shape: Vec<usize> = [n, depth].into_iter().chain(kernel.iter().copied()).collect();
    let x = Candle::from_slice(x, shape, &Device::Cpu)?;
    let w = Candle::from_slice(weight, weight_shape, &Device::Cpu)?;
    let (pad, stride, dilation) = (pads[0].0, geometry.strides[0], geometry.dilations[0]);
    let out = if kernel.len() == 1 {
        x.conv1d(&w, pad, stride, dilation, geometry.groups)?
    } else {
        x.conv2d(&w, pad, stride, dilation, geometry.groups)?
    };
    Ok(Some(out.flatten_all()?.to_vec1()?))
}

/// The definition, for every rank and every padding.
fn plain(
    x: &[f32],
    shape: &[usize],
    weight: &[f32],
    (n, depth, kernel): (usize, usize, &[usize]),
    pads: &[(usize, usize)],
    geometry: &Geometry,
    places: &[usize],
) -> Vec<f32> {
    let [batch, channels, size @ ..] = shape else { return Vec::new() };
    let (t, taps): (usize, usize) = (places.iter().product(), kernel.iter().product());
    let area: usize = size.iter().product();
    let unflatten = |mut at: usize, dims: &[usize]| {
        let mut out = vec![0; dims.len()];
        for (o, &d) in out.iter_mut().zip(dims).rev() {
            *o = at % d;
            at /= d;
        }
        out
    };
    let taps: Vec<Vec<usize>> = (0..taps).map(|i| unflatten(i, kernel)).collect();
    let mut out = Vec::with_capacity(batch * n * t);
    for b in 0..*batch {
        for c in 0..n {
            let first = c / (n / geometry.groups) * depth;
            for place in 0..t {
                let place = unflatten(place, places);
                let mut sum = 0.0_f64;
                for (j, tap) in taps.iter().enumerate() {
                    let mut at = 0;
                    let inside = (0..size.len()).all(|i| {
                        let p = place[i] * geometry.strides[i] + tap[i] * geometry.dilations[i];
                        let p = p.wrapping_sub(pads[i].0);
                        at = at * size[i] + p.min(size[i]);
                        p < size[i]
                    });
                    if inside {
                        for d in 0..depth {
                            let w = weight[(c * depth + d) * taps.len() + j];
                            sum +=
                                f64::from(w) * f64::from(x[(b * channels + first + d) * area + at]);
                        }
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{check, floats};

    #[test]
    fn one_place_two_dims_and_uneven_padding() {
        let x = || floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let point = floats(&[1, 2, 1], &[1.0, 10.0]);
        check("conv").input("x", x()).constant("weight", &point).gives(&[1, 1, 2], &[31.0, 42.0]);
        let w = floats(&[1, 2, 2], &[1.0, 1.0, 1.0, 1.0]);
        let bias = floats(&[1], &[0.5]);
        check("conv")
            .input("x", x())
            .constant("weight", &w)
            .constant("bias", &bias)
            .gives(&[1, 1, 1], &[10.5]);
        check("conv")
            .input("x", x())
            .constant("weight", &w)
            .text("pad_type", "same")
            .gives(&[1, 1, 2], &[10.0, 6.0]);
        check("conv")
            .input("x", x())
            .constant("weight", &w)
            .text("pad_type", "same_lower")
            .gives(&[1, 1, 2], &[4.0, 10.0]);
        check("conv")
            .input("x", x())
            .constant("weight", &w)
            .text("pad_type", "custom")
            .ints("pad", &[0, 2])
            .ints("strides", &[2])
            .gives(&[1, 1, 2], &[10.0, 0.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn candle_as_the_definition(rank in 1_usize..3, size in 3_usize..7, kernel in 1_usize..4, stride in 1_usize..3, dilation in 1_usize..3, pad in 0_usize..3, groups in 1_usize..3, depth in 1_usize..3) {
            prop_assume!(size + 2 * pad > (kernel - 1) * dilation);
            let n = 2 * groups;
            let shape: Vec<usize> = [2, depth * groups].into_iter().chain(vec![size; rank]).collect();
            let kernels = vec![kernel; rank];
            let x: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i * 7 % 11) as f32 - 5.0).collect();
            let w: Vec<f32> = (0..n * depth * kernel.pow(rank as u32)).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
            let geometry = Geometry { strides: vec![stride; rank], dilations: vec![dilation; rank], groups, padding: Padding::Custom(vec![]) };
            let pads = vec![(pad, pad); rank];
            let places = vec![(size + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; rank];
            let quick = with_candle(&x, &shape, &w, (n, depth, &kernels), &pads, &geometry).unwrap().unwrap();
            prop_assert_eq!(quick, plain(&x, &shape, &w, (n, depth, &kernels), &pads, &geometry, &places));
        }
    }
}
