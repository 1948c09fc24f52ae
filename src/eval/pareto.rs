//! Which of two artifacts beats the other beyond doubt: what no larger package and no smaller loss excuse.

use crate::eval::{results::Figure, results::Paired};

/// An artifact in the plane of size and loss.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name among the pairs.
    pub name: &'a str,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// What it loses: the mean divergence, where pairs are to be of use.
    pub loss: &'a Figure,
}

/// Kind of comparison of two artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparisonKind {
    /// The interval of the difference on the same tokens.
    Pair,
    /// The intervals of both, which must lie apart: that takes a larger difference.
    Intervals,
}

/// Returns whether `other` dominates `place`, and the kind of comparison: `other` is at most as large, and the 95 %
/// interval of the difference of their losses is above 0. `None` if `other` is larger.
pub fn dominated(
    place: Candidate<'_>,
    other: Candidate<'_>,
    pairs: &[Paired],
) -> Option<(bool, ComparisonKind)> {
    if other.size_bytes > place.size_bytes {
        return None;
    }
    let lower_end = |pair: &Paired| {
        if (pair.a.as_str(), pair.b.as_str()) == (other.name, place.name) {
            Some(pair.divergence.low)
        } else if (pair.a.as_str(), pair.b.as_str()) == (place.name, other.name) {
            Some(-pair.divergence.high)
        } else {
            None
        }
    };
    Some(match pairs.iter().find_map(lower_end) {
        Some(low) => (low > 0.0, ComparisonKind::Pair),
        None => (apart(place.loss, other.loss), ComparisonKind::Intervals),
    })
}

/// True if the interval of `a` lies wholly above that of `b`; without both intervals nobody can tell.
fn apart(a: &Figure, b: &Figure) -> bool {
    matches!((a.interval(), b.interval()), (Some([low, _]), Some([_, high])) if low > high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::results::Interval;

    #[test]
    fn what_is_larger_or_in_doubt_dominates_nothing() {
        let figure = |value, standard_error| Figure { value, standard_error, ..Figure::default() };
        let interval = |low, high| Interval { value: 0.0, low, high, unit: String::new() };
        let pair = |a: &str, b: &str, low, high| Paired {
            a: a.to_owned(),
            b: b.to_owned(),
            n: 100,
            windows: 4,
            divergence: interval(low, high),
            log_perplexity: interval(0.0, 0.0),
            same_top: interval(0.0, 0.0),
        };
        let e = Some(0.01);
        // Size and loss of the one and of the other, their pair, and what is found.
        let cases = [
            ((9, 0.5, e), (5, 0.1, e), None, Some((true, ComparisonKind::Intervals))),
            ((5, 0.5, e), (5, 0.1, e), None, Some((true, ComparisonKind::Intervals))),
            ((5, 0.5, e), (9, 0.1, e), None, None),
            ((9, 0.13, e), (5, 0.1, e), None, Some((false, ComparisonKind::Intervals))),
            ((9, 0.5, None), (5, 0.1, e), None, Some((false, ComparisonKind::Intervals))),
            (
                (9, 0.13, e),
                (5, 0.1, e),
                Some(pair("b", "a", 0.02, 0.04)),
                Some((true, ComparisonKind::Pair)),
            ),
            (
                (9, 0.13, e),
                (5, 0.1, e),
                Some(pair("a", "b", -0.04, -0.02)),
                Some((true, ComparisonKind::Pair)),
            ),
            (
                (9, 0.5, e),
                (5, 0.1, e),
                Some(pair("b", "a", -0.01, 0.8)),
                Some((false, ComparisonKind::Pair)),
            ),
            (
                (9, 0.5, e),
                (5, 0.1, e),
                Some(pair("b", "c", -1.0, 1.0)),
                Some((true, ComparisonKind::Intervals)),
            ),
        ];
        for ((size, loss, error), (other_size, other_loss, other_error), pair, want) in cases {
            let (loss, other_loss) = (figure(loss, error), figure(other_loss, other_error));
            let place = Candidate { name: "a", size_bytes: size, loss: &loss };
            let other = Candidate { name: "b", size_bytes: other_size, loss: &other_loss };
            let pairs: Vec<_> = pair.into_iter().collect();
            assert_eq!(dominated(place, other, &pairs), want, "{place:?} {other:?} {pairs:?}");
        }
    }
}
