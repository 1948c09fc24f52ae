//! The plain twin of dequantization: every value by the definitions of Core ML's operations, one at a time.

use half::f16;

use super::{Compressed, EncodedWeights, Grid};
use crate::base::index::unravel;

/// What `codes` of a weight of `shape` stand for, row-major.
pub(super) fn dequantized(compressed: &Compressed<'_>, shape: &[usize], codes: &[u8]) -> Vec<f16> {
    let n: usize = shape.iter().product();
    (0..n)
        .map(|at| {
            if compressed.mask().is_some_and(|mask| mask.bits()[at / 8] >> (at % 8) & 1 == 0) {
                return f16::ZERO;
            }
            let place = unravel(at, shape);
            match compressed.coded() {
                EncodedWeights::Float => unreachable!("floats have no codes"),
                EncodedWeights::Palette(palette) => {
                    let (mut of_code, mut inside) = (place.clone(), 0);
                    let dim = palette.cluster_dim();
                    if let Some(vectors) = &palette.vectors {
                        inside = place[vectors.axis] % dim;
                        of_code[vectors.axis] /= dim;
                    }
                    let code = usize::from(codes[flat(&of_code, &palette.index_shape())]);
                    let table = block(&place, &palette.grid);
                    let entry =
                        palette.lut[(table * palette.bits.n_values() + code) * dim + inside];
                    match &palette.scale {
                        None => entry,
                        Some(scale) => {
                            let channel = block(&place, &scale.grid);
                            f16::from_f32(entry.to_f32() * scale.values[channel].to_f32())
                        }
                    }
                }
                EncodedWeights::Linear(linear) => {
                    let block = block(&place, &linear.grid);
                    let offset = linear
                        .offset
                        .as_ref()
                        .map_or(0, |offset| linear.dtype.value(offset[block]));
                    let q = linear.dtype.value(codes[at]) - offset;
                    f16::from_f32(q as f32 * linear.scale[block].to_f32())
                }
            }
        })
        .collect()
}

fn flat(place: &[usize], shape: &[usize]) -> usize {
    place.iter().zip(shape).fold(0, |at, (index, size)| at * size + index)
}

fn block(place: &[usize], grid: &Grid) -> usize {
    let indices: Vec<usize> = place.iter().zip(grid.block()).map(|(at, size)| at / size).collect();
    flat(&indices, &grid.counts())
}
