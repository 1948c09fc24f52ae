//! `non_maximum_suppression`: the boxes of highest score that do not overlap too much with one chosen before.
//!
//! What is left over in the results is 0, and −1 among the indices. Where no box reaches the threshold, the one of
//! highest score is chosen all the same, as coremltools' reference of the operation has it.

use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// The parameters, and which way the boxes lie.
struct Suppression {
    boxes: Operand,
    scores: Operand,
    iou: f64,
    threshold: f32,
    most: usize,
    per_class: bool,
    /// Boxes `[n, 4, B]` and scores `[n, K, B]`, rather than with the last two dimensions the other way round.
    boxes_last: bool,
}

/// Boxes `[n, B, 4]` and scores `[n, B, K]` above a threshold; the fourth result counts the boxes.
pub(super) fn ios15(site: &OpContext<'_, '_>) -> Built {
    let threshold = site.float("score_threshold", None)?;
    let suppression = Suppression::of(site, threshold, false)?;
    Ok(Kernel::many(move |run| suppression.run(run)))
}

/// Boxes `[n, 4, B]` and scores `[n, K, B]`; without a threshold and without the fourth result.
pub(super) fn ios17(site: &OpContext<'_, '_>) -> Built {
    let suppression = Suppression::of(site, f32::NEG_INFINITY, true)?;
    Ok(Kernel::many(move |run| {
        let mut results = suppression.run(run)?;
        results.truncate(3);
        Ok(results)
    }))
}

impl Suppression {
    fn of(site: &OpContext<'_, '_>, threshold: f32, boxes_last: bool) -> Result<Self, OpError> {
        let most = site.int("max_boxes", None)?;
        Ok(Self {
            boxes: site.input("boxes")?,
            scores: site.input("scores")?,
            iou: f64::from(site.float("iou_threshold", None)?),
            threshold,
            most: usize::try_from(most)
                .map_err(|_| OpError::invalid(format!("max_boxes of {most}")))?,
            per_class: site.bool("per_class_suppression", false)?,
            boxes_last,
        })
    }

    fn run(&self, run: &ExecContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (boxes, scores) = (run.get(&self.boxes), run.get(&self.scores));
        let shape_mismatch = || {
            let (b, s) = (boxes.shape(), scores.shape());
            OpError::invalid(format!("boxes of shape {b:?} with scores of shape {s:?}"))
        };
        let (&[batch, b0, b1], &[scored, s0, s1]) = (boxes.shape(), scores.shape()) else {
            return Err(shape_mismatch());
        };
        let ((n, four), (n_scored, classes)) =
            if self.boxes_last { ((b1, b0), (s1, s0)) } else { ((b0, b1), (s0, s1)) };
        if four != 4 || (batch, n) != (scored, n_scored) {
            return Err(shape_mismatch());
        }
        let shape = |width: usize| {
            if self.boxes_last { [batch, width, self.most] } else { [batch, self.most, width] }
        };
        let (box_shape, score_shape) = (shape(4), shape(classes));
        let mut out_boxes = vec![0.0; elements(&box_shape)?];
        let mut out_scores = vec![0.0; elements(&score_shape)?];
        let mut indices = vec![-1; batch * self.most];
        let mut counts = vec![0; batch];
        let (box_values, score_values) = (boxes.f32s()?, scores.f32s()?);
        for b in 0..batch {
            let boxes = Rows::new(&box_values[b * n * 4..][..n * 4], n, 4, self.boxes_last);
            let scores = Rows::new(
                &score_values[b * n * classes..][..n * classes],
                n,
                classes,
                self.boxes_last,
            );
            let chosen = self.choose(&boxes, &scores, n, classes);
            counts[b] = chosen.len() as i32;
            for (j, &i) in chosen.iter().enumerate() {
                indices[b * self.most + j] = i as i32;
                let place = |c: usize, width: usize| {
                    b * width * self.most
                        + if self.boxes_last { c * self.most + j } else { j * width + c }
                };
                for c in 0..4 {
                    out_boxes[place(c, 4)] = boxes.get(i, c);
                }
                for c in 0..classes {
                    out_scores[place(c, classes)] = scores.get(i, c);
                }
            }
        }
        Ok(vec![
            Tensor::f32(&box_shape, out_boxes),
            Tensor::f32(&score_shape, out_scores),
            Tensor::i32(&[batch, self.most], indices),
            Tensor::i32(&[batch], counts),
        ])
    }

    /// The indices of the chosen boxes, by falling score; of equal scores the first.
    fn choose(&self, boxes: &Rows<'_>, scores: &Rows<'_>, n: usize, classes: usize) -> Vec<usize> {
        // The best class of each box, the first of equals.
        let best: Vec<(f32, usize)> = (0..n)
            .map(|i| {
                let better = |best: (f32, usize), class: usize| {
                    let score = scores.get(i, class);
                    if score > best.0 { (score, class) } else { best }
                };
                (0..classes).fold((f32::NEG_INFINITY, 0), better)
            })
            .collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| best[j].0.total_cmp(&best[i].0));
        let corners: Vec<Corners> = (0..n).map(|i| Corners::of(boxes, i)).collect();
        let mut chosen: Vec<usize> = Vec::new();
        for &i in order.iter().filter(|&&i| best[i].0 >= self.threshold) {
            if chosen.len() == self.most {
                break;
            }
            let stays = |&j: &usize| {
                (self.per_class && best[i].1 != best[j].1)
                    || corners[i].overlap(&corners[j]) <= self.iou
            };
            if chosen.iter().all(stays) {
                chosen.push(i);
            }
        }
        if chosen.is_empty() {
            chosen.extend(order.first().filter(|_| self.most > 0));
        }
        chosen
    }
}

/// Rows of some numbers, or their transpose.
struct Rows<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Rows<'a> {
    fn new(values: &'a [f32], n: usize, width: usize, turned: bool) -> Self {
        let (row, column) = if turned { (1, n) } else { (width, 1) };
        Self { values, row, column }
    }

    fn get(&self, i: usize, c: usize) -> f32 {
        self.values[i * self.row + c * self.column]
    }
}

struct Corners {
    x: (f64, f64),
    y: (f64, f64),
}

impl Corners {
    /// Of a box as center and size.
    fn of(boxes: &Rows<'_>, i: usize) -> Self {
        let side = |c: usize| {
            let (center, half) = (f64::from(boxes.get(i, c)), f64::from(boxes.get(i, c + 2)) / 2.0);
            (center - half, center + half)
        };
        Self { x: side(0), y: side(1) }
    }

    /// What both cover in proportion to what either covers; 0 for a box without an area.
    fn overlap(&self, other: &Self) -> f64 {
        let area = |c: &Self| (c.x.1 - c.x.0).max(0.0) * (c.y.1 - c.y.0).max(0.0);
        let common = |a: (f64, f64), b: (f64, f64)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
        let both = common(self.x, other.x) * common(self.y, other.y);
        if both > 0.0 { both / (area(self) + area(other) - both) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use crate::interp::testing::{Check, check, floats};
    use crate::mil::DType;

    /// Boxes, scores, indices and their number.
    fn shows(check: Check, want: (&[f32], &[f32], &[i32], Option<i32>)) {
        let mut outs = vec![DType::F32, DType::F32, DType::I32];
        outs.extend(want.3.map(|_| DType::I32));
        // The results have different ranks, which `outs` cannot say, so nothing is declared of their shapes.
        let got = check.untyped(&outs).runs();
        assert_eq!(got[0].to_f32().unwrap(), want.0);
        assert_eq!(got[1].to_f32().unwrap(), want.1);
        assert_eq!(got[2].as_i32().unwrap(), want.2);
        assert_eq!(got.get(3).map(|n| n.as_i32().unwrap()[0]), want.3);
    }

    fn c(boxes: &[f32], scores: &[f32], most: i32) -> Check {
        let n = boxes.len() / 4;
        check("non_maximum_suppression")
            .opset("CoreML5")
            .input("boxes", floats(&[1, n, 4], boxes))
            .input("scores", floats(&[1, n, scores.len() / n.max(1)], scores))
            .int("max_boxes", most)
    }

    /// Values of coremltools' own test of this operation.
    #[test]
    fn the_highest_scores() {
        let boxes: Vec<f32> = (0..16).map(|i| (i / 4) as f32).collect();
        let c = c(&boxes, &[-3.5, 9.4, 2.3, 0.7], 2)
            .floats_const(&[("iou_threshold", 0.2), ("score_threshold", 0.4)])
            .flag("per_class_suppression", true);
        let (boxes, scores) = ([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0], [9.4, 2.3]);
        shows(c, (&boxes, &scores, &[1, 2], Some(2)));
    }

    /// Three boxes of which the first two cover a third together, the third lies aside.
    const THREE: [f32; 12] = [1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 9.0, 9.0, 1.0, 1.0];

    #[test]
    fn overlaps_and_classes() {
        let scores = [5.0, 1.0, 2.0, 4.0, 3.0, 0.0];
        let c = |iou: f32| {
            c(&THREE, &scores, 3).floats_const(&[("iou_threshold", iou), ("score_threshold", 0.0)])
        };
        let (a, b) = ([1.0, 1.0, 2.0, 2.0], [2.0, 1.0, 2.0, 2.0]);
        let last = [9.0, 9.0, 1.0, 1.0];
        let all = [a, b, last].concat();
        shows(c(0.34), (&all, &scores, &[0, 1, 2], Some(3)));
        let two = [a, last, [0.0; 4]].concat();
        shows(c(0.33), (&two, &[5.0, 1.0, 3.0, 0.0, 0.0, 0.0], &[0, 2, -1], Some(2)));
        let c = c(0.33).flag("per_class_suppression", true);
        shows(c, (&all, &scores, &[0, 1, 2], Some(3)));
    }

    #[test]
    fn nothing_above_the_threshold() {
        let c = c(&THREE, &[1.0, 2.0, f32::NAN], 2)
            .floats_const(&[("iou_threshold", 0.5), ("score_threshold", 7.0)]);
        let boxes = [2.0, 1.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        shows(c, (&boxes, &[2.0, 0.0], &[1, -1], Some(1)));
    }

    #[test]
    fn boxes_in_the_last_dimension() {
        let turned: Vec<f32> = (0..12).map(|i| THREE[i % 3 * 4 + i / 3]).collect();
        let c = check("non_maximum_suppression")
            .input("boxes", floats(&[1, 4, 3], &turned))
            .input("scores", floats(&[1, 2, 3], &[5.0, -2.0, 3.0, 1.0, -4.0, 0.0]))
            .int("max_boxes", 3)
            .floats_const(&[("iou_threshold", 0.2)]);
        let boxes = [1.0, 9.0, 0.0, 1.0, 9.0, 0.0, 2.0, 1.0, 0.0, 2.0, 1.0, 0.0];
        shows(c, (&boxes, &[5.0, 3.0, 0.0, 1.0, 0.0, 0.0], &[0, 2, -1], None));
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let outs = [DType::F32, DType::F32, DType::I32, DType::I32];
        let c = |most: i32| {
            c(&THREE, &[0.0; 3], most)
                .floats_const(&[("iou_threshold", f32::NAN), ("score_threshold", 0.0)])
                .untyped(&outs)
        };
        let none = check("non_maximum_suppression")
            .input("boxes", floats(&[1, 4, 0], &[]))
            .input("scores", floats(&[1, 0, 0], &[]))
            .int("max_boxes", 1)
            .floats_const(&[("iou_threshold", 0.2)]);
        shows(none, (&[0.0; 4], &[], &[-1], None));
        let shapes = |boxes: &[usize], scores: &[usize]| {
            let zeros = |shape: &[usize]| floats(shape, &vec![0.0; shape.iter().product()]);
            check("non_maximum_suppression")
                .input("boxes", zeros(boxes))
                .input("scores", zeros(scores))
                .int("max_boxes", 1)
                .floats_const(&[("iou_threshold", 0.2)])
                .untyped(&outs[..3])
        };
        let cases = [
            (c(-1), "cannot be planned: max_boxes of -1"),
            (c(i32::MAX), "failed: shape [1, 2147483647, 4] has more than 2147483648 elements"),
            (shapes(&[1, 4, 3], &[3]), "failed: boxes of shape [1, 4, 3] with scores of shape [3]"),
            (
                shapes(&[1, 4, 3], &[1, 2, 4]),
                "failed: boxes of shape [1, 4, 3] with scores of shape [1, 2, 4]",
            ),
            (
                shapes(&[1, 3, 4], &[1, 2, 4]),
                "failed: boxes of shape [1, 3, 4] with scores of shape [1, 2, 4]",
            ),
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }
}
