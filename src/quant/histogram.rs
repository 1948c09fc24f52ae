//! `Histogram`: how often each fp16 value occurs, and the distinct values in order with prefix sums over them.
//!
//! fp16 has at most 63,487 distinct finite values (+0 and −0 are one), so clustering works on these whatever the size of the tensor.

use std::ops::Range;

use half::f16;

/// The number of fp16 bit patterns.
const PATTERNS: usize = 1 << 16;

/// The exponent of an fp16 value, which is 0 for subnormal numbers.
const EXPONENT: u16 = 0x7c00;

/// The bit of a significand that is not stored.
const IMPLICIT: u16 = 0x400;

/// A number whose unsigned order is the order of the fp16 values; −0 has the key of +0.
///
/// Positive patterns move above all negative ones, and negative ones are reversed.
pub fn ordered_key(value: f16) -> u16 {
    let bits = value.to_bits();
    if bits > 0x8000 { !bits } else { bits | 0x8000 }
}

/// The value whose key is `key`: the inverse of [`ordered_key`].
pub fn value_of_key(key: u16) -> f16 {
    f16::from_bits(if key & 0x8000 == 0 { !key } else { key & 0x7fff })
}

/// `value` as f32, exactly; `value` must be finite.
///
/// Moves exponent and fraction into place and multiplies by 2^(127−15), which also scales subnormals right:
/// unlike the general conversion it has no branches, so loops over it vectorise.
#[inline]
pub fn widen(value: f16) -> f32 {
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(value.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// Counts of finite fp16 values, to which slices are added piece by piece.
///
/// At most `u32::MAX` values in all; [`super::Weight`] guarantees it.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    /// The smallest and largest key counted so far; `low > high` when nothing is.
    low: u16,
    high: u16,
    /// The bits that some normal number has set. Values from bf16 leave the last three unset, so that most keys cannot occur.
    used: u16,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; PATTERNS], low: u16::MAX, high: 0, used: 0 }
    }
}

impl Histogram {
    /// Counts `values`, which must be finite.
    pub fn add(&mut self, values: &[f16]) {
        // A fixed-size view lets the compiler drop the bounds check: every u16 is an index.
        let counts: &mut [u32; PATTERNS] =
            self.counts.as_mut_slice().try_into().expect("one count for each pattern");
        let (mut low, mut high, mut used) = (self.low, self.high, self.used);
        for &value in values {
            let key = ordered_key(value);
            counts[usize::from(key)] += 1;
            low = low.min(key);
            high = high.max(key);
            let bits = value.to_bits();
            used |= if bits & EXPONENT == 0 { 0 } else { bits };
        }
        (self.low, self.high, self.used) = (low, high, used);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.used |= other.used;
    }

    /// Moves the counts into `distinct`, whose memory is reused, and leaves this histogram empty.
    pub fn drain_into(&mut self, distinct: &mut Distinct) {
        distinct.clear();
        if self.low <= self.high {
            let (low, high) = (usize::from(self.low), usize::from(self.high));
            let step = 1 << (self.used | IMPLICIT).trailing_zeros();
            distinct.take(low..high + 1, step, &mut self.counts);
        }
        (self.low, self.high, self.used) = (u16::MAX, 0, 0);
    }

    /// The distinct values counted so far.
    pub fn into_distinct(mut self) -> Distinct {
        let mut distinct = Distinct::default();
        self.drain_into(&mut distinct);
        distinct
    }
}

/// Sums of weights of finite fp16 values: a histogram whose values do not all count the same.
#[derive(Debug, Clone)]
pub struct Weighted {
    weights: Vec<f64>,
}

impl Default for Weighted {
    fn default() -> Self {
        Self { weights: vec![0.0; PATTERNS] }
    }
}

impl Weighted {
    /// Counts `values`, each as `weight`, which must be above 0.
    pub fn add(&mut self, values: &[f16], weight: f64) {
        for &value in values {
            self.weights[usize::from(ordered_key(value))] += weight;
        }
    }

    /// The distinct values; their counts are the weights in 2^24ths of all, at least one.
    pub fn into_distinct(self) -> Distinct {
        let total: f64 = self.weights.iter().sum();
        let unit = f64::from(1 << 24) / total;
        let mut distinct = Distinct::default();
        let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for (key, own) in (0..=u16::MAX).zip(self.weights).filter(|(_, own)| *own > 0.0) {
            let value = f64::from(widen(value_of_key(key)));
            weight += own;
            sum += own * value;
            squares += own * value * value;
            distinct.keys.push(key);
            distinct.values.push(value as f32);
            distinct.counts.push(((own * unit) as u32).max(1));
            distinct.weight.push(weight);
            distinct.sum.push(sum);
        }
        distinct.sum_of_squares = squares;
        distinct
    }
}

/// Distinct values in ascending order, with prefix sums of their weights and of weight times value.
///
/// The sums are exact while they stay below 2^29 in magnitude, since fp16 values are multiples of 2^−24.
#[derive(Debug, Clone)]
pub struct Distinct {
    keys: Vec<u16>,
    values: Vec<f32>,
    counts: Vec<u32>,
    /// `weight[i]` is the weight of the first `i` values; one longer than `values`.
    weight: Vec<f64>,
    /// `sum[i]` is the sum of weight times value over the first `i` values.
    sum: Vec<f64>,
    sum_of_squares: f64,
}

impl Default for Distinct {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            counts: Vec::new(),
            weight: vec![0.0],
            sum: vec![0.0],
            sum_of_squares: 0.0,
        }
    }
}

impl Distinct {
    /// How many distinct values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The keys of the smallest and the largest value.
    pub fn key_range(&self) -> Option<(u16, u16)> {
        Some((*self.keys.first()?, *self.keys.last()?))
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// How often each of [`Self::values`] occurs.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Prefix sums of the weights, one longer than the values.
    pub fn weight(&self) -> &[f64] {
        &self.weight
    }

    /// Prefix sums of weight times value, one longer than the values.
    pub fn sum(&self) -> &[f64] {
        &self.sum
    }

    /// The sum of weight times value squared.
    pub fn sum_of_squares(&self) -> f64 {
        self.sum_of_squares
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.counts.clear();
        self.values.clear();
        self.weight.truncate(1);
        self.sum.truncate(1);
        self.sum_of_squares = 0.0;
    }

    /// Takes the non-zero counts of the keys in `range`, and zeroes them; normal numbers are multiples of `step`, a power of
    /// two, in their patterns.
    fn take(&mut self, range: Range<usize>, step: usize, counts: &mut [u32]) {
        // The keys of negative normal numbers, of subnormal ones and 0, of positive normal ones.
        let subnormal = 0x8000 - usize::from(IMPLICIT)..0x8000 + usize::from(IMPLICIT);
        let clip = |keys: Range<usize>| keys.start.max(range.start)..keys.end.min(range.end);
        let negative = clip(0..subnormal.start);
        let positive = clip(subnormal.end..PATTERNS);
        let parts = [
            // The key of the pattern 0x8000 + m is 0x7fff − m.
            (negative.start | (step - 1)..negative.end, step),
            (clip(subnormal), 1),
            (positive.start.next_multiple_of(step)..positive.end, step),
        ];
        let most = parts.iter().map(|(keys, step)| keys.len().div_ceil(*step)).sum();
        // Many keys do not occur, in no pattern a branch predictor could learn: every slot is written, and kept by moving
        // on when its count is not zero.
        self.keys.resize(most, 0);
        self.counts.resize(most, 0);
        let mut n = 0;
        for (keys, step) in parts {
            for key in keys.step_by(step) {
                let count = counts[key];
                self.keys[n] = key as u16;
                self.counts[n] = count;
                n += usize::from(count != 0);
            }
        }
        counts[range].fill(0);
        self.keys.truncate(n);
        self.counts.truncate(n);
        self.values.clear();
        self.values.extend(self.keys.iter().map(|&key| widen(value_of_key(key))));
        self.weight.resize(n + 1, 0.0);
        self.sum.resize(n + 1, 0.0);
        let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let prefixes = self.weight[1..].iter_mut().zip(&mut self.sum[1..]);
        for ((&value, &count), prefix) in self.values.iter().zip(&self.counts).zip(prefixes) {
            let (value, count) = (f64::from(value), f64::from(count));
            weight += count;
            sum += count * value;
            squares += count * value * value;
            (*prefix.0, *prefix.1) = (weight, sum);
        }
        self.sum_of_squares = squares;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_in_the_order_of_the_values() {
        let finite: Vec<f16> =
            (0..=u16::MAX).map(f16::from_bits).filter(|v| v.is_finite()).collect();
        let mut by_key = finite.clone();
        by_key.sort_by_key(|&v| ordered_key(v));
        assert!(by_key.is_sorted_by(|a, b| a <= b));
        for v in finite {
            assert_eq!(value_of_key(ordered_key(v)), v);
            assert_eq!(widen(v).to_bits(), v.to_f32().to_bits());
        }
        assert_eq!(ordered_key(f16::NEG_ZERO), ordered_key(f16::ZERO));
    }

    #[test]
    fn a_weight_counts_as_so_many_values() {
        let values = [2.0, -1.0, 2.0, 0.0].map(f16::from_f32);
        let mut weighted = Weighted::default();
        weighted.add(&values, 1.0);
        weighted.add(&values[..2], 2.0);
        let found = weighted.into_distinct();
        let mut histogram = Histogram::default();
        histogram.add(&values);
        histogram.add(&values[..2]);
        histogram.add(&values[..2]);
        let plain = histogram.into_distinct();
        assert_eq!((found.values(), found.weight()), (plain.values(), plain.weight()));
        assert_eq!((found.sum(), found.sum_of_squares()), (plain.sum(), plain.sum_of_squares()));
        assert_eq!(found.key_range(), plain.key_range());
    }

    #[test]
    fn nothing_counted_is_nothing_distinct() {
        let distinct = Histogram::default().into_distinct();
        assert!(distinct.is_empty());
        assert_eq!(distinct.weight(), [0.0]);
    }

    #[test]
    fn the_ends_of_the_range_are_counted() {
        let mut histogram = Histogram::default();
        histogram.add(&[f16::MAX, f16::MIN, f16::ZERO, f16::NEG_ZERO]);
        let distinct = histogram.into_distinct();
        assert_eq!(distinct.values(), [-65504.0, 0.0, 65504.0]);
        assert_eq!(distinct.counts(), [1, 2, 1]);
        assert_eq!(distinct.weight(), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(distinct.sum(), [0.0, -65504.0, -65504.0, 0.0]);
    }

    proptest! {
        #[test]
        fn merging_and_draining_agree_with_sorting(
            a in prop::collection::vec(-50i16..50, 0..200),
            b in prop::collection::vec(-50i16..50, 0..200),
            // Normal and subnormal numbers, with short and with long significands.
            unit in prop::sample::select(&[0.125_f32, 1.0 / 3.0, 6e-8, 1e-6, 2e-5]),
        ) {
            let halves = |v: &[i16]| -> Vec<f16> { v.iter().map(|&x| f16::from_f32(f32::from(x) * unit)).collect() };
            let (a, b) = (halves(&a), halves(&b));
            let mut histogram = Histogram::default();
            histogram.add(&a);
            let mut other = Histogram::default();
            other.add(&b);
            histogram.merge(&other);
            let mut distinct = Distinct::default();
            histogram.drain_into(&mut distinct);

            let mut all: Vec<f32> = a.iter().chain(&b).map(|v| v.to_f32() + 0.0).collect();
            all.sort_by(f32::total_cmp);
            prop_assert_eq!(distinct.sum().last().copied(), Some(all.iter().map(|&v| f64::from(v)).sum::<f64>()));
            prop_assert_eq!(distinct.weight().last().copied(), Some(all.len() as f64));
            all.dedup();
            prop_assert_eq!(distinct.values(), all);

            histogram.add(&a);
            histogram.drain_into(&mut distinct);
            prop_assert_eq!(distinct.weight().last().copied(), Some(a.len() as f64), "a drained histogram starts from nothing");
        }
    }
}
