//! The smallest magnitudes go: value by value, or block by block.

use half::f16;
use rayon::prelude::*;

use super::super::error::Error;
use super::super::histogram::{Histogram, SortedHistogram};
use super::super::scheme::Sparsity;
use super::super::weight::Weight;
use super::{Mask, channels};

/// Values per task.
const CHUNK: usize = 1 << 18;

pub(super) fn values(weight: &Weight<'_>, sparsity: Sparsity) -> Mask {
    let magnitudes = counted(weight.values().len(), |from, to, histogram| {
        let magnitude = |v: &f16| f16::from_bits(v.to_bits() & 0x7fff);
        let all: Vec<f16> = weight.values()[from..to].iter().map(magnitude).collect();
        histogram.add(&all);
    });
    let limit = percentile(&magnitudes, sparsity);
    Mask::of(weight.values(), 1, |_, values, flags| {
        for (flag, value) in flags.iter_mut().zip(values) {
            *flag &= value.to_bits() & 0x7fff > limit;
        }
    })
}

/// Blocks of `size` channels along `axis`; the last may be smaller.
pub(super) fn blocks(
    weight: &Weight<'_>,
    sparsity: Sparsity,
    size: usize,
    axis: usize,
) -> Result<Mask, Error> {
    let (n_channels, inner) = channels(weight, axis, size)?;
    let norms = Norms { values: weight.values(), n_channels, inner, size, by_step: axis == 0 };
    let all = counted(weight.values().len(), |from, to, histogram| {
        let mut norms_of = Vec::with_capacity(to - from);
        norms_of.extend((from..to).map(|at| norms.of(at)));
        histogram.add(&norms_of);
    });
    let limit = percentile(&all, sparsity);
    Ok(Mask::of(weight.values(), 1, |at, _, flags| {
        for (i, flag) in flags.iter_mut().enumerate() {
            *flag &= norms.of(at + i).to_bits() > limit;
        }
    }))
}

/// The root of the sum of squares of each block, in fp16 as coremltools has it.
struct Norms<'a> {
    values: &'a [f16],
    n_channels: usize,
    inner: usize,
    size: usize,
    /// True if the sum is rounded at every step: numpy does so unless the values stand side by side in memory.
    by_step: bool,
}

impl Norms<'_> {
    /// The norm of the block that the value at `at` is in.
    fn of(&self, at: usize) -> f16 {
        let channel = at / self.inner % self.n_channels;
        let first = channel - channel % self.size;
        let n = self.size.min(self.n_channels - first);
        let start = at - (channel - first) * self.inner;
        let squares = (0..n).map(|i| {
            let x = self.values[start + i * self.inner].to_f32();
            f16::from_f32(x * x)
        });
        let sum = if self.by_step {
            squares.fold(f16::ZERO, |sum, x| f16::from_f32(sum.to_f32() + x.to_f32()))
        } else {
            f16::from_f32(squares.map(f16::to_f32).sum())
        };
        f16::from_f32(sum.to_f32().sqrt())
    }
}

/// The distinct values among `n`, of which `add` counts those in a range.
fn counted(n: usize, add: impl Fn(usize, usize, &mut Histogram) + Sync) -> SortedHistogram {
    (0..n.div_ceil(CHUNK))
        .into_par_iter()
        .fold(Histogram::default, |mut histogram, chunk| {
            add(chunk * CHUNK, ((chunk + 1) * CHUNK).min(n), &mut histogram);
            histogram
        })
        .reduce_with(|mut a, b| {
            a.merge(b);
            a
        })
        .unwrap_or_default()
        .into_distinct()
}

/// The bits of the largest fp16 value that is at most the percentile of `magnitudes`, by linear interpolation.
///
/// numpy computes the place of the percentile of fp16 values in fp16, and so does this: up to 65,520 values the results are
/// the same. Beyond that numpy's place is infinite and the percentile no number, so that coremltools prunes nothing; here it
/// is computed in f64.
fn percentile(magnitudes: &SortedHistogram, sparsity: Sparsity) -> u16 {
    if sparsity.get() == 0.0 {
        return 0;
    }
    let n = magnitudes.weight().last().map_or(0, |&n| n as usize);
    let at = |place: usize| {
        let index = magnitudes.weight()[1..].partition_point(|&before| before <= place as f64);
        magnitudes.values()[index.min(magnitudes.len() - 1)]
    };
    let round = |x: f32| f16::from_f32(x).to_f32();
    let last = round((n - 1) as f32);
    if last.is_finite() {
        let part = round(round((sparsity.get() * 100.0) as f32) / 100.0);
        let place = round(last * part);
        if place as usize >= n - 1 {
            return f16::from_f32(at(n - 1)).to_bits();
        }
        let before = place.floor();
        let (a, b) = (at(before as usize), at(round(before + 1.0) as usize));
        let (part, span) = (round(place - before), round(b - a));
        let value = if part >= 0.5 {
            round(b - round(span * round(1.0 - part)))
        } else {
            round(a + round(span * part))
        };
        return f16::from_f32(value).to_bits();
    }
    let place = (n - 1) as f64 * sparsity.get();
    let before = place.floor();
    let (a, b) = (f64::from(at(before as usize)), f64::from(at(before as usize + 1)));
    let value = a + (b - a) * (place - before);
    let nearest = f16::from_f64(value);
    nearest.to_bits() - u16::from(nearest.to_f64() > value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::samples::{SHAPES, sample};
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // np.percentile(np.arange(n) % 2048 as fp16, percent); beyond 65,520 values of the same as f64, rounded down.
        let cases = [
            (5, 50.0, 2.0),
            (6, 50.0, 2.5),
            (10, 30.0, 2.701_171_9),
            (1000, 37.5, 374.5),
            (40_000, 50.0, 1000.0),
            (65_520, 50.0, 1023.0),
            (65_537, 50.0, 1023.0),
            (1 << 20, 25.0, 511.75),
        ];
        for (n, percent, expected) in cases {
            let values: Vec<f16> = (0..n).map(|i| f16::from_f32((i % 2048) as f32)).collect();
            let mut histogram = Histogram::default();
            histogram.add(&values);
            let found =
                percentile(&histogram.into_distinct(), Sparsity::from_percent(percent).unwrap());
            assert_eq!(f16::from_bits(found), f16::from_f32(expected), "{n} at {percent}");
        }
    }

    proptest! {
        #[test]
        fn about_the_share_is_pruned_and_it_is_the_smallest(
            shape in prop::sample::select(&SHAPES),
            n in 100_usize..3000,
            percent in 1_u32..99,
            seed: u64,
        ) {
            let data = sample(shape, n, seed);
            let weight = Weight::matrix(&data, 1, n).unwrap();
            let mask = values(&weight, Sparsity::from_percent(f64::from(percent)).unwrap());
            let magnitude = |at: usize| data[at].to_f32().abs();
            let kept = (0..n).filter(|&at| mask.is_set(at)).map(magnitude).fold(f32::INFINITY, f32::min);
            let gone = (0..n).filter(|&at| !mask.is_set(at)).map(magnitude).fold(0.0, f32::max);
            prop_assert!(gone < kept);
            prop_assert_eq!(mask.n_set(), mask.n_set_in(0..n));
            // Equal magnitudes go together, so that more may go than the share, but never fewer; fp16 places are this exact.
            let share = (n - mask.n_set()) as f64 / n as f64;
            prop_assert!(share >= f64::from(percent) / 100.0 - 2.0 / n as f64 - 1e-3, "{share}");
        }
    }
}
