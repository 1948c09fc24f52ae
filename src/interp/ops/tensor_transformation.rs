//! Other shapes for the same elements: `reshape`, `transpose`, `expand_dims`, `squeeze`, `reverse`, `reverse_sequence`.

use super::{axes, axis};
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::{self, pick, split_at_axis, steps};
use crate::interp::op_context::{Ints, OpContext};
use crate::interp::tensor::{elements, map_storage};

type Built = Result<Kernel, OpError>;

/// A new shape; −1 stands for what is left over, 0 for the extent at its place.
pub(super) fn reshape_ios15(site: &OpContext<'_, '_>) -> Built {
    reshape(site, false)
}

/// A shape in which 0 keeps a dimension counted from the end, 1 where there is none, and −1 takes what is left.
pub(super) fn reshape_ios17(site: &OpContext<'_, '_>) -> Built {
    reshape(site, true)
}

fn reshape(site: &OpContext<'_, '_>, from_end: bool) -> Built {
    let (x, shape) = (site.input("x")?, Ints::of(site, "shape")?);
    Ok(Kernel::one(move |run| {
        let to = resolve(run.get(&x).shape(), shape.get(run)?, from_end)?;
        Ok(run.take(&x).reshaped(to))
    }))
}

fn resolve(from: &[usize], to: &[i32], from_end: bool) -> Result<Vec<usize>, OpError> {
    let shape_mismatch = || OpError::invalid(format!("shape {from:?} does not become {to:?}"));
    let total: usize = from.iter().product();
    let keeps = to.len() == from.len();
    let mut out = Vec::with_capacity(to.len());
    let mut open = None;
    for (i, &n) in to.iter().enumerate() {
        out.push(match n {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if from_end => (i + from.len()).checked_sub(to.len()).map_or(1, |j| from[j]),
            0 if keeps => from[i],
            n => usize::try_from(n).map_err(|_| shape_mismatch())?,
        });
    }
    let known = elements(&out)?;
    if let Some(i) = open {
        if known == 0 || !total.is_multiple_of(known) {
            return Err(shape_mismatch());
        }
        out[i] = total / known;
    } else if known != total {
        return Err(shape_mismatch());
    }
    Ok(out)
}

/// A shape put together from dimensions of other tensors.
pub(super) fn reshape_like(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let refs = site.inputs("ref_tensors")?;
    let numbers = |parameter: &str| -> Result<Vec<i32>, OpError> {
        let constant = |from| match from {
            crate::interp::exec::Operand::Const(t) => match (t.as_i32(), t.as_bool()) {
                (Some(&[n]), _) => Ok(n),
                (_, Some(&[b])) => Ok(i32::from(b)),
                _ => {
                    Err(OpError::invalid(format!("parameter `{parameter}` holds {}", t.describe())))
                }
            },
            crate::interp::exec::Operand::Slot(_) => {
                Err(OpError::NotConstant(parameter.to_owned()))
            }
        };
        site.inputs(parameter)?.into_iter().map(constant).collect()
    };
    let (begins, ends, masks) = (numbers("begins")?, numbers("ends")?, numbers("end_masks")?);
    Ok(Kernel::one(move |run| {
        let mut to = Vec::new();
        for (i, from) in refs.iter().enumerate() {
            let shape = run.get(from).shape();
            let at = |n: i32| if n < 0 { n + shape.len() as i32 } else { n }.max(0) as usize;
            let end = if masks.get(i) == Some(&0) {
                ends.get(i).map_or(shape.len(), |&e| at(e))
            } else {
                shape.len()
            };
            let begin = begins.get(i).map_or(0, |&b| at(b)).min(shape.len());
            to.extend_from_slice(&shape[begin..end.clamp(begin, shape.len())]);
        }
        let n = elements(&to)?;
        let x = run.take(&x);
        if n != x.len() {
            return Err(OpError::invalid(format!("shape {:?} does not become {to:?}", x.shape())));
        }
        Ok(x.reshaped(to))
    }))
}

/// Dimensions in the order of `perm`.
pub(super) fn transpose(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let perm = site.ints("perm")?.ok_or_else(|| OpError::Missing("perm".to_owned()))?;
    let rank = perm.len();
    let perm = perm.iter().map(|&p| axis(p, rank)).collect::<Result<Vec<_>, _>>()?;
    if axes(&perm.iter().map(|&p| p as i32).collect::<Vec<_>>(), rank)?.len() != rank {
        return Err(OpError::invalid(format!("perm {perm:?} names a dimension twice")));
    }
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        if t.rank() != perm.len() {
            return Err(OpError::invalid(format!("perm {perm:?} for shape {:?}", t.shape())));
        }
        let shape: Vec<usize> = perm.iter().map(|&p| t.shape()[p]).collect();
        // Elements stay where they are when only dimensions of one place change their order.
        let moved = perm.iter().copied().filter(|&p| t.shape()[p] != 1);
        if moved.is_sorted() {
            return Ok(run.take(&x).reshaped(shape));
        }
        let (_, step) = strided::order(t.shape(), &perm);
        Ok(super::gathered(run, t, 0, (&shape, &step), &shape))
    }))
}

/// Dimensions of one place put in.
pub(super) fn expand_dims(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let added = site.ints("axes")?.ok_or_else(|| OpError::Missing("axes".to_owned()))?;
    Ok(Kernel::one(move |run| {
        let x = run.take(&x);
        let mut shape = x.shape().to_vec();
        for at in axes(&added, shape.len() + added.len())? {
            shape.insert(at.min(shape.len()), 1);
        }
        Ok(x.reshaped(shape))
    }))
}

/// Dimensions of one place taken out; others stay.
pub(super) fn squeeze(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let removed = site.ints("axes")?;
    Ok(Kernel::one(move |run| {
        let x = run.take(&x);
        let removed = removed.as_ref().map(|r| axes(r, x.rank())).transpose()?;
        let goes = |i: usize| removed.as_ref().is_none_or(|r| r.contains(&i));
        let kept = x.shape().iter().enumerate().filter(|(i, n)| **n != 1 || !goes(*i));
        let shape = kept.map(|(_, &n)| n).collect();
        Ok(x.reshaped(shape))
    }))
}

/// The order of the elements turned round along some axes.
pub(super) fn reverse(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let along = site.ints("axes")?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let along = match &along {
            Some(along) => axes(along, t.rank())?,
            None => (0..t.rank()).collect(),
        };
        let mut start = 0;
        let mut step: Vec<isize> = steps(t.shape()).iter().map(|s| s.cast_signed()).collect();
        for &a in &along {
            start += (t.shape()[a].cast_signed() - 1) * step[a];
            step[a] = -step[a];
        }
        Ok(map_storage!(t, t.shape().to_vec(), |src| strided::gather(src, start, t.shape(), &step)))
    }))
}

/// The order of the first `lengths[i]` elements along one axis turned round, at place `i` of another.
pub(super) fn reverse_sequence(site: &OpContext<'_, '_>) -> Built {
    let (x, lengths) = (site.input("x")?, Ints::of(site, "lengths")?);
    let (along, by) = (site.int("seq_axis", Some(0))?, site.int("batch_axis", Some(0))?);
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let (along, by) = (axis(along, t.rank())?, axis(by, t.rank())?);
        if along == by {
            return Err(OpError::invalid(format!("sequences and batch share axis {along}")));
        }
        let (n, batch) = (t.shape()[along], t.shape()[by]);
        let given = lengths.get(run)?;
        let shape_mismatch = || {
            OpError::invalid(format!("lengths {given:?} for a batch of {batch} sequences of {n}"))
        };
        let length =
            |&l: &i32| usize::try_from(l).ok().filter(|&l| l <= n).ok_or_else(shape_mismatch);
        let lengths = given.iter().map(length).collect::<Result<Vec<_>, _>>()?;
        if lengths.len() != batch {
            return Err(shape_mismatch());
        }
        let (_, _, after) = split_at_axis(t.shape(), along);
        let (_, _, after_by) = split_at_axis(t.shape(), by);
        let from = |at: usize| {
            let (place, length) = (at / after % n, lengths[at / after_by % batch]);
            if place < length { at - place * after + (length - 1 - place) * after } else { at }
        };
        let places = (0..t.len()).map(from);
        Ok(map_storage!(t, t.shape().to_vec(), |src| pick(src, places)))
    }))
}

#[cfg(test)]
mod tests {
    use crate::interp::Tensor;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    #[test]
    fn shapes() {
        let x = || floats(&[2, 1, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let all = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        check("reshape").input("x", x()).ints("shape", &[3, -1]).gives(&[3, 2], &all);
        check("reshape")
            .opset("CoreML6")
            .input("x", x())
            .ints("shape", &[0, 3, -1])
            .gives(&[2, 3, 1], &all);
        // From iOS17 on a zero counts from the end, and stands for 1 where there is nothing to count.
        check("reshape").input("x", x()).ints("shape", &[0, -1, 0, 0]).gives(&[1, 2, 1, 3], &all);
        let failed =
            check("reshape").opset("CoreML6").input("x", x()).ints("shape", &[0, -1, 0, 0]);
        assert_eq!(
            failed.fails(),
            "operation `out` (`reshape`) failed: shape [2, 1, 3] does not become [0, -1, 0, 0]"
        );
        check("expand_dims").input("x", x()).ints("axes", &[0, -1]).gives(&[1, 2, 1, 3, 1], &all);
        check("squeeze").input("x", x()).gives(&[2, 3], &all);
        check("squeeze").input("x", x()).ints("axes", &[0, 1]).gives(&[2, 3], &all);
        check("transpose").input("x", x()).ints("perm", &[1, 0, 2]).gives(&[1, 2, 3], &all);
        check("transpose")
            .input("x", x())
            .ints("perm", &[-1, 1, 0])
            .gives(&[3, 1, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        check("reverse")
            .input("x", x())
            .ints("axes", &[2])
            .gives(&[2, 1, 3], &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        check("reverse").input("x", x()).gives(&[2, 1, 3], &[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
        let failed = check("reshape").input("x", x()).ints("shape", &[4, -1]).fails();
        assert_eq!(
            failed,
            "operation `out` (`reshape`) failed: shape [2, 1, 3] does not become [4, -1]"
        );
    }
    /// The example of `tf.reverse_sequence`, with sequences along axis 1 and along axis 0.
    #[test]
    fn sequences() {
        let rows = [1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let want = [4, 3, 2, 1, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1];
        let c = |shape: &[usize], values: &[i32], lengths: &[i32]| {
            check("reverse_sequence")
                .input("x", Tensor::i32(shape, values.to_vec()))
                .input("lengths", Tensor::i32(&[lengths.len()], lengths.to_vec()))
                .out(DType::I32)
        };
        c(&[3, 8], &rows, &[4, 2, 8]).int("seq_axis", 1).gives(&[3, 8], &want.map(|v| v as f32));
        let turned = |v: &[i32; 24]| (0..24).map(|i| v[i % 3 * 8 + i / 3]).collect::<Vec<_>>();
        let want: Vec<f32> = turned(&want).into_iter().map(|v| v as f32).collect();
        c(&[8, 3], &turned(&rows), &[4, 2, 8]).int("batch_axis", -1).gives(&[8, 3], &want);
        let failed = c(&[3, 8], &rows, &[4, 9, 8]).int("seq_axis", 1).fails();
        let want = "failed: lengths [4, 9, 8] for a batch of 3 sequences of 8";
        assert!(failed.ends_with(want), "{failed}");
        let failed = c(&[3, 8], &rows, &[4, 2, 8]).fails();
        assert!(failed.ends_with("failed: sequences and batch share axis 0"), "{failed}");
    }
}
