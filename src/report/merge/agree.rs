//! Whether two measurements of one thing agree: texts and counts exactly, figures but for what the arithmetic of another
//! processor changes in their last digits.
//!
//! The tolerances were set by measuring the golden model three times: with torch's plain kernels, with those for AVX2, and
//! with what it chooses itself (`ATEN_CPU_CAPABILITY`). An fp16 package differs from its reference by little more than rounding, so its figures move
//! most: values by up to 0.017 of their standard errors, standard errors by 0.9 %, order statistics by 1 % or 0.001 of the
//! largest; what does not hang on such small differences moves by 10⁻⁶ of itself.

use std::fmt;

use serde_json::{Map, Value};

/// By how much any number may differ, as a share of itself.
const RELATIVE: f64 = 1e-4;

/// By how much estimates may differ, as a share of their standard error: far less than any verdict could hang on.
const OF_ERROR: f64 = 0.1;

/// By how much standard errors, order statistics and margins may differ, as a share of themselves.
const LOOSE: f64 = 0.02;

/// By how much order statistics may differ, as a share of the largest of them: those near zero are rounding themselves.
const OF_LARGEST: f64 = 2e-3;

/// By how much the margin between two logits may differ.
const LOGITS: f64 = 1e-3;

/// How many tokens or sentences may fall to the other side of a near tie, or of the end of a range.
const FLIPS: f64 = 3.0;

/// Two values that are not the same.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Apart {
    /// Where they stand, such as `perplexity.noise_floor.divergence.value`.
    pub(super) place: String,
    /// What stands there in the first.
    pub(super) left: String,
    /// And in the second.
    pub(super) right: String,
    /// Their difference as a share of the larger one; infinite for what is no number.
    pub(super) share: f64,
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, left, right, share } = self;
        write!(f, "`{place}` is {left} and {right}")?;
        match share * 100.0 {
            percent if percent < 0.01 => write!(f, ", less than 0.01 % apart"),
            percent if percent.is_finite() => write!(f, ", {percent:.2} % apart"),
            _ => Ok(()),
        }
    }
}

/// The largest difference between `left` and `right` where all are within the tolerance, or the first that is not.
pub(super) fn agree(left: &Value, right: &Value) -> Result<Option<Apart>, Apart> {
    let mut walk = Walk { path: Vec::new(), worst: None };
    walk.values(left, right, Slack::NONE)?;
    Ok(walk.worst)
}

/// By how much a number may differ: a share of itself, or so much.
#[derive(Clone, Copy)]
struct Slack {
    share: f64,
    absolute: f64,
}

impl Slack {
    const NONE: Self = Self { share: RELATIVE, absolute: 0.0 };
}

struct Walk {
    path: Vec<String>,
    worst: Option<Apart>,
}

impl Walk {
    fn values(&mut self, left: &Value, right: &Value, slack: Slack) -> Result<(), Apart> {
        match (left, right) {
            (Value::Object(a), Value::Object(b)) => self.groups(a, b),
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (at, (a, b)) in a.iter().zip(b).enumerate() {
                    self.path.push(at.to_string());
                    self.values(a, b, slack)?;
                    self.path.pop();
                }
                Ok(())
            }
            (left, right) if left == right => Ok(()),
            (left, right) => {
                let apart = |share| Apart {
                    place: self.path.join("."),
                    left: left.to_string(),
                    right: right.to_string(),
                    share,
                };
                let (Some(a), Some(b)) = (float(left), float(right)) else {
                    return Err(apart(f64::INFINITY));
                };
                let (difference, larger) = ((a - b).abs(), a.abs().max(b.abs()));
                let apart = apart(difference / larger);
                if difference > slack.absolute.max(slack.share * larger) {
                    return Err(apart);
                }
                if self.worst.as_ref().is_none_or(|worst| worst.share < apart.share) {
                    self.worst = Some(apart);
                }
                Ok(())
            }
        }
    }

    fn groups(&mut self, a: &Map<String, Value>, b: &Map<String, Value>) -> Result<(), Apart> {
        // Not of the same tokens: one at the end of the range fell to the other side.
        let tokens = |group: &Map<String, Value>| group.get("divergence")?.get("n")?.as_u64();
        if let (true, Some(n), Some(m)) = (a.contains_key("median"), tokens(a), tokens(b))
            && n != m
            && n.abs_diff(m) <= FLIPS as u64
        {
            return Ok(());
        }
        let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
        for name in names {
            // Of two sentences that are as bad.
            if name == "worst" {
                continue;
            }
            let slack = self.slack(name, [a, b]);
            let of = |group: &Map<String, Value>| group.get(name).cloned().unwrap_or_default();
            self.path.push(name.clone());
            self.values(&of(a), &of(b), slack)?;
            self.path.pop();
        }
        Ok(())
    }

    /// By how much the number `name` of both groups may differ.
    fn slack(&self, name: &str, groups: [&Map<String, Value>; 2]) -> Slack {
        let most = |of: &dyn Fn(&Map<String, Value>) -> f64| of(groups[0]).max(of(groups[1]));
        let number = |group: &Map<String, Value>, name: &str| {
            group.get(name).and_then(Value::as_f64).unwrap_or(0.0).abs()
        };
        let is = |words: &[&str]| self.path.last().is_some_and(|at| words.contains(&at.as_str()));
        let flips = || FLIPS / most(&|group| number(group, "n")).max(1.0);
        let counted = is(&["same_top", "recall"]);
        match name {
            "value" | "standard_error" if counted => Slack { share: RELATIVE, absolute: flips() },
            "standard_error" | "median" => Slack { share: LOOSE, absolute: 0.0 },
            "value" => {
                let error = most(&|group| number(group, "standard_error").max(width(group)));
                Slack { share: RELATIVE, absolute: OF_ERROR * error }
            }
            "margin" => Slack { share: LOOSE, absolute: LOGITS },
            _ if groups[0].contains_key("p50") => {
                let largest =
                    most(&|group| group.keys().map(|k| number(group, k)).fold(0.0, f64::max));
                Slack { share: LOOSE, absolute: OF_LARGEST * largest }
            }
            // A pair: the ends of its interval say how uncertain it is.
            "low" | "high" => Slack { share: RELATIVE, absolute: OF_ERROR * most(&width) },
            _ => Slack::NONE,
        }
    }
}

/// A quarter of the width of an interval, about one standard error.
fn width(group: &Map<String, Value>) -> f64 {
    let end = |name: &str| group.get(name).and_then(Value::as_f64);
    end("high").zip(end("low")).map_or(0.0, |(high, low)| (high - low).abs() / 4.0)
}

/// A number that was computed; what was counted is a whole one.
fn float(value: &Value) -> Option<f64> {
    value.as_f64().filter(|_| value.is_f64())
}
