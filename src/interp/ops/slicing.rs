//! `slice_by_index`, `slice_by_size` and `slice_update`: parts of a tensor, shared where they lie together.

use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel};
use crate::interp::kernel::fp16;
use crate::interp::kernel::strided::{scatter, scatter_as, steps};
use crate::interp::op_context::{Ints, OpContext};
use crate::interp::tensor::{Data, Slice, Tensor};

type Built = Result<Kernel, OpError>;

/// begin, end and stride as the program gives them, masks with them.
struct Bounds {
    begin: Ints,
    end: Ints,
    stride: Option<Vec<i32>>,
    begin_mask: Option<Vec<bool>>,
    end_mask: Option<Vec<bool>>,
    squeeze_mask: Option<Vec<bool>>,
}

/// Where the elements of a part lie.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    start: isize,
    /// Extents with the dimensions that are squeezed away.
    extents: Vec<usize>,
    step: Vec<isize>,
    /// Extents of the result.
    shape: Vec<usize>,
}

impl Bounds {
    fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        Ok(Self {
            begin: Ints::of(site, "begin")?,
            end: Ints::of(site, "end")?,
            stride: site.ints("stride")?,
            begin_mask: site.bools("begin_mask")?,
            end_mask: site.bools("end_mask")?,
            squeeze_mask: site.bools("squeeze_mask")?,
        })
    }

    fn part(&self, run: &ExecContext<'_>, shape: &[usize]) -> Result<Part, OpError> {
        let (begin, end) = (self.begin.get(run)?, self.end.get(run)?);
        let rank = shape.len();
        let masks = [&self.begin_mask, &self.end_mask, &self.squeeze_mask];
        let shape_mismatch = begin.len() != rank
            || end.len() != rank
            || self.stride.as_ref().is_some_and(|s| s.len() != rank)
            || masks.iter().any(|m| m.as_ref().is_some_and(|m| m.len() != rank));
        if shape_mismatch {
            return Err(OpError::invalid(format!(
                "begin {begin:?} and end {end:?} for rank {rank}"
            )));
        }
        let is = |mask: &Option<Vec<bool>>, i: usize| mask.as_ref().is_some_and(|m| m[i]);
        let dims = (0..rank).map(|i| {
            let squeeze = is(&self.squeeze_mask, i);
            let begin = (!is(&self.begin_mask, i)).then_some(begin[i]);
            if squeeze {
                return single(begin.unwrap_or(0), shape[i]).map(|first| (first, 1, 1, true));
            }
            let stride = self.stride.as_ref().map_or(1, |s| s[i]);
            let end = (!is(&self.end_mask, i)).then_some(end[i]);
            let (first, n) = range(begin, end, stride, shape[i])?;
            Ok((first, n, stride as isize, false))
        });
        Ok(part(shape, &dims.collect::<Result<Vec<_>, OpError>>()?))
    }
}

fn part(shape: &[usize], dims: &[(usize, usize, isize, bool)]) -> Part {
    let own = steps(shape);
    let mut out = Part { start: 0, extents: vec![], step: vec![], shape: vec![] };
    for (&(first, n, stride, squeeze), &step) in dims.iter().zip(&own) {
        out.start += (first * step).cast_signed();
        out.extents.push(n);
        // A stride that leaves one place is never taken, however far it goes.
        out.step.push(stride.wrapping_mul(step.cast_signed()));
        if !squeeze {
            out.shape.push(n);
        }
    }
    out
}

fn single(index: i32, n: usize) -> Result<usize, OpError> {
    let counted = if index < 0 { i64::from(index) + n as i64 } else { i64::from(index) };
    usize::try_from(counted)
        .ok()
        .filter(|&i| i < n)
        .ok_or_else(|| OpError::invalid(format!("index {index} is outside 0..{n}")))
}

/// First place and number of places, as Python slices.
fn range(
    begin: Option<i32>,
    end: Option<i32>,
    stride: i32,
    n: usize,
) -> Result<(usize, usize), OpError> {
    if stride == 0 {
        return Err(OpError::invalid("a stride of 0"));
    }
    let n = n as i64;
    let stride = i64::from(stride);
    let (low, high) = if stride > 0 { (0, n) } else { (-1, n - 1) };
    let counted = |at: i32| {
        let at = i64::from(at);
        (if at < 0 { at + n } else { at }).clamp(low, high)
    };
    let first = begin.map_or(if stride > 0 { low } else { high }, counted);
    let last = end.map_or(if stride > 0 { high } else { low }, counted);
    let count = if stride > 0 { last - first } else { first - last };
    let count = if count > 0 { (count + stride.abs() - 1) / stride.abs() } else { 0 };
    Ok((first.max(0) as usize, count as usize))
}

impl Part {
    /// True if the elements lie one after another.
    fn is_run(&self) -> bool {
        let packed = steps(&self.extents);
        let mut dims = self.extents.iter().zip(&self.step).zip(&packed);
        self.extents.contains(&0) || dims.all(|((&n, &s), &p)| n == 1 || s == p.cast_signed())
    }

    fn of(&self, run: &ExecContext<'_>, x: &Tensor) -> Tensor {
        if self.is_run() {
            let start = if self.extents.contains(&0) { 0 } else { self.start.cast_unsigned() };
            return x.view(start, self.shape.clone());
        }
        super::gathered(run, x, self.start, (&self.extents, &self.step), &self.shape)
    }
}

/// x[begin:end:stride].
pub(super) fn slice_by_index(site: &OpContext<'_, '_>) -> Built {
    let (x, bounds) = (site.input("x")?, Bounds::of(site)?);
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        Ok(bounds.part(run, x.shape())?.of(run, x))
    }))
}

/// `size` elements from `begin` on; −1 stands for all that follow.
pub(super) fn slice_by_size(site: &OpContext<'_, '_>) -> Built {
    let (x, begin, size) = (site.input("x")?, Ints::of(site, "begin")?, Ints::of(site, "size")?);
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        let (begin, size) = (begin.get(run)?, size.get(run)?);
        let shape_mismatch = || {
            OpError::invalid(format!("begin {begin:?} and size {size:?} for shape {:?}", x.shape()))
        };
        if begin.len() != x.rank() || size.len() != x.rank() {
            return Err(shape_mismatch());
        }
        let dims = x.shape().iter().zip(begin.iter().zip(size)).map(|(&n, (&begin, &size))| {
            let first = if begin < 0 { i64::from(begin) + n as i64 } else { i64::from(begin) };
            let first =
                usize::try_from(first).ok().filter(|&f| f <= n).ok_or_else(shape_mismatch)?;
            let size = if size == -1 {
                n - first
            } else {
                usize::try_from(size).map_err(|_| shape_mismatch())?
            };
            if first + size > n { Err(shape_mismatch()) } else { Ok((first, size, 1, false)) }
        });
        Ok(part(x.shape(), &dims.collect::<Result<Vec<_>, OpError>>()?).of(run, x))
    }))
}

/// x with x[begin:end:stride] replaced by `update`, in place when nobody else needs x.
pub(super) fn slice_update(site: &OpContext<'_, '_>) -> Built {
    let (x, update, bounds) = (site.input("x")?, site.input("update")?, Bounds::of(site)?);
    Ok(Kernel::one(move |run| {
        let part = bounds.part(run, run.get(&x).shape())?;
        if part.extents.iter().product::<usize>() != run.get(&update).len() {
            let (update, part) = (run.get(&update).shape(), part.shape);
            return Err(OpError::invalid(format!(
                "an update of shape {update:?} for a part of shape {part:?}"
            )));
        }
        let mut whole = run.take(&x).make_whole();
        let update = run.get(&update);
        let (start, extents, step) = (part.start, &part.extents, &part.step);
        match (&mut whole.data, update.storage()) {
            (Data::F32(data), _) => scatter(data.make_mut(), start, extents, step, &update.f32s()?),
            (Data::F16(data), Slice::F16(v)) => scatter(data.make_mut(), start, extents, step, v),
            (Data::F16(data), Slice::F32(v)) => {
                scatter_as(data.make_mut(), start, extents, step, v, fp16::narrow);
            }
            (Data::I32(data), Slice::I32(v)) => {
                scatter(&mut std::sync::Arc::make_mut(data).0, start, extents, step, v);
            }
            (Data::Bool(data), Slice::Bool(v)) => {
                scatter(&mut std::sync::Arc::make_mut(data).0, start, extents, step, v);
            }
            _ => {
                return Err(OpError::invalid(format!(
                    "an update {} for {}",
                    update.describe(),
                    whole.describe()
                )));
            }
        }
        Ok(whole)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};

    #[test]
    fn ranges_as_in_python() {
        let cases = [
            ((Some(1), Some(4), 1), (1, 3)),
            ((None, None, 2), (0, 3)),
            ((Some(-2), None, 1), (3, 2)),
            ((None, Some(-1), 1), (0, 4)),
            ((None, None, -1), (4, 5)),
            ((Some(3), Some(0), -2), (3, 2)),
            ((Some(4), Some(2), 1), (4, 0)),
            ((Some(-9), Some(99), 1), (0, 5)),
        ];
        for ((begin, end, stride), want) in cases {
            assert_eq!(range(begin, end, stride, 5).unwrap(), want, "{begin:?}:{end:?}:{stride}");
        }
    }

    #[test]
    fn by_index() {
        let x = || floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let c = || check("slice_by_index").input("x", x());
        c().ints("begin", &[1, 0]).ints("end", &[2, 3]).gives(&[1, 3], &[3.0, 4.0, 5.0]);
        c().ints("begin", &[0, 1]).ints("end", &[2, 3]).gives(&[2, 2], &[1.0, 2.0, 4.0, 5.0]);
        c().ints("begin", &[0, 2])
            .ints("end", &[0, 0])
            .ints("stride", &[1, -1])
            .flags("begin_mask", &[true, false])
            .flags("end_mask", &[true, true])
            .gives(&[2, 3], &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        c().ints("begin", &[-1, 0])
            .ints("end", &[0, 2])
            .flags("squeeze_mask", &[true, false])
            .gives(&[2], &[3.0, 4.0]);
        c().input("begin", Tensor::i32(&[2], vec![1, 1]))
            .input("end", Tensor::i32(&[2], vec![2, 2]))
            .gives(&[1, 1], &[4.0]);
    }

    #[test]
    fn by_size_and_updates() {
        let x = || floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        check("slice_by_size")
            .input("x", x())
            .ints("begin", &[0, 1])
            .ints("size", &[-1, 1])
            .gives(&[2, 1], &[1.0, 4.0]);
        let failed = check("slice_by_size")
            .input("x", x())
            .ints("begin", &[0, 2])
            .ints("size", &[1, 2])
            .fails();
        assert_eq!(
            failed,
            "operation `out` (`slice_by_size`) failed: begin [0, 2] and size [1, 2] for shape [2, 3]"
        );
        let c =
            || check("slice_update").input("x", x()).ints("begin", &[0, 1]).ints("end", &[2, 2]);
        c().input("update", floats(&[2, 1], &[9.0, 8.0]))
            .gives(&[2, 3], &[0.0, 9.0, 2.0, 3.0, 8.0, 5.0]);
        let failed = c().input("update", floats(&[3], &[0.0; 3])).fails();
        assert_eq!(
            failed,
            "operation `out` (`slice_update`) failed: an update of shape [3] for a part of shape [2, 1]"
        );
    }
}
