//! `crop_resize`: boxes of images, each resized to one extent.

use rayon::prelude::*;

use super::image_resizing::Mode;
use super::image_sampling::images;
use crate::interp::error::OpError;
use crate::interp::exec::{Kernel, Operand};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// `box_coordinate_mode`.
#[derive(Debug, Clone, Copy)]
struct Layout {
    center: bool,
    width_first: bool,
}

/// What the forms of `crop_resize` share.
struct Crop {
    x: Operand,
    height: usize,
    width: usize,
    normalized: bool,
    scale: f64,
    layout: Layout,
    mode: Mode,
    outside: f32,
}

impl Crop {
    fn of(site: &OpContext<'_, '_>, outside: f32) -> Result<Self, OpError> {
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
        // As `resize_bilinear`, points stay between the ends, also where the box is turned round.
        let (low, high) = ((end - start).min(0.0), (end - start).max(0.0));
        let point = |i: usize| {
            let at = start + self.mode.point(i, end - start + 1.0, out).clamp(low, high);
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
pub(super) fn ios15(site: &OpContext<'_, '_>) -> Built {
    crop_roi(site, 0.0)
}

/// The same with `pad_value` for what lies outside.
pub(super) fn ios16(site: &OpContext<'_, '_>) -> Built {
    crop_roi(site, site.float("pad_value", Some(0.0))?)
}

fn crop_roi(site: &OpContext<'_, '_>, outside: f32) -> Built {
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
pub(super) fn ios17(site: &OpContext<'_, '_>) -> Built {
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
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{Check, check, floats};

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_whole_image_as_resize_bilinear_has_it(height in 1_usize..6, width in 1_usize..6, to_height in 1_i32..8, to_width in 1_i32..8, mode in 0_usize..5) {
            let modes = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"];
            let values: Vec<f32> = (0..2 * height * width).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let x = || floats(&[1, 2, height, width], &values);
            let want = check("resize_bilinear")
                .input("x", x())
                .int("target_size_height", to_height)
                .int("target_size_width", to_width)
                .text("sampling_mode", modes[mode])
                .runs();
            let whole = [0.0, 0.0, (height - 1) as f32, (width - 1) as f32];
            let got = check("crop_resize")
                .input("x", x())
                .int("target_height", to_height)
                .int("target_width", to_width)
                .input("boxes", floats(&[1, 4], &whole))
                .text("sampling_mode", modes[mode])
                .runs();
            for (got, want) in got[0].to_f32().unwrap().iter().zip(want[0].to_f32().unwrap()) {
                // A few roundings of values up to 50.
                prop_assert!((got - want).abs() < 50.0 * 8.0 * f32::EPSILON, "{} for {}", got, want);
            }
        }
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let most = i32::MAX;
        let boxes = |n: usize| floats(&[n, 4], &vec![0.0; 4 * n]);
        let c = || crop(1, 1, false);
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
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }
}
