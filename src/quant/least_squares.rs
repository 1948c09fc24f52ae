//! Scales of least squared error: of several ranges, each with the scale that fits its integers best.
//!
//! The search is llama.cpp's `make_qx_quants` for one scale, with ratios of ranges instead of fixed offsets: for integers q of
//! the values x the best scale is Σ x·q / Σ q², and with zero point z the same over q − z.

use half::f16;
use rayon::prelude::*;

use super::affine::Step;
use super::grid::Grid;
use super::histogram::widen;
use super::source::Source;

/// Ranges tried, as parts of the whole one; a little beyond it lets the largest value move to a whole number.
const PARTS: [f32; 19] = [
    1.05, 1.02, 0.99, 0.97, 0.95, 0.93, 0.91, 0.89, 0.87, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7, 0.65,
    0.6, 0.55, 0.5,
];

/// The best step of each block, at least as good as `step` of its extremes.
pub(super) fn search(
    source: &Source<'_>,
    grid: &Grid,
    extremes: &[(f16, f16)],
    step: impl Fn(&(f16, f16)) -> Step + Sync,
) -> Vec<Step> {
    extremes
        .par_iter()
        .enumerate()
        .map_init(Memory::default, |memory, (block, extremes)| {
            memory.values.clear();
            grid.runs_of(block, |run| {
                memory.values.extend_from_slice(source.read(run, &mut memory.scratch));
            });
            memory.best(step(extremes))
        })
        .collect()
}

#[derive(Default)]
struct Memory {
    values: Vec<f16>,
    scratch: Vec<f16>,
    data: Vec<u8>,
}

impl Memory {
    fn best(&mut self, first: Step) -> Step {
        let (mut best, mut least) = (first, self.error(first).0);
        for part in PARTS {
            let scale = f16::from_f32(widen(first.scale()) * part);
            if scale.to_bits() == 0 || !scale.is_finite() {
                continue;
            }
            let mut candidate = first.with(scale, first.zero_point());
            // The range and its best scale, which changes the integers a little, once more.
            for _ in 0..2 {
                let (error, fitted) = self.error(candidate);
                if error < least {
                    (best, least) = (candidate, error);
                }
                let Some(fitted) = fitted else { break };
                candidate = first.with(fitted, first.zero_point());
            }
            let (error, _) = self.error(candidate);
            if error < least {
                (best, least) = (candidate, error);
            }
        }
        // Products are rounded to fp16 when they are read, which the search leaves out.
        if best != first && self.stored_error(best) > self.stored_error(first) {
            first
        } else {
            best
        }
    }

    /// The squared error of the block as it is read back.
    fn stored_error(&mut self, step: Step) -> f64 {
        self.data.resize(self.values.len(), 0);
        step.quantize(&self.values, &mut self.data);
        let error = |(x, &q): (&f16, &u8)| (x.to_f64() - step.value(q).to_f64()).powi(2);
        self.values.iter().zip(&self.data).map(error).sum()
    }

    /// The squared error of the block with this step, and the scale that its integers would want.
    fn error(&mut self, step: Step) -> (f64, Option<f16>) {
        self.data.resize(self.values.len(), 0);
        step.quantize(&self.values, &mut self.data);
        let mut sums = (0.0, 0.0, 0.0);
        let signed = step.range().0 < 0;
        products(
            &self.values,
            &self.data,
            (widen(step.scale()), step.zero_point(), signed),
            &mut sums,
        );
        let fitted = f16::from_f64(sums.1 / sums.2);
        let usable = fitted.is_finite() && fitted > f16::ZERO;
        (sums.0, usable.then_some(fitted))
    }
}

crate::base::simd::quick! {
    /// Adds Σ (x − s·(q − z))², Σ x·(q − z) and Σ (q − z)² to `sums`; `step` is s, z and whether q is signed.
    fn products(values: &[f16], data: &[u8], step: (f32, i32, bool), sums: &mut (f64, f64, f64)) {
        const LANES: usize = 8;
        let (scale, zero_point, signed) = step;
        let (mut error, mut product, mut square) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
        // Sums in f32 run over few values, so that they stay exact enough to compare.
        for (values, data) in values.chunks(64 * LANES).zip(data.chunks(64 * LANES)) {
            for (values, data) in values.chunks(LANES).zip(data.chunks(LANES)) {
                for (lane, (&x, &q)) in values.iter().zip(data).enumerate() {
                    let q = if signed { i32::from(q as i8) } else { i32::from(q) };
                    let (x, q) = (widen(x), (q - zero_point) as f32);
                    let e = x - scale * q;
                    error[lane] += e * e;
                    product[lane] += x * q;
                    square[lane] += q * q;
                }
            }
            let drain = |lanes: &mut [f32; LANES]| std::mem::take(lanes).iter().map(|&v| f64::from(v)).sum::<f64>();
            sums.0 += drain(&mut error);
            sums.1 += drain(&mut product);
            sums.2 += drain(&mut square);
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
