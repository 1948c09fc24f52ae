//! Tensors put together along an axis: `concat`, `stack`.

use rayon::prelude::*;

use super::axis;
use crate::interp::error::OpError;
use crate::interp::kernel::strided::{around, transpose};
use crate::interp::run::{In, Kernel, Run};
use crate::interp::site::Site;
use crate::interp::tensor::{Slice, Tensor, elements, map_carrier};

type Built = Result<Kernel, OpError>;

/// Tensors one after another along an axis, or element by element in turn.
pub(super) fn concat(site: &Site<'_, '_>) -> Built {
    let values = site.inputs("values")?;
    let along = site.int("axis", None)?;
    let interleave = site.bool("interleave", false)?;
    Ok(Kernel::one(move |run| {
        let parts = same_carrier(arguments(&values, run))?;
        let first = parts.first().ok_or_else(|| OpError::invalid("nothing to join"))?;
        if parts.iter().all(|p| p.rank() == 0) {
            return join(run, &parts, &[parts.len()], 0);
        }
        let along = axis(along, first.rank())?;
        let mut shape = first.shape().to_vec();
        let fits = |p: &Tensor| {
            p.rank() == shape.len()
                && p.shape().iter().zip(&shape).enumerate().all(|(i, (a, b))| i == along || a == b)
        };
        if !parts.iter().all(fits) {
            let shapes: Vec<_> = parts.iter().map(|p| format!("{:?}", p.shape())).collect();
            return Err(OpError::invalid(format!(
                "shapes {} do not join along axis {along}",
                shapes.join(", ")
            )));
        }
        let n = shape[along];
        shape[along] = parts.iter().map(|p| p.shape()[along]).sum();
        elements(&shape)?;
        if !interleave {
            return join(run, &parts, &shape, along);
        }
        if parts.iter().any(|p| p.shape()[along] != n) {
            let fact = format!("parts of {n} elements and of others do not interleave");
            return Err(OpError::invalid(fact));
        }
        // [.., parts, n, ..] to [.., n, parts, ..].
        let joined = join(run, &parts, &shape, along)?;
        let (before, all, after) = around(&shape, along);
        let split = [before, parts.len(), all / parts.len(), after];
        Ok(map_carrier!(&joined, shape, |src| transpose(src, &split, &[0, 2, 1, 3])))
    }))
}

/// Tensors of one shape as places of a new axis.
pub(super) fn stack(site: &Site<'_, '_>) -> Built {
    let values = site.inputs("values")?;
    let along = site.int("axis", None)?;
    Ok(Kernel::one(move |run| {
        let parts = same_carrier(arguments(&values, run))?;
        let first = parts.first().ok_or_else(|| OpError::invalid("nothing to stack"))?;
        let along = axis(along, first.rank() + 1)?;
        let mut shape = first.shape().to_vec();
        if parts.iter().any(|p| p.shape() != shape) {
            return Err(OpError::invalid("tensors of different shapes do not stack"));
        }
        shape.insert(along, parts.len());
        elements(&shape)?;
        shape[along] = 1;
        let parts: Vec<_> = parts.iter().map(|p| p.clone().reshaped(shape.clone())).collect();
        shape[along] = parts.len();
        join(run, &parts, &shape, along)
    }))
}

fn arguments(values: &[In], run: &Run<'_>) -> Vec<Tensor> {
    values.iter().map(|v| run.get(v).clone()).collect()
}

/// The tensors in one carrier: stored fp16 joins f32 as f32.
pub(super) fn same_carrier(parts: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
    let halves = parts.iter().filter(|p| matches!(p.carrier(), Slice::F16(_))).count();
    if halves == 0 || halves == parts.len() {
        return Ok(parts);
    }
    let as_f32 = |p: Tensor| Ok(Tensor::f32(p.shape(), p.f32s()?.into_owned()).tagged(p.dtype()));
    parts.into_iter().map(as_f32).collect()
}

/// `parts`, which [`same_carrier`] gave, one after another along an axis of the result's `shape`.
pub(super) fn join(
    run: &Run<'_>,
    parts: &[Tensor],
    shape: &[usize],
    along: usize,
) -> Result<Tensor, OpError> {
    let (before, _, after) = around(shape, along);
    let length = |p: &Tensor| if p.rank() == 0 { 1 } else { p.shape()[along] * after };
    macro_rules! of {
        ($kind:ident) => {
            parts
                .iter()
                .map(|p| match p.carrier() {
                    Slice::$kind(v) => Ok((v, length(p))),
                    _ => Err(OpError::invalid("tensors of different types do not join")),
                })
                .collect::<Result<Vec<_>, _>>()?
        };
    }
    macro_rules! joined {
        ($kind:ident) => {{
            let parts = of!($kind);
            let mut out = Vec::with_capacity(shape.iter().product());
            for outer in 0..before {
                for (elements, n) in &parts {
                    out.extend_from_slice(&elements[outer * n..(outer + 1) * n]);
                }
            }
            out
        }};
    }
    let first = parts.first().ok_or_else(|| OpError::invalid("nothing to join"))?;
    let shape = shape.to_vec();
    Ok(match first.carrier() {
        Slice::F32(_) => {
            let mut out = run.filled(shape.iter().product());
            floats(&of!(F32), &mut out);
            first.with_f32(shape, out)
        }
        Slice::F16(_) => first.with_f16(shape, joined!(F16)),
        Slice::I32(_) => first.with_i32(shape, joined!(I32)),
        Slice::Bool(_) => first.with_bool(shape, joined!(Bool)),
        Slice::Str(_) => first.with_str(shape, joined!(Str)),
    })
}

/// Elements that one thread copies before another is asked.
const ALONE: usize = 1 << 15;

/// Writes a run of each part in turn, as often as there are runs; with each part stands the length of its runs.
fn floats(parts: &[(&[f32], usize)], out: &mut [f32]) {
    let all: usize = parts.iter().map(|(_, n)| n).sum();
    if all == 0 {
        return;
    }
    let rows = ALONE.div_ceil(all);
    out.par_chunks_mut(rows * all).enumerate().for_each(|(i, out)| {
        for (outer, out) in (i * rows..).zip(out.chunks_mut(all)) {
            let mut rest = out;
            for (elements, n) in parts {
                let (to, after) = rest.split_at_mut(*n);
                to.copy_from_slice(&elements[outer * n..(outer + 1) * n]);
                rest = after;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};

    fn x() -> Tensor {
        floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])
    }

    #[test]
    fn joins() {
        let y = || floats(&[2, 1], &[9.0, 8.0]);
        check("concat")
            .list("values", vec![x(), y()])
            .int("axis", -1)
            .gives(&[2, 3], &[1.0, 2.0, 9.0, 3.0, 4.0, 8.0]);
        check("concat")
            .list("values", vec![x(), x()])
            .int("axis", 0)
            .flag("interleave", true)
            .gives(&[4, 2], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        let failed = check("concat").list("values", vec![x(), y()]).int("axis", 0).fails();
        assert_eq!(
            failed,
            "operation `out` (`concat`) failed: shapes [2, 2], [2, 1] do not join along axis 0"
        );
        check("stack")
            .list("values", vec![y(), y()])
            .int("axis", 1)
            .gives(&[2, 2, 1], &[9.0, 9.0, 8.0, 8.0]);
    }

    #[test]
    fn many_runs_are_joined_in_order() {
        let n = 3 * ALONE;
        let odd: Vec<f32> = (0..n).map(|i| 2.0 * i as f32 + 1.0).collect();
        let even: Vec<f32> = (0..n).map(|i| 2.0 * i as f32).collect();
        let all: Vec<f32> = (0..2 * n).map(|i| i as f32).collect();
        check("concat")
            .list("values", vec![floats(&[n, 1], &even), floats(&[n, 1], &odd)])
            .int("axis", 1)
            .gives(&[n, 2], &all);
    }
}
