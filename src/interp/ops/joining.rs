//! Tensors put together along an axis: `concat`, `stack`.

use half::f16;

use super::axis;
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::kernel::strided::{runs_in_turn, split_at_axis, transpose};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Slice, Tensor, elements, map_storage};

type Built = Result<Kernel, OpError>;

/// Tensors one after another along an axis, or element by element in turn.
pub(super) fn concat(site: &OpContext<'_, '_>) -> Built {
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
        let (before, all, after) = split_at_axis(&shape, along);
        let split = [before, parts.len(), all / parts.len(), after];
        Ok(map_storage!(&joined, shape, |src| transpose(src, &split, &[0, 2, 1, 3])))
    }))
}

/// Tensors of one shape as places of a new axis.
pub(super) fn stack(site: &OpContext<'_, '_>) -> Built {
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

fn arguments(values: &[Operand], run: &ExecContext<'_>) -> Vec<Tensor> {
    values.iter().map(|v| run.get(v).clone()).collect()
}

/// The tensors in one storage: stored fp16 joins f32 as f32.
pub(super) fn same_carrier(parts: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
    let halves = parts.iter().filter(|p| matches!(p.storage(), Slice::F16(_))).count();
    if halves == 0 || halves == parts.len() {
        return Ok(parts);
    }
    let as_f32 = |p: Tensor| Ok(Tensor::f32(p.shape(), p.f32s()?.into_owned()).tagged(p.dtype()));
    parts.into_iter().map(as_f32).collect()
}

/// `parts`, which [`same_carrier`] gave, one after another along an axis of the result's `shape`.
pub(super) fn join(
    run: &ExecContext<'_>,
    parts: &[Tensor],
    shape: &[usize],
    along: usize,
) -> Result<Tensor, OpError> {
    let (_, _, after) = split_at_axis(shape, along);
    let length = |p: &Tensor| if p.rank() == 0 { 1 } else { p.shape()[along] * after };
    let n = shape.iter().product();
    macro_rules! joined {
        ($kind:ident, $room:expr) => {{
            let part = |p| match Tensor::storage(p) {
                Slice::$kind(v) => Ok((v, length(p))),
                _ => Err(OpError::invalid("tensors of different types do not join")),
            };
            let parts: Vec<_> = parts.iter().map(part).collect::<Result<_, _>>()?;
            let mut out = $room;
            runs_in_turn(&parts, &mut out);
            out
        }};
    }
    let first = parts.first().ok_or_else(|| OpError::invalid("nothing to join"))?;
    let shape = shape.to_vec();
    Ok(match first.storage() {
        Slice::F32(_) => first.with_f32(shape, joined!(F32, run.uninit_buffer(n))),
        Slice::F16(_) => first.with_f16(shape, joined!(F16, vec![f16::ZERO; n])),
        Slice::I32(_) => first.with_i32(shape, joined!(I32, vec![0; n])),
        Slice::Bool(_) => first.with_bool(shape, joined!(Bool, vec![false; n])),
        Slice::Str(_) => first.with_str(shape, joined!(Str, vec![String::new(); n])),
    })
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
}
