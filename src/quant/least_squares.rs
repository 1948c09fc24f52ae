//! Scales of least squared error: of several ranges, each with the scale that fits its integers best.
//!
//! The search is llama.cpp's `make_qx_quants` for one scale, with ratios of ranges instead of fixed offsets: for integers q of
//! the values x the best scale is Σ x·q / Σ q², and with zero point z the same over q − z.

use half::f16;
use rayon::prelude::*;

use super::block_scale::BlockScale;
use super::grid::Grid;
use super::histogram::widen;
use super::round::{round_to_fp16, round_to_integer};
use super::source::Source;
use crate::base::cancel;

/// Ranges tried, as parts of the whole one; a little beyond it lets the largest value move to a whole number.
const PARTS: [f32; 19] = [
    1.05, 1.02, 0.99, 0.97, 0.95, 0.93, 0.91, 0.89, 0.87, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7, 0.65,
    0.6, 0.55, 0.5,
];

/// Number of refits of the scale to its integers.
const REFITS: usize = 3;

/// The best step of each block, at least as good as `step` of its extremes. A run that is asked to stop ends with the
/// best so far.
pub(super) fn search(
    source: &Source<'_>,
    grid: &Grid,
    extremes: &[(f16, f16)],
    step: impl Fn(&(f16, f16)) -> BlockScale + Sync,
) -> Vec<BlockScale> {
    extremes
        .par_iter()
        .enumerate()
        .map_init(Scratch::default, |memory, (block, extremes)| {
            if cancel::requested() {
                return step(extremes);
            }
            memory.values.clear();
            grid.runs_of(block, |run| {
                memory.values.extend_from_slice(source.read(run, &mut memory.buffer));
            });
            memory.best(step(extremes))
        })
        .collect()
}

#[derive(Default)]
struct Scratch {
    values: Vec<f16>,
    buffer: Vec<f16>,
    data: Vec<u8>,
}

impl Scratch {
    fn best(&mut self, first: BlockScale) -> BlockScale {
        let (mut least, mut fitted) = self.error(first);
        let mut best = first;
        for part in PARTS {
            if cancel::requested() {
                return best;
            }
            let scale = f16::from_f32(widen(first.scale()) * part);
            if scale.to_bits() == 0 || !scale.is_finite() {
                continue;
            }
            let candidate = first.with(scale, first.zero_point());
            let (error, wanted) = self.error(candidate);
            if error < least {
                (best, least, fitted) = (candidate, error, wanted);
            }
        }
        // The scale that the integers of the best range want changes them a little, and with them itself.
        for _ in 0..REFITS {
            let Some(scale) = fitted else { break };
            let candidate = first.with(scale, first.zero_point());
            let (error, wanted) = self.error(candidate);
            if error >= least {
                break;
            }
            (best, least, fitted) = (candidate, error, wanted);
        }
        // Products are rounded to fp16 when they are read, which the search leaves out.
        if best != first && self.stored_error(best) > self.stored_error(first) {
            first
        } else {
            best
        }
    }

    /// The squared error of the block as it is read back.
    fn stored_error(&mut self, step: BlockScale) -> f64 {
        self.data.resize(self.values.len(), 0);
        step.quantize(&self.values, &mut self.data);
        let error = |(x, &q): (&f16, &u8)| (x.to_f64() - step.value(q).to_f64()).powi(2);
        self.values.iter().zip(&self.data).map(error).sum()
    }

    /// The squared error of the block with this step, and the scale that its integers would want.
    fn error(&self, step: BlockScale) -> (f64, Option<f16>) {
        let mut sums = [0.0; 3];
        trial(&self.values, step, &mut sums);
        let [error, product, square] = sums;
        let fitted = f16::from_f64(product / square);
        let usable = fitted.is_finite() && fitted > f16::ZERO;
        (error, usable.then_some(fitted))
    }
}

crate::base::simd::multiversion! {
    /// Adds Σ (x − s·q)², Σ x·q and Σ q² to `sums`, where s is the scale and q the integers less the zero point.
    fn trial(values: &[f16], step: BlockScale, sums: &mut [f64; 3]) {
        const LANES: usize = 8;
        let (scale, zero_point) = (widen(step.scale()), step.zero_point());
        let (low, high) = step.range();
        // Sums in f32 run over few values, so that they stay exact enough to compare.
        for values in values.chunks(64 * LANES) {
            let mut lanes = [[0.0_f32; LANES]; 3];
            let (whole, rest) = values.as_chunks::<LANES>();
            let mut last = [f16::ZERO; LANES];
            last[..rest.len()].copy_from_slice(rest);
            // Zeros are the integer that stands for zero, and add nothing.
            for eight in whole.iter().chain((!rest.is_empty()).then_some(&last)) {
                for lane in 0..LANES {
                    let x = widen(eight[lane]);
                    let quotient = round_to_integer(round_to_fp16(x / scale));
                    let q = ((quotient + zero_point).clamp(low, high) - zero_point) as f32;
                    let e = x - scale * q;
                    lanes[0][lane] += e * e;
                    lanes[1][lane] += x * q;
                    lanes[2][lane] += q * q;
                }
            }
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                *sum += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SHAPES, sample};
    use super::super::{Scheme, Search, Weight, compress};

    proptest! {
        #[test]
        fn never_worse_than_the_range(
            shape in prop::sample::select(&SHAPES),
            scheme in prop::sample::select(&["int4-b32", "uint4-b16", "int8-c", "int4-t", "int4-b4x0", "uint8-c-sym", "int8-c-asym"]),
            (rows, cols) in (1_usize..5, 1_usize..4),
            seed: u64,
        ) {
            let values = sample(shape, rows * 4 * cols * 32, seed);
            let weight = Weight::matrix(&values, rows * 4, cols * 32).unwrap();
            let error = |scheme: &str| {
                let compressed = compress(weight.clone(), scheme.parse::<Scheme>().unwrap(), Search::Quick).unwrap();
                compressed.distortion().squared_error
            };
            let (range, searched) = (error(scheme), error(&format!("{scheme}-ls")));
            prop_assert!(searched <= range * (1.0 + 1e-9), "{searched} against {range}");
        }
    }
}
