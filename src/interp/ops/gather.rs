//! `gather`, `gather_along_axis`, `gather_nd`: elements by index. A constant `x` is read where it is stored.
//!
//! Negative indices count from the end. Before iOS17 (and with `validate_indices`) an index outside is an error;
//! otherwise the format leaves its result open, and the nearest index is used.

use super::axis;
use crate::interp::error::OpError;
use crate::interp::exec::{Kernel, Operand};
use crate::interp::kernel::strided::{pick, pick_runs, split_at_axis};
use crate::interp::op_context::OpContext;
use crate::interp::stored::Shared;
use crate::interp::tensor::{Tensor, elements, map_storage};

type Built = Result<Kernel, OpError>;

/// Slices along one axis, an index outside an error.
pub(super) fn gather_ios15(site: &OpContext<'_, '_>) -> Built {
    gather(site, true)
}

/// Slices along one axis, with `validate_indices`.
pub(super) fn gather_ios17(site: &OpContext<'_, '_>) -> Built {
    gather(site, site.bool("validate_indices", false)?)
}

fn gather(site: &OpContext<'_, '_>, validate: bool) -> Built {
    let along = site.int("axis", Some(0))?;
    let batch_dims = usize::try_from(site.int("batch_dims", Some(0))?)
        .map_err(|_| OpError::invalid("batch_dims below 0"))?;
    let indices = site.input("indices")?;
    if let Some(table) = site.stored("x")?
        && table.dtype().is_float()
        && table.shape().len() > 1
        && axis(along, table.shape().len())? == 0
        && batch_dims == 0
        && matches!(indices, Operand::Slot(_))
    {
        return Ok(Kernel::one(move |run| rows(&table, run.get(&indices), validate)));
    }
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let (x, indices) = (run.get(&x), run.get(&indices));
        let along = axis(along, x.rank())?;
        if batch_dims > along
            || batch_dims > indices.rank()
            || x.shape()[..batch_dims] != indices.shape()[..batch_dims]
        {
            let (x, i) = (x.shape(), indices.shape());
            return Err(OpError::invalid(format!(
                "shapes {x:?} and {i:?} do not share {batch_dims} batch dimensions"
            )));
        }
        let batch: usize = x.shape()[..batch_dims].iter().product();
        let (before, n, after) = split_at_axis(&x.shape()[batch_dims..], along - batch_dims);
        let own = &indices.shape()[batch_dims..];
        let shape = [&x.shape()[..along], own, &x.shape()[along + 1..]].concat();
        elements(&shape)?;
        let places = resolve(indices.i32s()?, n, validate)?;
        let per_batch: usize = own.iter().product();
        Ok(map_storage!(x, shape, |src| {
            let mut out = Vec::with_capacity(batch * before * per_batch * after);
            for b in 0..batch {
                for outer in 0..before {
                    for &i in &places[b * per_batch..][..per_batch] {
                        let at = ((b * before + outer) * n + i) * after;
                        out.extend_from_slice(&src[at..at + after]);
                    }
                }
            }
            out
        }))
    }))
}

/// Rows of a stored table, each expanded alone.
fn rows(table: &Shared, indices: &Tensor, validate: bool) -> Result<Tensor, OpError> {
    let (&n, tail) = table.shape().split_first().ok_or_else(|| OpError::invalid("x has rank 0"))?;
    let width: usize = tail.iter().product();
    let places = resolve(indices.i32s()?, n, validate)?;
    let shape = [indices.shape(), tail].concat();
    let mut out = vec![0.0; elements(&shape)?];
    for (&i, out) in places.iter().zip(out.chunks_mut(width.max(1))) {
        table.fill(i * width, out);
    }
    Ok(Tensor::f32(&shape, out).tagged(table.dtype()))
}

/// Indices as places below `n`.
fn resolve(indices: &[i32], n: usize, validate: bool) -> Result<Vec<usize>, OpError> {
    indices.iter().map(|&i| place(i, n, validate)).collect()
}

fn place(index: i32, n: usize, validate: bool) -> Result<usize, OpError> {
    let counted = if index < 0 { i64::from(index) + n as i64 } else { i64::from(index) };
    match usize::try_from(counted) {
        Ok(place) if place < n => Ok(place),
        _ if validate || n == 0 => {
            Err(OpError::invalid(format!("index {index} is outside 0..{n}")))
        }
        Ok(_) => Ok(n - 1),
        Err(_) => Ok(0),
    }
}

/// One element of each line along an axis, an index outside an error.
pub(super) fn along_axis_ios15(site: &OpContext<'_, '_>) -> Built {
    along_axis(site, true)
}

/// One element of each line along an axis, with `validate_indices`.
pub(super) fn along_axis_ios17(site: &OpContext<'_, '_>) -> Built {
    along_axis(site, site.bool("validate_indices", false)?)
}

fn along_axis(site: &OpContext<'_, '_>, validate: bool) -> Built {
    let along = site.int("axis", Some(0))?;
    let (x, indices) = (site.input("x")?, site.input("indices")?);
    Ok(Kernel::one(move |run| {
        let (x, indices) = (run.get(&x), run.get(&indices));
        let along = axis(along, x.rank())?;
        let same = |(i, (a, b)): (usize, (&usize, &usize))| i == along || a == b;
        if indices.rank() != x.rank()
            || !x.shape().iter().zip(indices.shape()).enumerate().all(same)
        {
            let (x, i) = (x.shape(), indices.shape());
            return Err(OpError::invalid(format!(
                "shapes {x:?} and {i:?} differ off axis {along}"
            )));
        }
        let (_, n, after) = split_at_axis(x.shape(), along);
        let m = indices.shape()[along];
        let places = resolve(indices.i32s()?, n, validate)?;
        Ok(map_storage!(x, indices.shape().to_vec(), |src| {
            let at = |(i, &p): (usize, &usize)| (i / (m * after) * n + p) * after + i % after;
            pick(src, places.iter().enumerate().map(at))
        }))
    }))
}

/// Slices by coordinates, an index outside an error.
pub(super) fn nd_ios15(site: &OpContext<'_, '_>) -> Built {
    nd(site, true)
}

/// Slices by coordinates, with `validate_indices`.
pub(super) fn nd_ios17(site: &OpContext<'_, '_>) -> Built {
    nd(site, site.bool("validate_indices", false)?)
}

fn nd(site: &OpContext<'_, '_>, validate: bool) -> Built {
    let batch_dims = usize::try_from(site.int("batch_dims", Some(0))?)
        .map_err(|_| OpError::invalid("batch_dims below 0"))?;
    let (x, indices) = (site.input("x")?, site.input("indices")?);
    Ok(Kernel::one(move |run| {
        let (x, indices) = (run.get(&x), run.get(&indices));
        let shape_mismatch = || {
            OpError::invalid(format!(
                "shapes {:?} and {:?} do not gather",
                x.shape(),
                indices.shape()
            ))
        };
        let (&depth, outer) = indices.shape().split_last().ok_or_else(shape_mismatch)?;
        if depth == 0
            || batch_dims + depth > x.rank()
            || outer.len() < batch_dims
            || x.shape()[..batch_dims] != outer[..batch_dims]
        {
            return Err(shape_mismatch());
        }
        let batch: usize = outer[..batch_dims].iter().product();
        let picked = &x.shape()[batch_dims..batch_dims + depth];
        let tail = &x.shape()[batch_dims + depth..];
        let (size, run_length): (usize, usize) = (picked.iter().product(), tail.iter().product());
        let n: usize = outer.iter().product();
        let mut places = Vec::with_capacity(n);
        for (i, coordinates) in indices.i32s()?.chunks(depth.max(1)).take(n).enumerate() {
            let mut at = 0;
            for (&c, &extent) in coordinates.iter().zip(picked) {
                at = at * extent + place(c, extent, validate)?;
            }
            places.push((i / (n / batch.max(1)).max(1) * size + at) * run_length);
        }
        let shape = [outer, tail].concat();
        elements(&shape)?;
        Ok(map_storage!(x, shape, |src| pick_runs(src, &places, run_length)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};

    fn ints(shape: &[usize], values: &[i32]) -> Tensor {
        Tensor::i32(shape, values.to_vec())
    }

    #[test]
    fn slices_along_an_axis() {
        let x = || floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        for constant in [false, true] {
            let c = |indices: Tensor| {
                let c = check("gather").input("indices", indices);
                if constant { c.constant("x", &x()) } else { c.input("x", x()) }
            };
            c(ints(&[2], &[1, -2])).gives(&[2, 3], &[3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
            c(ints(&[1, 1], &[1])).int("axis", -1).gives(&[2, 1, 1], &[1.0, 4.0]);
            c(ints(&[], &[2])).int("axis", 1).gives(&[2], &[2.0, 5.0]);
            c(ints(&[2, 1], &[2, 0]))
                .int("axis", 1)
                .int("batch_dims", 1)
                .gives(&[2, 1], &[2.0, 3.0]);
            c(ints(&[2], &[7, -9])).gives(&[2, 3], &[3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
            let failed = c(ints(&[1], &[2])).flag("validate_indices", true).fails();
            assert_eq!(failed, "operation `out` (`gather`) failed: index 2 is outside 0..2");
            let failed = c(ints(&[1], &[2])).opset("CoreML6").fails();
            assert_eq!(failed, "operation `out` (`gather`) failed: index 2 is outside 0..2");
        }
    }

    #[test]
    fn elements_along_an_axis() {
        let x = || floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let c = || check("gather_along_axis").input("x", x());
        c().input("indices", ints(&[1, 2], &[1, 0])).gives(&[1, 2], &[3.0, 2.0]);
        c().input("indices", ints(&[2, 3], &[0, 1, 1, -1, 0, 0]))
            .int("axis", 1)
            .gives(&[2, 3], &[1.0, 2.0, 2.0, 4.0, 3.0, 3.0]);
        let failed = c().input("indices", ints(&[1, 1], &[0])).fails();
        assert_eq!(
            failed,
            "operation `out` (`gather_along_axis`) failed: shapes [2, 2] and [1, 1] differ off axis 0"
        );
    }

    #[test]
    fn slices_by_coordinates() {
        let x = || floats(&[2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let c = || check("gather_nd").input("x", x());
        c().input("indices", ints(&[2, 2], &[1, 0, 0, 1])).gives(&[2, 2], &[4.0, 5.0, 2.0, 3.0]);
        c().input("indices", ints(&[1, 3], &[1, 1, -1])).gives(&[1], &[7.0]);
        c().input("indices", ints(&[2, 1], &[1, 0]))
            .int("batch_dims", 1)
            .gives(&[2, 2], &[2.0, 3.0, 4.0, 5.0]);
    }
}
