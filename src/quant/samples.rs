//! Values for tests: reproducible, from a named distribution.

use half::f16;

use crate::base::split_mix64::SplitMix64;

/// A shape of data that weights take, or that clustering finds hard.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Normal,
    Laplace,
    Uniform,
    HeavyTail,
    TwoHills,
    Outlier,
    HalfZero,
    FewValues,
    FarFromZero,
    Subnormal,
}

/// Every shape.
pub(super) const SHAPES: [Shape; 10] = [
    Shape::Normal,
    Shape::Laplace,
    Shape::Uniform,
    Shape::HeavyTail,
    Shape::TwoHills,
    Shape::Outlier,
    Shape::HalfZero,
    Shape::FewValues,
    Shape::FarFromZero,
    Shape::Subnormal,
];

/// `n` values of `shape`, the same for the same `seed`.
pub(super) fn sample(shape: Shape, n: usize, seed: u64) -> Vec<f16> {
    let mut random = SplitMix64::new(seed);
    (0..n)
        .map(|i| {
            let normal = random.normal();
            let u = random.unit();
            f16::from_f64(match shape {
                Shape::Laplace => 0.02 * (1.0 - u).ln() * normal.signum(),
                Shape::Uniform => 0.1 * (u - 0.5),
                Shape::HeavyTail => 0.02 * normal / (0.05 + u),
                Shape::TwoHills => 0.02 * normal + 0.2 * (u - 0.5).signum(),
                Shape::Outlier if i == n / 2 => 37.5,
                Shape::HalfZero if u < 0.5 => 0.0,
                Shape::Normal | Shape::Outlier | Shape::HalfZero => 0.02 * normal,
                Shape::FewValues => (normal * 3.0).round() / 8.0,
                Shape::FarFromZero => 1.0 + 0.01 * normal,
                Shape::Subnormal => 1e-6 * normal,
            })
        })
        .collect()
}
