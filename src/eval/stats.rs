//! Means with standard errors where observations of one group are not independent.
//!
//! The tokens of a window share their text, so the error of a mean over tokens comes from the sums of the windows.
//! With N observations in W groups, mean m and the sum r(w) of x - m over group w:
//!
//! SE² = W / (W - 1) · Σ r(w)² / N²
//!
//! For groups of one observation this is the usual variance of a mean. One group says nothing about the error.

use super::results::Figure;

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
    /// The mean of all observations of all groups; nothing where there are none.
    pub(super) fn of_groups(groups: &[Vec<f64>]) -> Option<Self> {
        let n = groups.iter().map(Vec::len).sum::<usize>();
        if n == 0 {
            return None;
        }
        let value = groups.iter().flatten().sum::<f64>() / n as f64;
        let used = groups.iter().filter(|group| !group.is_empty());
        let rest = |group: &Vec<f64>| group.iter().map(|x| x - value).sum::<f64>().powi(2);
        let w = used.clone().count() as f64;
        let squares = used.map(rest).sum::<f64>();
        let error = (w / (w - 1.0) * squares).sqrt() / n as f64;
        Some(Self { value, standard_error: (w > 1.0).then_some(error), n: n as u64 })
    }

    /// The mean of independent observations.
    pub(super) fn of(observations: &[f64]) -> Option<Self> {
        let groups: Vec<Vec<f64>> = observations.iter().map(|&x| vec![x]).collect();
        Self::of_groups(&groups)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_groups() {
        assert_eq!(Mean::of(&[]), None);
        let one = Mean::of(&[3.0]).unwrap();
        assert_eq!((one.value, one.standard_error, one.n), (3.0, None, 1));
        // Independent: sd/sqrt(n) with n - 1 in the variance.
        let four = Mean::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert!((four.standard_error.unwrap() - (14.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        // Equal groups: the same as the means of the groups taken as observations.
        let groups = Mean::of_groups(&[vec![1.0, 2.0], vec![5.0, 6.0], vec![3.0, 1.0]]).unwrap();
        let means = Mean::of(&[1.5, 5.5, 2.0]).unwrap();
        assert!((groups.value - means.value).abs() < 1e-12);
        let (a, b) = (groups.standard_error.unwrap(), means.standard_error.unwrap());
        assert!((a - b).abs() < 1e-12);
        assert_eq!(groups.n, 6);
    }
}
