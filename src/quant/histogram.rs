//! `Histogram`: how often each fp16 value occurs, and the distinct values in order with prefix sums over them.
//!
//! fp16 has at most 63,487 distinct finite values (+0 and −0 are one), so clustering works on these whatever the size of the tensor.

use half::f16;

/// The number of fp16 bit patterns.
const PATTERNS: usize = 1 << 16;

/// The magnitude after the largest finite one.
const INFINITE: u16 = 0x7c00;

/// The exponent of an fp16 value, which is 0 for subnormal numbers.
const EXPONENT: u16 = 0x7c00;

/// The least normal number: the bit of a significand that is not stored.
const IMPLICIT: u16 = 0x400;

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

/// Which fp16 values have a place of their own in a [`Histogram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BinLayout {
    /// Those whose last [`COARSE`] bits are zero, as of all that come from bf16, and the subnormal ones: the places in use then
    /// fit into the nearest cache.
    Coarse,
    /// All.
    Fine,
}

/// The bits that fp16 has and bf16 has not.
const COARSE: u32 = 3;

impl BinLayout {
    /// The place of zero, with those of negative values before it and as many of positive ones after it.
    const fn zero(self) -> usize {
        match self {
            Self::Coarse => rank::<COARSE>(INFINITE - 1) as usize + 1,
            Self::Fine => INFINITE as usize,
        }
    }

    /// The place of a finite value among all.
    fn fine(value: f16) -> u16 {
        place_of::<0>(value, Self::Fine.zero() as u16)
    }

    /// The value at `place`, as f32.
    fn value(self, place: u16) -> f32 {
        let zero = self.zero() as u16;
        let rank = place.abs_diff(zero);
        let beyond = rank.saturating_sub(IMPLICIT) << if self == Self::Coarse { COARSE } else { 0 };
        let value = widen(f16::from_bits(rank.min(IMPLICIT) + beyond));
        if place < zero { -value } else { value }
    }
}

/// The place of a finite value among those of which the normal ones end in `SHIFT` zeros; −0 has that of +0.
#[inline(always)]
#[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
const fn place_of<const SHIFT: u32>(value: f16, zero: u16) -> u16 {
    let rank = rank::<SHIFT>(value.to_bits() & 0x7fff);
    if value.to_bits() & 0x8000 == 0 { zero + rank } else { zero - rank }
}

/// The number of a magnitude among those of which the normal ones end in `SHIFT` zeros.
#[inline(always)]
#[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
const fn rank<const SHIFT: u32>(magnitude: u16) -> u16 {
    // Both are computed, so that loops over it vectorise.
    let normal = IMPLICIT.wrapping_add(magnitude.wrapping_sub(IMPLICIT) >> SHIFT);
    if magnitude < IMPLICIT { magnitude } else { normal }
}

/// Bins that are passed over together if nothing is counted there, as among the subnormal numbers.
const STRETCH: usize = 16;

/// Values whose places are found at a time.
const CHUNK: usize = 512;

crate::base::simd::multiversion! {
    /// Adds the bits of normal values to `used`.
    fn collect_bits(values: &[f16], used: &mut u16) {
        let mut all = 0;
        for value in values {
            let bits = value.to_bits();
            all |= if bits & EXPONENT == 0 { 0 } else { bits };
        }
        *used |= all;
    }
}

crate::base::simd::multiversion! {
    /// The place of each of `values`, and the first and last of them.
    fn find_places(values: &[f16], kind: BinLayout, places: &mut [u16; CHUNK], ends: &mut (u16, u16)) {
        #[inline(always)]
        #[expect(clippy::inline_always, reason = "for the features of the processor that its callers have")]
        fn find<const SHIFT: u32>(values: &[f16], zero: u16, places: &mut [u16; CHUNK], ends: &mut (u16, u16)) {
            let (mut low, mut high) = *ends;
            for (place, value) in places.iter_mut().zip(values) {
                *place = place_of::<SHIFT>(*value, zero);
                low = low.min(*place);
                high = high.max(*place);
            }
            *ends = (low, high);
        }
        let zero = kind.zero() as u16;
        match kind {
            BinLayout::Coarse => find::<COARSE>(values, zero, places, ends),
            BinLayout::Fine => find::<0>(values, zero, places, ends),
        }
    }
}

/// Counts of finite fp16 values, to which slices are added piece by piece.
///
/// At most `u32::MAX` values in all; [`super::Weight`] guarantees it.
#[derive(Debug, Clone)]
pub struct Histogram {
    places: BinLayout,
    /// For each place.
    counts: Vec<u32>,
    /// The first and the last place counted so far; the first is behind the last when nothing is.
    ends: (u16, u16),
}

/// The ends when nothing is counted.
const NOTHING: (u16, u16) = (u16::MAX, 0);

impl Default for Histogram {
    fn default() -> Self {
        Self { places: BinLayout::Coarse, counts: vec![0; PATTERNS], ends: NOTHING }
    }
}

impl Histogram {
    /// Counts `values`, which must be finite.
    pub fn add(&mut self, values: &[f16]) {
        let mut places = [0; CHUNK];
        for values in values.chunks(CHUNK) {
            let mut used = 0;
            if self.places == BinLayout::Coarse {
                collect_bits(values, &mut used);
            }
            if used.trailing_zeros() < COARSE {
                self.refine();
            }
            find_places(values, self.places, &mut places, &mut self.ends);
            // A fixed-size view lets the compiler drop the bounds check: every u16 is an index.
            let counts: &mut [u32; PATTERNS] =
                self.counts.as_mut_slice().try_into().expect("one count for each pattern");
            for &place in &places[..values.len()] {
                counts[usize::from(place)] += 1;
            }
        }
    }

    /// Goes over to places for all values, and stays there.
    fn refine(&mut self) {
        if self.places == BinLayout::Fine {
            return;
        }
        let coarse = std::mem::replace(&mut self.places, BinLayout::Fine);
        let counts = std::mem::replace(&mut self.counts, vec![0; PATTERNS]);
        self.ends = NOTHING;
        for (place, count) in (0..=u16::MAX).zip(counts).filter(|(_, count)| *count > 0) {
            let place = BinLayout::fine(f16::from_f32(coarse.value(place)));
            self.counts[usize::from(place)] = count;
            self.ends = (self.ends.0.min(place), self.ends.1.max(place));
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, mut other: Self) {
        if self.places != other.places {
            self.refine();
            other.refine();
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.ends = (self.ends.0.min(other.ends.0), self.ends.1.max(other.ends.1));
    }

    /// Moves the counts into `distinct`, whose memory is reused, and leaves this histogram empty.
    pub fn drain_into(&mut self, distinct: &mut SortedHistogram) {
        distinct.clear();
        let (low, high) = std::mem::replace(&mut self.ends, NOTHING);
        if low <= high {
            distinct.take(self.places, low, &mut self.counts[usize::from(low)..=usize::from(high)]);
        }
    }

    /// The distinct values counted so far.
    pub fn into_distinct(mut self) -> SortedHistogram {
        let mut distinct = SortedHistogram::default();
        self.drain_into(&mut distinct);
        distinct
    }
}

/// Sums of weights of finite fp16 values: a histogram whose values do not all count the same.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// For each place of [`BinLayout::Fine`].
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
            self.weights[usize::from(BinLayout::fine(value))] += weight;
        }
    }

    /// The distinct values; their counts are the weights in 2^24ths of all, at least one.
    pub fn into_distinct(self) -> SortedHistogram {
        let total: f64 = self.weights.iter().sum();
        let unit = f64::from(1 << 24) / total;
        let mut distinct = SortedHistogram::default();
        let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for (place, own) in (0..=u16::MAX).zip(self.weights).filter(|(_, own)| *own > 0.0) {
            let value = f64::from(BinLayout::Fine.value(place));
            weight += own;
            sum += own * value;
            squares += own * value * value;
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
pub struct SortedHistogram {
    /// Memory for [`Self::take`].
    places: Vec<u16>,
    values: Vec<f32>,
    counts: Vec<u32>,
    /// `weight[i]` is the weight of the first `i` values; one longer than `values`.
    weight: Vec<f64>,
    /// `sum[i]` is the sum of weight times value over the first `i` values.
    sum: Vec<f64>,
    sum_of_squares: f64,
}

impl Default for SortedHistogram {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            values: Vec::new(),
            counts: Vec::new(),
            weight: vec![0.0],
            sum: vec![0.0],
            sum_of_squares: 0.0,
        }
    }
}

impl SortedHistogram {
    /// Number of distinct values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of occurrences of each of [`Self::values`].
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
        self.counts.clear();
        self.values.clear();
        self.weight.truncate(1);
        self.sum.truncate(1);
        self.sum_of_squares = 0.0;
    }

    /// Takes the non-zero ones of `counts`, which are those from the place `first` on, and zeroes them.
    fn take(&mut self, kind: BinLayout, first: u16, counts: &mut [u32]) {
        // Many values do not occur, in no pattern a branch predictor could learn: every slot is written, and kept by moving
        // on when its count is not zero.
        self.places.resize(counts.len(), 0);
        self.counts.resize(counts.len(), 0);
        let mut n = 0;
        for (start, counts) in
            (usize::from(first)..).step_by(STRETCH).zip(counts.chunks_mut(STRETCH))
        {
            if counts.iter().fold(0, |all, count| all | count) == 0 {
                continue;
            }
            for (place, count) in (start..).zip(counts) {
                self.places[n] = place as u16;
                self.counts[n] = *count;
                n += usize::from(*count != 0);
                *count = 0;
            }
        }
        self.counts.truncate(n);
        self.values.clear();
        self.values.extend(self.places[..n].iter().map(|&place| kind.value(place)));
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
    fn places_are_in_the_order_of_the_values() {
        let mut finite: Vec<f16> =
            (0..=u16::MAX).map(f16::from_bits).filter(|v| v.is_finite()).collect();
        for &v in &finite {
            let zero_is_positive = v.to_f32() + 0.0;
            assert_eq!(
                BinLayout::Fine.value(BinLayout::fine(v)).to_bits(),
                zero_is_positive.to_bits()
            );
            assert_eq!(widen(v).to_bits(), v.to_f32().to_bits());
        }
        finite.sort_by_key(|&v| BinLayout::fine(v));
        assert!(finite.is_sorted_by(|a, b| a <= b));
        assert_eq!(BinLayout::fine(f16::NEG_ZERO), BinLayout::fine(f16::ZERO));
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
            histogram.merge(other);
            let mut distinct = SortedHistogram::default();
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
