//! Named conditions over measurements, each a file of its own with its documentation and one line in the table.
//!
//! A gate never rounds. A figure that is an estimate is compared as an interval of 1.96 standard errors on each side:
//! wholly on the right side of the threshold it passes, wholly on the wrong side it fails, and in between it is
//! inconclusive, with the number of observations that would settle it.

mod change;
mod config;
mod cosine;
mod cosine_regression;
mod decode_latency;
mod divergence;
mod divergence_regression;
mod energy_regression;
mod interval;
mod limit;
mod logits;
mod memory_regression;
mod part_size;
mod peak_memory;
mod perplexity_increase;
mod perplexity_regression;
mod size;
mod size_regression;
mod speed_regression;
mod table;
mod tokens_per_second;
mod transcripts;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use config::{Gates, KEYS};
pub use limit::{Limit, LimitError, Unit};
pub use table::{Baseline, Gate, Side, Subject, TABLE, explain, find, markdown};

/// What a gate says of one artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The gate's name.
    pub gate: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The threshold in force.
    pub threshold: f64,
    /// The unit of threshold and figure.
    pub unit: Unit,
    /// The figure that was compared, if there was one and it is finite.
    pub measured: Option<f64>,
    /// Ends of the interval that was compared, where the figure is an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// How many observations would settle an inconclusive outcome, should the figure stay as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<u64>,
    /// One line: what, where, by how much.
    pub message: String,
}

/// How a gate ends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The condition holds.
    Pass,
    /// It does not.
    Fail,
    /// The interval of the measurement straddles the threshold.
    Inconclusive,
    /// The measurement itself is not valid.
    Invalid,
}

impl Outcome {
    /// The outcome of several gates taken together: a failure counts before an invalid measurement, that before an
    /// inconclusive one. Without verdicts there is none: what no gate judged has not passed.
    pub fn of(verdicts: &[Verdict]) -> Option<Self> {
        [Self::Fail, Self::Invalid, Self::Inconclusive, Self::Pass]
            .into_iter()
            .find(|&outcome| verdicts.iter().any(|v| v.outcome == outcome))
    }

    /// The word as it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Invalid => "invalid",
        }
    }
}

/// The exit code that the verdicts call for where a judgement was asked for: 1 when a gate failed, else 3 when one is
/// inconclusive or invalid, or when there is none, else 0.
pub fn exit_code(verdicts: &[Verdict]) -> u8 {
    match Outcome::of(verdicts) {
        Some(Outcome::Pass) => 0,
        Some(Outcome::Fail) => 1,
        Some(Outcome::Inconclusive | Outcome::Invalid) | None => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_outcome_decides() {
        use Outcome::{Fail, Inconclusive, Invalid, Pass};
        for (outcomes, want) in [
            (&[][..], 3),
            (&[Pass, Pass], 0),
            (&[Pass, Inconclusive], 3),
            (&[Invalid, Pass], 3),
            (&[Inconclusive, Fail, Invalid], 1),
        ] {
            let verdict = |&outcome| Verdict {
                gate: "size".to_owned(),
                outcome,
                threshold: 1.0,
                unit: Unit::Bytes,
                measured: None,
                interval: None,
                settled_by: None,
                message: String::new(),
            };
            let verdicts: Vec<_> = outcomes.iter().map(verdict).collect();
            assert_eq!(exit_code(&verdicts), want, "{outcomes:?}");
        }
    }
}
