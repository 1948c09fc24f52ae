//! A clustering close to the optimum: the best on a coarse grid near an expected place, then on ever finer grids near that.

use super::super::histogram::Distinct;
use super::Moments;
use super::layer::Layer;

/// Cells of the first grid for each cluster.
const CELLS: usize = 8;

/// Into how many cells each is split from one grid to the next.
const SPLIT: usize = 4;

/// How many cells of the first grid a boundary may move in one pass: as far as six clusters, so that clusters can change sides.
const FIRST_BAND: usize = 6 * CELLS;

/// How many cells a boundary may move in one pass on the finer grids.
const BAND: usize = 5 * CELLS;

/// A pass that lowers the squared error by less than this part of it is the last on its grid.
const ENOUGH: f64 = 1e-4;

/// Boundaries of `n_clusters` non-empty clusters, fewer than there are values.
pub(super) fn boundaries(distinct: &Distinct, all: &Moments<'_>, n_clusters: usize) -> Vec<usize> {
    let n = distinct.len();
    let measure = companding_measure(distinct, 2 * n_clusters);
    let start = cells(&measure, n_clusters);
    let mut grid = cells(&measure, CELLS * n_clusters);
    grid.extend(&start);
    grid.sort_unstable();
    grid.dedup();
    let mut places: Vec<usize> = start.iter().map(|b| grid.partition_point(|g| g < b)).collect();
    let mut band = FIRST_BAND;
    loop {
        let at = |prefix: &[f64]| -> Vec<f64> { grid.iter().map(|&i| prefix[i]).collect() };
        let (weight, sum) = (at(all.weight), at(all.sum));
        let coarse = Moments { weight: &weight, sum: &sum };
        let mut gain = f64::NEG_INFINITY;
        loop {
            let pass = rearrange(&coarse, &mut places, band);
            let enough = ENOUGH * (distinct.sum_of_squares() - pass.gain);
            if !pass.at_edge || pass.gain - gain <= enough {
                break;
            }
            gain = pass.gain;
        }
        if grid.len() == n + 1 {
            return places;
        }
        (grid, places) = split(&grid, &places);
        band = BAND;
    }
}

/// What a pass over a grid has led to.
struct Pass {
    gain: f64,
    /// Whether a boundary now lies at the edge of its band, so that it might want to go farther.
    at_edge: bool,
}

/// Puts all boundaries in the best places within `band` of where they are.
fn rearrange(moments: &Moments<'_>, places: &mut [usize], band: usize) -> Pass {
    let n_clusters = places.len() - 1;
    let n = places[n_clusters];
    let range = |c: usize| {
        if c == n_clusters {
            return n..=n;
        }
        places[c].saturating_sub(band).max(c)..=(places[c] + band).min(n - (n_clusters - c))
    };
    let mut layers = vec![Layer::first(moments, range(1))];
    for c in 2..=n_clusters {
        let layer = layers[c - 2].next(moments, range(c), |_, _| true);
        layers.push(layer);
    }
    let mut at_edge = false;
    for c in (1..n_clusters).rev() {
        let place = layers[c].from(places[c + 1]);
        at_edge |= place.abs_diff(places[c]) == band;
        places[c] = place;
    }
    Pass { gain: layers[n_clusters - 1].best(n), at_edge }
}

/// The grid with each cell split into [`SPLIT`], as far as it has values, and the same places on it.
fn split(grid: &[usize], places: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut finer = vec![0];
    let mut new_place = vec![0];
    for cell in grid.windows(2) {
        let width = cell[1] - cell[0];
        let parts = width.min(SPLIT);
        finer.extend((1..=parts).map(|part| cell[0] + width * part / parts));
        new_place.push(finer.len() - 1);
    }
    (finer, places.iter().map(|&p| new_place[p]).collect())
}

/// For each value, the integral of density^(1/3) up to and with it: many optimal clusters share it equally (Panter and Dite, 1951).
///
/// A value that occurs n times with a gap Δ around it has density n / Δ over a width Δ, hence (n Δ²)^(1/3).
/// No value counts for more than one part in `most` of the whole: a far outlier must not take the cells of the others.
fn companding_measure(distinct: &Distinct, most: usize) -> Vec<f32> {
    let values = distinct.values();
    let last = values.len() - 1;
    let gap = |i: usize| values[(i + 1).min(last)] - values[i.saturating_sub(1)];
    let counts = distinct.counts().iter().enumerate();
    let mut measure: Vec<f32> =
        counts.map(|(i, &count)| rough_cbrt(count as f32 * gap(i) * gap(i))).collect();
    for _ in 0..3 {
        let limit = lane_sum(&measure) / most as f32;
        for m in &mut measure {
            *m = m.min(limit);
        }
    }
    let mut total = 0.0;
    for m in &mut measure {
        total += *m;
        *m = total;
    }
    measure
}

/// The sum in eight interleaved parts, which vectorises and is the same everywhere.
fn lane_sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().chain(rest).sum()
}

/// The cube root within 6 %, which is plenty for a grid: a third of the exponent.
fn rough_cbrt(x: f32) -> f32 {
    f32::from_bits(x.to_bits() / 3 + 0x2a51_37a0)
}

/// The edges of `n_cells` non-empty cells of about equal measure, or of one for each value if there are fewer.
fn cells(measure: &[f32], n_cells: usize) -> Vec<usize> {
    let n = measure.len();
    if n <= n_cells {
        return (0..=n).collect();
    }
    let share = measure[n - 1] / n_cells as f32;
    let mut edges = Vec::with_capacity(n_cells + 1);
    edges.push(0);
    for c in 1..n_cells {
        let full = measure.partition_point(|&m| m < share * c as f32);
        edges.push(full.clamp(edges[c - 1] + 1, n - (n_cells - c)));
    }
    edges.push(n);
    edges
}
