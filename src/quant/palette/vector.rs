//! Vector palettization: several values side by side along an axis share an index (`cluster_dim` > 1).

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::super::bits::Bits;
use super::super::error::Error;
use super::super::grid::Grid;
use super::super::histogram::widen;
use super::super::search::Search;
use super::super::source::Source;
use crate::base::cancel;
use crate::base::split_mix64::SplitMix64;

/// Vectors from which the clusters of a group are found, at most; then they are improved on all of them.
const SAMPLE: usize = 1 << 17;

/// Vectors per task.
const CHUNK: usize = 1 << 12;

/// Passes over the sample, and over all vectors of a group that has more.
const PASSES: (usize, usize) = (60, 2);

/// A pass that lowers the squared error by less than this part of it is the last.
const ENOUGH: f64 = 1e-5;

/// Division of a weight into vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// The axis that vectors run along.
    pub axis: usize,
    /// Values of a vector.
    pub size: usize,
    /// The shape of the indices, and what shares a table there.
    pub(super) indices: Grid,
    /// Vectors along the axis.
    along: usize,
    /// Values between two of one vector.
    inner: usize,
}

impl Vectors {
    pub(super) fn new(
        shape: &[usize],
        grid: &Grid,
        axis: usize,
        size: usize,
    ) -> Result<Self, Error> {
        let (mut indices, mut block) = (shape.to_vec(), grid.block().to_vec());
        let Some(channels) = block.get(axis).copied() else {
            return Err(Error::Axis { axis, shape: shape.to_vec() });
        };
        if !channels.is_multiple_of(size) {
            return Err(Error::Vector { shape: shape.to_vec(), axis, size, channels });
        }
        indices[axis] /= size;
        block[axis] /= size;
        let (along, inner) = (indices[axis], shape[axis + 1..].iter().product());
        Ok(Self { axis, size, indices: Grid::new(&indices, &block)?, along, inner })
    }

    /// Calls `f` with each stretch of values that the indices in `range` stand for, the place of its first value among
    /// them when vectors stand side by side, and the distance of its values there.
    pub(in super::super) fn stretches(
        &self,
        range: Range<usize>,
        mut f: impl FnMut(Range<usize>, usize, usize),
    ) {
        let Self { size, along, inner, .. } = *self;
        if inner == 1 {
            return f(range.start * size..range.end * size, 0, 1);
        }
        let mut at = range.start;
        while at < range.end {
            let (line, k) = (at / inner, at % inner);
            let n = (inner - k).min(range.end - at);
            let (outer, vector) = (line / along, line % along);
            for d in 0..size {
                let first = (outer * along * size + vector * size + d) * inner + k;
                f(first..first + n, (at - range.start) * size + d, size);
            }
            at += n;
        }
    }

    /// The values that the indices in `range` stand for, vectors side by side.
    pub(in super::super) fn read(
        &self,
        source: &Source<'_>,
        range: Range<usize>,
        out: &mut Vec<f16>,
    ) {
        let mut scratch = Vec::new();
        out.resize(range.len() * self.size, f16::ZERO);
        self.stretches(range, |values, at, step| {
            let places = out[at..].iter_mut().step_by(step);
            for (place, value) in places.zip(source.read(values, &mut scratch)) {
                *place = *value;
            }
        });
    }
}

/// The tables, `[groups, 2^bits, size]`: means of clusters, then zeros where there are fewer vectors than entries.
///
/// Lloyd's algorithm from centres drawn with a chance that grows with their distance (k-means++, the best of several draws
/// at each step), the same on every run, the best of some restarts. A run that is asked to stop ends early, with tables that
/// say nothing.
pub(super) fn tables(
    source: &Source<'_>,
    vectors: &Vectors,
    bits: Bits,
    search: Search,
) -> Vec<f16> {
    let length = bits.n_values() * vectors.size;
    let mut lut = vec![f16::ZERO; vectors.indices.n_blocks() * length];
    lut.par_chunks_exact_mut(length).enumerate().for_each(|(block, table)| {
        if cancel::requested() {
            return;
        }
        let sample = sample(source, vectors, block);
        let found = (0..search.restarts()).map(|seed| {
            let mut centres = beginning(&sample, vectors.size, bits.n_values(), seed);
            let error = lloyd(&sample, vectors.size, &mut centres);
            (error, centres)
        });
        let best = found.min_by(|a, b| a.0.total_cmp(&b.0));
        let (_, mut centres) = best.expect("there is a beginning");
        if vectors.indices.block_len() > SAMPLE {
            for _ in 0..PASSES.1 {
                pass_over_all(source, vectors, block, &mut centres);
            }
        }
        for (entry, &centre) in table.iter_mut().zip(&centres) {
            *entry = f16::from_f32(centre);
        }
    });
    lut
}

/// The vectors of a group, or evenly many stretches of it.
fn sample(source: &Source<'_>, vectors: &Vectors, block: usize) -> Vec<f32> {
    const STRETCH: usize = 64;
    let n = vectors.indices.block_len();
    let every = n.div_ceil(SAMPLE);
    let (mut values, mut sample) = (Vec::new(), Vec::new());
    let mut stretch = 0;
    vectors.indices.runs_of(block, |run| {
        for at in run.clone().step_by(STRETCH) {
            if stretch % every == 0 {
                vectors.read(source, at..(at + STRETCH).min(run.end), &mut values);
                sample.extend(values.iter().map(|&v| widen(v)));
            }
            stretch += 1;
        }
    });
    sample
}

/// Centres among the vectors; fewer than `k` if there are no more that differ.
fn beginning(sample: &[f32], dim: usize, k: usize, seed: u64) -> Vec<f32> {
    let n = sample.len() / dim;
    let vector = |i: usize| &sample[i * dim..][..dim];
    let mut chance = SplitMix64::new(seed);
    let mut centres = vector((chance.unit() * n as f64) as usize).to_vec();
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let mut nearest: Vec<f32> = (0..n).map(|i| distance(vector(i), &centres)).collect();
    let draws = 2 + (k as f64).ln() as usize;
    while centres.len() < k * dim {
        let total: f64 = nearest.iter().map(|&d| f64::from(d)).sum();
        if total <= 0.0 || cancel::requested() {
            break;
        }
        let mut marks: Vec<f64> = (0..draws).map(|_| chance.unit() * total).collect();
        marks.sort_by(f64::total_cmp);
        let mut drawn = Vec::new();
        let mut sum = 0.0;
        for (i, &d) in nearest.iter().enumerate() {
            sum += f64::from(d);
            while drawn.len() < marks.len() && marks[drawn.len()] < sum {
                drawn.push(i);
            }
        }
        let gain = |&i: &usize| {
            let centre = vector(i);
            let left = (0..n).map(|j| f64::from(nearest[j].min(distance(vector(j), centre))));
            left.sum::<f64>()
        };
        drawn.dedup();
        let best = drawn.iter().map(|i| (gain(i), *i)).min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, best)) = best else { break };
        let centre = vector(best).to_vec();
        for (j, nearest) in nearest.iter_mut().enumerate() {
            *nearest = nearest.min(distance(vector(j), &centre));
        }
        centres.extend(centre);
    }
    centres
}

/// Moves the centres to the means of what is nearest to them until that has little effect; the squared error.
fn lloyd(sample: &[f32], dim: usize, centres: &mut [f32]) -> f64 {
    let mut error = f64::INFINITY;
    for _ in 0..PASSES.0 {
        if cancel::requested() {
            break;
        }
        let mut means = Means::new(centres.len() / dim, dim);
        for vectors in sample.chunks(CHUNK * dim) {
            means.add(vectors, centres);
        }
        if means.error >= error * (1.0 - ENOUGH) {
            return means.error.min(error);
        }
        error = means.error;
        means.give(centres);
    }
    error
}

fn pass_over_all(source: &Source<'_>, vectors: &Vectors, block: usize, centres: &mut [f32]) {
    let dim = vectors.size;
    let mut runs = Vec::new();
    vectors.indices.runs_of(block, |run| {
        runs.extend(run.clone().step_by(CHUNK).map(|at| at..(at + CHUNK).min(run.end)));
    });
    let runs_per_task = (64 * CHUNK / vectors.indices.run_len()).clamp(1, 64);
    let parts: Vec<Means> = runs
        .par_chunks(runs_per_task)
        .map(|runs| {
            let (mut halves, mut values) = (Vec::new(), Vec::new());
            let mut means = Means::new(centres.len() / dim, dim);
            for run in runs {
                if cancel::requested() {
                    break;
                }
                vectors.read(source, run.clone(), &mut halves);
                values.clear();
                values.extend(halves.iter().map(|&v| widen(v)));
                means.add(&values, centres);
            }
            means
        })
        .collect();
    let mut means = Means::new(centres.len() / dim, dim);
    for part in &parts {
        means.merge(part);
    }
    means.give(centres);
}

/// Sums over the vectors nearest to each centre.
struct Means {
    dim: usize,
    n: Vec<f64>,
    sum: Vec<f64>,
    error: f64,
}

impl Means {
    fn new(k: usize, dim: usize) -> Self {
        Self { dim, n: vec![0.0; k], sum: vec![0.0; k * dim], error: 0.0 }
    }

    fn add(&mut self, vectors: &[f32], centres: &[f32]) {
        let dim = self.dim;
        let n = vectors.len() / dim;
        let (mut nearest, mut distances) = (vec![0; n], vec![0.0; n]);
        nearest_of(vectors, centres, dim, &mut nearest, &mut distances);
        for (vector, &c) in vectors.chunks_exact(dim).zip(&nearest) {
            let c = c as usize;
            self.n[c] += 1.0;
            for (sum, &x) in self.sum[c * dim..][..dim].iter_mut().zip(vector) {
                *sum += f64::from(x);
            }
        }
        self.error += distances.iter().map(|&d| f64::from(d)).sum::<f64>();
    }

    fn merge(&mut self, other: &Self) {
        let add = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.n, &other.n);
        add(&mut self.sum, &other.sum);
        self.error += other.error;
    }

    /// Centres without vectors stay.
    fn give(&self, centres: &mut [f32]) {
        for (c, centre) in centres.chunks_exact_mut(self.dim).enumerate() {
            if self.n[c] > 0.0 {
                for (x, sum) in centre.iter_mut().zip(&self.sum[c * self.dim..]) {
                    *x = (sum / self.n[c]) as f32;
                }
            }
        }
    }
}

/// The index of the entry of `table` nearest to each vector, the first of equals.
pub(super) fn assign(values: &[f16], table: &[f16], dim: usize, indices: &mut [u8]) {
    let wide = |halves: &[f16]| -> Vec<f32> { halves.iter().map(|&v| widen(v)).collect() };
    let table = wide(table);
    for (values, indices) in values.chunks(CHUNK * dim).zip(indices.chunks_mut(CHUNK)) {
        let (mut nearest, mut distances) = (vec![0; indices.len()], vec![0.0; indices.len()]);
        nearest_of(&wide(values), &table, dim, &mut nearest, &mut distances);
        for (index, nearest) in indices.iter_mut().zip(nearest) {
            *index = nearest as u8;
        }
    }
}

crate::base::simd::multiversion! {
    /// For each vector of `dim` values the nearest entry and the squared distance to it.
    fn nearest_of(vectors: &[f32], table: &[f32], dim: usize, nearest: &mut [i32], distances: &mut [f32]) {
        /// Vectors at a time.
        const LANES: usize = 16;
        let blocks = nearest.chunks_mut(LANES).zip(distances.chunks_mut(LANES));
        // Value d of each vector stands in line d; at most 16 values.
        let mut lines = [[0.0_f32; LANES]; 16];
        for (vectors, (nearest, distances)) in vectors.chunks(LANES * dim).zip(blocks) {
            for (lane, vector) in vectors.chunks_exact(dim).enumerate() {
                for (line, &x) in lines.iter_mut().zip(vector) {
                    line[lane] = x;
                }
            }
            let (mut least, mut index) = ([f32::INFINITY; LANES], [0_i32; LANES]);
            for (i, entry) in table.chunks_exact(dim).enumerate() {
                let mut distance = [0.0_f32; LANES];
                for (line, &e) in lines.iter().zip(entry) {
                    for lane in 0..LANES {
                        let d = line[lane] - e;
                        distance[lane] += d * d;
                    }
                }
                for lane in 0..LANES {
                    let nearer = distance[lane] < least[lane];
                    least[lane] = if nearer { distance[lane] } else { least[lane] };
                    index[lane] = if nearer { i as i32 } else { index[lane] };
                }
            }
            nearest.copy_from_slice(&index[..nearest.len()]);
            distances.copy_from_slice(&least[..distances.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::samples::{SHAPES, sample};
    use super::super::super::weight::Weight;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn vectors_are_read_along_their_axis(
            shape in prop::collection::vec(1_usize..6, 2..4),
            axis in 0_usize..2,
            size in 2_usize..4,
            places in (0.0..1.0_f64, 0.0..1.0_f64),
        ) {
            let mut shape = shape;
            shape[axis] *= size;
            let n: usize = shape.iter().product();
            let values: Vec<f16> = (0..n).map(|i| f16::from_f32(i as f32)).collect();
            let vectors = Vectors::new(&shape, &Grid::whole(&shape), axis, size).unwrap();
            let weight = Weight::new(&values, &shape, crate::quant::Axes::OUTPUT_FIRST).unwrap();
            let source = Source::new(weight, None);
            let place = |p: f64| (p * (n / size) as f64) as usize;
            let range = place(places.0.min(places.1))..place(places.0.max(places.1));
            let mut found = Vec::new();
            vectors.read(&source, range.clone(), &mut found);
            let inner: usize = shape[axis + 1..].iter().product();
            let expected: Vec<f16> = range.flat_map(|i| {
                let (line, k) = (i / inner, i % inner);
                (0..size).map(move |d| (line, k, d))
            }).map(|(line, k, d)| values[(line * size + d) * inner + k]).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn every_vector_has_its_nearest_entry(
            kind in prop::sample::select(&SHAPES),
            (dim, n, k) in (2_usize..5, 1_usize..70, 1_usize..20),
            seed: u64,
        ) {
            let all = sample(kind, (n + k) * dim, seed);
            let (values, table) = all.split_at(n * dim);
            let mut indices = vec![0; n];
            assign(values, table, dim, &mut indices);
            let distance = |a: &[f16], b: &[f16]| -> f32 { a.iter().zip(b).map(|(a, b)| (a.to_f32() - b.to_f32()).powi(2)).sum() };
            for (vector, &index) in values.chunks(dim).zip(&indices) {
                let least = table.chunks(dim).map(|entry| distance(vector, entry)).fold(f32::INFINITY, f32::min);
                let found = distance(vector, &table[usize::from(index) * dim..][..dim]);
                prop_assert!(found <= least * (1.0 + 1e-6));
            }
        }
    }
}
