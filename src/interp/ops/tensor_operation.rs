//! Tensors taken apart and made: `split`, `tile`, `pad`, `fill`, `range_1d`.

use super::{axis, extents};
use crate::interp::error::OpError;
use crate::interp::exec::{Kernel, Operand};
use crate::interp::kernel::strided::{gather, mask, repeat, split_at_axis, steps};
use crate::interp::op_context::{Ints, OpContext};
use crate::interp::tensor::{Slice, Tensor, elements, map_storage};

type Built = Result<Kernel, OpError>;

/// x.
pub(super) fn identity(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| Ok(run.take(&x))))
}

/// The extents of x.
pub(super) fn shape(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let shape: Vec<i32> = run.get(&x).shape().iter().map(|&n| n as i32).collect();
        Ok(Tensor::i32(&[shape.len()], shape))
    }))
}

/// Parts along an axis, of equal or given sizes.
pub(super) fn split(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let along = site.int("axis", None)?;
    let sizes = site.ints("split_sizes")?.map(|s| extents(&s)).transpose()?;
    let n_outputs = site.op.outputs.len();
    Ok(Kernel::many(move |run| {
        let t = run.get(&x);
        let along = axis(along, t.rank())?;
        let n = t.shape()[along];
        let sizes = sizes.clone().unwrap_or_else(|| vec![n / n_outputs.max(1); n_outputs]);
        if sizes.iter().sum::<usize>() != n {
            return Err(OpError::invalid(format!("{n} elements do not split into {sizes:?}")));
        }
        let own = steps(t.shape());
        let step: Vec<isize> = own.iter().map(|s| s.cast_signed()).collect();
        let mut first = 0;
        let parts = sizes.iter().map(|&size| {
            let mut shape = t.shape().to_vec();
            shape[along] = size;
            let start = first * own[along];
            first += size;
            if t.shape()[..along].iter().all(|&n| n == 1) {
                return t.view(start, shape);
            }
            map_storage!(t, shape.clone(), |src| gather(src, start.cast_signed(), &shape, &step))
        });
        Ok(parts.collect())
    }))
}

/// x repeated along each axis.
pub(super) fn tile(site: &OpContext<'_, '_>) -> Built {
    let (x, reps) = (site.input("x")?, Ints::of(site, "reps")?);
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let reps = extents(reps.get(run)?)?;
        if reps.len() != t.rank() {
            return Err(OpError::invalid(format!("reps {reps:?} for shape {:?}", t.shape())));
        }
        // [n, ..] as [1, n, ..] read `reps` times with a step of 0.
        let repeated = t.shape().iter().zip(&reps).map(|(&n, &r)| n.saturating_mul(r));
        elements(&repeated.collect::<Vec<_>>())?;
        let own = steps(t.shape());
        let (mut read, mut step, mut shape) = (vec![], vec![], vec![]);
        for ((&n, &r), &s) in t.shape().iter().zip(&reps).zip(&own) {
            read.extend([r, n]);
            step.extend([0, s.cast_signed()]);
            shape.push(n * r);
        }
        Ok(map_storage!(t, shape, |src| gather(src, 0, &read, &step)))
    }))
}

/// A border around the last dimensions.
pub(super) fn pad(site: &OpContext<'_, '_>) -> Built {
    let (x, pad) = (site.input("x")?, Ints::of(site, "pad")?);
    let mode = site.text("mode")?.unwrap_or_else(|| "constant".to_owned());
    if !matches!(mode.as_str(), "constant" | "reflect" | "replicate") {
        return Err(OpError::Unsupported(format!("mode `{mode}`")));
    }
    let value = site.float("constant_val", Some(0.0))?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let pad = extents(pad.get(run)?)?;
        let (pairs, rest) = pad.as_chunks::<2>();
        let shape_mismatch = || OpError::invalid(format!("pad {pad:?} for shape {:?}", t.shape()));
        let free = t
            .rank()
            .checked_sub(pairs.len())
            .filter(|_| rest.is_empty())
            .ok_or_else(shape_mismatch)?;
        let mut shape = t.shape().to_vec();
        let padded = shape.iter().enumerate().map(|(i, n)| {
            let [before, after] = i.checked_sub(free).map_or([0, 0], |i| pairs[i]);
            n + before + after
        });
        elements(&padded.collect::<Vec<_>>())?;
        // For each place of each axis, the place it is read from; nothing for the constant.
        let mut from: Vec<Vec<Option<usize>>> = Vec::new();
        for (i, n) in shape.iter_mut().enumerate() {
            let [before, after] = i.checked_sub(free).map_or([0, 0], |i| pairs[i]);
            let len = *n;
            let place = |p: usize| {
                let at = p.cast_signed() - before.cast_signed();
                let last = len.cast_signed() - 1;
                let inside = (0..=last).contains(&at);
                match mode.as_str() {
                    _ if inside => Some(at),
                    "reflect" => Some(if at < 0 { -at } else { 2 * last - at }),
                    "replicate" => Some(at.min(last).max(0)),
                    _ => None,
                }
                .filter(|a| (0..=last).contains(a))
                .map(isize::cast_unsigned)
            };
            *n = len + before + after;
            let places: Vec<_> = (0..*n).map(place).collect();
            if mode != "constant" && places.contains(&None) {
                return Err(shape_mismatch());
            }
            from.push(places);
        }
        let own = steps(t.shape());
        let n = shape.iter().product();
        let source = |mut at: usize| {
            let mut sum = Some(0);
            for (places, (&extent, &step)) in from.iter().zip(shape.iter().zip(&own)).rev() {
                sum = sum.zip(places[at % extent]).map(|(s, p)| s + p * step);
                at /= extent;
            }
            sum
        };
        if let Some(ints) = t.as_i32() {
            let out = (0..n).map(|i| source(i).map_or(value as i32, |s| ints[s])).collect();
            return Ok(t.with_i32(shape, out));
        }
        let values = t.f32s()?;
        let out = (0..n).map(|i| source(i).map_or(value, |s| values[s])).collect();
        Ok(Tensor::f32(&shape, out))
    }))
}

/// One value everywhere.
pub(super) fn fill(site: &OpContext<'_, '_>) -> Built {
    let shape = Ints::of(site, "shape")?;
    let value = site.constant("value")?.unwrap_or_else(|| Tensor::f32(&[], vec![0.0]));
    Ok(Kernel::one(move |run| filled(&value, extents(shape.get(run)?)?)))
}

/// One value in the shape of another tensor.
pub(super) fn fill_like(site: &OpContext<'_, '_>) -> Built {
    let like = site.input("ref_tensor")?;
    let value = site.constant("value")?.unwrap_or_else(|| Tensor::f32(&[], vec![0.0]));
    Ok(Kernel::one(move |run| filled(&value, run.get(&like).shape().to_vec())))
}

fn filled(value: &Tensor, shape: Vec<usize>) -> Result<Tensor, OpError> {
    if value.len() != 1 {
        return Err(OpError::invalid(format!("a value of {} elements", value.len())));
    }
    let n = elements(&shape)?;
    Ok(map_storage!(value, shape, |src| repeat(src, n)))
}

/// start, start + step, … before end.
pub(super) fn range_1d(site: &OpContext<'_, '_>) -> Built {
    let (start, end, step) = (site.input("start")?, site.input("end")?, site.input("step")?);
    Ok(Kernel::one(move |run| {
        let one = |from: &Operand| -> Result<f64, OpError> {
            let t = run.get(from);
            match (t.as_i32(), t.to_f32().as_deref()) {
                (Some(&[i]), _) => Ok(f64::from(i)),
                (_, Some(&[f])) => Ok(f64::from(f)),
                _ => Err(OpError::invalid(format!("a bound of type {}", t.describe()))),
            }
        };
        let (from, to, by) = (one(&start)?, one(&end)?, one(&step)?);
        let n = ((to - from) / by).ceil();
        if !n.is_finite() {
            return Err(OpError::invalid(format!("a range from {from} to {to} by {by}")));
        }
        elements(&[n.max(0.0) as usize])?;
        let values = (0..n.max(0.0) as usize).map(|i| from + by * i as f64);
        Ok(if run.get(&start).as_i32().is_some() {
            let values: Vec<i32> = values.map(|v| v as i32).collect();
            Tensor::i32(&[values.len()], values)
        } else {
            let values: Vec<f32> = values.map(|v| v as f32).collect();
            Tensor::f32(&[values.len()], values)
        })
    }))
}

/// Zeros outside a band around the diagonal; a negative width keeps that side whole.
pub(super) fn band_part(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let (lower, upper) = (site.int("lower", Some(-1))?, site.int("upper", Some(-1))?);
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let &[.., rows, columns] = t.shape() else {
            return Err(OpError::invalid(format!("shape {:?} has no matrix", t.shape())));
        };
        let keep = |i: usize| {
            let (m, n) = ((i / columns % rows) as i64, (i % columns) as i64);
            (lower < 0 || m - n <= i64::from(lower)) && (upper < 0 || n - m <= i64::from(upper))
        };
        Ok(map_storage!(t, t.shape().to_vec(), |src| mask(src, keep)))
    }))
}

/// Sums of all elements so far along an axis.
pub(super) fn cumsum(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let along = site.int("axis", Some(0))?;
    let (exclusive, reverse) = (site.bool("exclusive", false)?, site.bool("reverse", false)?);
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let (before, n, after) = split_at_axis(t.shape(), axis(along, t.rank())?);
        let walk = |mut visit: Box<dyn FnMut(usize, bool) + '_>| {
            for outer in 0..before {
                for inner in 0..after {
                    for i in 0..n {
                        let place = if reverse { n - 1 - i } else { i };
                        visit((outer * n + place) * after + inner, i == 0);
                    }
                }
            }
        };
        if let Some(ints) = t.as_i32() {
            let mut out = vec![0; ints.len()];
            let mut sum = 0_i32;
            walk(Box::new(|at, first| {
                sum = if first { 0 } else { sum };
                let next = sum.wrapping_add(ints[at]);
                out[at] = if exclusive { sum } else { next };
                sum = next;
            }));
            return Ok(t.with_i32(t.shape().to_vec(), out));
        }
        let values = t.f32s()?;
        let mut out = vec![0.0; values.len()];
        let mut sum = 0.0_f64;
        walk(Box::new(|at, first| {
            sum = if first { 0.0 } else { sum };
            let next = sum + f64::from(values[at]);
            out[at] = (if exclusive { sum } else { next }) as f32;
            sum = next;
        }));
        Ok(Tensor::f32(t.shape(), out))
    }))
}

/// All dimensions before an axis as one, all from it on as another.
pub(super) fn flatten2d(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    let along = site.int("axis", Some(1))?;
    Ok(Kernel::one(move |run| {
        let t = run.take(&x);
        let at = if along < 0 { i64::from(along) + t.rank() as i64 } else { i64::from(along) };
        let at = usize::try_from(at).ok().filter(|&a| a <= t.rank());
        let at = at.ok_or_else(|| {
            OpError::invalid(format!("axis {along} is outside rank {}", t.rank()))
        })?;
        let (first, last) = t.shape().split_at(at);
        let shape = vec![first.iter().product(), last.iter().product()];
        Ok(t.reshaped(shape))
    }))
}

/// The places of the elements that are not zero, one row each.
pub(super) fn non_zero(site: &OpContext<'_, '_>) -> Built {
    let x = site.input("x")?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let values = t.to_f32().ok_or_else(|| OpError::invalid("strings are not numbers"))?;
        let found = values.iter().filter(|v| **v != 0.0).count();
        elements(&[found, t.rank()])?;
        let own = steps(t.shape());
        let rows: Vec<i32> = values
            .iter()
            .enumerate()
            .filter(|(_, v)| **v != 0.0)
            .flat_map(|(at, _)| own.iter().zip(t.shape()).map(move |(s, n)| (at / s % n) as i32))
            .collect();
        Ok(Tensor::i32(&[rows.len() / t.rank().max(1), t.rank()], rows))
    }))
}

/// `on_value` at the place each index names along a new axis, `off_value` elsewhere.
pub(super) fn one_hot(site: &OpContext<'_, '_>) -> Built {
    let (indices, size) = (site.input("indices")?, Ints::of(site, "one_hot_vector_size")?);
    let along = site.int("axis", Some(-1))?;
    let value = |parameter: &str, default: i32| -> Result<Tensor, OpError> {
        Ok(site.constant(parameter)?.unwrap_or_else(|| Tensor::i32(&[], vec![default])))
    };
    let (on, off) = (value("on_value", 1)?, value("off_value", 0)?);
    Ok(Kernel::one(move |run| {
        let indices = run.get(&indices);
        let &[n] = size.get(run)? else {
            return Err(OpError::invalid("a size that is no single number"));
        };
        let n = usize::try_from(n).map_err(|_| OpError::invalid(format!("a size of {n}")))?;
        let mut shape = indices.shape().to_vec();
        let along = axis(along, shape.len() + 1)?;
        shape.insert(along, n);
        elements(&shape)?;
        let (_, _, after) = split_at_axis(&shape, along);
        let given = indices.i32s()?;
        let hot: Vec<bool> = (0..shape.iter().product())
            .map(|i: usize| {
                let index = given[i / (n * after) * after + i % after];
                let index = if index < 0 { index + n as i32 } else { index };
                usize::try_from(index) == Ok(i / after % n)
            })
            .collect();
        let pick = |on: f32, off: f32| hot.iter().map(|&h| if h { on } else { off }).collect();
        Ok(match (on.storage(), off.storage()) {
            (Slice::I32(&[on]), Slice::I32(&[off])) => {
                Tensor::i32(&shape, hot.iter().map(|&h| if h { on } else { off }).collect())
            }
            (Slice::Bool(&[on]), Slice::Bool(&[off])) => {
                Tensor::bool(&shape, hot.iter().map(|&h| if h { on } else { off }).collect())
            }
            _ => match (on.to_f32().as_deref(), off.to_f32().as_deref()) {
                (Some(&[on]), Some(&[off])) => Tensor::f32(&shape, pick(on, off)),
                _ => return Err(OpError::invalid("on_value or off_value is no single number")),
            },
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    fn x() -> Tensor {
        floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])
    }

    #[test]
    fn parts() {
        let got = check("split")
            .input("x", x())
            .int("axis", 1)
            .int("num_splits", 2)
            .outs(&[DType::F32, DType::F32], 2)
            .runs();
        assert_eq!(
            (got[0].to_f32().unwrap(), got[1].to_f32().unwrap()),
            (vec![1.0, 3.0], vec![2.0, 4.0])
        );
        let row = floats(&[3], &[1.0, 2.0, 3.0]);
        let got = check("split")
            .input("x", row)
            .int("axis", 0)
            .ints("split_sizes", &[1, 2])
            .outs(&[DType::F32, DType::F32], 1)
            .runs();
        assert_eq!(
            (got[0].to_f32().unwrap(), got[1].to_f32().unwrap()),
            (vec![1.0], vec![2.0, 3.0])
        );
    }

    #[test]
    fn borders_and_repeats() {
        check("tile")
            .input("x", x())
            .ints("reps", &[1, 2])
            .gives(&[2, 4], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        let row = || floats(&[1, 3], &[1.0, 2.0, 3.0]);
        let c = |mode: &str| check("pad").input("x", row()).ints("pad", &[2, 1]).text("mode", mode);
        c("constant").gives(&[1, 6], &[0.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
        c("reflect").gives(&[1, 6], &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
        c("replicate").gives(&[1, 6], &[1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn made_tensors() {
        check("fill")
            .ints("shape", &[2, 1])
            .floats_const(&[("value", 3.0)])
            .gives(&[2, 1], &[3.0, 3.0]);
        let int = |i| Tensor::i32(&[], vec![i]);
        let c = check("range_1d").input("start", int(1)).input("end", int(6)).input("step", int(2));
        c.out(DType::I32).gives(&[3], &[1.0, 3.0, 5.0]);
        check("shape").input("x", x()).out(DType::I32).gives(&[2], &[2.0, 2.0]);
        check("band_part")
            .input("x", x())
            .int("lower", 0)
            .int("upper", 0)
            .gives(&[2, 2], &[1.0, 0.0, 0.0, 4.0]);
        check("cumsum").input("x", x()).int("axis", 0).gives(&[2, 2], &[1.0, 2.0, 4.0, 6.0]);
        check("cumsum")
            .input("x", x())
            .int("axis", 1)
            .flag("exclusive", true)
            .flag("reverse", true)
            .gives(&[2, 2], &[2.0, 0.0, 4.0, 0.0]);
        check("flatten2d")
            .input("x", floats(&[1, 2, 2], &[1.0; 4]))
            .int("axis", 2)
            .gives(&[2, 2], &[1.0; 4]);
        check("non_zero")
            .input("x", floats(&[2, 2], &[0.0, 1.0, 2.0, 0.0]))
            .out(DType::I32)
            .gives(&[2, 2], &[0.0, 1.0, 1.0, 0.0]);
        let c = check("one_hot")
            .input("indices", Tensor::i32(&[2], vec![1, -1]))
            .int("one_hot_vector_size", 3);
        c.out(DType::I32).gives(&[2, 3], &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
