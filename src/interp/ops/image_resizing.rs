//! `resize`, `resize_bilinear`, `upsample_bilinear` and their nearest neighbour kin, one dimension after another; `crop`.

use rayon::prelude::*;

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::{gather, pick_runs, split_at_axis, steps};
use crate::interp::op_context::{Ints, OpContext};
use crate::interp::tensor::{Tensor, elements, map_storage};
use crate::mil::Dim;

type Built = Result<Kernel, OpError>;

/// `sampling_mode`: where the elements of the result lie over those of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    StrictAlignCorners,
    AlignCorners,
    Default,
    OffsetCorners,
    UnalignCorners,
}

impl Mode {
    /// The mode that the program names.
    pub(super) fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        Ok(match site.text("sampling_mode")?.as_deref().unwrap_or("DEFAULT") {
            "STRICT_ALIGN_CORNERS" => Self::StrictAlignCorners,
            "ALIGN_CORNERS" => Self::AlignCorners,
            "DEFAULT" => Self::Default,
            "OFFSET_CORNERS" => Self::OffsetCorners,
            "UNALIGN_CORNERS" => Self::UnalignCorners,
            other => return Err(OpError::Unsupported(format!("sampling_mode `{other}`"))),
        })
    }

    /// Where element `i` of `out` lies on an input of `n` elements, the first of them at 0: coremltools' documentation
    /// of `resize_bilinear`, before what lies outside is moved to the edge. A part of an image may have any length.
    pub(super) fn point(self, i: usize, n: f64, out: usize) -> f64 {
        let (i, last, out) = (i as f64, out.saturating_sub(1) as f64, out as f64);
        match self {
            Self::AlignCorners if last == 0.0 => (n - 1.0) / 2.0,
            Self::StrictAlignCorners if last == 0.0 => 0.0,
            Self::StrictAlignCorners | Self::AlignCorners => i * (n - 1.0) / last,
            Self::Default => i * n / out,
            Self::OffsetCorners => (i + 0.5) * (n - 1.0).max(1.0) / out,
            Self::UnalignCorners => (i + 0.5) * n / out - 0.5,
        }
    }
}

/// How an element of the result follows from those of the input.
#[derive(Debug, Clone, Copy)]
enum How {
    /// From the two around its point.
    Linear(Mode),
    /// The one at ⌊i · n / out⌋.
    Scaled,
    /// The one under its own middle, ⌊(i + ½) · n / out⌋.
    Middle,
    /// The one nearest to its point, the later of two.
    Nearest(Mode),
}

/// Two elements of the input and the part that the second has.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    low: usize,
    high: usize,
    part: f32,
}

impl How {
    fn tap(self, i: usize, n: usize, out: usize) -> Tap {
        let last = n - 1;
        let one = |at: usize| Tap { low: at.min(last), high: at.min(last), part: 0.0 };
        // Wide enough for any two extents.
        let (j, n, m) = (i as u128, n as u128, out as u128);
        match self {
            Self::Linear(mode) => {
                let point = mode.point(i, n as f64, out).clamp(0.0, last as f64);
                let low = point as usize;
                Tap { low, high: (low + 1).min(last), part: (point - low as f64) as f32 }
            }
            Self::Scaled => one((j * n / m) as usize),
            Self::Middle => one(((2 * j + 1) * n / (2 * m)) as usize),
            Self::Nearest(mode) => one((mode.point(i, n as f64, out) + 0.5).max(0.0) as usize),
        }
    }
}

/// The last dimensions of x as `to` has them.
fn resized(x: &Tensor, to: &[usize], how: How) -> Result<Tensor, OpError> {
    let shape_mismatch =
        || OpError::invalid(format!("shape {:?} does not become [.., {to:?}]", x.shape()));
    let free = x.rank().checked_sub(to.len()).ok_or_else(shape_mismatch)?;
    let mut shape = x.shape().to_vec();
    shape[free..].copy_from_slice(to);
    if elements(&shape)? == 0 || x.is_empty() {
        return Err(shape_mismatch());
    }
    let mut t = x.clone();
    for axis in (free..x.rank()).rev() {
        let (before, n, after) = split_at_axis(t.shape(), axis);
        let out = to[axis - free];
        let mut shape = t.shape().to_vec();
        shape[axis] = out;
        elements(&shape)?;
        let taps: Vec<Tap> = (0..out).map(|i| how.tap(i, n, out)).collect();
        let same = |(i, tap): (usize, &Tap)| tap.low == i && tap.part == 0.0;
        if out == n && taps.iter().enumerate().all(same) {
            continue;
        }
        t = if let How::Linear(_) = how {
            let values = t.to_f32().ok_or_else(|| OpError::invalid("strings are not numbers"))?;
            let mixed = mix(&values, (before, n, after), &taps);
            if t.dtype().is_int() {
                t.with_i32(shape, mixed.into_iter().map(|v| v.round() as i32).collect())
            } else {
                Tensor::f32(&shape, mixed)
            }
        } else {
            let places: Vec<usize> = (0..before)
                .flat_map(|b| taps.iter().map(move |tap| (b * n + tap.low) * after))
                .collect();
            map_storage!(&t, shape, |src| pick_runs(src, &places, after))
        };
    }
    Ok(t)
}

/// What each tap along the middle dimension comes to.
fn mix(x: &[f32], (before, n, after): (usize, usize, usize), taps: &[Tap]) -> Vec<f32> {
    /// Elements worth a task of their own.
    const TASK: usize = 1 << 13;
    // An element without a part must not show, not even by an infinity.
    let of = |low: f32, high: f32, part: f32| {
        if part == 0.0 { low } else { low * (1.0 - part) + high * part }
    };
    let mut out = vec![0.0; before * taps.len() * after];
    if after == 1 {
        let line = |(out, x): (&mut [f32], &[f32])| {
            for (o, tap) in out.iter_mut().zip(taps) {
                *o = of(x[tap.low], x[tap.high], tap.part);
            }
        };
        let lines = out.par_chunks_mut(taps.len()).with_min_len(TASK.div_ceil(taps.len()));
        lines.zip(x.par_chunks(n)).for_each(line);
    } else {
        let run = |(i, out): (usize, &mut [f32])| {
            let (b, tap) = (i / taps.len(), taps[i % taps.len()]);
            let run = |at: usize| &x[(b * n + at) * after..][..after];
            for (o, (&low, &high)) in out.iter_mut().zip(run(tap.low).iter().zip(run(tap.high))) {
                *o = of(low, high, tap.part);
            }
        };
        let runs = out.par_chunks_mut(after).with_min_len(TASK.div_ceil(after));
        runs.enumerate().for_each(run);
    }
    out
}

/// A constant extent above 0.
fn target(
    site: &OpContext<'_, '_>,
    parameter: &str,
    default: Option<i32>,
) -> Result<usize, OpError> {
    let n = site.int(parameter, default)?;
    usize::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| OpError::invalid(format!("{parameter} of {n}")))
}

/// Height and width as the program names them, from their neighbours.
pub(super) fn bilinear(site: &OpContext<'_, '_>) -> Built {
    let mode = Mode::of(site)?;
    let one = |parameter: &str| target(site, parameter, Some(1));
    to_size(site, [one("target_size_height")?, one("target_size_width")?], How::Linear(mode))
}

/// Height and width as the program names them; as TensorFlow with half-pixel centers, for which coremltools writes it.
pub(super) fn nearest(site: &OpContext<'_, '_>) -> Built {
    let one = |parameter: &str| target(site, parameter, None);
    to_size(site, [one("target_size_height")?, one("target_size_width")?], How::Middle)
}

fn to_size(site: &OpContext<'_, '_>, to: [usize; 2], how: How) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| resized(run.get(&x), &to, how)))
}

/// Height and width times a factor each, every element repeated; as TensorFlow without half-pixel centers.
pub(super) fn upsample_nearest(site: &OpContext<'_, '_>) -> Built {
    scaled(site, How::Scaled)
}

/// Height and width times a factor each, from their neighbours.
pub(super) fn upsample_bilinear_ios15(site: &OpContext<'_, '_>) -> Built {
    let align = site.bool("align_corners", true)?;
    scaled(site, How::Linear(if align { Mode::StrictAlignCorners } else { Mode::UnalignCorners }))
}

/// The same with `half_pixel_centers`, without which the first elements lie on each other.
pub(super) fn upsample_bilinear_ios16(site: &OpContext<'_, '_>) -> Built {
    let align = site.bool("align_corners", true)?;
    let mode = match (align, site.bool("half_pixel_centers", !align)?) {
        (true, false) => Mode::StrictAlignCorners,
        (false, true) => Mode::UnalignCorners,
        (false, false) => Mode::Default,
        (true, true) => {
            return Err(OpError::invalid("both align_corners and half_pixel_centers"));
        }
    };
    scaled(site, How::Linear(mode))
}

fn scaled(site: &OpContext<'_, '_>, how: How) -> Built {
    let x = site.input("x")?;
    let declared = site.op.outputs.first().and_then(|o| o.ty.as_tensor()).map(|t| &t.shape);
    let factor = |parameter: &str, from_end: usize| -> Result<(f32, Option<usize>), OpError> {
        let factor = site.float(parameter, Some(1.0))?;
        if !factor.is_finite() || factor <= 0.0 {
            return Err(OpError::invalid(format!("{parameter} of {factor}")));
        }
        let extent = declared.and_then(|d| d.len().checked_sub(from_end).map(|at| &d[at]));
        Ok((
            factor,
            match extent {
                Some(Dim::Fixed(n)) => usize::try_from(*n).ok(),
                _ => None,
            },
        ))
    };
    let factors = [factor("scale_factor_height", 2)?, factor("scale_factor_width", 1)?];
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let &[.., height, width] = t.shape() else {
            return Err(OpError::invalid(format!("shape {:?} is no image", t.shape())));
        };
        let extent = |n: usize, (factor, declared): (f32, Option<usize>)| {
            let exact = f64::from(factor) * n as f64;
            // coremltools rounds the product to f32 or not, by its version of numpy; the declared extent tells.
            let (rounded, exact) =
                (f64::from(exact as f32).floor() as usize, exact.floor() as usize);
            declared.filter(|&d| d == exact).unwrap_or(rounded)
        };
        resized(t, &[extent(height, factors[0]), extent(width, factors[1])], how)
    }))
}

/// The last `resized_dims` dimensions as the end of `shape` has them, where 0 keeps the extent.
pub(super) fn resize(site: &OpContext<'_, '_>) -> Built {
    let (x, shape, mode) = (site.input("x")?, Ints::of(site, "shape")?, Mode::of(site)?);
    let dims = site.int("resized_dims", None)?;
    let dims = usize::try_from(dims)
        .map_err(|_| OpError::invalid(format!("resized_dims of {}", dims.cast_unsigned())))?;
    let how = match (site.text("interpolation_mode")?.as_deref().unwrap_or("LINEAR"), mode) {
        ("LINEAR", _) => How::Linear(mode),
        // What coremltools writes for TensorFlow's half-pixel centers has no mode, so this is what that mode means.
        ("NEAREST_NEIGHBOR", Mode::Default | Mode::UnalignCorners) => How::Middle,
        ("NEAREST_NEIGHBOR", _) => How::Nearest(mode),
        (other, _) => return Err(OpError::Unsupported(format!("interpolation_mode `{other}`"))),
    };
    Ok(Kernel::one(move |run| {
        let (t, given) = (run.get(&x), shape.get(run)?);
        let shape_mismatch = || {
            let from = t.shape();
            OpError::invalid(format!("the last {dims} of shape {from:?} do not become {given:?}"))
        };
        let first = given.len().checked_sub(dims).ok_or_else(shape_mismatch)?;
        let free = t
            .rank()
            .checked_sub(dims)
            .filter(|_| given.len() <= t.rank())
            .ok_or_else(shape_mismatch)?;
        let extent = |(&to, &from): (&i32, &usize)| match to {
            0 => Ok(from),
            to => usize::try_from(to).map_err(|_| shape_mismatch()),
        };
        let to = given[first..].iter().zip(&t.shape()[free..]).map(extent);
        resized(t, &to.collect::<Result<Vec<_>, _>>()?, how)
    }))
}

/// Height and width less what is cut off at either end.
pub(super) fn crop(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let pair = |parameter: &str| -> Result<[usize; 2], OpError> {
        let given = site.ints(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))?;
        <[usize; 2]>::try_from(super::extents(&given)?)
            .map_err(|_| OpError::invalid(format!("{parameter} {given:?}")))
    };
    let cuts = [pair("crop_height")?, pair("crop_width")?];
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let shape_mismatch =
            || OpError::invalid(format!("cuts {cuts:?} for shape {:?}", t.shape()));
        let free = t.rank().checked_sub(2).ok_or_else(shape_mismatch)?;
        let own = steps(t.shape());
        let (mut shape, mut start) = (t.shape().to_vec(), 0);
        for (i, [before, after]) in (free..).zip(cuts) {
            shape[i] = shape[i].checked_sub(before + after).ok_or_else(shape_mismatch)?;
            start += before * own[i];
        }
        let step: Vec<isize> = own.iter().map(|s| s.cast_signed()).collect();
        Ok(map_storage!(t, shape.clone(), |src| gather(src, start.cast_signed(), &shape, &step)))
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    fn pair() -> Tensor {
        floats(&[1, 1, 2], &[0.0, 1.0])
    }

    /// The grids that coremltools' documentation of `resize_bilinear` shows.
    #[test]
    fn sampling_modes() {
        let cases: [(&str, &[f32]); 10] = [
            ("UNALIGN_CORNERS", &[0.0, 0.1, 0.5, 0.9, 1.0]),
            ("STRICT_ALIGN_CORNERS", &[0.0, 0.25, 0.5, 0.75, 1.0]),
            ("ALIGN_CORNERS", &[0.0, 0.25, 0.5, 0.75, 1.0]),
            ("DEFAULT", &[0.0, 0.4, 0.8, 1.0, 1.0]),
            ("OFFSET_CORNERS", &[0.1, 0.3, 0.5, 0.7, 0.9]),
            ("UNALIGN_CORNERS", &[0.0, 0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0]),
            ("DEFAULT", &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 1.0]),
            ("OFFSET_CORNERS", &[1.0 / 12.0, 0.25, 5.0 / 12.0, 7.0 / 12.0, 0.75, 11.0 / 12.0]),
            ("ALIGN_CORNERS", &[0.5]),
            ("STRICT_ALIGN_CORNERS", &[0.0]),
        ];
        for (mode, want) in cases {
            let n = want.len();
            check("resize_bilinear")
                .input("x", pair())
                .int("target_size_width", n as i32)
                .text("sampling_mode", mode)
                .gives(&[1, 1, n], want);
            check("resize")
                .input("x", pair())
                .ints("shape", &[7, 0, n as i32])
                .int("resized_dims", 2)
                .text("sampling_mode", mode)
                .gives(&[1, 1, n], want);
        }
    }

    /// Values of coremltools' own tests of these operations.
    #[test]
    fn factors() {
        let bilinear = |height, width| {
            check("upsample_bilinear")
                .input("x", pair())
                .floats_const(&[("scale_factor_height", height), ("scale_factor_width", width)])
        };
        bilinear(1.0, 3.0).gives(&[1, 1, 6], &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        let fifth = bilinear(1.0, 2.6).flag("align_corners", false);
        fifth.opset("CoreML5").gives(&[1, 1, 5], &[0.0, 0.1, 0.5, 0.9, 1.0]);
        let third = 1.0 / 3.0;
        bilinear(2.0, 3.0)
            .flag("align_corners", false)
            .flag("half_pixel_centers", false)
            .gives(&[1, 2, 6], &[0.0, third, 2.0 * third, 1.0, 1.0, 1.0].repeat(2));
        let row = || floats(&[1, 1, 3], &[1.5, -2.5, 3.5]);
        let nearest = |height, width| {
            check("upsample_nearest_neighbor")
                .input("x", row())
                .floats_const(&[("scale_factor_height", height), ("scale_factor_width", width)])
        };
        nearest(3.17, 0.67).gives(&[1, 3, 2], &[1.5, -2.5, 1.5, -2.5, 1.5, -2.5]);
        nearest(1.0, 1.12).gives(&[1, 1, 3], &[1.5, -2.5, 3.5]);
        check("upsample_nearest_neighbor")
            .input("x", row())
            .int("scale_factor_width", 2)
            .gives(&[1, 1, 6], &[1.5, 1.5, -2.5, -2.5, 3.5, 3.5]);
    }

    #[test]
    fn nearest_and_cut() {
        let column = || floats(&[1, 1, 2, 1], &[0.37, 6.17]);
        check("resize_nearest_neighbor")
            .input("x", column())
            .int("target_size_height", 3)
            .int("target_size_width", 2)
            .gives(&[1, 1, 3, 2], &[0.37, 0.37, 6.17, 6.17, 6.17, 6.17]);
        let c = |x: Tensor, shape: &[i32]| {
            check("resize")
                .input("x", x)
                .input("shape", Tensor::i32(&[shape.len()], shape.to_vec()))
                .int("resized_dims", 2)
                .text("interpolation_mode", "NEAREST_NEIGHBOR")
        };
        let six = [0.37, 0.37, 6.17, 6.17, 6.17, 6.17];
        c(column(), &[1, 1, 3, 2]).gives(&[1, 1, 3, 2], &six);
        c(column(), &[0, 2]).gives(&[1, 1, 2, 2], &[0.37, 0.37, 6.17, 6.17]);
        let ints = Tensor::i32(&[1, 3], vec![3, 1, 2]);
        c(ints, &[1, 6]).out(DType::I32).gives(&[1, 6], &[3.0, 3.0, 1.0, 1.0, 2.0, 2.0]);
        let whole: Vec<f32> = (1..17).map(|i| i as f32).collect();
        check("crop")
            .input("x", floats(&[1, 1, 4, 4], &whole))
            .ints("crop_height", &[0, 1])
            .ints("crop_width", &[1, 1])
            .gives(&[1, 1, 3, 2], &[2.0, 3.0, 6.0, 7.0, 10.0, 11.0]);
    }

    #[test]
    fn an_element_without_a_part_does_not_show() {
        let x = floats(&[1, 1, 2], &[1.0, f32::INFINITY]);
        let c = check("resize_bilinear").input("x", x).int("target_size_width", 3);
        c.text("sampling_mode", "ALIGN_CORNERS")
            .gives(&[1, 1, 3], &[1.0, f32::INFINITY, f32::INFINITY]);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let most = i32::MAX;
        let c = |kind: &str| check(kind).input("x", pair());
        let factors = |height: f32, width: f32| {
            c("upsample_bilinear")
                .floats_const(&[("scale_factor_height", height), ("scale_factor_width", width)])
        };
        let resize =
            |shape: &[i32], dims: i32| c("resize").ints("shape", shape).int("resized_dims", dims);
        let crop =
            |height: &[i32]| c("crop").ints("crop_height", height).ints("crop_width", &[0, 0]);
        let empty = check("resize_bilinear").input("x", floats(&[1, 0, 2], &[]));
        let cases = [
            (factors(0.0, 1.0), "cannot be planned: scale_factor_height of 0"),
            (factors(1.0, f32::NAN), "cannot be planned: scale_factor_width of NaN"),
            (factors(1.0, -2.0), "cannot be planned: scale_factor_width of -2"),
            (factors(1.0, 0.1), "failed: shape [1, 1, 2] does not become [.., [1, 0]]"),
            (
                factors(1.0, 1e30),
                "failed: shape [1, 1, 18446744073709551615] has more than 2147483648 elements",
            ),
            (
                factors(1.0, 1.0).flag("half_pixel_centers", true),
                "cannot be planned: both align_corners and half_pixel_centers",
            ),
            (
                c("resize_bilinear").int("target_size_width", 0),
                "cannot be planned: target_size_width of 0",
            ),
            (
                c("resize_bilinear").int("target_size_width", most).int("target_size_height", most),
                "failed: shape [1, 2147483647, 2147483647] has more than 2147483648 elements",
            ),
            (empty, "failed: shape [1, 0, 2] does not become [.., [1, 1]]"),
            (
                c("resize_nearest_neighbor"),
                "cannot be planned: parameter `target_size_height` is missing",
            ),
            (resize(&[1, 1], 3), "failed: the last 3 of shape [1, 1, 2] do not become [1, 1]"),
            (
                resize(&[1, 1, 1, 1], 2),
                "failed: the last 2 of shape [1, 1, 2] do not become [1, 1, 1, 1]",
            ),
            (resize(&[1, -1], 2), "failed: the last 2 of shape [1, 1, 2] do not become [1, -1]"),
            (resize(&[1, 1], -1), "cannot be planned: resized_dims of 4294967295"),
            (crop(&[1, 1]), "failed: cuts [[1, 1], [0, 0]] for shape [1, 1, 2]"),
            (crop(&[-1, 1]), "cannot be planned: an extent of -1 in [-1, 1]"),
            (crop(&[1]), "cannot be planned: crop_height [1]"),
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }

    proptest! {
        #[test]
        fn two_dimensions_as_the_definition(height in 1_usize..6, width in 1_usize..6, to_height in 1_usize..9, to_width in 1_usize..9, mode in 0_usize..5) {
            let modes = [Mode::StrictAlignCorners, Mode::AlignCorners, Mode::Default, Mode::OffsetCorners, Mode::UnalignCorners];
            let mode = modes[mode];
            let values: Vec<f32> = (0..2 * height * width).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let x = floats(&[2, height, width], &values);
            let got = resized(&x, &[to_height, to_width], How::Linear(mode)).unwrap();
            let got = got.to_f32().unwrap();
            for (i, got) in got.into_iter().enumerate() {
                let (plane, h, w) = (i / to_width / to_height, i / to_width % to_height, i % to_width);
                // Each element of the input is worth what its distance leaves of 1.
                let weight = |at: usize, i: usize, n: usize, out: usize| {
                    let point = mode.point(i, n as f64, out).clamp(0.0, (n - 1) as f64);
                    (1.0 - (point - at as f64).abs()).max(0.0)
                };
                let mut want = 0.0;
                for y in 0..height {
                    for x in 0..width {
                        let v = f64::from(values[(plane * height + y) * width + x]);
                        want += v * weight(y, h, height, to_height) * weight(x, w, width, to_width);
                    }
                }
                // Two steps of a few roundings each, of values up to 50.
                prop_assert!((f64::from(got) - want).abs() < 50.0 * 8.0 * f64::from(f32::EPSILON), "{} for {}", got, want);
            }
        }
    }
}
