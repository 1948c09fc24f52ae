//! `affine`, `resample`, `crop_resize`: images read at points between their elements.

use rayon::prelude::*;

use super::image_resizing::Mode;
use crate::interp::error::OpError;
use crate::interp::run::{In, Kernel};
use crate::interp::site::Site;
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
    fn of(site: &Site<'_, '_>) -> Result<Self, OpError> {
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
fn images(x: &Tensor) -> Result<[usize; 4], OpError> {
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
pub(super) fn affine(site: &Site<'_, '_>) -> Built {
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
pub(super) fn resample(site: &Site<'_, '_>) -> Built {
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

/// `box_coordinate_mode`.
#[derive(Debug, Clone, Copy)]
struct Layout {
    center: bool,
    width_first: bool,
}

/// What the forms of `crop_resize` share.
struct Crop {
    x: In,
    height: usize,
    width: usize,
    normalized: bool,
    scale: f64,
    layout: Layout,
    mode: Mode,
    outside: f32,
}

impl Crop {
    fn of(site: &Site<'_, '_>, outside: f32) -> Result<Self, OpError> {
        let extent = |parameter: &str| -> Result<usize, OpError> {
            let n = site.int(parameter, Some(1))?;
            usize::try_from(n).map_err(|_| OpError::invalid(format!("{parameter} of {n}")))
        };
        let mode = site.text("box_coordinate_mode")?;
        let (center, width_first) = match mode.as_deref().unwrap_or("CORNERS_HEIGHT_FIRST") {
            "CORNERS_HEIGHT_FIRST" => (false, false),
            "CORNERS_WIDTH_FIRST" => (false, true),
            "CENTER_SIZE_HEIGHT_FIRST" => (true, false),
            "CENTER_SIZE_WIDTH_FIRST" => (true, true),
            other => return Err(OpError::Unsupported(format!("box_coordinate_mode `{other}`"))),
        };
        Ok(Self {
            x: site.input("x")?,
            height: extent("target_height")?,
            width: extent("target_width")?,
            normalized: site.bool("normalized_coordinates", false)?,
            scale: f64::from(site.float("spatial_scale", Some(1.0))?),
            layout: Layout { center, width_first },
            mode: Mode::of(site)?,
            outside,
        })
    }

    /// The points of one side of a box over an image of `n` elements along it.
    fn side(&self, (first, second): (f32, f32), n: usize, out: usize) -> Vec<f64> {
        let last = n as f64 - 1.0;
        let unit = if self.normalized { self.scale * last } else { self.scale };
        let (first, second) = (f64::from(first) * unit, f64::from(second) * unit);
        let (start, end) = if self.layout.center {
            (first - second / 2.0, first + second / 2.0)
        } else {
            (first, second)
        };
        // Roundings on the way must not move an end of the image out of it.
        let slack = 1e-6 * (last.abs() + 1.0);
        let point = |i: usize| {
            let at = start + self.mode.point(i, end - start + 1.0, out);
            if at < 0.0 && at > -slack || at > last && at < last + slack {
                at.clamp(0.0, last.max(0.0))
            } else {
                at
            }
        };
        (0..out).map(point).collect()
    }

    /// Parts of images, `[parts, channels, height, width]`: for each the image and its box.
    fn parts(
        &self,
        x: &Tensor,
        parts: &[(usize, [f32; 4])],
    ) -> Result<(Vec<usize>, Vec<f32>), OpError> {
        let [batch, channels, height, width] = images(x)?;
        let shape = vec![parts.len(), channels, self.height, self.width];
        let n = elements(&shape)?;
        if let Some((image, _)) = parts.iter().find(|p| p.0 >= batch) {
            return Err(OpError::invalid(format!("image {image} of {batch}")));
        }
        let mut out = vec![0.0; n];
        if n == 0 {
            return Ok((shape, out));
        }
        let values = x.f32s()?;
        let part = |(out, &(image, corners)): (&mut [f32], &(usize, [f32; 4]))| {
            let [a, b, c, d] = corners;
            let (across, down) =
                if self.layout.width_first { ((a, c), (b, d)) } else { ((b, d), (a, c)) };
            let rows = self.side(down, height, self.height);
            let columns = self.side(across, width, self.width);
            let around = |at: f64, n: usize| {
                let low = at as usize;
                (low, (low + 1).min(n - 1), at - low as f64)
            };
            let inside = |at: f64, n: usize| at >= 0.0 && at <= n as f64 - 1.0;
            for (channel, out) in out.chunks_mut(self.height * self.width).enumerate() {
                let image =
                    &values[(image * channels + channel) * height * width..][..height * width];
                for (out, &y) in out.chunks_mut(self.width).zip(&rows) {
                    for (out, &x) in out.iter_mut().zip(&columns) {
                        if !(inside(y, height) && inside(x, width)) {
                            *out = self.outside;
                            continue;
                        }
                        let ((top, bottom, down), (left, right, across)) =
                            (around(y, height), around(x, width));
                        let row = |y: usize| {
                            let at = |x: usize| f64::from(image[y * width + x]);
                            if across == 0.0 {
                                at(left)
                            } else {
                                at(left) * (1.0 - across) + at(right) * across
                            }
                        };
                        *out = (if down == 0.0 {
                            row(top)
                        } else {
                            row(top) * (1.0 - down) + row(bottom) * down
                        }) as f32;
                    }
                }
            }
        };
        out.par_chunks_mut(channels * self.height * self.width).zip(parts).for_each(part);
        Ok((shape, out))
    }
}

/// Boxes `[N, 1, 4, 1, 1]` of every image, or `[N, 1, 5, 1, 1]` each of the image it names first; outside is 0.
pub(super) fn crop_resize_ios15(site: &Site<'_, '_>) -> Built {
    crop_roi(site, 0.0)
}

/// The same with `pad_value` for what lies outside.
pub(super) fn crop_resize_ios16(site: &Site<'_, '_>) -> Built {
    crop_roi(site, site.float("pad_value", Some(0.0))?)
}

fn crop_roi(site: &Site<'_, '_>, outside: f32) -> Built {
    let (crop, roi) = (Crop::of(site, outside)?, site.input("roi")?);
    Ok(Kernel::one(move |run| {
        let (x, roi) = (run.get(&crop.x), run.get(&roi));
        let [batch, ..] = images(x)?;
        let &[n, 1, size @ (4 | 5), 1, 1] = roi.shape() else {
            return Err(OpError::invalid(format!("boxes of shape {:?}", roi.shape())));
        };
        let numbers = roi.f32s()?;
        let of_each = if size == 4 { batch } else { 1 };
        elements(&[n, of_each])?;
        let mut parts = Vec::with_capacity(n * of_each);
        for numbers in numbers.chunks(size) {
            if let &[a, b, c, d] = numbers {
                parts.extend((0..batch).map(|image| (image, [a, b, c, d])));
            } else if let &[image, a, b, c, d] = numbers {
                if image < 0.0 || image.fract() != 0.0 {
                    return Err(OpError::invalid(format!("image {image} of {batch}")));
                }
                parts.push((image as usize, [a, b, c, d]));
            }
        }
        let (shape, out) = crop.parts(x, &parts)?;
        Ok(Tensor::f32(&[n, of_each, shape[1], shape[2], shape[3]], out))
    }))
}

/// Boxes `[N, 4]`, each of the image that `box_indices` names, or of the one at its own place.
pub(super) fn crop_resize_ios17(site: &Site<'_, '_>) -> Built {
    let crop = Crop::of(site, site.float("pad_value", Some(0.0))?)?;
    let (boxes, indices) = (site.input("boxes")?, site.optional("box_indices")?);
    Ok(Kernel::one(move |run| {
        let (x, boxes) = (run.get(&crop.x), run.get(&boxes));
        let [batch, ..] = images(x)?;
        let &[n, 4] = boxes.shape() else {
            return Err(OpError::invalid(format!("boxes of shape {:?}", boxes.shape())));
        };
        let numbers = boxes.to_f32().ok_or_else(|| OpError::invalid("strings are not numbers"))?;
        let named = indices.as_ref().map(|i| run.get(i).i32s()).transpose()?;
        if let Some(named) = named.filter(|i| i.len() != n) {
            return Err(OpError::invalid(format!("{} box_indices for {n} boxes", named.len())));
        }
        let image = |i: usize| match named {
            None => Ok(i),
            Some(named) => usize::try_from(named[i])
                .map_err(|_| OpError::invalid(format!("image {} of {batch}", named[i]))),
        };
        let (numbers, _) = numbers.as_chunks::<4>();
        let parts = numbers.iter().enumerate().map(|(i, &corners)| Ok((image(i)?, corners)));
        let (shape, out) = crop.parts(x, &parts.collect::<Result<Vec<_>, OpError>>()?)?;
        Ok(Tensor::f32(&shape, out))
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

    fn square() -> Tensor {
        let values: Vec<f32> = (1..17).map(|i| i as f32).collect();
        floats(&[1, 1, 4, 4], &values)
    }

    fn crop(height: i32, width: i32, normalized: bool) -> Check {
        check("crop_resize")
            .input("x", square())
            .int("target_height", height)
            .int("target_width", width)
            .flag("normalized_coordinates", normalized)
            .text("sampling_mode", "ALIGN_CORNERS")
    }

    /// Values of coremltools' own tests of this operation.
    #[test]
    fn boxes() {
        let c = |n: i32, normalized, roi: &[f32]| {
            let roi = floats(&[1, 1, roi.len(), 1, 1], roi);
            crop(n, n, normalized).opset("CoreML5").input("roi", roi)
        };
        c(2, false, &[1.0, 1.0, 2.0, 2.0]).gives(&[1, 1, 1, 2, 2], &[6.0, 7.0, 10.0, 11.0]);
        c(1, false, &[1.0, 1.0, 2.0, 2.0]).gives(&[1, 1, 1, 1, 1], &[8.5]);
        c(2, false, &[2.0, 2.0, 1.0, 1.0]).gives(&[1, 1, 1, 2, 2], &[11.0, 10.0, 7.0, 6.0]);
        let third = 1.0 / 3.0;
        c(2, true, &[0.0, 0.0, 0.0, third, third]).gives(&[1, 1, 1, 2, 2], &[1.0, 2.0, 5.0, 6.0]);
        let p = 10.0;
        let want = [3.1, 5.2, p, p, p, 7.9, p, 13.9, 2.2, 3.1, 9.4, 10.3];
        let roi = [0.0, 0.1, 0.3, 1.3, 1.0, 0.0, 0.5, 1.8, 1.0, 0.3, 0.0, 0.0, 0.4, 0.6, 0.7];
        crop(2, 2, true)
            .opset("CoreML6")
            .input("roi", floats(&[3, 1, 5, 1, 1], &roi))
            .floats_const(&[("pad_value", p)])
            .gives(&[3, 1, 1, 2, 2], &want);
        let boxes: Vec<f32> = roi.chunks(5).flat_map(|b| b[1..].to_vec()).collect();
        crop(2, 2, true)
            .input("boxes", floats(&[3, 4], &boxes))
            .input("box_indices", Tensor::i32(&[3], vec![0; 3]))
            .floats_const(&[("pad_value", p)])
            .gives(&[3, 1, 2, 2], &want);
    }

    #[test]
    fn the_same_box_in_every_layout() {
        let cases = [
            ("CORNERS_HEIGHT_FIRST", [0.0, 1.0, 2.0, 3.0]),
            ("CORNERS_WIDTH_FIRST", [1.0, 0.0, 3.0, 2.0]),
            ("CENTER_SIZE_HEIGHT_FIRST", [1.0, 2.0, 2.0, 2.0]),
            ("CENTER_SIZE_WIDTH_FIRST", [2.0, 1.0, 2.0, 2.0]),
        ];
        for (layout, numbers) in cases {
            crop(3, 2, false)
                .input("boxes", floats(&[1, 4], &numbers))
                .text("box_coordinate_mode", layout)
                .gives(&[1, 1, 3, 2], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        }
        crop(2, 2, false)
            .input("boxes", Tensor::i32(&[1, 4], vec![0, 0, 6, 6]))
            .floats_const(&[("spatial_scale", 0.5)])
            .text("sampling_mode", "UNALIGN_CORNERS")
            .gives(&[1, 1, 2, 2], &[3.5, 5.5, 11.5, 13.5]);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let most = i32::MAX;
        let boxes = |n: usize| floats(&[n, 4], &vec![0.0; 4 * n]);
        let c = || crop(1, 1, false);
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
        let nan = crop(1, 1, false)
            .opset("CoreML6")
            .input("roi", floats(&[1, 1, 5, 1, 1], &[f32::NAN; 5]));
        let flat =
            check("crop_resize").input("x", floats(&[4], &[0.0; 4])).input("boxes", boxes(1));
        let cases = [
            (c().input("boxes", boxes(2)), "failed: image 1 of 1"),
            (
                c().input("boxes", boxes(1)).input("box_indices", Tensor::i32(&[1], vec![-1])),
                "failed: image -1 of 1",
            ),
            (
                c().input("boxes", boxes(1)).input("box_indices", Tensor::i32(&[2], vec![0; 2])),
                "failed: 2 box_indices for 1 boxes",
            ),
            (c().input("boxes", floats(&[4], &[0.0; 4])), "failed: boxes of shape [4]"),
            (nan, "failed: image NaN of 1"),
            (flat, "failed: shape [4] is no batch of images"),
            (
                crop(most, most, false).input("boxes", boxes(1)),
                "failed: shape [1, 1, 2147483647, 2147483647] has more than 2147483648 elements",
            ),
            (crop(-1, 1, false).input("boxes", boxes(1)), "cannot be planned: target_height of -1"),
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
