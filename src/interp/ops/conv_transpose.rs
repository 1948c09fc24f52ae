//! `conv_transpose`: each element of the input spreads the weight over the result, in 1, 2 or 3 dimensions.
//!
//! It is the transpose of the convolution whose input is the result here: what a window there reads, it writes here.

use std::borrow::Cow;

use rayon::prelude::*;

use super::conv::{Weight, groups};
use super::extents;
use super::window::{Dim, Windows, three};
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel};
use crate::interp::kernel::gemm::{Matrix, multiply};
use crate::interp::kernel::row::Row;
use crate::interp::op_context::OpContext;
use crate::interp::stored::Stored;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// Elements that are spread at a time, before they are summed.
const SPREAD: usize = 1 << 20;

/// Σ x · weight, with weight stored `[in, out / groups, kernel..]`, + bias.
pub(super) fn conv_transpose(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let weight = Weight::of(site)?;
    let bias = site.optional("bias")?;
    let (windows, groups) = (Windows::of(site)?, groups(site)?);
    let out_shape = site.ints("output_shape")?.map(|s| extents(&s)).transpose()?;
    Ok(Kernel::one(move |run| {
        let weight = weight.get(run);
        let bias = bias.as_ref().map(|b| run.get(b).f32s()).transpose()?;
        let form = (&windows, groups, out_shape.as_deref());
        spread(run, run.get(&x), &*weight, bias.as_deref(), form)
    }))
}

fn spread(
    run: &ExecContext<'_>,
    x: &Tensor,
    weight: &dyn Stored,
    bias: Option<&[f32]>,
    (windows, groups, out_shape): (&Windows, usize, Option<&[usize]>),
) -> Result<Tensor, OpError> {
    let shape_mismatch = || {
        let (x, w) = (x.shape(), weight.shape());
        let to = out_shape.map_or(String::new(), |s| format!(" into shape {s:?}"));
        OpError::invalid(format!("shapes {x:?} and {w:?} with {groups} groups do not spread{to}"))
    };
    let ([batch, channels, size @ ..], [from, n, kernel @ ..]) = (x.shape(), weight.shape()) else {
        return Err(shape_mismatch());
    };
    let all = n.checked_mul(groups).ok_or_else(shape_mismatch)?;
    let out = match out_shape {
        Some([b, c, out @ ..]) if (b, c, out.len()) == (batch, &all, size.len()) => Some(out),
        Some(_) => return Err(shape_mismatch()),
        None => None,
    };
    if size.len() != kernel.len()
        || channels != from
        || channels % groups != 0
        || bias.is_some_and(|b| b.len() != all)
    {
        return Err(shape_mismatch());
    }
    let dims = windows.transposed(size, kernel, out)?;
    let shape: Vec<usize> = [*batch, all].into_iter().chain(dims.iter().map(|d| d.size)).collect();
    let total = elements(&shape)?;
    let mut out = run.buffer(total);
    out.resize(total, 0.0);
    if total > 0 {
        let values = x.f32s()?;
        let weight = if let Some(Row::F32(all)) = weight.run(0, weight.len()) {
            Cow::Borrowed(all)
        } else {
            let mut all = vec![0.0; weight.len()];
            weight.fill(0, &mut all);
            Cow::Owned(all)
        };
        let form =
            Form { weight: &weight, groups, n: *n, depth: channels / groups, dims: three(&dims) };
        form.by_products(&values, &mut out);
        if let Some(bias) = bias {
            let area = form.of_all(|d| d.size);
            for (i, out) in out.chunks_mut(area).enumerate() {
                for v in out {
                    *v += bias[i % all];
                }
            }
        }
    }
    Ok(Tensor::f32(&shape, out))
}

/// What the operation comes to once all shapes are known.
struct Form<'a> {
    weight: &'a [f32],
    groups: usize,
    /// Output channels, and input channels, of a group.
    n: usize,
    depth: usize,
    /// Windows over the result, one place for each element of the input.
    dims: [Dim; 3],
}

impl Form<'_> {
    fn of_all(&self, f: fn(&Dim) -> usize) -> usize {
        self.dims.iter().map(f).product()
    }

    /// For some output channels at a time: what every element of the input gives to every element of its window, as a
    /// product, and then the sums.
    fn by_products(&self, x: &[f32], out: &mut [f32]) {
        let (t, area, taps) =
            (self.of_all(|d| d.places), self.of_all(|d| d.size), self.of_all(|d| d.kernel));
        let (n, depth) = (self.n, self.depth);
        let some = (SPREAD / (taps * t).max(1)).clamp(1, 64.min(n));
        out.par_chunks_mut(n * area).enumerate().for_each(|(i, out)| {
            let x = &x[i * depth * t..][..depth * t];
            let weight = &self.weight[i % self.groups * depth * n * taps..];
            out.par_chunks_mut(some * area).enumerate().for_each(|(j, out)| {
                let rows = out.len() / area * taps;
                let mut parts = vec![0.0; rows * t];
                // Column c of the left side is what input channel c has for these output channels.
                let columns = weight.get(j * some * taps..).unwrap_or_default();
                let (a, b) = (Matrix::new(columns, 1, n * taps), Matrix::new(x, t, 1));
                multiply((rows, t, depth), a, b, &mut parts, t, false);
                for (out, parts) in out.chunks_mut(area).zip(parts.chunks(taps * t)) {
                    for (tap, parts) in parts.chunks(t).enumerate() {
                        self.add(parts, tap, out);
                    }
                }
            });
        });
    }

    /// Adds what all places give to element `tap` of their windows.
    fn add(&self, parts: &[f32], tap: usize, out: &mut [f32]) {
        let [depth, height, row] = &self.dims;
        let (d, h) = (tap / row.kernel / height.kernel, tap / row.kernel % height.kernel);
        let w = tap % row.kernel;
        let across = row.touching(w);
        if across.is_empty() {
            return;
        }
        let to = row.at(across.start, w);
        for plane in depth.touching(d) {
            for line in height.touching(h) {
                let parts = &parts[(plane * height.places + line) * row.places..][across.clone()];
                let base = (depth.at(plane, d) * height.size + height.at(line, h)) * row.size;
                let out = out[base + to..base + row.size].iter_mut().step_by(row.stride);
                out.zip(parts).for_each(|(o, p)| *o += p);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{check, floats};

    /// The definition.
    fn plain(form: &Form<'_>, x: &[f32]) -> Vec<f32> {
        let (t, area, taps) =
            (form.of_all(|d| d.places), form.of_all(|d| d.size), form.of_all(|d| d.kernel));
        let all = form.n * form.groups;
        let batch = x.len() / (form.depth * form.groups * t);
        let mut out = vec![0.0; batch * all * area];
        let unflatten = |mut at: usize, of: fn(&Dim) -> usize| {
            let mut out = [0; 3];
            for (o, d) in out.iter_mut().zip(&form.dims).rev() {
                *o = at % of(d);
                at /= of(d);
            }
            out
        };
        for (i, v) in x.iter().enumerate() {
            let (b, c, place) =
                (i / t / (form.depth * form.groups), i / t % (form.depth * form.groups), i % t);
            for j in 0..form.n * taps {
                let (channel, tap) = (c / form.depth * form.n + j / taps, j % taps);
                let (place, tap) = (unflatten(place, |d| d.places), unflatten(tap, |d| d.kernel));
                let mut at = Some(0);
                for (k, d) in form.dims.iter().enumerate() {
                    let here = (place[k] * d.stride + tap[k] * d.dilation)
                        .checked_sub(d.before)
                        .filter(|&p| p < d.size);
                    at = at.zip(here).map(|(at, here)| at * d.size + here);
                }
                if let Some(at) = at {
                    out[(b * all + channel) * area + at] += form.weight[c * form.n * taps + j] * v;
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn as_the_definition(rank in 1_usize..4, size in 1_usize..5, kernel in 1_usize..4, stride in 1_usize..4, dilation in 1_usize..3, before in 0_usize..3, out in 1_usize..9, groups in 1_usize..3, depth in 1_usize..3, n in 1_usize..70) {
            let n = if rank == 1 { n } else { n % 3 + 1 };
            let dims: Vec<Dim> = (0..rank).map(|i| Dim { size: out + i, kernel, stride, dilation, before, after: 0, places: size + i }).collect();
            let dims = three(&dims);
            let t: usize = dims.iter().map(|d| d.places).product();
            let x: Vec<f32> = (0..2 * groups * depth * t).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
            let w: Vec<f32> = (0..groups * depth * n * kernel.pow(rank as u32)).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
            let form = Form { weight: &w, groups, n, depth, dims };
            let want = plain(&form, &x);
            let mut got = vec![0.0; want.len()];
            form.by_products(&x, &mut got);
            prop_assert_eq!(got, want);
        }
    }

    /// Results worked out by hand: 1, 2, 3 spread over the weight 1, 10, 100.
    #[test]
    fn all_paddings() {
        let c = || {
            check("conv_transpose")
                .input("x", floats(&[1, 1, 3], &[1.0, 2.0, 3.0]))
                .constant("weight", &floats(&[1, 1, 3], &[1.0, 10.0, 100.0]))
        };
        c().gives(&[1, 1, 5], &[1.0, 12.0, 123.0, 230.0, 300.0]);
        c().ints("strides", &[2]).gives(&[1, 1, 7], &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0, 300.0]);
        c().ints("dilations", &[2]).gives(&[1, 1, 7], &[1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0]);
        let c = || c().ints("strides", &[2]);
        let custom = || c().text("pad_type", "custom").ints("pad", &[1, 2]);
        custom().gives(&[1, 1, 4], &[10.0, 102.0, 20.0, 203.0]);
        custom()
            .ints("output_shape", &[1, 1, 5])
            .gives(&[1, 1, 5], &[10.0, 102.0, 20.0, 203.0, 30.0]);
        let same = || c().text("pad_type", "same");
        same().gives(&[1, 1, 6], &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0]);
        same()
            .ints("output_shape", &[1, 1, 5])
            .gives(&[1, 1, 5], &[10.0, 102.0, 20.0, 203.0, 30.0]);
        c().ints("output_shape", &[1, 1, 8])
            .gives(&[1, 1, 8], &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0, 300.0, 0.0]);
        c().constant("bias", &floats(&[1], &[0.5]))
            .text("pad_type", "custom")
            .ints("pad", &[3, 3])
            .gives(&[1, 1, 1], &[20.5]);
    }

    #[test]
    fn groups_and_two_dims() {
        check("conv_transpose")
            .input("x", floats(&[1, 2, 1, 1], &[1.0, 2.0]))
            .constant("weight", &floats(&[2, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]))
            .int("groups", 2)
            .gives(&[1, 2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 14.0, 16.0]);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let c = |shape: &[usize]| {
            check("conv_transpose")
                .input("x", floats(&[1, 2, 2], &[0.0; 4]))
                .constant("weight", &floats(shape, &vec![0.0; shape.iter().product()]))
        };
        let most = i32::MAX;
        let cases = [
            (c(&[1, 1, 1]), "failed: shapes [1, 2, 2] and [1, 1, 1] with 1 groups do not spread"),
            (c(&[2, 1]), "failed: shapes [1, 2, 2] and [2, 1] with 1 groups do not spread"),
            (
                c(&[2, 1, 1]).int("groups", 3),
                "failed: shapes [1, 2, 2] and [2, 1, 1] with 3 groups do not spread",
            ),
            (
                c(&[2, 1, 1]).ints("output_shape", &[1, 2, 2]),
                "failed: shapes [1, 2, 2] and [2, 1, 1] with 1 groups do not spread into shape [1, 2, 2]",
            ),
            (
                c(&[2, 1, 1]).ints("output_shape", &[1]),
                "failed: shapes [1, 2, 2] and [2, 1, 1] with 1 groups do not spread into shape [1]",
            ),
            (
                c(&[2, 1, 1]).ints("output_shape", &[1, 1, 0]),
                "failed: 2 elements 1 apart, each spread over 1 elements 1 apart, leave no result",
            ),
            (
                c(&[2, 1, 0]),
                "failed: 2 elements 1 apart, each spread over 0 elements 1 apart, leave no result",
            ),
            (
                c(&[2, 1, 1]).text("pad_type", "custom").ints("pad", &[1, 1]),
                "failed: 2 elements 1 apart, each spread over 1 elements 1 apart, leave no result",
            ),
            (
                c(&[2, 4, 1]).ints("strides", &[most]),
                "failed: shape [1, 4, 2147483648] has more than 2147483648 elements",
            ),
            (c(&[2, 1, 1]).ints("strides", &[0]), "cannot be planned: strides [0]"),
            (c(&[2, 1, 1]).int("groups", -1), "cannot be planned: groups of -1, below 1"),
            (
                c(&[2, 1, 1]).ints("output_shape", &[1, 1, -2]),
                "cannot be planned: an extent of -2 in [1, 1, -2]",
            ),
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }
}
