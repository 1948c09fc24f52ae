//! `einsum`: any product of two tensors named by their dimensions, as one batch of matrix products.
//!
//! Core ML documents two equations, `nchw,nwhu->nchu` and `chw,whr->chr`; here every equation of two operands runs.
//! Labels fall into four groups: in the result and both operands (batch), in the result and one (rows, columns), and
//! not in the result (summed). Each operand is read once in the order batch, rows, summed, columns; a dimension of one
//! place stretches, and a label that an operand has twice walks its diagonal.

use rayon::prelude::*;

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::gemm::{Matrix, multiply};
use crate::interp::kernel::strided::{gather, steps, transpose};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// Rows of the left side that one thread multiplies at a time.
const BAND: usize = 64;

/// The labels of an equation.
#[derive(Debug, Clone)]
struct Equation {
    operands: [Vec<char>; 2],
    result: Vec<char>,
}

impl Equation {
    fn parse(text: &str) -> Result<Self, OpError> {
        let unsupported = || OpError::Unsupported(format!("equation `{text}`"));
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (operands, result) = plain.split_once("->").ok_or_else(unsupported)?;
        let (a, b) = operands.split_once(',').ok_or_else(unsupported)?;
        let labels = |side: &str| -> Option<Vec<char>> {
            side.chars().map(|c| c.is_ascii_alphabetic().then_some(c)).collect()
        };
        let (Some(a), Some(b), Some(result)) = (labels(a), labels(b), labels(result)) else {
            return Err(unsupported());
        };
        let known = |c: &char| a.contains(c) || b.contains(c);
        let twice = result.iter().enumerate().any(|(i, c)| result[..i].contains(c));
        if twice || !result.iter().all(known) {
            return Err(OpError::invalid(format!("equation `{text}` does not name its result")));
        }
        Ok(Self { operands: [a, b], result })
    }

    /// Labels in the order of their groups: batch, rows, summed, columns.
    fn groups(&self) -> [Vec<char>; 4] {
        let [a, b] = &self.operands;
        let result = |inside: &dyn Fn(&char) -> bool| -> Vec<char> {
            self.result.iter().copied().filter(|c| inside(c)).collect()
        };
        let mut summed: Vec<char> = Vec::new();
        for &c in a.iter().chain(b) {
            if !self.result.contains(&c) && !summed.contains(&c) {
                summed.push(c);
            }
        }
        [
            result(&|c| a.contains(c) && b.contains(c)),
            result(&|c| a.contains(c) && !b.contains(c)),
            summed,
            result(&|c| !a.contains(c)),
        ]
    }

    /// The extent of a label: the one that is not 1, where the operands agree so far.
    fn extent(&self, label: char, shapes: [&[usize]; 2]) -> Result<usize, OpError> {
        let mut extent = 1;
        for (labels, shape) in self.operands.iter().zip(shapes) {
            for (_, &n) in labels.iter().zip(shape).filter(|(l, _)| **l == label) {
                if extent != 1 && n != 1 && n != extent {
                    return Err(OpError::invalid(format!(
                        "shapes {:?} and {:?} do not agree on `{label}`",
                        shapes[0], shapes[1]
                    )));
                }
                extent = if extent == 1 { n } else { extent };
            }
        }
        Ok(extent)
    }
}

/// A product by an equation.
pub(super) fn einsum(site: &OpContext<'_, '_>) -> Built {
    let values = site.inputs("values")?;
    let text = site.text("equation")?.ok_or_else(|| OpError::Missing("equation".to_owned()))?;
    let equation = Equation::parse(&text)?;
    let Ok([x, y]) = <[_; 2]>::try_from(values) else {
        return Err(OpError::Unsupported("a number of operands that is not 2".to_owned()));
    };
    Ok(Kernel::one(move |run| contract(&equation, run.get(&x), run.get(&y))))
}

fn contract(equation: &Equation, x: &Tensor, y: &Tensor) -> Result<Tensor, OpError> {
    let shapes = [x.shape(), y.shape()];
    for (labels, shape) in equation.operands.iter().zip(shapes) {
        if labels.len() != shape.len() {
            let labels: String = labels.iter().collect();
            return Err(OpError::invalid(format!("`{labels}` for shape {shape:?}")));
        }
    }
    let groups = equation.groups();
    let extents = |labels: &[char]| -> Result<Vec<usize>, OpError> {
        labels.iter().map(|&c| equation.extent(c, shapes)).collect()
    };
    let [batch, rows, summed, columns] = &groups;
    let sizes = [extents(batch)?, extents(rows)?, extents(summed)?, extents(columns)?];
    let [n_batch, m, k, n] =
        [elements(&sizes[0])?, elements(&sizes[1])?, elements(&sizes[2])?, elements(&sizes[3])?];
    let a = sorted(equation, 0, x, &[batch, rows, summed], &[&sizes[0], &sizes[1], &sizes[2]])?;
    let b = sorted(equation, 1, y, &[batch, summed, columns], &[&sizes[0], &sizes[2], &sizes[3]])?;
    let mut out = vec![0.0; elements(&[n_batch, m, n])?];
    if !out.is_empty() && k > 0 {
        let bands = m.div_ceil(BAND);
        let parts = out.chunks_mut(m * n).flat_map(|whole| whole.chunks_mut(BAND * n)).enumerate();
        parts.collect::<Vec<_>>().into_par_iter().for_each(|(i, part)| {
            let (batch, first) = (i / bands, i % bands * BAND);
            let left = Matrix::new(&a[(batch * m + first) * k..], k, 1);
            let right = Matrix::new(&b[batch * k * n..], n, 1);
            multiply((part.len() / n, n, k), left, right, part, n, false);
        });
    }
    let order: Vec<char> = [batch, rows, columns].into_iter().flatten().copied().collect();
    let shape: Vec<usize> =
        [&sizes[0], &sizes[1], &sizes[3]].into_iter().flatten().copied().collect();
    let place = |c: &char| order.iter().position(|o| o == c);
    let perm: Vec<usize> = equation.result.iter().filter_map(place).collect();
    if perm.is_sorted() {
        return Ok(Tensor::f32(&shape, out));
    }
    let to: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    Ok(Tensor::f32(&to, transpose(&out, &shape, &perm)))
}

/// The elements of an operand with its labels in the order of `groups`, stretched to `sizes`.
fn sorted<'t>(
    equation: &Equation,
    operand: usize,
    tensor: &'t Tensor,
    groups: &[&Vec<char>],
    sizes: &[&Vec<usize>],
) -> Result<std::borrow::Cow<'t, [f32]>, OpError> {
    let labels = &equation.operands[operand];
    let own = steps(tensor.shape());
    // Along a label that the operand has twice both places move; where it has one place, none does.
    let step = |label: &char| -> isize {
        let places = labels.iter().zip(&own).zip(tensor.shape());
        places
            .filter(|((l, _), n)| *l == label && **n != 1)
            .map(|((_, s), _)| s.cast_signed())
            .sum()
    };
    let step: Vec<isize> = groups.iter().flat_map(|g| g.iter()).map(step).collect();
    let shape: Vec<usize> = sizes.iter().flat_map(|s| s.iter()).copied().collect();
    let values = tensor.f32s()?;
    let n = elements(&shape)?;
    let row_major = steps(&shape);
    let in_place = shape.iter().zip(&step).zip(&row_major);
    let stays = n == values.len()
        && in_place.into_iter().all(|((&n, &s), &r)| n == 1 || s == r.cast_signed());
    if stays { Ok(values) } else { Ok(gather(&values, 0, &shape, &step).into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::testing::{check, floats};

    /// The sum over every combination of labels, one term at a time.
    fn plain(equation: &Equation, x: &Tensor, y: &Tensor) -> (Vec<usize>, Vec<f64>) {
        let shapes = [x.shape(), y.shape()];
        let mut labels = equation.result.clone();
        labels.extend(&equation.groups()[2]);
        let extents: Vec<usize> =
            labels.iter().map(|&c| equation.extent(c, shapes).unwrap()).collect();
        let kept = equation.result.len();
        let mut out = vec![0.0; extents[..kept].iter().product()];
        let (x_values, y_values) = (x.to_f32().unwrap(), y.to_f32().unwrap());
        for mut at in 0..extents.iter().product() {
            let mut place = vec![0; extents.len()];
            for (p, &n) in place.iter_mut().zip(&extents).rev() {
                (*p, at) = (at % n, at / n);
            }
            let element = |operand: usize, values: &[f32]| {
                let sides = equation.operands[operand].iter().zip(shapes[operand]);
                let index = sides.fold(0, |index, (c, &n)| {
                    let p = place[labels.iter().position(|l| l == c).unwrap()];
                    index * n + if n == 1 { 0 } else { p }
                });
                f64::from(values[index])
            };
            let to = place[..kept].iter().zip(&extents).fold(0, |to, (p, n)| to * n + p);
            out[to] += element(0, &x_values) * element(1, &y_values);
        }
        (extents[..kept].to_vec(), out)
    }

    #[test]
    fn the_two_documented_equations() {
        // numpy.einsum of 0, 1, … and 1, 2, …
        let x = floats(&[1, 2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let y = floats(&[1, 2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
        check("einsum")
            .list("values", vec![x, y])
            .text("equation", "nchw,nwhu->nchu")
            .gives(&[1, 2, 2, 1], &[3.0, 16.0, 19.0, 40.0]);
        let x = floats(&[2, 1, 2], &[0.0, 1.0, 2.0, 3.0]);
        let y = floats(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
        // The middle dimension of x stretches.
        check("einsum")
            .list("values", vec![x, y])
            .text("equation", "chw, whr -> chr")
            .gives(&[2, 2, 1], &[3.0, 4.0, 11.0, 16.0]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let two = || floats(&[2], &[1.0, 2.0]);
        let three = || floats(&[3], &[1.0, 2.0, 3.0]);
        let cases = [
            ("i,i->", vec![two(), three()], "failed: shapes [2] and [3] do not agree on `i`"),
            ("ij,i->j", vec![two(), two()], "failed: `ij` for shape [2]"),
            (
                "i,i->j",
                vec![two(), two()],
                "cannot be planned: equation `i,i->j` does not name its result",
            ),
            ("...i,i->i", vec![two(), two()], "`einsum` (equation `...i,i->i`)"),
        ];
        for (equation, values, want) in cases {
            let failed = check("einsum").list("values", values).text("equation", equation).fails();
            assert!(failed.contains(want), "{failed}");
        }
    }

    proptest! {
        #[test]
        fn as_the_definition(sides in prop::collection::vec((0_usize..5, any::<bool>()), 0..8), cut in 0_usize..8, keep: u8, order: u8, sizes in prop::array::uniform5(1_usize..4)) {
            let cut = cut.min(sides.len());
            let label = |i: usize| char::from(b'a' + i as u8);
            let side = |s: &[(usize, bool)]| -> (Vec<char>, Vec<usize>) {
                s.iter().map(|&(l, one)| (label(l), if one { 1 } else { sizes[l] })).unzip()
            };
            let ((a, a_shape), (b, b_shape)) = (side(&sides[..cut]), side(&sides[cut..]));
            let mut result: Vec<char> = (0..5).filter(|i| keep >> i & 1 == 1).map(label).filter(|c| a.contains(c) || b.contains(c)).collect();
            if !result.is_empty() {
                let n = result.len();
                result.rotate_left(order as usize % n);
            }
            let text = |labels: &[char]| labels.iter().collect::<String>();
            let text = format!("{},{}->{}", text(&a), text(&b), text(&result));
            let tensor = |shape: &[usize], by: usize| {
                let n: usize = shape.iter().product();
                Tensor::f32(shape, (0..n).map(|i| (i * by % 13) as f32 - 6.0).collect())
            };
            let (x, y) = (tensor(&a_shape, 5), tensor(&b_shape, 7));
            let equation = Equation::parse(&text).unwrap();
            let got = contract(&equation, &x, &y).unwrap();
            let (shape, want) = plain(&equation, &x, &y);
            prop_assert_eq!(got.shape(), shape, "{}", text);
            // Whole numbers far below 2²⁴ are summed without error.
            let got: Vec<f64> = got.to_f32().unwrap().into_iter().map(f64::from).collect();
            prop_assert_eq!(got, want, "{}", text);
        }
    }
}
