//! Palettizing: every value, or vector of values, becomes the index of an entry in the small table of its group.

mod kmeans;
mod nearest;
mod uniform;
mod unique;
mod vector;

use std::ops::Range;

use half::f16;

pub use self::kmeans::fit;
use self::nearest::{Nearest, Scratch};
use self::uniform::Steps;
use self::vector::Vectors;
use super::bits::Bits;
use super::block_scale::BlockScale;
use super::dtype::Dtype;
use super::error::Error;
use super::grid::Grid;
use super::histogram::widen;
use super::scheme::{Fit, Palettize, PerChannelScale, TableGranularity};
use super::search::Search;
use super::source::{ChannelScale, Source};
use super::weight::Weight;

/// Tables, and the rule by which values find their entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    /// The width of an index.
    pub bits: Bits,
    /// Granularity of tables.
    pub grid: Grid,
    /// The tables, `[tables, 2^bits, cluster_dim]`.
    pub lut: Vec<f16>,
    /// The entries as int8 with one scale, of which [`Self::lut`] are the values.
    pub lut8: Option<Lut8>,
    /// Factor of the entries per output channel.
    pub scale: Option<ChannelScale>,
    /// Along which axis vectors run, and how long they are.
    pub vectors: Option<Vectors>,
    rule: Rule,
}

/// Entries of all tables as int8: `scale · data`, rounded to fp16.
#[derive(Debug, Clone, PartialEq)]
pub struct Lut8 {
    /// In two's complement, shaped as the tables.
    pub data: Vec<u8>,
    /// For all of them.
    pub scale: f16,
}

/// Assignment of values to entries.
#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Nearest(Nearest),
    Steps(Vec<Steps>),
    Vectors,
}

/// What shares a table under `granularity`: the whole weight, or so many channels along `axis`.
fn grid(weight: &Weight<'_>, granularity: TableGranularity, axis: usize) -> Result<Grid, Error> {
    let shape = weight.shape();
    let TableGranularity::PerGroupedChannel(size) = granularity else {
        return Ok(Grid::whole(shape));
    };
    let mut block = shape.to_vec();
    let channels = std::mem::replace(&mut block[axis], size);
    if !channels.is_multiple_of(size) {
        return Err(Error::Group { shape: shape.to_vec(), axis, group_size: size });
    }
    Grid::new(shape, &block)
}

/// Finds the tables for `source`, which learns the scales of its channels if it shall have some.
pub(super) fn palettize(
    source: &mut Source<'_>,
    scheme: Palettize,
    search: Search,
) -> Result<Palette, Error> {
    let axis = scheme.channel_axis.unwrap_or(source.weight.axes().output);
    let shape = source.weight.shape();
    if axis >= shape.len() {
        return Err(Error::Axis { axis, shape: shape.to_vec() });
    }
    let grid = grid(&source.weight, scheme.granularity, axis)?;
    let vectors = match scheme.cluster_dim {
        0 | 1 => None,
        size => Some(Vectors::new(source.weight.shape(), &grid, axis, size)?),
    };
    match scheme.per_channel_scale {
        None => {}
        Some(PerChannelScale::Outputs) => source.scale_outputs(),
        Some(PerChannelScale::Inputs) => source.scale_across(axis),
    }
    let (bits, mut lut, rule) = match (scheme.fit, &vectors) {
        (Fit::Kmeans(bits), None) => (bits, kmeans::tables(source, &grid, bits, search), None),
        (Fit::Kmeans(bits), Some(vectors)) => {
            (bits, vector::tables(source, vectors, bits, search), Some(Rule::Vectors))
        }
        (Fit::Uniform(bits), _) => {
            let (lut, steps) = uniform::tables(source, &grid, bits);
            (bits, lut, Some(Rule::Steps(steps)))
        }
        (Fit::Unique, None) => {
            let (bits, lut, nearest) = unique::tables(source, &grid)?;
            (bits, lut, Some(Rule::Nearest(nearest)))
        }
        (Fit::Unique, Some(vectors)) => {
            let (bits, lut) = unique::vector_tables(source, vectors)?;
            (bits, lut, Some(Rule::Vectors))
        }
    };
    let lut8 = scheme.lut8.then(|| {
        let quantized = Lut8::new(&lut);
        lut = quantized.values();
        quantized
    });
    // Clusters are found again among the entries as they are stored.
    let rule = rule.unwrap_or_else(|| Rule::Nearest(Nearest::new(&lut, bits.n_values())));
    Ok(Palette { bits, grid, lut, lut8, scale: source.scale.clone(), vectors, rule })
}

impl Lut8 {
    /// coremltools' `LINEAR_SYMMETRIC` int8 for the tensor of all entries.
    fn new(lut: &[f16]) -> Self {
        let extremes = lut.iter().fold((f16::ZERO, f16::ZERO), |(low, high), &v| {
            (if v < low { v } else { low }, if v > high { v } else { high })
        });
        let step = BlockScale::of(extremes, Dtype::Int8, super::scheme::Mode::Symmetric);
        let mut data = vec![0; lut.len()];
        step.quantize(lut, &mut data);
        Self { data, scale: step.scale() }
    }

    fn values(&self) -> Vec<f16> {
        let scale = widen(self.scale);
        self.data.iter().map(|&q| f16::from_f32(f32::from(q as i8) * scale)).collect()
    }
}

/// Buffers reused between pieces.
#[derive(Debug, Default)]
pub(super) struct PaletteScratch {
    nearest: Scratch,
}

impl Palette {
    /// Values that one index stands for.
    pub fn cluster_dim(&self) -> usize {
        self.vectors.as_ref().map_or(1, |vectors| vectors.size)
    }

    /// Granularity of tables over the indices.
    pub(super) fn index_grid(&self) -> &Grid {
        self.vectors.as_ref().map_or(&self.grid, |vectors| &vectors.indices)
    }

    /// The shape of the indices.
    pub fn index_shape(&self) -> Vec<usize> {
        let grid = self.index_grid();
        grid.block().iter().zip(grid.counts()).map(|(block, count)| block * count).collect()
    }

    /// The indices in `range`; `values` are those of [`Source`], vectors side by side.
    pub(super) fn encode(
        &self,
        range: Range<usize>,
        values: &[f16],
        indices: &mut [u8],
        memory: &mut PaletteScratch,
    ) {
        let dim = self.cluster_dim();
        self.index_grid().runs(range.clone(), |table, run| {
            let run = run.start - range.start..run.end - range.start;
            let values = &values[run.start * dim..run.end * dim];
            let indices = &mut indices[run];
            match &self.rule {
                Rule::Nearest(nearest) => {
                    nearest.assign(table, values, indices, &mut memory.nearest);
                }
                Rule::Steps(steps) => steps[table].assign(values, self.bits, indices),
                Rule::Vectors => {
                    let n = self.bits.n_values() * dim;
                    vector::assign(values, &self.lut[table * n..][..n], dim, indices);
                }
            }
        });
    }

    /// The values that `indices` in `range` stand for, vectors side by side.
    pub(super) fn decode(&self, range: Range<usize>, indices: &[u8], out: &mut [f16]) {
        let dim = self.cluster_dim();
        let n = self.bits.n_values() * dim;
        // A table with an entry for every byte needs no check of the index.
        let mut whole = [f16::ZERO; 1 << u8::BITS];
        self.index_grid().runs(range.clone(), |table, run| {
            let run = run.start - range.start..run.end - range.start;
            let table = &self.lut[table * n..][..n];
            let out = &mut out[run.start * dim..run.end * dim];
            if dim == 1 {
                whole[..n].copy_from_slice(table);
                for (v, &index) in out.iter_mut().zip(&indices[run]) {
                    *v = whole[usize::from(index)];
                }
            } else {
                for (v, &index) in out.chunks_exact_mut(dim).zip(&indices[run]) {
                    v.copy_from_slice(&table[usize::from(index) * dim..][..dim]);
                }
            }
        });
        if let Some(scale) = &self.scale {
            self.rescale(scale, range, out);
        }
    }

    fn rescale(&self, scale: &ChannelScale, range: Range<usize>, out: &mut [f16]) {
        let mut multiply = |values: Range<usize>, first: usize, step: usize| {
            scale.grid.runs(values.clone(), |channel, run| {
                let factor = widen(scale.values[channel]);
                let first = first + (run.start - values.start) * step;
                for v in out[first..].iter_mut().step_by(step).take(run.len()) {
                    *v = f16::from_f32(widen(*v) * factor);
                }
            });
        };
        match &self.vectors {
            None => multiply(range, 0, 1),
            Some(vectors) => vectors.stretches(range, multiply),
        }
    }
}
