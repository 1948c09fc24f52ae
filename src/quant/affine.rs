//! Linear quantization: every value becomes an integer times the scale of its block, perhaps with a zero point.
//!
//! The formulas and the rounding of every step are those of coremltools 9.0, `optimize/_utils.py`,
//! `quantize_weight_by_dtype` on fp16 weights, so the stored numbers are the same. Where coremltools stores
//! nonsense ours differ: a block of zeros (0 / 0 there), a scale or zero point that overflows fp16 on the way,
//! a scale below fp16, a largest number that times its scale is infinite.

use std::ops::Range;

use half::f16;

use super::block_scale::{BlockScale, runs, values_of_runs};
use super::dtype::Dtype;
use super::error::Error;
use super::grid::Grid;
use super::least_squares;
use super::scheme::{Linear, Mode, ScaleGranularity, ScaleSearch};
use super::source::Source;
use super::weight::Weight;

/// Scales and zero points, and the rule by which values become integers.
///
/// The value of an integer is `scale · (data − offset)`, computed in f32 and rounded to fp16.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// The type of the integers.
    pub dtype: Dtype,
    /// Range of the integers: symmetric without zero points, or asymmetric.
    pub mode: Mode,
    /// Granularity of scales.
    pub grid: Grid,
    /// One for each block.
    pub scale: Vec<f16>,
    /// The zero points, as many, negative ones in two's complement; none where all are 0.
    pub offset: Option<Vec<u8>>,
}

/// The blocks that share a scale.
fn grid(weight: &Weight<'_>, granularity: ScaleGranularity) -> Result<Grid, Error> {
    let mut block = weight.shape().to_vec();
    let axes = weight.axes();
    match granularity {
        ScaleGranularity::PerTensor => {}
        ScaleGranularity::PerChannel => block[axes.output] = 1,
        ScaleGranularity::PerBlock(n) => {
            block[axes.output] = 1;
            block[axes.input] = n;
        }
        ScaleGranularity::PerShape(sizes) => block = sizes.get().to_vec(),
    }
    Grid::new(weight.shape(), &block)
}

/// Finds the scales and zero points for `source`.
pub(super) fn quantize(source: &Source<'_>, scheme: Linear) -> Result<Affine, Error> {
    let Linear { dtype, mode, granularity, search } = scheme;
    let grid = grid(&source.weight, granularity)?;
    let extremes = source.extremes(&grid);
    let step = |extremes: &(f16, f16)| BlockScale::of(*extremes, dtype, mode);
    let (scale, offset): (Vec<f16>, Vec<u8>) = match search {
        ScaleSearch::Range => {
            extremes.iter().map(step).map(|s| (s.scale, s.zero_point as u8)).unzip()
        }
        ScaleSearch::LeastSquares => {
            let steps = least_squares::search(source, &grid, &extremes, step);
            steps.into_iter().map(|s| (s.scale, s.zero_point as u8)).unzip()
        }
    };
    Ok(Affine { dtype, mode, grid, scale, offset: scheme.has_offset().then_some(offset) })
}

impl Affine {
    /// Zero point of a block.
    fn zero_point(&self, block: usize) -> i32 {
        self.offset.as_ref().map_or(0, |offset| self.dtype.value(offset[block]))
    }

    /// The integers of `values`, which stand in `range`.
    pub(super) fn encode(&self, range: Range<usize>, values: &[f16], data: &mut [u8]) {
        let limits = self.dtype.range(self.mode);
        self.spans(range, |span, run, steps| {
            runs(&values[span.clone()], run, steps, limits, &mut data[span]);
        });
    }

    /// The values of `data`, which stand in `range`.
    pub(super) fn decode(&self, range: Range<usize>, data: &[u8], out: &mut [f16]) {
        let signed = self.dtype.is_signed();
        self.spans(range, |span, run, steps| {
            values_of_runs(&data[span.clone()], run, steps, signed, &mut out[span]);
        });
    }

    /// Calls `each` with what of `range` (from 0 on) is runs of one length, and the scale and zero point of each of them.
    fn spans(&self, range: Range<usize>, mut each: impl FnMut(Range<usize>, usize, &[(f16, i32)])) {
        let step = |block: usize| (self.scale[block], self.zero_point(block));
        let run = self.grid.run_len();
        if self.grid.is_contiguous() && range.start.is_multiple_of(run) {
            let blocks = range.start / run..range.end.div_ceil(run);
            let steps: Vec<_> = blocks.map(step).collect();
            return each(0..range.len(), run, &steps);
        }
        self.grid.runs(range.clone(), |block, run| {
            let n = run.len();
            each(run.start - range.start..run.end - range.start, n, &[step(block)]);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SHAPES, sample};
    use super::super::{Compressed, Scheme, Search, compress};
    use super::*;

    fn halves(values: &[f32]) -> Vec<f16> {
        values.iter().copied().map(f16::from_f32).collect()
    }

    fn quantized<'a>(weight: &Weight<'a>, scheme: &str) -> Compressed<'a> {
        compress(weight.clone(), scheme.parse::<Scheme>().unwrap(), Search::Quick).unwrap()
    }

    #[test]
    fn blocks_that_coremltools_gets_wrong() {
        // Values of one block, scheme, scale, restored values.
        let check = |values: &[f32], scheme: &str, scale: f32, restored: &[f32]| {
            let values = halves(values);
            let weight = Weight::matrix(&values, 1, values.len()).unwrap();
            let found = quantized(&weight, scheme);
            assert_eq!(found.linear().unwrap().scale, halves(&[scale]), "{values:?} as {scheme}");
            assert_eq!(found.dequantize(), halves(restored), "{values:?} as {scheme}");
        };
        for dtype in Dtype::ALL {
            for mode in ["sym", "asym"] {
                let scheme = format!("{}-c-{mode}", dtype.name());
                check(&[0.0, -0.0, 0.0], &scheme, 1.0, &[0.0; 3]);
            }
        }
        let tiny = f16::from_bits(1).to_f32();
        check(&[tiny, 0.0, 5.0 * tiny], "int8-c", tiny, &[tiny, 0.0, 5.0 * tiny]);
        let three = [-3.0 * tiny, 0.0, 5.0 * tiny];
        check(&three, "uint8-c", tiny, &three);
        check(&three, "int8-c-asym", tiny, &three);
        check(&three, "uint8-c-sym", tiny, &three);
        check(&[-3.0 * tiny, 0.0, 2.0 * tiny], "uint4-c", tiny, &[-3.0 * tiny, 0.0, 2.0 * tiny]);
        // Twice the largest is beyond fp16, as is 255 times the smallest.
        // With the scale to the nearest, 516 and 257, the largest value would come back infinite.
        check(&[65504.0, -32752.0], "int8-c", 515.5, &[65472.0, -32992.0]);
        check(&[-65504.0, 0.0], "uint8-c", 256.75, &[-65472.0, 0.0]);
    }

    #[test]
    fn blocks_that_do_not_fit() {
        let values = vec![f16::ONE; 40];
        let weight = Weight::matrix(&values, 4, 10).unwrap();
        let cases = [
            ("int8-b3", "[1, 3]"),
            ("int8-b20", "[1, 20]"),
            ("int8-b3x0", "[3, 0]"),
            ("int8-b1x1x1", "[1, 1, 1]"),
        ];
        for (scheme, block) in cases {
            let scheme: Scheme = scheme.parse().unwrap();
            let error = compress(weight.clone(), scheme, Search::Quick).unwrap_err().to_string();
            let expected = format!("shape [4, 10] does not divide into blocks of shape {block}");
            assert_eq!(error, expected);
        }
    }

    proptest! {
        #[test]
        fn an_error_is_at_most_half_a_step(
            shape in prop::sample::select(&SHAPES),
            dtype in prop::sample::select(&Dtype::ALL),
            mode in prop::sample::select(&[Mode::Symmetric, Mode::Asymmetric]),
            (rows, n_blocks, block) in (1_usize..4, 1_usize..4, 1_usize..70),
            seed in any::<u64>(),
        ) {
            let values = sample(shape, rows * n_blocks * block, seed);
            let weight = Weight::matrix(&values, rows, n_blocks * block).unwrap();
            let name = if mode == Mode::Symmetric { "sym" } else { "asym" };
            let found = quantized(&weight, &format!("{}-b{block}-{name}", dtype.name()));
            let restored = found.dequantize();
            // Half a step; the rounding of the quotient, of the product, and of the scale and so of the largest
            // value's quotient; a zero point's own rounding, which shifts and cuts off by as much as one step.
            let steps = if mode == Mode::Symmetric { 0.5 } else { 1.5 };
            for (i, (x, y)) in values.iter().zip(&restored).enumerate() {
                let (x, y) = (x.to_f64(), y.to_f64());
                let scale = found.linear().unwrap().scale[i / block].to_f64();
                let bound = steps * scale + 3.0 * x.abs() * 2.0_f64.powi(-11) + 255.0 * 2.0_f64.powi(-25);
                prop_assert!((x - y).abs() <= bound, "{x} became {y} at scale {scale}");
            }
        }
    }
}
