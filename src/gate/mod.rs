//! Named conditions over measurements.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a gate says of one artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The gate's name.
    pub gate: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The threshold in force.
    pub threshold: f64,
    /// The figure that was compared, if there was one.
    pub measured: Option<f64>,
    /// One line: what, where, by how much.
    pub message: String,
}

/// How a gate ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
