//! `random_*`: numbers by chance that are the same in every run.
//!
//! An operation with a `seed` starts from it. One without draws anew at every call on a device; here it starts from
//! its own name, so that two operations differ and two runs do not. In a loop it goes on where it stopped. The
//! generator is that of [`SplitMix64`]: what a seed gives is ours and not Core ML's.

use super::extents;
use crate::base::split_mix64::SplitMix64;
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel};
use crate::interp::kernel::round;
use crate::interp::op_context::{Ints, OpContext};
use crate::interp::options::Precision;
use crate::interp::tensor::{Tensor, elements};
use crate::mil::DType;

type Built = Result<Kernel, OpError>;

/// Where the chance of an operation begins.
#[derive(Debug, Clone, Copy)]
struct Start {
    seed: u64,
    /// The operation, among all that draw.
    mark: u64,
}

impl Start {
    fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        // FNV-1a of the name.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        let mark = site.op.name().as_bytes().iter().fold(0xCBF2_9CE4_8422_2325, mix);
        let seed = site.int("seed", Some(-1))?;
        Ok(Self { seed: if seed == -1 { mark } else { u64::from(seed.cast_unsigned()) }, mark })
    }

    /// The chance of this turn: of a loop, each has its own.
    fn chance(self, run: &ExecContext<'_>) -> SplitMix64 {
        let turn = run.next_rng_counter(self.mark);
        // The turns start far apart on the way that the generator goes through all 2⁶⁴ states.
        SplitMix64::new(self.seed.wrapping_add(turn.wrapping_mul(0xD134_2543_DE82_EF95)))
    }
}

/// A tensor of the shape that the operation names, each element drawn by itself.
fn drawn(
    site: &OpContext<'_, '_>,
    draw: impl Fn(&mut SplitMix64) -> f32 + Send + Sync + 'static,
) -> Built {
    let (shape, start) = (Ints::of(site, "shape")?, Start::of(site)?);
    Ok(Kernel::one(move |run| {
        let shape = extents(shape.get(run)?)?;
        let n = elements(&shape)?;
        let mut chance = start.chance(run);
        let mut out = run.buffer(n);
        out.extend((0..n).map(|_| draw(&mut chance)));
        Ok(Tensor::f32(&shape, out))
    }))
}

/// 1 with a probability, else 0.
pub(super) fn bernoulli(site: &OpContext<'_, '_>) -> Built {
    let p = f64::from(site.float("prob", Some(0.5))?);
    drawn(site, move |chance| f32::from(u8::from(chance.unit() < p)))
}

/// mean + stddev · a number of the standard normal distribution.
pub(super) fn normal(site: &OpContext<'_, '_>) -> Built {
    let mean = f64::from(site.float("mean", Some(0.0))?);
    let deviation = f64::from(site.float("stddev", Some(1.0))?);
    drawn(site, move |chance| (mean + deviation * chance.normal()) as f32)
}

/// Any number of [low, high) as likely as any other.
pub(super) fn uniform(site: &OpContext<'_, '_>) -> Built {
    let (low, high) = (site.float("low", Some(0.0))?, site.float("high", Some(1.0))?);
    let dtype = match site.precision {
        Precision::Declared => site.out_dtype(0)?,
        Precision::F32 => DType::F32,
    };
    let span = f64::from(high) - f64::from(low);
    drawn(site, move |chance| {
        // Rounding can give `high`, which does not belong; at most every second number does that.
        for _ in 0..64 {
            let mut one = [(f64::from(low) + span * chance.unit()) as f32];
            round::to(dtype, &mut one);
            if low >= high || one[0] < high {
                return one[0];
            }
        }
        low
    })
}

/// Places along the last dimension, as often as their probabilities say; NaN where a row says none.
pub(super) fn categorical(site: &OpContext<'_, '_>) -> Built {
    let (x, start) = (site.input("x")?, Start::of(site)?);
    let mode = site.text("mode")?.unwrap_or_else(|| "logits".to_owned());
    let logits = match mode.as_str() {
        "logits" => true,
        "probs" => false,
        _ => return Err(OpError::Unsupported(format!("mode `{mode}`"))),
    };
    let size = extents(&[site.int("size", Some(1))?])?[0];
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let Some((&n, outer)) = t.shape().split_last() else {
            return Err(OpError::invalid("a number has no dimension to draw from"));
        };
        let values = t.f32s()?;
        let mut shape = outer.to_vec();
        shape.push(size);
        let mut chance = start.chance(run);
        let mut out = run.buffer(elements(&shape)?);
        for row in values.chunks(n.max(1)) {
            let sums = sums(row, logits);
            let whole = sums.last().copied().unwrap_or(0.0);
            let known = whole.is_finite() && whole > 0.0;
            out.extend((0..size).map(|_| {
                let at = chance.unit() * whole;
                let place = sums.partition_point(|&sum| sum <= at);
                if known { place.min(n - 1) as f32 } else { f32::NAN }
            }));
        }
        // Rows without elements have nothing to draw.
        out.resize(elements(&shape)?, f32::NAN);
        Ok(Tensor::f32(&shape, out))
    }))
}

/// Weights summed up so far; a NaN or a negative probability makes the whole NaN.
fn sums(row: &[f32], logits: bool) -> Vec<f64> {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = |v: f32| match logits {
        true => (f64::from(v) - largest).exp(),
        false if v < 0.0 => f64::NAN,
        false => f64::from(v),
    };
    let mut sum = 0.0;
    row.iter()
        .map(|&v| {
            sum += weight(v);
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};

    #[test]
    fn certain_cases() {
        let shape = |kind| check(kind).ints("shape", &[2, 1, 2]);
        let c = |kind, values: &[(&str, f32)]| shape(kind).floats_const(values);
        c("random_bernoulli", &[("prob", 1.0)]).gives(&[2, 1, 2], &[1.0; 4]);
        c("random_bernoulli", &[("prob", 0.0)]).gives(&[2, 1, 2], &[0.0; 4]);
        c("random_normal", &[("mean", 3.0), ("stddev", 0.0)]).gives(&[2, 1, 2], &[3.0; 4]);
        c("random_uniform", &[("low", 2.0), ("high", 2.0)]).gives(&[2, 1, 2], &[2.0; 4]);
        let one = floats(&[2, 2], &[f32::NEG_INFINITY, 0.5, 7.0, f32::NEG_INFINITY]);
        check("random_categorical")
            .input("x", one)
            .int("size", 3)
            .gives(&[2, 3], &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        let none = floats(&[2, 2], &[0.0, 0.0, -1.0, 2.0]);
        check("random_categorical")
            .input("x", none)
            .text("mode", "probs")
            .gives(&[2, 1], &[f32::NAN, f32::NAN]);
    }

    #[test]
    fn a_shape_that_is_computed() {
        let shape = Tensor::i32(&[2], vec![2, 3]);
        let c = || check("random_uniform").input("shape", shape.clone()).outs(&[DType::F32], 2);
        let got = c().runs();
        assert_eq!(got[0].shape(), [2, 3]);
        let negative = Tensor::i32(&[2], vec![2, -3]);
        let failed = check("random_uniform").input("shape", negative).fails();
        assert_eq!(failed, "operation `out` (`random_uniform`) failed: an extent of -3 in [2, -3]");
        let huge = Tensor::i32(&[3], vec![i32::MAX; 3]);
        let failed = check("random_uniform").input("shape", huge).fails();
        assert!(failed.ends_with("elements"), "{failed}");
    }

    /// Mean and variance within five standard errors for the fixed seed.
    #[test]
    fn distributions() {
        const N: i32 = 40_000;
        let moments = |values: &[f32]| {
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let of =
                |p: i32| values.iter().map(|&v| (f64::from(v) - mean).powi(p)).sum::<f64>() / n;
            (mean, of(2), of(4))
        };
        let cases = [
            ("random_uniform", vec![("low", -1.0), ("high", 3.0)], 1.0, 16.0 / 12.0),
            ("random_normal", vec![("mean", 2.0), ("stddev", 0.5)], 2.0, 0.25),
            ("random_bernoulli", vec![("prob", 0.3)], 0.3, 0.21),
        ];
        for (kind, values, mean, variance) in cases {
            let got = check(kind).ints("shape", &[N]).int("seed", 7).floats_const(&values);
            let got = got.outs(&[DType::F32], 1).runs()[0].to_f32().unwrap();
            let (m, v, fourth) = moments(&got);
            let n = f64::from(N);
            assert!((m - mean).abs() < 5.0 * (variance / n).sqrt(), "{kind}: mean {m}");
            let error = ((fourth - v * v) / n).sqrt();
            assert!((v - variance).abs() < 5.0 * error + 1e-3, "{kind}: variance {v}");
        }
        let p = [0.1_f32, 0.6, 0.3];
        for (mode, x) in [("probs", p), ("logits", p.map(f32::ln))] {
            let c = check("random_categorical").input("x", floats(&[3], &x)).int("size", N);
            let got = c.text("mode", mode).outs(&[DType::F32], 1).runs()[0].to_f32().unwrap();
            for (place, &p) in p.iter().enumerate() {
                let share =
                    got.iter().filter(|&&v| v == place as f32).count() as f64 / f64::from(N);
                assert!((share - f64::from(p)).abs() < 0.0125, "{mode}: {place} has {share}");
            }
        }
    }

    #[test]
    fn seeds_and_names_decide() {
        let run = |seed: Option<i32>| {
            let c = check("random_normal").ints("shape", &[4]);
            let c = if let Some(seed) = seed { c.int("seed", seed) } else { c };
            c.outs(&[DType::F32], 1).runs()[0].to_f32().unwrap()
        };
        assert_eq!(run(Some(3)), run(Some(3)));
        assert_ne!(run(Some(3)), run(Some(4)));
        assert_eq!(run(None), run(Some(-1)));
    }

    #[test]
    fn the_upper_bound_is_left_out_after_rounding_too() {
        let half = |v: f32| Tensor::f16(&[], vec![half::f16::from_f32(v)]);
        let got = check("random_uniform")
            .ints("shape", &[20_000])
            .constant("low", &half(0.0))
            .constant("high", &half(1.0))
            .outs(&[DType::F16], 1)
            .runs();
        let values = got[0].to_f32().unwrap();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
    }
}
