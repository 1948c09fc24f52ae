//! A clustering close to the optimum: the best on a coarse grid near an expected place, then on ever finer grids near that.

use std::ops::RangeInclusive;

use super::super::histogram::Distinct;
use super::Moments;
use super::layer::{Layer, Places};

/// Cells of the first grid for each cluster.
const CELLS: usize = 8;

/// Into how many cells each is split from one grid to the next.
const SPLIT: usize = 4;

/// A pass that lowers the squared error by less than this part of it is the last on its grid.
const ENOUGH: f64 = 1e-4;

/// Boundaries of `n_clusters` non-empty clusters, fewer than there are values.
pub(super) fn boundaries(distinct: &Distinct, all: &Moments<'_>, n_clusters: usize) -> Vec<usize> {
    let n = distinct.len();
    let measure = companding_measure(distinct, 2 * n_clusters);
    let start = cells(&measure, n_clusters);
    let mut edges = cells(&measure, CELLS * n_clusters);
    edges.extend(&start);
    edges.sort_unstable();
    edges.dedup();

    let mut places: Vec<usize> =
        start.iter().map(|b| edges.partition_point(|edge| edge < b)).collect();
    let mut grid = Grid { edges: &edges, parts: 1 };
    let wide = band(n_clusters);
    let mut reach = wide;
    while grid.parts * edges.len() < n {
        improve(distinct, all, &grid, &mut places, reach);
        reach = if grid.parts == 1 { wide } else { FINE };
        grid.parts *= SPLIT;
        for place in &mut places {
            *place *= SPLIT;
        }
    }
    let mut boundaries: Vec<usize> = places.iter().map(|&place| grid.position(place)).collect();
    let all_places = Grid { edges: &[0, n], parts: n };
    improve(distinct, all, &all_places, &mut boundaries, reach);
    boundaries
}

/// Places among the values: the edges of cells, and between them others that split each cell into equal parts.
struct Grid<'a> {
    /// Ascending positions from 0 to the number of values.
    edges: &'a [usize],
    /// Parts of each cell; some are empty if the cell has fewer values.
    parts: usize,
}

impl Grid<'_> {
    /// How many values lie before `place`.
    fn position(&self, place: usize) -> usize {
        let (cell, part) = (place / self.parts, place % self.parts);
        if part == 0 {
            return self.edges[cell];
        }
        self.edges[cell] + (self.edges[cell + 1] - self.edges[cell]) * part / self.parts
    }

    fn places<'a>(&self, all: &Moments<'_>, range: RangeInclusive<usize>) -> Places<'a> {
        let start = *range.start();
        let (weight, sum): (Vec<f64>, Vec<f64>) =
            range.map(|place| self.position(place)).map(|i| (all.weight[i], all.sum[i])).unzip();
        Places { start, weight: weight.into(), sum: sum.into() }
    }
}

/// Moves boundaries among the places of a grid, by up to `reach` places at a time, until that has little effect.
fn improve(
    distinct: &Distinct,
    all: &Moments<'_>,
    grid: &Grid<'_>,
    boundaries: &mut [usize],
    reach: usize,
) {
    let mut gain = f64::NEG_INFINITY;
    loop {
        let pass = rearrange(all, grid, boundaries, reach);
        let enough = ENOUGH * (distinct.sum_of_squares() - pass.gain);
        if !pass.at_edge || pass.gain - gain <= enough {
            return;
        }
        gain = pass.gain;
    }
}

/// What a pass over a grid has led to.
struct Pass {
    gain: f64,
    /// Whether a boundary now lies at the edge of its band, so that it might want to go farther.
    at_edge: bool,
}

/// Puts all boundaries in the best places within `reach` of where they are.
fn rearrange(all: &Moments<'_>, grid: &Grid<'_>, boundaries: &mut [usize], reach: usize) -> Pass {
    let n_clusters = boundaries.len() - 1;
    let end = boundaries[n_clusters];
    let mut layers = vec![Layer::empty()];
    for c in 1..=n_clusters {
        let range = if c == n_clusters {
            end..=end
        } else {
            boundaries[c].saturating_sub(reach).max(c)
                ..=(boundaries[c] + reach).min(end - (n_clusters - c))
        };
        let layer = layers[c - 1].next(grid.places(all, range), |_, _| true);
        layers.push(layer);
    }
    let mut at_edge = false;
    for c in (1..n_clusters).rev() {
        let place = layers[c + 1].from(boundaries[c + 1]);
        at_edge |= place.abs_diff(boundaries[c]) == reach;
        boundaries[c] = place;
    }
    Pass { gain: layers[n_clusters].best(end), at_edge }
}

/// How many places a boundary may move in one pass on the finer grids, the third and those after it.
///
/// The best place on one grid is seldom more than two of its cells from that on the next, which are eight places there.
const FINE: usize = 16;

/// How many places a boundary may move in one pass on the first two grids.
///
/// That is as far as five clusters, so that clusters can change sides; among hundreds, eight.
fn band(n_clusters: usize) -> usize {
    CELLS * if n_clusters <= 64 { 5 } else { 8 }
}

/// For each value, the integral of density^(1/3) up to and with it: many optimal clusters share it equally (Panter and Dite, 1951).
///
/// A value that occurs n times with a gap Δ around it has density n / Δ over a width Δ, hence (n Δ²)^(1/3).
/// No value counts for more than one part in `most` of the whole: a far outlier must not take the cells of the others.
fn companding_measure(distinct: &Distinct, most: usize) -> Vec<f32> {
    let values = distinct.values();
    let n = values.len();
    let counts = distinct.counts();
    let of = |count: u32, gap: f32| rough_cbrt(count as f32 * gap * gap);
    let mut measure = Vec::with_capacity(n);
    measure.push(of(counts[0], values[1] - values[0]));
    measure.extend(
        counts[1..]
            .iter()
            .zip(&values[2..])
            .zip(values)
            .map(|((&count, after), before)| of(count, after - before)),
    );
    measure.push(of(counts[n - 1], values[n - 1] - values[n - 2]));
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
