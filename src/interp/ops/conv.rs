//! `conv`: 1-D, 2-D and 3-D convolution as a product of the stored weight with the input's windows as columns.

use std::cell::RefCell;

use rayon::prelude::*;

use super::window::{Dim, Windows, three};
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::kernel::columns::Columns;
use crate::interp::kernel::matmul;
use crate::interp::kernel::row::Row;
use crate::interp::op_context::OpContext;
use crate::interp::pool::Pool;
use crate::interp::stored::{Shared, Stored, of_tensor};
use crate::interp::tensor::{Tensor, elements};
use crate::mil::DType;

type Built = Result<Kernel, OpError>;

/// Elements of the windows that stand in memory as columns at a time.
const COLUMNS: usize = 1 << 22;

/// A weight that is constant, in the form it is stored in, or computed.
pub(super) enum Weight {
    Stored(Shared),
    In(Operand),
}

impl Weight {
    pub(super) fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        Ok(match site.stored("weight")? {
            Some(weight) => Self::Stored(weight),
            None => Self::In(site.input("weight")?),
        })
    }

    pub(super) fn get(&self, run: &ExecContext<'_>) -> Shared {
        match self {
            Self::Stored(weight) => Shared::clone(weight),
            Self::In(from) => of_tensor(run.get(from).clone()),
        }
    }
}

/// The number of groups.
pub(super) fn groups(site: &OpContext<'_, '_>) -> Result<usize, OpError> {
    let groups = site.int("groups", Some(1))?;
    usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| OpError::invalid(format!("groups of {groups}, below 1")))
}

/// x ⋆ weight + bias, with weight stored `[out, in / groups, kernel..]`.
pub(super) fn conv(site: &OpContext<'_, '_>) -> Built {
    let weight = Weight::of(site)?;
    with_weight(site, weight)
}

/// `conv` with the weight `weight · quant_scale + quant_bias`, either one number or one for each output channel.
pub(super) fn quantized(site: &OpContext<'_, '_>) -> Built {
    let constant = |parameter: &str| {
        site.constant(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))
    };
    match site.text("quantization_type")?.as_deref() {
        Some("linear") => {}
        other => {
            return Err(OpError::Unsupported(format!(
                "quantization_type `{}`",
                other.unwrap_or_default()
            )));
        }
    }
    let codes = constant("weight")?;
    let shape_mismatch = || OpError::invalid(format!("codes of type {}", codes.describe()));
    let mut weight = codes.to_f32().ok_or_else(shape_mismatch)?;
    let n = codes.shape().first().copied().unwrap_or(0);
    let per_channel = weight.len() / n.max(1);
    let (scale, shift) = (constant("quant_scale")?, constant("quant_bias")?);
    let of = |t: &Tensor| -> Result<Vec<f32>, OpError> {
        match t.to_f32() {
            Some(v) if v.len() == n => Ok(v),
            Some(v) if v.len() == 1 => Ok(vec![v[0]; n]),
            _ => {
                Err(OpError::invalid(format!("a scale or bias {} for {n} channels", t.describe())))
            }
        }
    };
    let (scale, shift) = (of(&scale)?, of(&shift)?);
    for ((weight, &scale), &shift) in weight.chunks_mut(per_channel.max(1)).zip(&scale).zip(&shift)
    {
        for w in weight {
            *w = *w * scale + shift;
        }
    }
    with_weight(site, Weight::Stored(of_tensor(Tensor::f32(codes.shape(), weight))))
}

fn with_weight(site: &OpContext<'_, '_>, weight: Weight) -> Built {
    let x = site.input("x")?;
    let bias = site.optional("bias")?;
    let (windows, groups) = (Windows::of(site)?, groups(site)?);
    Ok(Kernel::one(move |run| {
        let weight = weight.get(run);
        let bias = bias.as_ref().map(|b| numbers(run.get(b))).transpose()?;
        convolve(run, run.get(&x), &*weight, bias.as_deref(), &windows, groups)
    }))
}

/// The elements as f32 whatever their type: `conv_quantized` declares a bias of whole numbers.
fn numbers(t: &Tensor) -> Result<Vec<f32>, OpError> {
    t.to_f32().ok_or_else(|| OpError::invalid(format!("a bias of type {}", t.describe())))
}

/// What a convolution comes to once all shapes are known.
struct Form<'a> {
    weight: &'a dyn Stored,
    groups: usize,
    /// Output channels, and input channels, of a group.
    n: usize,
    depth: usize,
    dims: [Dim; 3],
}

impl Form<'_> {
    fn of_all(&self, f: fn(&Dim) -> usize) -> usize {
        self.dims.iter().map(f).product()
    }

    /// Elements of the input under one window, all channels of a group.
    fn k(&self) -> usize {
        self.depth * self.of_all(|d| d.kernel)
    }

    fn is_pointwise(&self) -> bool {
        self.dims.iter().all(|d| (d.kernel, d.stride, d.before, d.after) == (1, 1, 0, 0))
    }
}

fn convolve(
    run: &ExecContext<'_>,
    x: &Tensor,
    weight: &dyn Stored,
    bias: Option<&[f32]>,
    windows: &Windows,
    groups: usize,
) -> Result<Tensor, OpError> {
    let shape_mismatch = || {
        let (x, w) = (x.shape(), weight.shape());
        OpError::invalid(format!("shapes {x:?} and {w:?} with {groups} groups do not convolve"))
    };
    let ([batch, channels, size @ ..], [n, depth, kernel @ ..]) = (x.shape(), weight.shape())
    else {
        return Err(shape_mismatch());
    };
    if size.len() != kernel.len()
        || Some(*channels) != depth.checked_mul(groups)
        || n % groups != 0
        || bias.is_some_and(|b| b.len() != *n)
    {
        return Err(shape_mismatch());
    }
    let dims = windows.dims(size, kernel)?;
    let places = dims.iter().map(|d| d.places);
    let shape: Vec<usize> = [*batch, *n].into_iter().chain(places).collect();
    let total = elements(&shape)?;
    let mut out = run.buffer(total);
    out.resize(total, 0.0);
    if total > 0 {
        let values = x.f32s()?;
        let form = Form { weight, groups, n: n / groups, depth: *depth, dims: three(&dims) };
        if *depth == 1 && form.n <= 4 && !form.is_pointwise() {
            by_plane(&form, &values, &mut out);
        } else {
            by_columns(run.pool, &form, &values, &mut out);
        }
    }
    if let Some(bias) = bias {
        let t = dims.iter().map(|d| d.places).product();
        for (i, out) in out.chunks_mut(t).enumerate() {
            for v in out {
                *v += bias[i % n];
            }
        }
    }
    Ok(Tensor::f32(&shape, out))
}

/// Some rows of a stored weight.
struct Rows<'a> {
    whole: &'a dyn Stored,
    at: usize,
    shape: [usize; 2],
}

impl Stored for Rows<'_> {
    fn dtype(&self) -> DType {
        self.whole.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, at: usize, out: &mut [f32]) {
        self.whole.fill(self.at + at, out);
    }

    fn run(&self, at: usize, n: usize) -> Option<Row<'_>> {
        self.whole.run(self.at + at, n)
    }
}

/// Each group as a product of its rows of the weight and the windows as columns, a band of places at a time.
fn by_columns(pool: &RefCell<Pool>, form: &Form<'_>, x: &[f32], out: &mut [f32]) {
    let (n, k) = (form.n, form.k());
    let (t, area) = (form.of_all(|d| d.places), form.of_all(|d| d.size));
    let pointwise = form.is_pointwise();
    let width = if pointwise { t } else { (COLUMNS / k.max(1)).clamp(16, t.max(16)).min(t) };
    let mut columns = if pointwise { Vec::new() } else { pool.borrow_mut().take(k * width) };
    let mut band = if width == t { Vec::new() } else { pool.borrow_mut().take(n * width) };
    for (i, out) in out.chunks_mut(n * t).enumerate() {
        let x = &x[i * form.depth * area..][..form.depth * area];
        let weight = Rows { whole: form.weight, at: i % form.groups * n * k, shape: [n, k] };
        for first in (0..t).step_by(width) {
            let width = width.min(t - first);
            let data = if pointwise {
                x
            } else {
                columns.resize(k * width, 0.0);
                unfold(x, &form.dims, first, width, &mut columns);
                &columns
            };
            let columns = Columns { data, t: width, k_stride: width, t_stride: 1 };
            if width == t {
                matmul::rows(&weight, (n, k), &columns, out);
                continue;
            }
            band.resize(n * width, 0.0);
            matmul::rows(&weight, (n, k), &columns, &mut band);
            for (out, band) in out.chunks_mut(t).zip(band.chunks(width)) {
                out[first..first + width].copy_from_slice(band);
            }
        }
    }
    pool.borrow_mut().give(columns);
    pool.borrow_mut().give(band);
}

/// The elements under `width` windows from place `first` on, `[channels · window, width]`; zero on padding.
fn unfold(x: &[f32], dims: &[Dim; 3], first: usize, width: usize, columns: &mut [f32]) {
    /// Elements worth a task of their own.
    const TASK: usize = 1 << 13;
    let [depth, height, row] = dims;
    let taps: usize = dims.iter().map(|d| d.kernel).product();
    let area: usize = dims.iter().map(|d| d.size).product();
    let one = |(k, out): (usize, &mut [f32])| {
        let (x, tap) = (&x[k / taps * area..][..area], k % taps);
        let (rest, w) = (tap / row.kernel, tap % row.kernel);
        let (d, h) = (rest / height.kernel, rest % height.kernel);
        let (planes, rows, across) = (depth.touching(d), height.touching(h), row.touching(w));
        let mut place = first;
        let mut out = out;
        while !out.is_empty() {
            let (line, start) = (place / row.places, place % row.places);
            let (plane, line) = (line / height.places, line % height.places);
            let (piece, rest) = out.split_at_mut((row.places - start).min(out.len()));
            place += piece.len();
            out = rest;
            let (from, to) = (across.start.max(start), across.end.min(start + piece.len()));
            if !planes.contains(&plane) || !rows.contains(&line) || from >= to {
                piece.fill(0.0);
                continue;
            }
            let base = (depth.at(plane, d) * height.size + height.at(line, h)) * row.size;
            piece[..from - start].fill(0.0);
            piece[to - start..].fill(0.0);
            let (piece, x) = (&mut piece[from - start..to - start], &x[base + row.at(from, w)..]);
            if row.stride == 1 {
                piece.copy_from_slice(&x[..piece.len()]);
            } else {
                piece.iter_mut().zip(x.iter().step_by(row.stride)).for_each(|(o, &v)| *o = v);
            }
        }
    };
    columns.par_chunks_mut(width).with_min_len(TASK.div_ceil(width)).enumerate().for_each(one);
}

/// Groups of one input channel: every output channel is a sum of that channel's shifted rows.
fn by_plane(form: &Form<'_>, x: &[f32], out: &mut [f32]) {
    let [depth, height, row] = &form.dims;
    let (t, area, taps) =
        (form.of_all(|d| d.places), form.of_all(|d| d.size), form.of_all(|d| d.kernel));
    let mut weight = vec![0.0; form.weight.len()];
    form.weight.fill(0, &mut weight);
    let across: Vec<_> = (0..row.kernel).map(|w| row.touching(w)).collect();
    out.par_chunks_mut(t).enumerate().for_each(|(i, out)| {
        let x = &x[i / form.n * area..][..area];
        let weight = &weight[i % (form.n * form.groups) * taps..][..taps];
        for (line, out) in out.chunks_mut(row.places).enumerate() {
            let (plane, line) = (line / height.places, line % height.places);
            for d in depth.inside(plane) {
                for h in height.inside(line) {
                    let base = (depth.at(plane, d) * height.size + height.at(line, h)) * row.size;
                    for (w, across) in across.iter().enumerate().filter(|a| !a.1.is_empty()) {
                        let factor = weight[(d * height.kernel + h) * row.kernel + w];
                        let x = &x[base + row.at(across.start, w)..base + row.size];
                        let out = &mut out[across.clone()];
                        if row.stride == 1 {
                            out.iter_mut().zip(x).for_each(|(o, v)| *o += factor * v);
                        } else {
                            let x = x.iter().step_by(row.stride);
                            out.iter_mut().zip(x).for_each(|(o, v)| *o += factor * v);
                        }
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{check, floats};

    /// The definition.
    fn plain(form: &Form<'_>, weight: &[f32], x: &[f32]) -> Vec<f32> {
        let [depth, height, row] = &form.dims;
        let (t, area, taps) =
            (form.of_all(|d| d.places), form.of_all(|d| d.size), form.of_all(|d| d.kernel));
        let channels = form.n * form.groups;
        let n = x.len() / (form.depth * form.groups * area) * channels * t;
        let one = |i: usize| {
            let (b, c, place) = (i / t / channels, i / t % channels, i % t);
            let at = |dim: &Dim, place: usize, tap: usize| {
                (place * dim.stride + tap * dim.dilation)
                    .checked_sub(dim.before)
                    .filter(|&p| p < dim.size)
            };
            let mut sum = 0.0;
            for k in 0..form.depth * taps {
                let (channel, tap) = (k / taps, k % taps);
                let places = [
                    place / row.places / height.places,
                    place / row.places % height.places,
                    place % row.places,
                ];
                let taps = [
                    tap / row.kernel / height.kernel,
                    tap / row.kernel % height.kernel,
                    tap % row.kernel,
                ];
                let (Some(d), Some(h), Some(w)) = (
                    at(depth, places[0], taps[0]),
                    at(height, places[1], taps[1]),
                    at(row, places[2], taps[2]),
                ) else {
                    continue;
                };
                let plane = b * form.groups * form.depth + c / form.n * form.depth + channel;
                sum += f64::from(weight[c * form.k() + k])
                    * f64::from(x[plane * area + (d * height.size + h) * row.size + w]);
            }
            sum as f32
        };
        (0..n).map(one).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn both_quick_forms_as_the_definition(rank in 1_usize..4, size in 1_usize..7, kernel in 1_usize..4, stride in 1_usize..3, dilation in 1_usize..3, before in 0_usize..3, after in 0_usize..3, groups in 1_usize..3, depth in 1_usize..3, n in 1_usize..3) {
            let one = |i: usize| {
                let size = size + i;
                let room = (size + before + after).checked_sub((kernel - 1) * dilation + 1)?;
                Some(Dim { size, kernel, stride, dilation, before, after, places: room / stride + 1 })
            };
            let Some(dims) = (0..rank).map(one).collect::<Option<Vec<Dim>>>() else { return Ok(()) };
            let dims = three(&dims);
            let area: usize = dims.iter().map(|d| d.size).product();
            let x: Vec<f32> = (0..2 * groups * depth * area).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
            let shape: Vec<usize> = [n * groups, depth].into_iter().chain(vec![kernel; rank]).collect();
            let w: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i * 5 % 7) as f32 - 3.0).collect();
            let weight = of_tensor(floats(&shape, &w));
            let form = Form { weight: &*weight, groups, n, depth, dims };
            let want = plain(&form, &w, &x);
            let pool = RefCell::new(Pool::default());
            let mut got = vec![0.0; want.len()];
            by_columns(&pool, &form, &x, &mut got);
            prop_assert_eq!(&got, &want);
            if depth == 1 {
                got.fill(0.0);
                by_plane(&form, &x, &mut got);
                prop_assert_eq!(&got, &want);
            }
            // A few places at a time, beginning and ending anywhere.
            let (k, t) = (form.k() / depth, form.of_all(|d| d.places));
            let mut whole = vec![1.0; k * t];
            unfold(&x[..area], &form.dims, 0, t, &mut whole);
            for first in 0..t {
                let width = (t - first).min(3);
                let mut part = vec![1.0; k * width];
                unfold(&x[..area], &form.dims, first, width, &mut part);
                for (whole, part) in whole.chunks(t).zip(part.chunks(width)) {
                    prop_assert_eq!(&whole[first..first + width], part);
                }
            }
        }
    }

    #[test]
    fn one_place_two_dims_and_uneven_padding() {
        let x = || floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let point = floats(&[1, 2, 1], &[1.0, 10.0]);
        check("conv").input("x", x()).constant("weight", &point).gives(&[1, 1, 2], &[31.0, 42.0]);
        check("conv").input("x", x()).input("weight", point).gives(&[1, 1, 2], &[31.0, 42.0]);
        let w = floats(&[1, 2, 2], &[1.0, 1.0, 1.0, 1.0]);
        let bias = floats(&[1], &[0.5]);
        let c = || check("conv").input("x", x()).constant("weight", &w);
        c().constant("bias", &bias).gives(&[1, 1, 1], &[10.5]);
        c().text("pad_type", "same").gives(&[1, 1, 2], &[10.0, 6.0]);
        c().text("pad_type", "same_lower").gives(&[1, 1, 2], &[4.0, 10.0]);
        c().text("pad_type", "custom")
            .ints("pad", &[0, 2])
            .ints("strides", &[2])
            .gives(&[1, 1, 2], &[10.0, 0.0]);
        c().text("pad_type", "same").ints("dilations", &[2]).gives(&[1, 1, 2], &[6.0, 4.0]);
    }

    #[test]
    fn codes_with_a_scale() {
        let codes = Tensor::i32(&[2, 1, 1], vec![10, 200]).tagged(DType::U8);
        check("conv_quantized")
            .opset("CoreML5")
            .input("x", floats(&[1, 1, 2], &[1.0, 2.0]))
            .constant("weight", &codes)
            .text("quantization_type", "linear")
            .constant("quant_scale", &floats(&[2], &[0.5, 0.25]))
            .constant("quant_bias", &floats(&[1], &[1.0]))
            .gives(&[1, 2, 2], &[6.0, 12.0, 51.0, 102.0]);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let x = || floats(&[1, 2, 2], &[0.0; 4]);
        let c = |shape: &[usize]| {
            let weight = floats(shape, &vec![0.0; shape.iter().product()]);
            check("conv").input("x", x()).constant("weight", &weight)
        };
        let cases = [
            (c(&[1, 1, 1]), "failed: shapes [1, 2, 2] and [1, 1, 1] with 1 groups do not convolve"),
            (c(&[1, 2]), "failed: shapes [1, 2, 2] and [1, 2] with 1 groups do not convolve"),
            (
                c(&[3, 1, 1]).int("groups", 2),
                "failed: shapes [1, 2, 2] and [3, 1, 1] with 2 groups do not convolve",
            ),
            (
                c(&[1, 2, 1]).constant("bias", &floats(&[2], &[0.0; 2])),
                "failed: shapes [1, 2, 2] and [1, 2, 1] with 1 groups do not convolve",
            ),
            (
                c(&[1, 2, 0]),
                "failed: a window of 0 elements 1 apart does not fit 2 elements padded by 0 and 0",
            ),
            (
                c(&[1, 2, 3]),
                "failed: a window of 3 elements 1 apart does not fit 2 elements padded by 0 and 0",
            ),
            (
                c(&[1, 2, 2]).ints("dilations", &[i32::MAX]),
                "failed: a window of 2 elements 2147483647 apart does not fit 2 elements padded by 0 and 0",
            ),
            (c(&[1, 2, 1]).int("groups", 0), "cannot be planned: groups of 0, below 1"),
            (c(&[1, 2, 1]).ints("strides", &[0]), "cannot be planned: strides [0]"),
            (c(&[1, 2, 1]).ints("dilations", &[-1]), "cannot be planned: an extent of -1 in [-1]"),
            (
                c(&[1, 2, 1]).text("pad_type", "custom").ints("pad", &[0, -1]),
                "cannot be planned: an extent of -1 in [0, -1]",
            ),
            (
                c(&[1, 2, 1]).text("pad_type", "custom").ints("pad", &[0, i32::MAX, 1]),
                "failed: pad [0, 2147483647, 1] for 1 spatial dimensions",
            ),
            (
                c(&[i32::MAX as usize, 0, 1]),
                "failed: shapes [1, 2, 2] and [2147483647, 0, 1] with 1 groups do not convolve",
            ),
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }
}
