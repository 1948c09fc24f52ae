//! `reduce_*`: one number for all elements along some axes; sums in f64, one rounding at the end.

use rayon::prelude::*;

use super::{axes, axis};
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::{split_at_axis, transpose};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Slice, Tensor};

type Built = Result<Kernel, OpError>;

/// Fewer elements than this are reduced before another thread has woken up.
const ALONE: usize = 1 << 15;

fn reduce(
    site: &OpContext<'_, '_>,
    f: impl Fn(&[f32]) -> f32 + Send + Sync + 'static,
    i: impl Fn(&[i32]) -> i32 + Send + Sync + 'static,
) -> Built {
    let x = site.input("x")?;
    let over = site.ints("axes")?;
    let keep = site.bool("keep_dims", false)?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let rank = t.rank();
        let over = match &over {
            Some(over) => axes(over, rank)?,
            None => (0..rank).collect(),
        };
        let kept: Vec<usize> = (0..rank).filter(|a| !over.contains(a)).collect();
        let n: usize = over.iter().map(|&a| t.shape()[a]).product();
        let count: usize = kept.iter().map(|&a| t.shape()[a]).product();
        let shape: Vec<usize> = if keep {
            (0..rank).map(|a| if over.contains(&a) { 1 } else { t.shape()[a] }).collect()
        } else {
            kept.iter().map(|&a| t.shape()[a]).collect()
        };
        let perm: Vec<usize> = kept.iter().chain(&over).copied().collect();
        let sorted = perm.is_sorted();
        if let Slice::I32(v) = t.storage() {
            let v = if sorted { v.to_vec() } else { transpose(v, t.shape(), &perm) };
            let out = if n == 0 { vec![i(&[]); count] } else { v.chunks(n).map(&i).collect() };
            return Ok(t.with_i32(shape, out));
        }
        let v = t.f32s()?;
        let v = if sorted { v } else { transpose(&v, t.shape(), &perm).into() };
        let mut out = run.buffer(count);
        if n == 0 {
            out.resize(count, f(&[]));
        } else {
            out.resize(count, 0.0);
            let each = |(o, v): (&mut f32, &[f32])| *o = f(v);
            if v.len() < ALONE {
                out.iter_mut().zip(v.chunks(n)).for_each(each);
            } else {
                out.par_iter_mut().zip(v.par_chunks(n)).with_min_len(16).for_each(each);
            }
        }
        Ok(Tensor::f32(&shape, out))
    }))
}

fn total(v: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    /// Independent sums, so that additions do not wait for each other.
    const LANES: usize = 8;
    let (runs, rest) = v.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for run in runs {
        for (sum, &x) in sums.iter_mut().zip(run) {
            *sum += f(f64::from(x));
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f(f64::from(x))).sum::<f64>()
}

/// The one value that `pick` leaves of all.
fn choose(v: &[f32], start: f32, pick: impl Fn(f32, f32) -> f32) -> f32 {
    /// Independent choices, so that comparisons do not wait for each other.
    const LANES: usize = 16;
    let (runs, rest) = v.as_chunks::<LANES>();
    let mut chosen = [start; LANES];
    for run in runs {
        for (c, &x) in chosen.iter_mut().zip(run) {
            *c = pick(*c, x);
        }
    }
    chosen.iter().chain(rest).copied().fold(start, pick)
}

fn total_i(v: &[i32], f: impl Fn(i64) -> i64) -> i64 {
    v.iter().map(|&x| f(i64::from(x))).fold(0, i64::wrapping_add)
}

/// The larger, NaN when either is.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller, NaN when either is.
fn smaller(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// Σ |x|.
pub(super) fn l1_norm(site: &OpContext<'_, '_>) -> Built {
    reduce(site, |v| total(v, f64::abs) as f32, |v| total_i(v, i64::abs) as i32)
}

/// √Σ x².
pub(super) fn l2_norm(site: &OpContext<'_, '_>) -> Built {
    reduce(
        site,
        |v| total(v, |x| x * x).sqrt() as f32,
        |v| (total_i(v, |x| x * x) as f64).sqrt() as i32,
    )
}

/// ln Σ x.
pub(super) fn log_sum(site: &OpContext<'_, '_>) -> Built {
    reduce(site, |v| total(v, |x| x).ln() as f32, |v| (total_i(v, |x| x) as f64).ln() as i32)
}

/// ln Σ eˣ, without overflow on the way.
pub(super) fn log_sum_exp(site: &OpContext<'_, '_>) -> Built {
    let f = |v: &[f32]| {
        let max = choose(v, f32::NEG_INFINITY, larger);
        let from = if max.is_finite() { f64::from(max) } else { 0.0 };
        (total(v, |x| (x - from).exp()).ln() + from) as f32
    };
    reduce(site, f, |v| v.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln() as i32)
}

/// The largest.
pub(super) fn max(site: &OpContext<'_, '_>) -> Built {
    reduce(
        site,
        |v| choose(v, f32::NEG_INFINITY, larger),
        |v| v.iter().copied().max().unwrap_or(i32::MIN),
    )
}

/// Σ x / n.
pub(super) fn mean(site: &OpContext<'_, '_>) -> Built {
    reduce(
        site,
        |v| (total(v, |x| x) / v.len() as f64) as f32,
        |v| (total_i(v, |x| x) / v.len().max(1) as i64) as i32,
    )
}

/// The smallest.
pub(super) fn min(site: &OpContext<'_, '_>) -> Built {
    reduce(
        site,
        |v| choose(v, f32::INFINITY, smaller),
        |v| v.iter().copied().min().unwrap_or(i32::MAX),
    )
}

/// Π x.
pub(super) fn prod(site: &OpContext<'_, '_>) -> Built {
    reduce(
        site,
        |v| v.iter().map(|&x| f64::from(x)).product::<f64>() as f32,
        |v| v.iter().copied().fold(1, i32::wrapping_mul),
    )
}

/// Σ x.
pub(super) fn sum(site: &OpContext<'_, '_>) -> Built {
    reduce(site, |v| total(v, |x| x) as f32, |v| total_i(v, |x| x) as i32)
}

/// Σ x².
pub(super) fn sum_square(site: &OpContext<'_, '_>) -> Built {
    reduce(site, |v| total(v, |x| x * x) as f32, |v| total_i(v, |x| x * x) as i32)
}

/// The place of the largest along one axis, the first of equals.
pub(super) fn argmax(site: &OpContext<'_, '_>) -> Built {
    arg(site, |a, b| a > b)
}

/// The place of the smallest along one axis, the first of equals.
pub(super) fn argmin(site: &OpContext<'_, '_>) -> Built {
    arg(site, |a, b| a < b)
}

fn arg(
    site: &OpContext<'_, '_>,
    beats: impl Fn(f64, f64) -> bool + Send + Sync + 'static,
) -> Built {
    let x = site.input("x")?;
    let along = site.int("axis", Some(-1))?;
    let keep = site.bool("keep_dims", false)?;
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let along = axis(along, t.rank())?;
        let (before, n, after) = split_at_axis(t.shape(), along);
        let values: Vec<f64> = match t.storage() {
            Slice::I32(v) => v.iter().map(|&i| f64::from(i)).collect(),
            _ => t.f32s()?.iter().map(|&v| f64::from(v)).collect(),
        };
        let mut out = Vec::with_capacity(before * after);
        for outer in 0..before {
            for inner in 0..after {
                let at = |i: usize| values[(outer * n + i) * after + inner];
                out.push(
                    (1..n).fold(0, |best, i| if beats(at(i), at(best)) { i } else { best }) as i32
                );
            }
        }
        let mut shape = t.shape().to_vec();
        if keep {
            shape[along] = 1;
        } else {
            shape.remove(along);
        }
        Ok(Tensor::i32(&shape, out))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    #[test]
    fn along_the_last_axis() {
        let cases = [
            ("reduce_l1_norm", [3.0, 7.0]),
            ("reduce_l2_norm", [2.236_068, 5.0]),
            ("reduce_max", [2.0, 4.0]),
            ("reduce_mean", [0.5, 3.5]),
            ("reduce_min", [-1.0, 3.0]),
            ("reduce_prod", [-2.0, 12.0]),
            ("reduce_sum", [1.0, 7.0]),
            ("reduce_sum_square", [5.0, 25.0]),
            ("reduce_log_sum", [0.0, 1.945_910_1]),
            ("reduce_log_sum_exp", [2.048_587_3, 4.313_261_5]),
        ];
        for (kind, want) in cases {
            let x = || floats(&[2, 2], &[-1.0, 2.0, 3.0, 4.0]);
            check(kind).input("x", x()).ints("axes", &[-1]).gives(&[2], &want);
            check(kind)
                .input("x", x())
                .ints("axes", &[-1])
                .flag("keep_dims", true)
                .gives(&[2, 1], &want);
        }
    }

    #[test]
    fn other_axes_and_types() {
        let x = || floats(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        check("reduce_sum").input("x", x()).gives(&[], &[10.0]);
        check("reduce_sum").input("x", x()).ints("axes", &[0]).gives(&[1, 2], &[4.0, 6.0]);
        check("reduce_sum")
            .input("x", x())
            .ints("axes", &[0, 2])
            .flag("keep_dims", true)
            .gives(&[1, 1, 1], &[10.0]);
        let ints = Tensor::i32(&[3], vec![4, -1, 2]);
        check("reduce_max").input("x", ints.clone()).out(DType::I32).gives(&[], &[4.0]);
        check("reduce_argmin").input("x", ints).out(DType::I32).gives(&[], &[1.0]);
        check("reduce_argmax")
            .input("x", x())
            .int("axis", 0)
            .flag("keep_dims", true)
            .out(DType::I32)
            .gives(&[1, 1, 2], &[1.0, 1.0]);
    }
}
