//! An artifact against the one of its name in an older report.

use super::interval::{bare, estimate, exact, invalid};
use super::{Gate, Outcome, Verdict};
use crate::eval::results::Figure;

/// How many times its noise a time must be slower at least before it counts.
const NOISE: f64 = 3.0;

/// The change of an estimate, whose error is that of both: they come from two runs, and nothing of it is paired.
pub(super) fn of_estimates(
    gate: &Gate,
    old: &Figure,
    new: &Figure,
    threshold: f64,
    what: &str,
) -> Verdict {
    let standard_error = match (old.standard_error, new.standard_error) {
        (Some(a), Some(b)) => Some(a.hypot(b)),
        _ => None,
    };
    let value = new.value - old.value;
    let change = Figure { value, standard_error, ..new.clone() };
    if value.total_cmp(&0.0).is_eq() {
        // The same artifact on the same tokens, which no number of them would make different.
        return exact(gate, value, threshold, what);
    }
    // A regression is what is shown, not what cannot be ruled out: two runs on half the tokens must not fail each other.
    let verdict = estimate(gate, &change, threshold, what);
    match (verdict.outcome, verdict.interval) {
        (Outcome::Inconclusive, Some([low, _])) if low <= threshold => Verdict {
            outcome: Outcome::Pass,
            settled_by: None,
            message: format!(
                "{what} of {} could be chance: the interval begins at {}",
                gate.unit.show(value),
                gate.unit.show(low)
            ),
            ..verdict
        },
        _ => verdict,
    }
}

/// The growth of a number that is no estimate, as a share of the old one.
pub(super) fn of_counts(gate: &Gate, old: u64, new: u64, threshold: f64, what: &str) -> Verdict {
    if old == 0 {
        return invalid(gate, threshold, &format!("{what}: the baseline has none"));
    }
    exact(gate, (new as f64 - old as f64) / old as f64, threshold, what)
}

/// The growth of a time, as a share of the old one: it must be beyond the threshold and beyond [`NOISE`] times the noise of
/// both medians before it fails.
pub(super) fn of_times(
    gate: &Gate,
    old: (f64, f64),
    new: (f64, f64),
    threshold: f64,
    what: &str,
) -> Verdict {
    let noise = NOISE * old.1.hypot(new.1) / old.0;
    let growth = new.0 / old.0 - 1.0;
    let allowed = threshold.max(noise);
    let verdict = exact(gate, growth, allowed, what);
    let message =
        format!("{} ({NOISE} times the noise is {})", verdict.message, gate.unit.show(noise));
    Verdict { threshold: allowed, message, ..verdict }
}

/// A verdict on times or memory of another machine, which say nothing about these.
pub(super) fn elsewhere(gate: &Gate, threshold: f64) -> Verdict {
    let text = "the baseline was measured on another machine".to_owned();
    bare(gate, Outcome::Inconclusive, threshold, text)
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    fn figure(value: f64, standard_error: Option<f64>) -> Figure {
        Figure { value, unit: "nats".to_owned(), n: 100, standard_error }
    }

    #[test]
    fn a_change_is_worse_only_beyond_the_errors_of_both() {
        let gate = find("divergence_regression").unwrap();
        for (old, new, threshold, want) in [
            (0.1, 0.1, 0.0, Outcome::Pass),
            (0.1, 0.09, 0.0, Outcome::Pass),
            // √(0.003² + 0.004²) · 1.96 = 0.0098 on each side.
            (0.1, 0.105, 0.0, Outcome::Pass),
            (0.1, 0.111, 0.0, Outcome::Fail),
            (0.1, 0.111, 0.05, Outcome::Pass),
            (0.1, 0.145, 0.05, Outcome::Pass),
            (0.1, f64::NAN, 0.05, Outcome::Invalid),
        ] {
            let (old, new) = (figure(old, Some(0.003)), figure(new, Some(0.004)));
            let verdict = of_estimates(gate, &old, &new, threshold, "change");
            assert_eq!(verdict.outcome, want, "{verdict:?}");
        }
        let lone = of_estimates(gate, &figure(0.1, None), &figure(0.2, Some(0.1)), 0.0, "change");
        assert_eq!(lone.outcome, Outcome::Inconclusive);
    }

    #[test]
    fn times_must_be_slower_than_their_noise() {
        let gate = find("speed_regression").unwrap();
        for (old, new, want) in [
            ((10.0, 0.0), (10.9, 0.0), Outcome::Pass),
            ((10.0, 0.0), (11.1, 0.0), Outcome::Fail),
            // Three times √(0.3² + 0.4²) is 15 % of 10.
            ((10.0, 0.3), (11.1, 0.4), Outcome::Pass),
            ((10.0, 0.3), (11.6, 0.4), Outcome::Fail),
        ] {
            assert_eq!(of_times(gate, old, new, 0.1, "median").outcome, want, "{old:?} {new:?}");
        }
        let gate = find("size_regression").unwrap();
        for (old, new, want) in [
            (100, 100, Outcome::Pass),
            (100, 101, Outcome::Pass),
            (100, 102, Outcome::Fail),
            (0, 1, Outcome::Invalid),
        ] {
            assert_eq!(of_counts(gate, old, new, 0.01, "size").outcome, want, "{old} {new}");
        }
    }
}
