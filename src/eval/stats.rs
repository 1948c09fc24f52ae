//! Means with standard errors where observations of one group are not independent.
//!
//! The tokens of a window share their text, so the error of a mean over tokens comes from the sums of the windows.
//! With N observations in W groups, mean m and the sum r(w) of x - m over group w:
//!
//! SE² = W / (W - 1) · Σ r(w)² / N²
//!
//! For groups of one observation this is the usual variance of a mean. One group says nothing about the error.

use std::collections::BTreeMap;

use crate::eval::results::Figure;

/// An estimated mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error, with two groups or more.
    pub standard_error: Option<f64>,
    /// Observations.
    pub n: u64,
}

impl Mean {
    /// The mean of all observations, each given with its group; nothing where there are none.
    pub(super) fn of_groups(observations: impl Iterator<Item = (u32, f64)>) -> Option<Self> {
        let mut groups: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for (group, x) in observations {
            let (n, sum) = groups.entry(group).or_default();
            *n += 1.0;
            *sum += x;
        }
        let n: f64 = groups.values().map(|(n, _)| n).sum();
        if groups.is_empty() {
            return None;
        }
        let value = groups.values().map(|(_, sum)| sum).sum::<f64>() / n;
        let squares: f64 = groups.values().map(|(n, sum)| (sum - n * value).powi(2)).sum();
        let w = groups.len() as f64;
        let error = (w / (w - 1.0) * squares).sqrt() / n;
        Some(Self { value, standard_error: (w > 1.0).then_some(error), n: n as u64 })
    }

    /// The mean of independent observations.
    pub(super) fn of(observations: &[f64]) -> Option<Self> {
        Self::of_groups((0..).zip(observations.iter().copied()))
    }

    /// f of the mean, with its error by the delta method: `slope` is the derivative of f there.
    #[must_use]
    pub(super) fn map(self, value: f64, slope: f64) -> Self {
        let standard_error = self.standard_error.map(|error| error * slope.abs());
        Self { value, standard_error, n: self.n }
    }

    /// The mean as a figure.
    pub(super) fn figure(self, unit: &str) -> Figure {
        let Self { value, standard_error, n } = self;
        Figure { value, unit: unit.to_owned(), n, standard_error }
    }
}

/// The correlation of the means of x and y as estimates: Σ r(w) s(w) / √(Σ r(w)² · Σ s(w)²) over the groups.
///
/// Nothing with fewer than two groups, or where one of the two is the same in all.
pub(super) fn correlation(
    observations: impl Iterator<Item = (u32, f64, f64)> + Clone,
) -> Option<f64> {
    let x = Mean::of_groups(observations.clone().map(|(group, x, _)| (group, x)))?.value;
    let y = Mean::of_groups(observations.clone().map(|(group, _, y)| (group, y)))?.value;
    let mut groups: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (group, a, b) in observations {
        let (r, s) = groups.entry(group).or_default();
        *r += a - x;
        *s += b - y;
    }
    let sum = |f: fn(&(f64, f64)) -> f64| groups.values().map(f).sum::<f64>();
    let found = sum(|(r, s)| r * s) / (sum(|(r, _)| r * r) * sum(|(_, s)| s * s)).sqrt();
    (groups.len() > 1 && found.is_finite()).then_some(found.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(groups: &[&[f64]]) -> Mean {
        let each = (0..).zip(groups).flat_map(|(g, group)| group.iter().map(move |&x| (g, x)));
        Mean::of_groups(each).unwrap()
    }

    #[test]
    fn means_of_groups() {
        assert_eq!(Mean::of(&[]), None);
        let one = Mean::of(&[3.0]).unwrap();
        assert_eq!((one.value, one.standard_error, one.n), (3.0, None, 1));
        // Independent: sd/sqrt(n) with n - 1 in the variance.
        let four = Mean::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert!((four.standard_error.unwrap() - (14.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        // Equal groups: the same as the means of the groups taken as observations.
        let groups = grouped(&[&[1.0, 2.0], &[5.0, 6.0], &[3.0, 1.0]]);
        let means = Mean::of(&[1.5, 5.5, 2.0]).unwrap();
        assert!((groups.value - means.value).abs() < 1e-12);
        let (a, b) = (groups.standard_error.unwrap(), means.standard_error.unwrap());
        assert!((a - b).abs() < 1e-12);
        assert_eq!(groups.n, 6);
    }

    #[test]
    fn correlations() {
        let of = |rows: &[(u32, f64, f64)]| correlation(rows.iter().copied());
        let close = |found: Option<f64>, want: f64| (found.unwrap() - want).abs() < 1e-12;
        assert!(close(of(&[(0, 1.0, 2.0), (1, 2.0, 4.0), (2, 5.0, 10.0)]), 1.0));
        assert!(close(of(&[(0, 1.0, -1.0), (1, 2.0, -2.0)]), -1.0));
        // By hand: deviations (-1, 0, 1) and (-1, 1, 0).
        assert!(close(of(&[(0, 1.0, 1.0), (1, 2.0, 3.0), (2, 3.0, 2.0)]), 0.5));
        // Within a window what varies does not count, only its sum does.
        let windows = [(0, 0.0, 7.0), (0, 2.0, -5.0), (1, 2.0, 2.0), (1, 2.0, 2.0)];
        assert!(close(of(&windows), 1.0));
        for none in [&[][..], &[(0, 1.0, 2.0), (0, 2.0, 1.0)], &[(0, 1.0, 2.0), (1, 1.0, 3.0)]] {
            assert_eq!(of(none), None);
        }
    }
}
