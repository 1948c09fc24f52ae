//! Elementwise work on two tensors whose shapes stretch to one another.

use rayon::prelude::*;

use super::simd;
use crate::interp::error::OpError;
use crate::interp::tensor::elements;

/// Elements handled by one thread at a time.
const PIECE: usize = 1 << 13;

/// The shape that both stretch to.
pub(crate) fn shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, OpError> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    let shape = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (m, n) if m == n => Ok(m),
            (1, n) => Ok(n),
            (m, 1) => Ok(m),
            _ => Err(OpError::invalid(format!(
                "shapes {a:?} and {b:?} do not stretch to one another"
            ))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    elements(&shape)?;
    Ok(shape)
}

/// Steps of a tensor of shape `from` along the dimensions of `to`: 0 where it is stretched.
pub(crate) fn strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let mut out = vec![0; to.len()];
    let mut step = 1;
    for (o, &n) in out.iter_mut().rev().zip(from.iter().rev()) {
        *o = if n == 1 { 0 } else { step };
        step *= n;
    }
    out
}

/// Appends `f(a, b)` for every place of `to`, the shape that both stretch to.
pub(crate) fn zip<A: Copy, B: Copy, R>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    to: &[usize],
    out: &mut Vec<R>,
    f: impl Fn(A, B) -> R,
) {
    if to.contains(&0) {
        return;
    }
    if a.len() == b.len() && a_shape.iter().product::<usize>() == to.iter().product::<usize>() {
        out.extend(a.iter().zip(b).map(|(&a, &b)| f(a, b)));
        return;
    }
    let (dims, a_steps, b_steps) = merged(to, &strides(a_shape, to), &strides(b_shape, to));
    let (&inner, outer) = dims.split_last().unwrap_or((&1, &[]));
    let step = |s: &[usize]| s.last().copied().unwrap_or(0);
    let (a_inner, b_inner) = (step(&a_steps), step(&b_steps));
    let mut place = vec![0; outer.len()];
    loop {
        let base = |s: &[usize]| place.iter().zip(s).map(|(p, s)| p * s).sum::<usize>();
        let (i, j) = (base(&a_steps), base(&b_steps));
        match (a_inner, b_inner) {
            (1, 1) => {
                let pairs = a[i..i + inner].iter().zip(&b[j..j + inner]);
                out.extend(pairs.map(|(&a, &b)| f(a, b)));
            }
            (1, 0) => {
                let b = b[j];
                out.extend(a[i..i + inner].iter().map(|&a| f(a, b)));
            }
            (0, 1) => {
                let a = a[i];
                out.extend(b[j..j + inner].iter().map(|&b| f(a, b)));
            }
            (p, q) => out.extend((0..inner).map(|n| f(a[i + n * p], b[j + n * q]))),
        }
        if !advance(&mut place, outer) {
            return;
        }
    }
}

/// Where the first of two tensors of floats is read.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// In the result, which holds it already: it has the joint shape.
    Result,
    /// Elsewhere.
    Other(&'a [f32], &'a [usize]),
}

/// Writes `f(a, b)` for every place of `to`, the shape that both stretch to; quick where it is large.
///
/// `finish` is called once with every piece of the result.
pub(crate) fn zip_floats(
    a: Left<'_>,
    (b, b_shape): (&[f32], &[usize]),
    to: &[usize],
    out: &mut [f32],
    f: impl Fn(f32, f32) -> f32 + Copy + Sync,
    finish: impl Fn(&mut [f32]) + Sync,
) {
    let a_steps = match a {
        Left::Result => strides(to, to),
        Left::Other(_, shape) => strides(shape, to),
    };
    let (dims, a_steps, b_steps) = merged(to, &a_steps, &strides(b_shape, to));
    let (&inner, outer) = dims.split_last().unwrap_or((&1, &[]));
    let last = |s: &[usize]| s.last().copied().unwrap_or(0);
    let (a_step, b_step) = (last(&a_steps), last(&b_steps));
    let base = |mut row: usize, steps: &[usize]| -> usize {
        let dims = outer.iter().zip(steps).rev();
        dims.fold(0, |at, (&n, &step)| {
            let place = row % n;
            row /= n;
            at + place * step
        })
    };
    let run = |row: usize, first: usize, out: &mut [f32]| {
        let n = out.len();
        if let Left::Other(a, _) = a {
            let at = base(row, &a_steps) + first * a_step;
            match a_step {
                1 => out.copy_from_slice(&a[at..at + n]),
                0 => out.fill(a[at]),
                _ => out.iter_mut().enumerate().for_each(|(i, o)| *o = a[at + i * a_step]),
            }
        }
        let at = base(row, &b_steps) + first * b_step;
        match b_step {
            1 => simd::zip(out, &b[at..at + n], f),
            0 => {
                let b = b[at];
                simd::map(out, |a| f(a, b));
            }
            _ => out.iter_mut().enumerate().for_each(|(i, o)| *o = f(*o, b[at + i * b_step])),
        }
    };
    let piece = |(i, out): (usize, &mut [f32])| {
        let (mut at, mut rest) = (i * PIECE, &mut *out);
        while !rest.is_empty() {
            let first = at % inner;
            let (now, after) = rest.split_at_mut((inner - first).min(rest.len()));
            at += now.len();
            run((at - 1) / inner, first, now);
            rest = after;
        }
        finish(out);
    };
    if out.len() <= PIECE {
        piece((0, out));
    } else {
        out.par_chunks_mut(PIECE).enumerate().for_each(piece);
    }
}

/// The elements of a tensor of shape `from` stretched to `to`.
pub(crate) fn expand<T: Copy>(data: &[T], from: &[usize], to: &[usize]) -> Vec<T> {
    let mut out = Vec::with_capacity(to.iter().product());
    zip((data, from), (&[()], &[]), to, &mut out, |x, ()| x);
    out
}

/// Moves on to the next place in row-major order; false after the last.
pub(crate) fn advance(place: &mut [usize], shape: &[usize]) -> bool {
    for (p, &n) in place.iter_mut().zip(shape).rev() {
        *p += 1;
        if *p < n {
            return true;
        }
        *p = 0;
    }
    false
}

/// Joins dimensions that both tensors step through as one.
fn merged(to: &[usize], a: &[usize], b: &[usize]) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let mut dims: Vec<usize> = Vec::new();
    let (mut a_steps, mut b_steps): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for ((&n, &p), &q) in to.iter().zip(a).zip(b) {
        if n == 1 {
            continue;
        }
        match (dims.last_mut(), a_steps.last_mut(), b_steps.last_mut()) {
            (Some(m), Some(x), Some(y)) if *x == p * n && *y == q * n => {
                *m *= n;
                (*x, *y) = (p, q);
            }
            _ => {
                dims.push(n);
                a_steps.push(p);
                b_steps.push(q);
            }
        }
    }
    (dims, a_steps, b_steps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_place_gets_its_pair(to in prop::collection::vec(1_usize..4, 0..5), ones in any::<[u8; 2]>(), cut in any::<[u8; 2]>()) {
            let side = |s: usize| -> Vec<usize> {
                let all: Vec<usize> = to.iter().enumerate().map(|(i, &n)| if ones[s] >> i & 1 == 1 { 1 } else { n }).collect();
                let mut skip = cut[s] as usize % (to.len() + 1);
                while skip > 0 && all[..skip].iter().any(|&n| n != 1) { skip -= 1; }
                all[skip..].to_vec()
            };
            let (a_shape, b_shape) = (side(0), side(1));
            let a: Vec<i32> = (0..a_shape.iter().product::<usize>() as i32).collect();
            let b: Vec<i32> = (0..b_shape.iter().product::<usize>() as i32).map(|i| i * 1000).collect();
            let joint = shape(&a_shape, &b_shape).unwrap();
            let mut got = Vec::new();
            zip((&a, &a_shape), (&b, &b_shape), &joint, &mut got, |a, b| a + b);
            let mut want = Vec::new();
            let mut place = vec![0; joint.len()];
            let (p, q) = (strides(&a_shape, &joint), strides(&b_shape, &joint));
            loop {
                let at = |s: &[usize]| place.iter().zip(s).map(|(p, s)| p * s).sum::<usize>();
                want.push(a[at(&p)] + b[at(&q)]);
                if !advance(&mut place, &joint) { break; }
            }
            prop_assert_eq!(&got, &want);
            let floats = |v: &[i32]| v.iter().map(|&i| i as f32).collect::<Vec<f32>>();
            let (a, b, want) = (floats(&a), floats(&b), floats(&want));
            let mut got = vec![f32::NAN; want.len()];
            zip_floats(Left::Other(&a, &a_shape), (&b, &b_shape), &joint, &mut got, |a, b| a + b, |_| {});
            prop_assert_eq!(&got, &want);
            let mut got = expand(&a, &a_shape, &joint);
            zip_floats(Left::Result, (&b, &b_shape), &joint, &mut got, |a, b| a + b, |_| {});
            prop_assert_eq!(&got, &want);
        }
    }

    #[test]
    fn large_tensors_are_worked_on_in_pieces() {
        let (n, k) = (70, 401);
        let a: Vec<f32> = (0..n * k).map(|i| i as f32).collect();
        for (b_shape, of) in [([n, 1], 0), ([1, k], 1), ([n, k], 2)] {
            let b: Vec<f32> =
                (0..b_shape.iter().product()).map(|i: usize| i as f32 / 4.0).collect();
            let mut got = a.clone();
            zip_floats(
                Left::Result,
                (&b, &b_shape),
                &[n, k],
                &mut got,
                |a, b| a - b,
                |p| p[0] = -1.0,
            );
            for (i, &g) in got.iter().enumerate() {
                let b = b[[i / k, i % k, i][of]];
                assert_eq!(g, if i % PIECE == 0 { -1.0 } else { i as f32 - b });
            }
        }
    }

    #[test]
    fn shapes_that_do_not_stretch() {
        assert_eq!(shape(&[2, 1, 4], &[3, 1]).unwrap(), [2, 3, 4]);
        let error = shape(&[2, 3], &[4]).unwrap_err().to_string();
        assert_eq!(error, "shapes [2, 3] and [4] do not stretch to one another");
    }
}
