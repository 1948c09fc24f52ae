//! `topk` and `argsort`: order along one axis, equals in the order they stand in.

use super::axis;
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::{pick, split_at_axis};
use crate::interp::op_context::{Ints, OpContext};
use crate::interp::tensor::{Slice, Tensor, map_storage};

type Built = Result<Kernel, OpError>;

/// For each line along the axis, the places of its first `k` elements in order: `[before, k, after]`.
fn order(t: &Tensor, along: usize, k: usize, ascending: bool) -> Result<Vec<usize>, OpError> {
    let (before, n, after) = split_at_axis(t.shape(), along);
    let keys: Vec<f64> = match t.storage() {
        Slice::I32(v) => v.iter().map(|&i| f64::from(i)).collect(),
        _ => t.f32s()?.iter().map(|&v| f64::from(v)).collect(),
    };
    if k > n {
        return Err(OpError::invalid(format!("{k} of {n} elements")));
    }
    let mut out = vec![0; before * k * after];
    for outer in 0..before {
        for inner in 0..after {
            let key = |i: usize| keys[(outer * n + i) * after + inner];
            let mut line: Vec<usize> = (0..n).collect();
            line.sort_by(|&a, &b| {
                let rising = key(a).total_cmp(&key(b));
                if ascending { rising } else { rising.reverse() }
            });
            for (j, place) in line.into_iter().take(k).enumerate() {
                out[(outer * k + j) * after + inner] = place;
            }
        }
    }
    Ok(out)
}

/// The `k` largest (or smallest) elements along an axis and their places.
pub(super) fn topk_ios15(site: &OpContext<'_, '_>) -> Built {
    topk(site, true)
}

/// The same, with the places on request.
pub(super) fn topk_ios16(site: &OpContext<'_, '_>) -> Built {
    let places = site.bool("return_indices", true)?;
    topk(site, places)
}

fn topk(site: &OpContext<'_, '_>, places: bool) -> Built {
    let (x, k) = (site.input("x")?, Ints::of(site, "k")?);
    let along = site.int("axis", Some(-1))?;
    let ascending = site.bool("ascending", false)?;
    Ok(Kernel::many(move |run| {
        let t = run.get(&x);
        let along = axis(along, t.rank())?;
        let (_, n, after) = split_at_axis(t.shape(), along);
        let k = match *k.get(run)? {
            [-1] => n,
            [k] => usize::try_from(k).map_err(|_| OpError::invalid(format!("k of {k}")))?,
            _ => return Err(OpError::invalid("k is no single number")),
        };
        let order = order(t, along, k, ascending)?;
        let mut shape = t.shape().to_vec();
        shape[along] = k;
        let at =
            |(i, &p): (usize, &usize)| (i / (k * after).max(1) * n + p) * after + i % after.max(1);
        let values =
            map_storage!(t, shape.clone(), |src| pick(src, order.iter().enumerate().map(at)));
        let mut out = vec![values];
        if places {
            out.push(Tensor::i32(&shape, order.iter().map(|&p| p as i32).collect()));
        }
        Ok(out)
    }))
}

/// The places of all elements along an axis in order.
pub(super) fn argsort(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let along = site.int("axis", Some(-1))?;
    let ascending = site.bool("ascending", false)?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let along = axis(along, t.rank())?;
        let order = order(t, along, t.shape()[along], ascending)?;
        Ok(Tensor::i32(t.shape(), order.iter().map(|&p| p as i32).collect()))
    }))
}

#[cfg(test)]
mod tests {
    use crate::interp::tensor::Tensor;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    #[test]
    fn orders() {
        let x = || floats(&[2, 3], &[1.0, 3.0, 2.0, 6.0, 4.0, 6.0]);
        check("argsort")
            .input("x", x())
            .out(DType::I32)
            .gives(&[2, 3], &[1.0, 2.0, 0.0, 0.0, 2.0, 1.0]);
        check("argsort")
            .input("x", x())
            .int("axis", 0)
            .flag("ascending", true)
            .out(DType::I32)
            .gives(&[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let got =
            check("topk").input("x", x()).int("k", 2).outs(&[DType::F32, DType::I32], 2).runs();
        assert_eq!(got[0].to_f32().unwrap(), [3.0, 2.0, 6.0, 6.0]);
        assert_eq!(got[1].as_i32().unwrap(), [1, 2, 0, 2]);
        let one = check("topk")
            .input("x", Tensor::i32(&[3], vec![5, 1, 3]))
            .int("k", 1)
            .flag("return_indices", false)
            .out(DType::I32);
        one.gives(&[1], &[5.0]);
    }
}
