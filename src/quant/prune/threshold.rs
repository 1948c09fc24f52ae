//! Magnitudes up to a threshold go.

use half::f16;

use super::super::error::Error;
use super::super::weight::Weight;
use super::Mask;

/// Below this part of zeros the sparse form is larger or hardly smaller; coremltools' `minimum_sparsity_percentile`.
const LEAST: f64 = 0.5;

/// The threshold counts as the nearest fp16 value.
pub(super) fn mask(weight: &Weight<'_>, threshold: f32) -> Result<Mask, Error> {
    let limit = f16::from_f32(threshold).to_bits();
    let mask = Mask::of(weight.values(), 1, |_, values, flags| {
        for (flag, value) in flags.iter_mut().zip(values) {
            *flag &= value.to_bits() & 0x7fff > limit;
        }
    });
    let n = weight.values().len();
    let zeros = n - mask.n_set();
    if (zeros as f64) < LEAST * n as f64 {
        return Err(Error::Sparsity { shape: weight.shape().to_vec(), zeros, n, threshold });
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let values = [0.5, -0.1, 0.1, 0.2, -0.3, 0.05].map(f16::from_f32);
        let weight = Weight::matrix(&values, 2, 3).unwrap();
        let found = mask(&weight, 0.2).unwrap();
        let kept: Vec<usize> = (0..6).filter(|&i| found.is_set(i)).collect();
        assert_eq!(kept, [0, 4]);
        let error = mask(&weight, 0.05).unwrap_err().to_string();
        assert_eq!(error, "shape [2, 3] has 1 of 6 magnitudes up to 0.05, less than half");
    }
}
