//! Axes: where a value stands between two places of a drawing, and which values are written beside it.

use super::super::numbers::{power, significant};

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    /// The values at its ends; powers of ten of them where it is logarithmic.
    ends: [f64; 2],
    /// The places of its ends.
    places: [f64; 2],
    log: bool,
}

/// Ticks that an axis should have at least.
const TICKS: f64 = 4.0;

impl Scale {
    /// A linear axis that holds all `values` with a little room, or begins at zero.
    pub(super) fn linear(values: &[f64], from_zero: bool, places: [f64; 2]) -> Self {
        let [mut low, mut high] = range(values);
        if from_zero {
            low = low.min(0.0);
        }
        if high <= low {
            // A lone value stands in the middle.
            let half = if low == 0.0 { 0.5 } else { low.abs() * 0.05 };
            [low, high] = [if from_zero { low } else { low - half }, low + half];
        }
        let room = (high - low) * 0.06;
        let low = if from_zero && low >= 0.0 { 0.0 } else { low - room };
        Self { ends: [low, high + room], places, log: false }
    }

    /// A logarithmic axis that holds the positive ones of `values` with a little room, over a decade at least.
    pub(super) fn log(values: &[f64], places: [f64; 2]) -> Self {
        let logs: Vec<_> = values.iter().filter(|v| **v > 0.0).map(|v| v.log10()).collect();
        let [low, high] = range(&logs);
        let room = ((high - low) * 0.06).max(0.1);
        let (low, high) = (low - room, high + room);
        Self { ends: [low, high.max(low.floor() + 1.0)], places, log: true }
    }

    /// Where `value` stands; what lies beyond an end stands at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let [low, high] = self.ends;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        let [from, to] = self.places;
        from + share * (to - from)
    }

    /// Whether `value` lies on the axis, not beyond an end.
    pub(super) fn holds(&self, value: f64) -> bool {
        let value = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        (self.ends[0]..=self.ends[1]).contains(&value)
    }

    /// The values that are written, with their texts.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let [low, high] = self.ends;
        if self.log {
            let steps = ((high - low) / 7.0).ceil().max(1.0) as usize;
            let tick = |exponent: i32| (10f64.powi(exponent), decade(exponent));
            return (low.ceil() as i32..=high.floor() as i32).step_by(steps).map(tick).collect();
        }
        let rough = (high - low) / TICKS;
        let unit = 10f64.powf(rough.log10().floor());
        let step = [5.0, 2.0, 1.0].iter().map(|n| n * unit).find(|s| *s <= rough).unwrap_or(unit);
        let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        let tick = |i: i64| {
            let value = i as f64 * step;
            (value, format!("{value:.decimals$}").replace('-', "−"))
        };
        (first..=last).map(tick).collect()
    }
}

fn decade(exponent: i32) -> String {
    if (-3..4).contains(&exponent) { significant(10f64.powi(exponent), 1) } else { power(exponent) }
}

fn range(values: &[f64]) -> [f64; 2] {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = finite().reduce(f64::min).unwrap_or(0.0);
    [low, finite().reduce(f64::max).unwrap_or(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> String {
        scale.ticks().into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers_within() {
        let ends = [0.0, 100.0];
        for (scale, want) in [
            (Scale::linear(&[0.0, 1.0], true, ends), "0.0 0.2 0.4 0.6 0.8 1.0"),
            (Scale::linear(&[2.0, 6.6], false, ends), "2 3 4 5 6"),
            (Scale::linear(&[-0.02, 0.03], false, ends), "−0.02 −0.01 0.00 0.01 0.02 0.03"),
            (Scale::linear(&[7.0], false, ends), "6.7 6.8 6.9 7.0 7.1 7.2 7.3"),
            (Scale::linear(&[0.0, 0.0], true, ends), "0.0 0.1 0.2 0.3 0.4 0.5"),
            (Scale::linear(&[], false, ends), "0.0 0.2 0.4 0.6 0.8 1.0"),
            (Scale::log(&[7e-6, 0.4], ends), "10⁻⁵ 10⁻⁴ 0.001 0.01 0.1"),
            (Scale::log(&[0.0, 0.02, f64::NAN], ends), "0.1"),
        ] {
            assert_eq!(texts(&scale), want, "{scale:?}");
            for (value, _) in scale.ticks() {
                assert!(scale.holds(value) && ends[0] <= scale.at(value));
            }
        }
    }

    #[test]
    fn places_keep_to_the_drawing() {
        let scale = Scale::log(&[0.001, 1.0], [300.0, 0.0]);
        // Three decades with 0.18 of one on each side.
        let at = |decades: f64| 300.0 - (decades + 3.18) / 3.36 * 300.0;
        for (value, want) in
            [(0.001, at(-3.0)), (0.01, at(-2.0)), (1.0, at(0.0)), (-1.0, 300.0), (9.0, 0.0)]
        {
            assert!((scale.at(value) - want).abs() < 1e-9, "{value}");
        }
        assert!(scale.holds(0.5) && !scale.holds(0.0) && !scale.holds(2.0));
    }
}
