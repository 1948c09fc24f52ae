//! `affine` and `resample`: images read at points between their elements.

use rayon::prelude::*;

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// What lies outside an image.
#[derive(Debug, Clone, Copy)]
enum Border {
    /// One value.
    Constant(f32),
    /// The nearest element of the edge.
    Edge,
    /// The image turned round at its outermost elements, which occur once.
    Reflection,
    /// The image turned round at its edges, so that its outermost elements occur twice.
    Symmetric,
}

/// `coordinates_mode` with `align_corners`.
#[derive(Debug, Clone, Copy)]
enum Coordinates {
    Elements,
    /// From −1 to 1, at the middles of the outermost elements or at their edges.
    MinusOneToOne {
        middles: bool,
    },
    ZeroToOne {
        middles: bool,
    },
}

impl Coordinates {
    /// A coordinate as a place among `n` elements.
    fn place(self, c: f64, n: usize) -> f64 {
        let n = n as f64;
        match self {
            Self::Elements => c,
            Self::MinusOneToOne { middles: true } => (c + 1.0) * (n - 1.0) / 2.0,
            Self::MinusOneToOne { middles: false } => ((c + 1.0) * n - 1.0) / 2.0,
            Self::ZeroToOne { middles: true } => c * (n - 1.0),
            Self::ZeroToOne { middles: false } => c * n - 0.5,
        }
    }

    /// The coordinate of element `i` of `n`; a single one lies in the middle.
    fn of(self, i: usize, n: usize) -> f64 {
        let (i, n) = (i as f64, n as f64);
        match self {
            Self::Elements => i,
            Self::MinusOneToOne { middles: true } if n == 1.0 => 0.0,
            Self::MinusOneToOne { middles: true } => i * 2.0 / (n - 1.0) - 1.0,
            Self::MinusOneToOne { middles: false } => (i * 2.0 + 1.0) / n - 1.0,
            Self::ZeroToOne { middles: true } if n == 1.0 => 0.5,
            Self::ZeroToOne { middles: true } => i / (n - 1.0),
            Self::ZeroToOne { middles: false } => (i + 0.5) / n,
        }
    }
}

/// How an image is read at a point.
#[derive(Debug, Clone, Copy)]
struct Sampler {
    nearest: bool,
    border: Border,
    coordinates: Coordinates,
}

impl Sampler {
    fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        let text = |parameter: &str| -> Result<String, OpError> {
            let text =
                site.text(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))?;
            Ok(text.to_lowercase())
        };
        let unknown =
            |parameter: &str, value: &str| OpError::Unsupported(format!("{parameter} `{value}`"));
        let nearest = match text("sampling_mode")?.as_str() {
            "bilinear" => false,
            "nearest" => true,
            other => return Err(unknown("sampling_mode", other)),
        };
        let border = match text("padding_mode")?.as_str() {
            "constant" => Border::Constant(site.float("padding_value", Some(0.0))?),
            "border" => Border::Edge,
            "reflection" => Border::Reflection,
            "symmetric" => Border::Symmetric,
            other => return Err(unknown("padding_mode", other)),
        };
        let middles = site.bool("align_corners", true)?;
        let coordinates = match text("coordinates_mode")?.as_str() {
            "unnormalized" => Coordinates::Elements,
            "normalized_minus_one_to_one" => Coordinates::MinusOneToOne { middles },
            "normalized_zero_to_one" => Coordinates::ZeroToOne { middles },
            other => return Err(unknown("coordinates_mode", other)),
        };
        Ok(Self { nearest, border, coordinates })
    }

    /// A place moved onto the `n` elements, except where a constant lies around them.
    fn inside(self, at: f64, n: usize) -> f64 {
        let last = n as f64 - 1.0;
        let turned = match self.border {
            Border::Constant(_) => return at,
            Border::Edge => at,
            Border::Reflection if n == 1 => 0.0,
            Border::Reflection => {
                let t = at.rem_euclid(2.0 * last);
                if t > last { 2.0 * last - t } else { t }
            }
            Border::Symmetric => {
                let (t, n) = ((at + 0.5).rem_euclid(2.0 * n as f64), n as f64);
                (if t > n { 2.0 * n - t } else { t }) - 0.5
            }
        };
        turned.clamp(0.0, last)
    }

    /// The value at row `y` and column `x` of an image that has elements.
    fn value(self, image: &[f32], (height, width): (usize, usize), (y, x): (f64, f64)) -> f32 {
        let (y, x) = (self.inside(y, height), self.inside(x, width));
        let outside = if let Border::Constant(v) = self.border { v } else { f32::NAN };
        // Also where a coordinate is no number: nothing has a place then.
        let near = |at: f64, n: usize| at > -1.0 && at < n as f64;
        if !(near(y, height) && near(x, width)) {
            return outside;
        }
        let element = |y: i64, x: i64| match (usize::try_from(y), usize::try_from(x)) {
            (Ok(y), Ok(x)) if y < height && x < width => image[y * width + x],
            _ => outside,
        };
        if self.nearest {
            // Halves go to even places, as in PyTorch.
            return element(y.round_ties_even() as i64, x.round_ties_even() as i64);
        }
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let mut sum = 0.0;
        for (i, part) in [(0, 1.0 - down), (1, down)] {
            for (j, share) in [(0, 1.0 - right), (1, right)] {
                let weight: f64 = part * share;
                // An element without a part must not show, not even by an infinity.
                if weight != 0.0 {
                    sum += weight * f64::from(element(top as i64 + i, left as i64 + j));
                }
            }
        }
        sum as f32
    }
}

/// The four extents of a batch of images.
pub(super) fn images(x: &Tensor) -> Result<[usize; 4], OpError> {
    <[usize; 4]>::try_from(x.shape())
        .map_err(|_| OpError::invalid(format!("shape {:?} is no batch of images", x.shape())))
}

/// Each image read at points of its own: `points` gives those of one image, row by row.
fn read(
    x: &Tensor,
    (to_height, to_width): (usize, usize),
    sampler: Sampler,
    points: impl Fn(usize) -> Vec<(f64, f64)>,
) -> Result<Tensor, OpError> {
    let [batch, channels, height, width] = images(x)?;
    let shape = [batch, channels, to_height, to_width];
    let n = elements(&shape)?;
    let mut out = vec![0.0; n];
    if n > 0 {
        if height == 0 || width == 0 {
            return Err(OpError::invalid(format!("shape {:?} has no elements", x.shape())));
        }
        let values = x.f32s()?;
        for (b, out) in out.chunks_mut(channels * to_height * to_width).enumerate() {
            let points = points(b);
            let row = |(i, out): (usize, &mut [f32])| {
                let (channel, line) = (i / to_height, i % to_height);
                let image = &values[(b * channels + channel) * height * width..][..height * width];
                for (out, &point) in out.iter_mut().zip(&points[line * to_width..]) {
                    *out = sampler.value(image, (height, width), point);
                }
            };
            out.par_chunks_mut(to_width).enumerate().for_each(row);
        }
    }
    Ok(Tensor::f32(&shape, out))
}

/// Each element from the point where a matrix of two rows puts it.
pub(super) fn affine(site: &OpContext<'_, '_>) -> Built {
    let (x, matrix) = (site.input("x")?, site.input("transform_matrix")?);
    let extent = |parameter: &str| -> Result<usize, OpError> {
        let n = site.int(parameter, None)?;
        usize::try_from(n).map_err(|_| OpError::invalid(format!("{parameter} of {n}")))
    };
    let (to_height, to_width) = (extent("output_height")?, extent("output_width")?);
    let sampler = Sampler::of(site)?;
    Ok(Kernel::one(move |run| {
        let (x, matrix) = (run.get(&x), run.get(&matrix));
        let [batch, _, height, width] = images(x)?;
        let each = match *matrix.shape() {
            [n, 6] if n == batch || n == 1 => n > 1,
            _ => {
                let m = matrix.shape();
                return Err(OpError::invalid(format!(
                    "matrices of shape {m:?} for {batch} images"
                )));
            }
        };
        let matrix = matrix.f32s()?;
        let c = sampler.coordinates;
        read(x, (to_height, to_width), sampler, |b| {
            let m: Vec<f64> =
                matrix[if each { b * 6 } else { 0 }..][..6].iter().map(|&v| f64::from(v)).collect();
            let mut points = Vec::with_capacity(to_height * to_width);
            for i in 0..to_height {
                for j in 0..to_width {
                    let (y, x) = (c.of(i, to_height), c.of(j, to_width));
                    let (to_x, to_y) = (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]);
                    points.push((c.place(to_y, height), c.place(to_x, width)));
                }
            }
            points
        })
    }))
}

/// Each element from the point, column and row, that stands at its place.
pub(super) fn resample(site: &OpContext<'_, '_>) -> Built {
    let (x, coordinates) = (site.input("x")?, site.input("coordinates")?);
    let sampler = Sampler::of(site)?;
    Ok(Kernel::one(move |run| {
        let (x, points) = (run.get(&x), run.get(&coordinates));
        let [batch, _, height, width] = images(x)?;
        let (to_height, to_width) = match *points.shape() {
            [n, h, w, 2] if n == batch => (h, w),
            _ => {
                let p = points.shape();
                return Err(OpError::invalid(format!("points of shape {p:?} for {batch} images")));
            }
        };
        let points = points.to_f32().ok_or_else(|| OpError::invalid("strings are not numbers"))?;
        let c = sampler.coordinates;
        read(x, (to_height, to_width), sampler, |b| {
            let pairs = points.chunks(2).skip(b * to_height * to_width).take(to_height * to_width);
            pairs
                .map(|p| (c.place(f64::from(p[1]), height), c.place(f64::from(p[0]), width)))
                .collect()
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{Check, check, floats};

    fn image() -> Tensor {
        floats(&[1, 1, 2, 2], &[11.0, 22.0, 33.0, 44.0])
    }

    fn modes(check: Check, sampling: &str, padding: &str, coordinates: &str, align: bool) -> Check {
        check
            .text("sampling_mode", sampling)
            .text("padding_mode", padding)
            .text("coordinates_mode", coordinates)
            .flag("align_corners", align)
    }

    /// Values of coremltools' own tests of this operation.
    #[test]
    fn points_inside_and_outside() {
        let points = [-1.0, -2.0, -3.7, -1.0, 0.0, 0.0, 3.5, 1.2];
        let cases = [
            (
                "bilinear",
                "constant",
                "normalized_minus_one_to_one",
                true,
                [8.585, 6.17, 27.5, 6.17],
            ),
            ("nearest", "border", "unnormalized", false, [11.0, 11.0, 11.0, 44.0]),
            ("bilinear", "reflection", "normalized_zero_to_one", true, [22.0, 36.3, 11.0, 34.1]),
            ("nearest", "symmetric", "normalized_zero_to_one", false, [22.0, 33.0, 11.0, 33.0]),
        ];
        for (sampling, padding, coordinates, align, want) in cases {
            let c = check("resample").input("x", image()).floats_const(&[("padding_value", 6.17)]);
            modes(c, sampling, padding, coordinates, align)
                .input("coordinates", floats(&[1, 2, 2, 2], &points))
                .gives(&[1, 1, 2, 2], &want);
        }
        let ints = Tensor::i32(&[1, 1, 2, 2], vec![0, 0, 1, 1]);
        let c = check("resample").input("x", image()).input("coordinates", ints);
        modes(c, "bilinear", "constant", "normalized_minus_one_to_one", true)
            .gives(&[1, 1, 1, 2], &[27.5, 44.0]);
    }

    /// A row 1, 2, 3 read at its places and beyond, as coremltools' documentation of `resample` continues it.
    #[test]
    fn borders_as_documented() {
        let cases = [
            ("constant", [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0]),
            ("border", [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0]),
            ("reflection", [2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]),
            ("symmetric", [3.0, 2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0]),
        ];
        let places: Vec<f32> = (-3..6).flat_map(|x| [x as f32, 0.0]).collect();
        for (padding, want) in cases {
            for sampling in ["bilinear", "nearest"] {
                let c = check("resample").input("x", floats(&[1, 1, 1, 3], &[1.0, 2.0, 3.0]));
                modes(c, sampling, padding, "unnormalized", true)
                    .input("coordinates", floats(&[1, 1, 9, 2], &places))
                    .gives(&[1, 1, 1, 9], &want);
            }
        }
    }

    #[test]
    fn points_that_are_no_numbers() {
        let points = [f32::NAN, 0.0, f32::INFINITY, 0.0, 0.0, f32::NEG_INFINITY, 1e30, -1e30];
        for padding in ["constant", "border", "reflection", "symmetric"] {
            for sampling in ["bilinear", "nearest"] {
                let c = check("resample").input("x", image());
                let got = modes(c, sampling, padding, "unnormalized", true)
                    .input("coordinates", floats(&[1, 2, 2, 2], &points))
                    .outs(&[crate::mil::DType::F32], 4)
                    .runs();
                assert_eq!(got[0].shape(), [1, 1, 2, 2]);
            }
        }
    }

    /// Values of coremltools' own test of this operation.
    #[test]
    fn matrices() {
        let c = |height, width| {
            let c = check("affine")
                .input("x", image())
                .input("transform_matrix", floats(&[1, 6], &[-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]))
                .int("output_height", height)
                .int("output_width", width);
            modes(c, "bilinear", "constant", "normalized_minus_one_to_one", true)
        };
        c(3, 3).gives(&[1, 1, 3, 3], &[10.7525, 2.5025, 0.0, 1.98, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let want = [10.7525, 5.94, 2.5025, 0.44, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        c(2, 5).gives(&[1, 1, 2, 5], &want);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let most = i32::MAX;
        let resample = |coordinates: &[usize]| {
            let n = coordinates.iter().product();
            let c = check("resample").input("x", image());
            modes(c, "bilinear", "constant", "unnormalized", true)
                .input("coordinates", floats(coordinates, &vec![0.0; n]))
        };
        let affine = |matrix: &[usize], height: i32| {
            let n = matrix.iter().product();
            let c = check("affine")
                .input("x", image())
                .int("output_height", height)
                .int("output_width", most);
            modes(c, "bilinear", "constant", "unnormalized", true)
                .input("transform_matrix", floats(matrix, &vec![0.0; n]))
        };
        let cases = [
            (resample(&[1, 1, 1, 3]), "failed: points of shape [1, 1, 1, 3] for 1 images"),
            (resample(&[2, 1, 1, 2]), "failed: points of shape [2, 1, 1, 2] for 1 images"),
            (affine(&[2, 6], 1), "failed: matrices of shape [2, 6] for 1 images"),
            (
                affine(&[1, 6], most),
                "failed: shape [1, 1, 2147483647, 2147483647] has more than 2147483648 elements",
            ),
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }
}
