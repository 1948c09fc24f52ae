//! A figure against a threshold, as an interval where the figure is an estimate.

use super::{Gate, Outcome, Side, Subject, Verdict};
use crate::eval::{results::Figure, results::STANDARD_ERRORS};

/// A verdict on a figure that is no estimate: counted, or the extreme of what was measured.
pub(super) fn exact(gate: &Gate, value: f64, threshold: f64, what: &str) -> Verdict {
    if !value.is_finite() {
        return invalid(gate, threshold, &format!("{what} is not a finite number"));
    }
    let holds = gate.side.holds(value, threshold);
    let outcome = if holds { Outcome::Pass } else { Outcome::Fail };
    let relation = relation(gate, value, threshold, holds);
    Verdict {
        measured: Some(value),
        ..bare(gate, outcome, threshold, format!("{what} {relation}"))
    }
}

/// A verdict on an estimate, by its interval of 1.96 standard errors.
pub(super) fn estimate(gate: &Gate, figure: &Figure, threshold: f64, what: &str) -> Verdict {
    if !figure.value.is_finite() || figure.standard_error.is_some_and(|e| !e.is_finite()) {
        return invalid(gate, threshold, &format!("{what} is not a finite number"));
    }
    let Some(error) = figure.standard_error else {
        let text = format!("{what} rests on n = {} and has no standard error", figure.n);
        let verdict = bare(gate, Outcome::Inconclusive, threshold, text);
        return Verdict { measured: Some(figure.value), ..verdict };
    };
    let reach = STANDARD_ERRORS * error;
    let ends = [figure.value - reach, figure.value + reach];
    let [low, high] = ends.map(|end| gate.side.holds(end, threshold));
    let outcome = match (low, high) {
        (true, true) => Outcome::Pass,
        (false, false) => Outcome::Fail,
        _ => Outcome::Inconclusive,
    };
    let unit = gate.unit;
    let spread = format!("± {} (n = {})", unit.show(reach), figure.n);
    let (text, settled_by) = if outcome == Outcome::Inconclusive {
        let settled_by = settled_by(figure, reach, threshold);
        let more = settled_by.map_or_else(
            || "no number of observations would settle it".to_owned(),
            |n| format!("about {n} observations would settle it"),
        );
        let (value, limit) = unit.apart(figure.value, threshold);
        (format!("{what} of {value} {spread} straddles {limit}; {more}"), settled_by)
    } else {
        let relation = relation(gate, figure.value, threshold, outcome == Outcome::Pass);
        (format!("{what} {relation}, {spread}"), None)
    };
    Verdict {
        measured: Some(figure.value),
        interval: Some(ends),
        settled_by,
        ..bare(gate, outcome, threshold, text)
    }
}

/// A verdict on a measurement that is missing or worthless.
pub(super) fn invalid(gate: &Gate, threshold: f64, message: &str) -> Verdict {
    bare(gate, Outcome::Invalid, threshold, message.to_owned())
}

/// A verdict on figures of `of` tokens of which `count` are not finite, with the first value that overflows.
pub(super) fn non_finite(
    gate: &Gate,
    subject: &Subject<'_>,
    threshold: f64,
    count: u64,
    of: u64,
) -> Verdict {
    let text = format!("{count} of {of} scored tokens are not finite");
    invalid(gate, threshold, &[text, because(subject)].concat())
}

/// What a message ends with where a value overflows.
pub(super) fn because(subject: &Subject<'_>) -> String {
    let first = subject.measurements.overflow.as_ref();
    first.map_or_else(String::new, |first| format!("; the first value beyond its type is {first}"))
}

/// A verdict without a figure.
pub(super) fn bare(gate: &Gate, outcome: Outcome, threshold: f64, message: String) -> Verdict {
    Verdict {
        gate: gate.name.to_owned(),
        outcome,
        threshold,
        unit: gate.unit,
        measured: None,
        interval: None,
        settled_by: None,
        message,
    }
}

/// `of 3.2 % is above 3 %`: more digits where fewer would make two different numbers look the same.
fn relation(gate: &Gate, value: f64, threshold: f64, holds: bool) -> String {
    let (shown, limit) = gate.unit.apart(value, threshold);
    let words = match (gate.side, holds) {
        (Side::Below, true) | (Side::AtLeast, false) => "is below",
        (Side::Below, false) => "is not below",
        (Side::AtMost, true) => "is at most",
        (Side::AtMost, false) => "is above",
        (Side::AtLeast, true) => "is at least",
    };
    format!("of {shown} {words} {limit}")
}

/// Observations at which the interval would end at the threshold: the error falls with the square root of n.
fn settled_by(figure: &Figure, reach: f64, threshold: f64) -> Option<u64> {
    let times = (reach / (figure.value - threshold)).powi(2);
    let n = (figure.n as f64 * times).ceil();
    (n.is_finite() && n < 1e15).then_some(n as u64)
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;
    use crate::eval::results::Measurements;

    #[test]
    fn an_interval_is_judged_whole() {
        let gate = find("divergence").unwrap();
        let figure =
            |value, standard_error, n| Figure { value, unit: "nats".to_owned(), n, standard_error };
        let cases = [
            (figure(0.05, Some(0.01), 100), Outcome::Pass, None),
            (figure(0.09, Some(0.01), 100), Outcome::Inconclusive, Some(385)),
            (figure(0.11, Some(0.01), 100), Outcome::Inconclusive, Some(385)),
            (figure(0.1, Some(0.01), 100), Outcome::Inconclusive, None),
            (figure(0.13, Some(0.01), 100), Outcome::Fail, None),
            (figure(0.099_999_9, Some(0.0), 100), Outcome::Pass, None),
            (figure(0.100_000_1, Some(0.0), 100), Outcome::Fail, None),
            (figure(0.05, None, 1), Outcome::Inconclusive, None),
            (figure(f64::NAN, Some(0.01), 100), Outcome::Invalid, None),
            (figure(0.05, Some(f64::INFINITY), 100), Outcome::Invalid, None),
        ];
        let mut messages = Vec::new();
        for (figure, outcome, settled_by) in cases {
            let verdict = estimate(gate, &figure, 0.1, "mean divergence");
            assert_eq!(verdict.outcome, outcome, "{figure:?}");
            assert_eq!(verdict.settled_by, settled_by, "{figure:?}");
            messages.push(format!("{}: {}", outcome.name(), verdict.message));
        }
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn an_exact_figure_is_never_rounded() {
        for (gate, value, threshold, want) in [
            ("cosine", 0.99, 0.99, Outcome::Pass),
            ("cosine", 0.989_999_999, 0.99, Outcome::Fail),
            ("size", 2e9, 2e9, Outcome::Pass),
            ("size", 2e9 + 1.0, 2e9, Outcome::Fail),
            ("cosine", f64::NAN, 0.99, Outcome::Invalid),
        ] {
            let verdict = exact(find(gate).unwrap(), value, threshold, "figure");
            assert_eq!(verdict.outcome, want, "{gate} {value}");
        }
        let verdict = exact(find("cosine").unwrap(), 0.989_999_999, 0.99, "minimum");
        assert_eq!(verdict.message, "minimum of 0.989999999 is below 0.99");
    }

    #[test]
    fn what_was_asked_for_and_is_missing_is_invalid() {
        let measurements = Measurements::default();
        let subject = Subject::of(&measurements);
        for gate in super::super::TABLE {
            let verdict = gate.judge(&subject, 1.0);
            assert_eq!(verdict.outcome, Outcome::Invalid, "{}", gate.name);
            assert!(!gate.measured(&subject), "{}", gate.name);
            assert!(verdict.message.contains("was not measured"), "{}", verdict.message);
        }
    }
}
