//! Moving elements: transposition, slices, and runs along one axis.

use rayon::prelude::*;

use super::broadcast::advance;

/// Row-major steps of a shape.
pub(crate) fn steps(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// Fewer elements than this are moved before another thread has woken up.
const ALONE: usize = 1 << 15;

/// Gathers the elements at `start + Σ place · step` for every place of `shape`, in row-major order.
pub(crate) fn gather<T: Clone + Send + Sync>(
    src: &[T],
    start: isize,
    shape: &[usize],
    step: &[isize],
) -> Vec<T> {
    let n: usize = shape.iter().product();
    let Some(first) = src.first().filter(|_| n > 0) else { return Vec::new() };
    let mut out = vec![first.clone(); n];
    gather_to(src, start, shape, step, &mut out);
    out
}

/// As [`gather`], to a slice of as many elements as `shape` has.
pub(crate) fn gather_to<T: Clone + Send + Sync>(
    src: &[T],
    start: isize,
    shape: &[usize],
    step: &[isize],
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    let (&inner, outer) = shape.split_last().unwrap_or((&1, &[]));
    let inner_step = step.last().copied().unwrap_or(1);
    let rows = |row: usize, out: &mut [T]| {
        let mut place = place(row, outer);
        for out in out.chunks_mut(inner) {
            let base =
                start + place.iter().zip(step).map(|(&p, &s)| p.cast_signed() * s).sum::<isize>();
            if inner_step == 1 {
                let base = base.cast_unsigned();
                out.clone_from_slice(&src[base..base + inner]);
            } else {
                for (i, o) in out.iter_mut().enumerate() {
                    o.clone_from(&src[(base + i.cast_signed() * inner_step).cast_unsigned()]);
                }
            }
            advance(&mut place, outer);
        }
    };
    if out.len() < ALONE {
        rows(0, out);
    } else {
        let each = (ALONE / 4).div_ceil(inner);
        out.par_chunks_mut(each * inner).enumerate().for_each(|(i, out)| rows(i * each, out));
    }
}

/// Writes a run of each part in turn, as often as there are runs; with each part stands the length of its runs.
pub(crate) fn runs_in_turn<T: Clone + Send + Sync>(parts: &[(&[T], usize)], out: &mut [T]) {
    let all: usize = parts.iter().map(|(_, n)| n).sum();
    if all == 0 {
        return;
    }
    let each = ALONE.div_ceil(all);
    out.par_chunks_mut(each * all).enumerate().for_each(|(i, out)| {
        for (turn, out) in (i * each..).zip(out.chunks_mut(all)) {
            let mut rest = out;
            for (elements, n) in parts {
                let (to, after) = rest.split_at_mut(*n);
                to.clone_from_slice(&elements[turn * n..(turn + 1) * n]);
                rest = after;
            }
        }
    });
}

/// The place of a row-major number.
fn place(mut n: usize, shape: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let at = n % extent;
            n /= extent;
            at
        })
        .collect();
    place.reverse();
    place
}

/// Writes `values` to the places that [`gather`] would read.
pub(crate) fn scatter<T: Clone>(
    dst: &mut [T],
    start: isize,
    shape: &[usize],
    step: &[isize],
    values: &[T],
) {
    scatter_as(dst, start, shape, step, values, |to, from| to.clone_from_slice(from));
}

/// As [`scatter`], with elements of another kind: `put` writes them a run at a time.
pub(crate) fn scatter_as<T, S>(
    dst: &mut [T],
    start: isize,
    shape: &[usize],
    step: &[isize],
    values: &[S],
    put: impl Fn(&mut [T], &[S]),
) {
    if values.is_empty() {
        return;
    }
    let (&inner, outer) = shape.split_last().unwrap_or((&1, &[]));
    let inner_step = step.last().copied().unwrap_or(1);
    let mut place = vec![0_usize; outer.len()];
    for values in values.chunks(inner) {
        let base =
            start + place.iter().zip(step).map(|(&p, &s)| p.cast_signed() * s).sum::<isize>();
        if inner_step == 1 {
            let base = base.cast_unsigned();
            put(&mut dst[base..base + inner], values);
        } else {
            for (i, v) in values.iter().enumerate() {
                let at = (base + i.cast_signed() * inner_step).cast_unsigned();
                put(std::slice::from_mut(&mut dst[at]), std::slice::from_ref(v));
            }
        }
        advance(&mut place, outer);
    }
}

/// The elements at some places.
pub(crate) fn pick<T: Clone>(src: &[T], places: impl Iterator<Item = usize>) -> Vec<T> {
    places.map(|at| src[at].clone()).collect()
}

/// Runs of `n` elements from some places on.
pub(crate) fn pick_runs<T: Clone>(src: &[T], places: &[usize], n: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(places.len() * n);
    for &at in places {
        out.extend_from_slice(&src[at..at + n]);
    }
    out
}

/// The first element `n` times.
pub(crate) fn repeat<T: Clone>(src: &[T], n: usize) -> Vec<T> {
    vec![src[0].clone(); n]
}

/// The elements whose place is kept, the default elsewhere.
pub(crate) fn mask<T: Clone + Default>(src: &[T], keep: impl Fn(usize) -> bool) -> Vec<T> {
    src.iter().enumerate().map(|(i, v)| if keep(i) { v.clone() } else { T::default() }).collect()
}

/// Dimensions in the order of `perm`.
pub(crate) fn transpose<T: Clone + Send + Sync>(
    src: &[T],
    shape: &[usize],
    perm: &[usize],
) -> Vec<T> {
    let (to, step) = order(shape, perm);
    gather(src, 0, &to, &step)
}

/// The shape after a transposition, and the steps through the elements before.
pub(crate) fn order(shape: &[usize], perm: &[usize]) -> (Vec<usize>, Vec<isize>) {
    let from = steps(shape);
    let to = perm.iter().map(|&p| shape[p]).collect();
    (to, perm.iter().map(|&p| from[p].cast_signed()).collect())
}

/// Extents before, at and after `axis`, each as one number.
pub(crate) fn split_at_axis(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes() {
        let src: Vec<i32> = (0..24).collect();
        let cases: [(&[usize], &[usize], [i32; 6]); 3] = [
            (&[2, 3, 4], &[0, 2, 1], [0, 4, 8, 1, 5, 9]),
            (&[2, 3, 4], &[1, 0, 2], [0, 1, 2, 3, 12, 13]),
            (&[2, 12], &[1, 0], [0, 12, 1, 13, 2, 14]),
        ];
        for (shape, perm, want) in cases {
            assert_eq!(transpose(&src, shape, perm)[..6], want);
        }
    }

    #[test]
    fn runs_stand_in_turn() {
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        let (first, second) = (words(&["a", "b", "c", "d"]), words(&["1", "2"]));
        let mut out = vec![String::new(); 6];
        runs_in_turn(&[(&first, 2), (&second, 1)], &mut out);
        assert_eq!(out, words(&["a", "b", "1", "c", "d", "2"]));
        // More than one thread is asked for, with a last piece that is shorter than the others.
        let n = 2 * ALONE + 5;
        let [even, odd] = [0, 1].map(|from| (from..2 * n).step_by(2).collect::<Vec<_>>());
        let mut out = vec![0; 2 * n];
        runs_in_turn(&[(&even, 1), (&odd, 1)], &mut out);
        assert!(out.into_iter().eq(0..2 * n));
        runs_in_turn::<u8>(&[(&[], 0)], &mut []);
    }

    #[test]
    fn backward_and_spaced_runs_come_back() {
        let src: Vec<i32> = (0..12).collect();
        // Rows 2 and 0, columns 3 and 1.
        let (start, shape, step) = (11, [2, 2], [-8, -2]);
        let got = gather(&src, start, &shape, &step);
        assert_eq!(got, [11, 9, 3, 1]);
        let mut back = vec![0; 12];
        scatter(&mut back, start, &shape, &step, &got);
        assert_eq!(back, [0, 1, 0, 3, 0, 0, 0, 0, 0, 9, 0, 11]);
    }
}
