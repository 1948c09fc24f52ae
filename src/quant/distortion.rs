//! `Distortion`: how far compressed values are from the original ones.

use half::f16;
use rayon::prelude::*;

use super::error::Error;

/// Values per partial sum; a constant, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 16;

/// Values that are summed in f32 before the sums are added up in f64: so few that rounding changes the seventh digit.
const PIECE: usize = 1024;

/// Sums over pairs of an original value x and its replacement y; those of several tensors add up by [`Distortion::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distortion {
    /// The number of pairs.
    pub n: u64,
    /// Σ (x − y)².
    pub squared_error: f64,
    /// Σ x².
    pub energy: f64,
    /// The largest |x − y|.
    pub max_error: f64,
    /// The largest |x|.
    pub peak: f64,
}

impl Distortion {
    /// Compares `replacement` with `original`, value by value; they must be equally long. Sums are right to six digits.
    ///
    /// A value of `replacement` that is not finite makes the squared error infinite or NaN.
    pub fn between(original: &[f16], replacement: &[f16]) -> Result<Self, Error> {
        if original.len() != replacement.len() {
            return Err(Error::Mismatch { expected: original.len(), len: replacement.len() });
        }
        let parts: Vec<Self> = original
            .par_chunks(CHUNK)
            .zip(replacement.par_chunks(CHUNK))
            .map(|(original, replacement)| Self::of(original, replacement))
            .collect();
        let mut total = Self::default();
        for part in &parts {
            total.merge(part);
        }
        Ok(total)
    }

    /// Compares slices of the same length on one thread.
    pub(super) fn of(original: &[f16], replacement: &[f16]) -> Self {
        let mut sums = Self::default();
        for (original, replacement) in original.chunks(PIECE).zip(replacement.chunks(PIECE)) {
            sums.merge(&Self::of_piece(original, replacement));
        }
        sums
    }

    /// Adds the sums of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.squared_error += other.squared_error;
        self.energy += other.energy;
        self.max_error = self.max_error.max(other.max_error);
        self.peak = self.peak.max(other.peak);
    }

    /// √(Σ (x − y)² / Σ x²); 0 when there is no error, infinite when only the original is zero.
    pub fn relative_error(&self) -> f64 {
        if self.squared_error == 0.0 { 0.0 } else { (self.squared_error / self.energy).sqrt() }
    }

    /// The peak signal-to-noise ratio in dB, 10 log₁₀(peak² / mean squared error); none when there is no error.
    pub fn psnr(&self) -> Option<f64> {
        let mean = self.squared_error / self.n as f64;
        (self.squared_error != 0.0).then(|| 10.0 * (self.peak * self.peak / mean).log10())
    }

    /// At most [`PIECE`] pairs.
    fn of_piece(original: &[f16], replacement: &[f16]) -> Self {
        let mut lanes = [[0.0; LANES]; 4];
        let (x, x_rest) = original.as_chunks();
        let (y, y_rest) = replacement.as_chunks();
        compare(x, y, &mut lanes);
        if !x_rest.is_empty() {
            // Zeros behind the last pair, which add nothing.
            let (mut x, mut y) = ([f16::ZERO; LANES], [f16::ZERO; LANES]);
            x[..x_rest.len()].copy_from_slice(x_rest);
            y[..y_rest.len()].copy_from_slice(y_rest);
            compare(&[x], &[y], &mut lanes);
        }
        let [squared, energy, most, peak] = lanes.map(|lanes| lanes.map(f64::from));
        Self {
            n: original.len() as u64,
            squared_error: squared.iter().sum(),
            energy: energy.iter().sum(),
            max_error: most.into_iter().fold(0.0, f64::max),
            peak: peak.into_iter().fold(0.0, f64::max),
        }
    }
}

/// Pairs that are compared at a time; sums run in lanes, one after another in each.
const LANES: usize = 32;

/// Those that are converted at a time.
const EIGHT: usize = 8;

crate::base::simd::multiversion! {
    /// Adds up squared errors and squares, and finds the largest errors and values.
    fn compare(x: &[[f16; LANES]], y: &[[f16; LANES]], lanes_of: &mut [[f32; LANES]; 4]) {
        let [mut squared, mut energy, mut most, mut peak] = *lanes_of;
        for (x, y) in x.iter().zip(y) {
            let eights = x.as_chunks::<EIGHT>().0.iter().zip(y.as_chunks::<EIGHT>().0);
            for (i, (x, y)) in eights.enumerate() {
                let (x, y) = (lanes::widen(x), lanes::widen(y));
                for j in 0..EIGHT {
                    let lane = i * EIGHT + j;
                    let error = x[j] - y[j];
                    squared[lane] += error * error;
                    energy[lane] += x[j] * x[j];
                    most[lane] = if error.abs() > most[lane] { error.abs() } else { most[lane] };
                    peak[lane] = if x[j].abs() > peak[lane] { x[j].abs() } else { peak[lane] };
                }
            }
        }
        *lanes_of = [squared, energy, most, peak];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn halves(values: &[f32]) -> Vec<f16> {
        values.iter().copied().map(f16::from_f32).collect()
    }

    #[test]
    fn measures_by_hand() {
        let sums =
            Distortion::between(&halves(&[3.0, -4.0, 0.0]), &halves(&[3.0, -2.0, 1.0])).unwrap();
        let expected =
            Distortion { n: 3, squared_error: 5.0, energy: 25.0, max_error: 2.0, peak: 4.0 };
        assert_eq!(sums, expected);
        assert!((sums.relative_error() - 0.2_f64.sqrt()).abs() < 1e-15);
        assert!((sums.psnr().unwrap() - 10.0 * 9.6_f64.log10()).abs() < 1e-12);
    }

    #[test]
    fn nothing_lost_and_nothing_kept() {
        let x = halves(&[1.0, 2.0]);
        let same = Distortion::between(&x, &x).unwrap();
        assert_eq!((same.relative_error(), same.psnr()), (0.0, None));
        let from_zero = Distortion::between(&halves(&[0.0]), &halves(&[1.0])).unwrap();
        assert!(from_zero.relative_error().is_infinite());
        // What is not finite counts, among the last few values and among many.
        for (n, broken) in [(2, f16::INFINITY), (40, f16::NEG_INFINITY), (40, f16::NAN)] {
            let original = vec![f16::ONE; n];
            let mut replacement = original.clone();
            replacement[0] = broken;
            let found = Distortion::between(&original, &replacement).unwrap().squared_error;
            assert!(!found.is_finite(), "{broken} of {n}: {found}");
        }
        let error = Distortion::between(&x, &x[..1]).unwrap_err().to_string();
        assert_eq!(error, "2 values expected, got 1");
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition(
            pairs in prop::collection::vec((0_u16..0x7c00, 0_u16..0x7c00, any::<(bool, bool)>()), 1..3000),
            mask in prop::sample::select(&[0x7fff_u16, 0x4fff, 0x0fff, 0x2f00]),
        ) {
            let half = |bits: u16, negative: bool| f16::from_bits(bits & mask | u16::from(negative) << 15);
            let (x, y): (Vec<f16>, Vec<f16>) = pairs.iter().map(|&(x, y, (a, b))| (half(x, a), half(y, b))).unzip();
            let found = Distortion::between(&x, &y).unwrap();
            let mut want = Distortion { n: x.len() as u64, ..Distortion::default() };
            for (x, y) in x.iter().zip(&y) {
                let error = x.to_f64() - y.to_f64();
                want.squared_error += error * error;
                want.energy += x.to_f64().powi(2);
                want.max_error = want.max_error.max(error.abs());
                want.peak = want.peak.max(x.to_f64().abs());
            }
            let near = |found: f64, want: f64| (found - want).abs() <= 1e-6 * want;
            prop_assert_eq!((found.n, found.peak), (want.n, want.peak));
            prop_assert!(near(found.squared_error, want.squared_error), "{:?} and not {:?}", found, want);
            prop_assert!(near(found.energy, want.energy), "{:?} and not {:?}", found, want);
            prop_assert!(near(found.max_error, want.max_error), "{:?} and not {:?}", found, want);
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let x: Vec<f16> =
            (0..3 * CHUNK + 5).map(|i| f16::from_f64((i as f64 * 0.1).sin())).collect();
        let y: Vec<f16> =
            x.iter().map(|v| f16::from_f64((v.to_f64() * 8.0).round() / 8.0)).collect();
        let mut parts = Distortion::default();
        for (x, y) in x.chunks(CHUNK).zip(y.chunks(CHUNK)) {
            parts.merge(&Distortion::between(x, y).unwrap());
        }
        assert_eq!(parts, Distortion::between(&x, &y).unwrap());
    }
}
