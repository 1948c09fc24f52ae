//! `SplitMix64` (Steele, Lea and Flood, 2014): numbers by chance, the same for the same seed on every machine.

/// Where chance stands.
#[derive(Debug, Clone, Copy)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in [0, 1), each of 2⁵³ equally likely.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_of_a_seed() {
        // The first values of the authors' reference for this seed.
        let mut chance = SplitMix64::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| chance.next()).collect();
        let want =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(got, want);
    }

    #[test]
    fn mean_and_spread() {
        let mut chance = SplitMix64::new(7);
        let n = 20_000;
        let of = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / f64::from(n);
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n))
        };
        // Within five standard errors.
        let (mean, variance) = of((0..n).map(|_| chance.unit()).collect());
        assert!((mean - 0.5).abs() < 0.0103 && (variance - 1.0 / 12.0).abs() < 0.003);
        let (mean, variance) = of((0..n).map(|_| chance.normal()).collect());
        assert!(mean.abs() < 0.036 && (variance - 1.0).abs() < 0.051);
    }
}
