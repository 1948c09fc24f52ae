//! Differences between a rounded value and its f32 value.

/// The smallest normal fp16, 2⁻¹⁴: below it fp16 keeps fewer digits the smaller a number is.
const SMALLEST_NORMAL: f64 = 1.0 / 16_384.0;

/// Figures over all elements seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) elements: u64,
    pub(super) largest: f64,
    pub(super) overflows: u64,
    pub(super) nans: u64,
    /// Elements that are no number both ways.
    pub(super) shared_nans: u64,
    pub(super) underflows: u64,
    pub(super) max_error: f64,
    pub(super) differing: u64,
    squares: f64,
    rounded_squares: f64,
    error_squares: f64,
}

impl Difference {
    /// Adds a value of one call: rounded and in f32.
    pub(super) fn add(&mut self, rounded: &[f32], exact: &[f32], float: bool) {
        self.elements += exact.len() as u64;
        if rounded.len() != exact.len() {
            // The number of elements depends on what was computed, and so on the rounding.
            self.differing += rounded.len().abs_diff(exact.len()) as u64;
        }
        for (&x, &y) in rounded.iter().zip(exact) {
            if float {
                self.float(x, y);
            } else {
                self.differing += u64::from(x.total_cmp(&y).is_ne());
                self.largest = self.largest.max(f64::from(y).abs());
            }
        }
    }

    fn float(&mut self, x: f32, y: f32) {
        if !y.is_finite() {
            self.shared_nans += u64::from(x.is_nan() && y.is_nan());
            return;
        }
        let exact = f64::from(y);
        self.largest = self.largest.max(exact.abs());
        if x.is_nan() {
            self.nans += 1;
        } else if x.is_infinite() {
            self.overflows += 1;
        } else {
            let error = f64::from(x) - exact;
            self.underflows += u64::from(x == 0.0 && y != 0.0);
            self.squares += exact * exact;
            self.rounded_squares += f64::from(x) * f64::from(x);
            self.error_squares += error * error;
            if exact.abs() >= SMALLEST_NORMAL {
                self.max_error = self.max_error.max((error / exact).abs());
            }
        }
    }

    /// True if something is not finite that is finite in f32.
    pub(super) fn breaks(&self) -> bool {
        self.overflows > 0 || self.nans > 0
    }

    /// √(Σ (x − f32)² / Σ f32²); 1 where f32 has nothing but zeros and x has not.
    pub(super) fn rms_error(&self) -> f64 {
        let whole = if self.squares > 0.0 { self.squares } else { self.rounded_squares };
        if whole > 0.0 { (self.error_squares / whole).sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted() {
        let inf = f32::INFINITY;
        // Rounded, in f32, then: overflows, NaNs, underflows, largest, max error, RMS error.
        let cases = [
            (vec![1.0, -2.0], vec![1.0, -2.0], (0, 0, 0), (2.0, 0.0, 0.0)),
            (vec![inf, 3.0], vec![9e4, 3.0], (1, 0, 0), (9e4, 0.0, 0.0)),
            (vec![f32::NAN, 0.0], vec![2.0, 0.0], (0, 1, 0), (2.0, 0.0, 0.0)),
            // Too small to count for the largest error, but gone.
            (vec![0.0, 4.0], vec![1e-8, 4.0], (0, 0, 1), (4.0, 0.0, 2.5e-9)),
            (vec![3.0, 5.0], vec![4.0, 3.0], (0, 0, 0), (4.0, 2.0 / 3.0, 0.2_f64.sqrt())),
            // What f32 does not have either is no loss.
            (vec![inf, f32::NAN], vec![inf, f32::NAN], (0, 0, 0), (0.0, 0.0, 0.0)),
            (vec![0.5], vec![0.0], (0, 0, 0), (0.0, 0.0, 1.0)),
        ];
        for (x, y, counts, (largest, max_error, rms_error)) in cases {
            let mut d = Difference::default();
            d.add(&x, &y, true);
            assert_eq!((d.overflows, d.nans, d.underflows), counts, "{x:?}");
            let got = [d.largest, d.max_error, d.rms_error()];
            for (got, want) in got.into_iter().zip([largest, max_error, rms_error]) {
                assert!((got - want).abs() <= 1e-7 * want.max(1e-3), "{x:?}: {got} for {want}");
            }
        }
        let mut d = Difference::default();
        d.add(&[1.0, 2.0, 0.0], &[1.0, 3.0], false);
        assert_eq!((d.differing, d.elements), (2, 2));
    }
}
