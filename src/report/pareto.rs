//! The Pareto front of size against divergence: what no smaller artifact beats beyond doubt.
//!
//! An artifact is dominated only if another one is at most as large and the paired 95 % interval of the difference of
//! their divergences lies wholly above 0: differences that the tokens do not settle dominate nothing. Where a report has
//! no paired interval of two artifacts, their own intervals must lie apart, which takes a larger difference.

use serde::Serialize;

use super::{Report, Variant};
use crate::eval::results::Figure;
use crate::eval::{Candidate, ComparisonKind, dominated};

/// The artifacts that have a size and a divergence, the smallest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Front {
    /// One per artifact.
    pub points: Vec<Point>,
    /// Pairs that were compared by their own intervals, for want of a paired one.
    pub unpaired: u64,
    /// Pairs that were compared by a paired interval.
    pub paired: u64,
}

/// An artifact in the plane of size and divergence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Its place among the report's variants.
    pub variant: usize,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// Its mean divergence from the reference.
    pub divergence: Figure,
    /// The place of the variant that dominates it; of several the one that diverges least.
    pub dominated_by: Option<usize>,
}

impl Front {
    /// The front of `report`; artifacts without a size or a finite divergence have no place in it.
    pub fn of(report: &Report) -> Self {
        let mut points: Vec<Point> =
            report.variants.iter().enumerate().filter_map(|(i, v)| Point::of(i, v)).collect();
        points.sort_by_key(|p| (p.size_bytes, p.variant));
        let mut front = Self { points: Vec::new(), unpaired: 0, paired: 0 };
        let mut beaten = vec![None; points.len()];
        for (i, point) in points.iter().enumerate() {
            let mut by: Option<&Point> = None;
            for (_, other) in points.iter().enumerate().filter(|(j, _)| *j != i) {
                let told =
                    dominated(point.standing(report), other.standing(report), &report.paired);
                let Some((worse, told_by)) = told else { continue };
                match told_by {
                    ComparisonKind::Pair => front.paired += 1,
                    ComparisonKind::Intervals => front.unpaired += 1,
                }
                let less = |by: &Point| other.divergence.value < by.divergence.value;
                if worse && by.is_none_or(less) {
                    by = Some(other);
                }
            }
            beaten[i] = by.map(|point| point.variant);
        }
        for (point, by) in points.iter_mut().zip(beaten) {
            point.dominated_by = by;
        }
        Self { points, ..front }
    }

    /// The artifacts that nothing dominates, the smallest first.
    pub fn members(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.dominated_by.is_none())
    }
}

impl Point {
    fn of(place: usize, variant: &Variant) -> Option<Self> {
        let perplexity = variant.measurements.perplexity.as_ref()?;
        let divergence = perplexity.divergence.clone();
        let sound = perplexity.non_finite == 0 && divergence.value.is_finite();
        let size_bytes = variant.size_bytes.filter(|_| sound)?;
        Some(Self { variant: place, size_bytes, divergence, dominated_by: None })
    }

    fn standing<'a>(&'a self, report: &'a Report) -> Candidate<'a> {
        let name = report.variants[self.variant].name.as_str();
        Candidate { name, size_bytes: self.size_bytes, loss: &self.divergence }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::eval::{results::Interval, results::Paired};

    /// Size, divergence and its standard error.
    type Place = (u64, f64, Option<f64>);

    /// A pair: the places of both, and the ends of the interval.
    type Pair = (usize, usize, f64, f64);

    /// A name, the artifacts, their pairs, and who is on the front.
    type Case<'a> = (&'a str, Vec<Place>, &'a [Pair], Vec<usize>);

    fn front(places: &[Place], pairs: &[Pair]) -> Front {
        let mut report = samples::report();
        let first = report.variants[0].clone();
        let variant = |(i, &(size, value, error)): (usize, &Place)| {
            let mut variant = Variant { name: format!("v{i}"), ..first.clone() };
            variant.size_bytes = Some(size);
            let perplexity = variant.measurements.perplexity.as_mut().unwrap();
            perplexity.divergence.value = value;
            perplexity.divergence.standard_error = error;
            variant
        };
        report.variants = places.iter().enumerate().map(variant).collect();
        let interval = |low, high| Interval {
            value: f64::midpoint(low, high),
            low,
            high,
            unit: "nats".to_owned(),
        };
        let pair = |&(a, b, low, high): &Pair| Paired {
            a: format!("v{a}"),
            b: format!("v{b}"),
            n: 100,
            windows: 4,
            divergence: interval(low, high),
            log_perplexity: interval(0.0, 0.0),
            same_top: interval(0.0, 0.0),
        };
        report.paired = pairs.iter().map(pair).collect();
        Front::of(&report)
    }

    #[test]
    fn only_what_is_beyond_doubt_dominates() {
        let e = Some(0.01);
        let cases: [Case<'_>; 9] = [
            ("smaller and clearly better", vec![(9, 0.5, e), (5, 0.1, e)], &[], vec![1]),
            ("smaller and worse", vec![(9, 0.1, e), (5, 0.5, e)], &[], vec![1, 0]),
            ("own intervals touch", vec![(9, 0.13, e), (5, 0.1, e)], &[], vec![1, 0]),
            ("the pair tells", vec![(9, 0.13, e), (5, 0.1, e)], &[(1, 0, 0.02, 0.04)], vec![1]),
            (
                "told the other way",
                vec![(9, 0.13, e), (5, 0.1, e)],
                &[(0, 1, -0.04, -0.02)],
                vec![1],
            ),
            ("the pair doubts", vec![(9, 0.5, e), (5, 0.1, e)], &[(1, 0, -0.01, 0.8)], vec![1, 0]),
            ("equal size", vec![(5, 0.5, e), (5, 0.1, e)], &[], vec![1]),
            ("no interval", vec![(9, 0.5, None), (5, 0.1, e)], &[], vec![1, 0]),
            ("not finite", vec![(9, f64::NAN, e), (5, 0.1, e)], &[], vec![1]),
        ];
        for (name, places, pairs, want) in cases {
            let front = front(&places, pairs);
            let members: Vec<_> = front.members().map(|p| p.variant).collect();
            assert_eq!(members, want, "{name}");
        }
    }

    #[test]
    fn of_several_the_best_is_named_and_pairs_are_counted() {
        let e = Some(0.001);
        let front = front(&[(9, 0.9, e), (5, 0.5, e), (4, 0.1, e)], &[(1, 0, 0.3, 0.5)]);
        let by: Vec<_> = front.points.iter().map(|p| (p.variant, p.dominated_by)).collect();
        assert_eq!(by, [(2, None), (1, Some(2)), (0, Some(2))]);
        assert_eq!((front.paired, front.unpaired), (1, 2));
    }
}
