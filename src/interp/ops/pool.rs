//! `avg_pool`, `l2_pool`, `max_pool`: one number for each place of a window over 1, 2 or 3 dimensions.

use rayon::prelude::*;

use super::extents;
use super::window::{Dim, Windows, three};
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// What becomes of the elements under a window.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Σ x / n, where n leaves out what is padding, or counts it.
    Average { only_inside: bool },
    /// √Σ x².
    L2,
    /// The largest.
    Max,
}

/// Σ x / n; padding counts as zeros unless `exclude_padding_from_average`.
pub(super) fn average(site: &OpContext<'_, '_>) -> Built {
    pool(site, Kind::Average { only_inside: site.bool("exclude_padding_from_average", false)? })
}

/// √Σ x².
pub(super) fn l2(site: &OpContext<'_, '_>) -> Built {
    pool(site, Kind::L2)
}

/// The largest, −∞ for a window on padding alone.
pub(super) fn max(site: &OpContext<'_, '_>) -> Built {
    pool(site, Kind::Max)
}

fn pool(site: &OpContext<'_, '_>, kind: Kind) -> Built {
    let x = site.input("x")?;
    let kernel = site.ints("kernel_sizes")?;
    let kernel = extents(&kernel.ok_or_else(|| OpError::Missing("kernel_sizes".to_owned()))?)?;
    let windows = Windows::of(site)?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let [batch, channels, size @ ..] = t.shape() else {
            return Err(OpError::invalid(format!("shape {:?} has no channels", t.shape())));
        };
        let dims = windows.dims(size, &kernel)?;
        let places = dims.iter().map(|d| d.places);
        let shape: Vec<usize> = [*batch, *channels].into_iter().chain(places).collect();
        let n = elements(&shape)?;
        let values = t.f32s()?;
        let mut out = run.buffer(n);
        out.resize(n, 0.0);
        each_plane(kind, &values, &three(&dims), &mut out);
        Ok(Tensor::f32(&shape, out))
    }))
}

/// A window along one dimension: the elements of the input under it, and how many it has with padding.
struct Span {
    from: usize,
    to: usize,
    counted: usize,
}

/// The windows along one dimension; as in `PyTorch`, what reaches beyond the padding (with `ceil_mode`) does not count.
fn spans(dim: &Dim) -> Vec<Span> {
    let span = |place: usize| {
        let inside = dim.inside(place);
        let from = if inside.is_empty() { 0 } else { dim.at(place, inside.start) };
        let padded = dim.size + dim.before + dim.after;
        let counted = padded.saturating_sub(place * dim.stride).min(dim.kernel);
        Span { from, to: from + inside.len(), counted }
    };
    (0..dim.places).map(span).collect()
}

fn each_plane(kind: Kind, x: &[f32], dims: &[Dim; 3], out: &mut [f32]) {
    match kind {
        Kind::Average { only_inside } => {
            let finish = |sum: f64, inside: usize, counted: usize| {
                sum / if only_inside { inside } else { counted }.max(1) as f64
            };
            fold(x, dims, out, 0.0, |sum, v| sum + v, finish);
        }
        Kind::L2 => fold(x, dims, out, 0.0, |sum, v| sum + v * v, |sum, _, _| sum.sqrt()),
        Kind::Max => {
            let larger = |max: f64, v: f64| if v > max || v.is_nan() { v } else { max };
            fold(x, dims, out, f64::NEG_INFINITY, larger, |max, _, _| max);
        }
    }
}

/// Folds the elements under each window of each plane; `finish` is told how many there are without and with padding.
fn fold(
    x: &[f32],
    dims: &[Dim; 3],
    out: &mut [f32],
    first: f64,
    f: impl Fn(f64, f64) -> f64 + Sync,
    finish: impl Fn(f64, usize, usize) -> f64 + Sync,
) {
    let [depth, height, width] = dims;
    let spans = [spans(depth), spans(height), spans(width)];
    let plane = |(out, x): (&mut [f32], &[f32])| {
        let mut out = out.iter_mut();
        for d in &spans[0] {
            for h in &spans[1] {
                for w in &spans[2] {
                    let mut sum = first;
                    for i in d.from..d.to {
                        for j in h.from..h.to {
                            let row = (i * height.size + j) * width.size;
                            for &v in &x[row + w.from..row + w.to] {
                                sum = f(sum, f64::from(v));
                            }
                        }
                    }
                    let inside = (d.to - d.from) * (h.to - h.from) * (w.to - w.from);
                    let counted = d.counted.saturating_mul(h.counted).saturating_mul(w.counted);
                    let value = finish(sum, inside, counted) as f32;
                    *out.next().expect("a place for each window") = value;
                }
            }
        }
    };
    let area = |of: fn(&Dim) -> usize| dims.iter().map(of).product::<usize>();
    out.par_chunks_mut(area(|d| d.places)).zip(x.par_chunks(area(|d| d.size))).for_each(plane);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{Check, check, floats};

    /// The definition: the input padded by nothing-at-all, each window over it element by element.
    fn plain(kind: Kind, x: &[f32], dims: &[Dim]) -> Vec<f32> {
        let unflatten = |mut at: usize, extents: &[usize]| {
            let mut out = vec![0; extents.len()];
            for (o, &n) in out.iter_mut().zip(extents).rev() {
                *o = at % n;
                at /= n;
            }
            out
        };
        let of = |f: fn(&Dim) -> usize| dims.iter().map(f).collect::<Vec<usize>>();
        let (sizes, kernel, places) = (of(|d| d.size), of(|d| d.kernel), of(|d| d.places));
        let mut out = Vec::new();
        for plane in x.chunks(sizes.iter().product()) {
            for place in 0..places.iter().product() {
                let place = unflatten(place, &places);
                let (mut seen, mut counted) = (Vec::new(), 0);
                for tap in 0..kernel.iter().product() {
                    let tap = unflatten(tap, &kernel);
                    let at: Vec<usize> =
                        (0..dims.len()).map(|i| place[i] * dims[i].stride + tap[i]).collect();
                    counted += usize::from(
                        (0..dims.len())
                            .all(|i| at[i] < dims[i].size + dims[i].before + dims[i].after),
                    );
                    let inside = (0..dims.len())
                        .all(|i| (dims[i].before..dims[i].before + dims[i].size).contains(&at[i]));
                    if inside {
                        seen.push(f64::from(
                            plane[(0..dims.len())
                                .fold(0, |p, i| p * sizes[i] + at[i] - dims[i].before)],
                        ));
                    }
                }
                out.push(match kind {
                    Kind::Average { only_inside: true } => {
                        seen.iter().sum::<f64>() / seen.len().max(1) as f64
                    }
                    Kind::Average { only_inside: false } => {
                        seen.iter().sum::<f64>() / counted.max(1) as f64
                    }
                    Kind::L2 => seen.iter().map(|v| v * v).sum::<f64>().sqrt(),
                    Kind::Max => seen.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                } as f32);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn as_the_definition(rank in 1_usize..4, size in 1_usize..6, kernel in 1_usize..4, stride in 1_usize..4, before in 0_usize..3, after in 0_usize..3, ceil: bool, which in 0_usize..4) {
            let kinds = [Kind::Average { only_inside: true }, Kind::Average { only_inside: false }, Kind::L2, Kind::Max];
            let kind = kinds[which];
            let after = if ceil { before } else { after };
            let one = |i: usize| {
                let size = size + i;
                let room = (size + before + after).checked_sub(kernel)?;
                let places = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
                Some(Dim { size, kernel, stride, dilation: 1, before, after, places })
            };
            let Some(dims) = (0..rank).map(one).collect::<Option<Vec<Dim>>>() else { return Ok(()) };
            let n: usize = dims.iter().map(|d| d.size).product();
            let x: Vec<f32> = (0..2 * n).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let mut got = vec![0.0; 2 * dims.iter().map(|d| d.places).product::<usize>()];
            each_plane(kind, &x, &three(&dims), &mut got);
            prop_assert_eq!(got, plain(kind, &x, &dims));
        }
    }

    fn row() -> Tensor {
        floats(&[1, 1, 7], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    }

    /// Values of coremltools' own tests of these operations, and of `torch.nn.functional` for `ceil_mode`.
    #[test]
    fn values() {
        let c = |kind: &str| check(kind).input("x", row());
        let three = |c: Check| c.ints("kernel_sizes", &[3]).ints("strides", &[3]);
        let same = |kind: &str| three(c(kind)).text("pad_type", "same");
        same("avg_pool")
            .flag("exclude_padding_from_average", true)
            .gives(&[1, 1, 3], &[1.5, 4.0, 6.5]);
        same("avg_pool").gives(&[1, 1, 3], &[1.0, 4.0, 13.0 / 3.0]);
        same("max_pool").gives(&[1, 1, 3], &[2.0, 5.0, 7.0]);
        same("l2_pool").gives(&[1, 1, 3], &[2.236_068, 7.071_068, 9.219_544]);
        let square = || floats(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let c = |kind: &str| check(kind).input("x", square()).ints("kernel_sizes", &[2, 2]);
        let lower = |kind: &str| c(kind).text("pad_type", "same_lower");
        lower("avg_pool").gives(&[1, 1, 2, 2], &[0.25, 0.75, 1.0, 2.5]);
        lower("max_pool").gives(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        lower("l2_pool").gives(&[1, 1, 2, 2], &[1.0, 2.236_068, 3.162_277_7, 5.477_226]);
        let cube = floats(&[1, 1, 2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let c = check("avg_pool").input("x", cube).ints("kernel_sizes", &[2, 2, 2]);
        c.text("pad_type", "same_lower")
            .gives(&[1, 1, 2, 2, 2], &[0.125, 0.375, 0.5, 1.25, 0.75, 1.75, 2.0, 4.5]);
    }

    #[test]
    fn ceil_mode() {
        let c = |kind: &str| {
            let c = check(kind).input("x", row()).ints("kernel_sizes", &[4]).ints("strides", &[2]);
            c.flag("ceil_mode", true).text("pad_type", "custom")
        };
        c("max_pool").ints("pad", &[0, 0]).gives(&[1, 1, 3], &[4.0, 6.0, 7.0]);
        c("avg_pool").ints("pad", &[0, 0]).gives(&[1, 1, 3], &[2.5, 4.5, 6.0]);
        c("avg_pool").ints("pad", &[1, 1]).gives(&[1, 1, 4], &[1.5, 3.5, 5.5, 13.0 / 3.0]);
        c("max_pool").ints("pad", &[1, 1]).gives(&[1, 1, 4], &[3.0, 5.0, 7.0, 7.0]);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let c = || check("max_pool").input("x", row());
        let cases = [
            (
                c().ints("kernel_sizes", &[8]),
                "a window of 8 elements 1 apart does not fit 7 elements padded by 0 and 0",
            ),
            (
                c().ints("kernel_sizes", &[0]),
                "a window of 0 elements 1 apart does not fit 7 elements padded by 0 and 0",
            ),
            (c().ints("kernel_sizes", &[2, 2]), "a kernel of 2 numbers for 1 spatial dimensions"),
            (
                check("max_pool").input("x", floats(&[7], &[0.0; 7])).ints("kernel_sizes", &[1]),
                "shape [7] has no channels",
            ),
            (
                c().ints("kernel_sizes", &[1])
                    .text("pad_type", "custom")
                    .ints("pad", &[i32::MAX, i32::MAX]),
                "shape [1, 1, 4294967301] has more than 2147483648 elements",
            ),
        ];
        for (check, want) in cases {
            assert_eq!(check.fails(), format!("operation `out` (`max_pool`) failed: {want}"));
        }
        let planned = [
            (c().ints("kernel_sizes", &[-1]), "an extent of -1 in [-1]"),
            (c().ints("kernel_sizes", &[1]).ints("strides", &[0]), "strides [0]"),
            (
                c().ints("kernel_sizes", &[1]).text("pad_type", "custom").ints("pad", &[-1, 0]),
                "an extent of -1 in [-1, 0]",
            ),
            (
                c().ints("kernel_sizes", &[1]).text("pad_type", "same").flag("ceil_mode", true),
                "ceil_mode with a pad_type that fixes the result's shape",
            ),
            (c(), "parameter `kernel_sizes` is missing"),
        ];
        for (check, want) in planned {
            let failed = check.fails();
            assert!(
                failed.ends_with(&format!("(`max_pool`) cannot be planned: {want}")),
                "{failed}"
            );
        }
    }
}
