//! The report's fields.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::eval::{results::Figure, results::Measurements, results::Paired};
use crate::gate::{Outcome, Verdict};
use crate::manifest::{TensorError, Tool};
use crate::sweep::{Predicted, Search};

/// What a run made and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this form.
    pub schema_version: u32,
    /// The tool and the libraries it used.
    pub tool: Tool,
    /// The command line.
    pub command: Vec<String>,
    /// The machine: system, architecture, cores, processor where known.
    pub environment: BTreeMap<String, String>,
    /// When the report was made, in UTC by RFC 3339.
    pub created: String,
    /// SHA-256 of the spec file, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_sha256: Option<String>,
    /// What was converted.
    pub source: Source,
    /// What the artifacts were measured against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// The artifacts, the baseline first.
    pub variants: Vec<Variant>,
    /// The artifacts two by two, on the tokens that both scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paired: Vec<Paired>,
    /// What the search under a budget found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// The variants counted.
    pub summary: Summary,
    /// The runs that a merged report is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<Shard>,
    /// What is to be known of how the report came about, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One run of several that were merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shard {
    /// Its command line.
    pub command: Vec<String>,
    /// Its machine.
    pub environment: BTreeMap<String, String>,
    /// When it ended.
    pub created: String,
    /// The variants it made.
    pub variants: Vec<String>,
}

/// What a run does not know of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The tool.
    pub tool: Tool,
    /// The command line.
    pub command: Vec<String>,
    /// The machine.
    pub environment: BTreeMap<String, String>,
    /// Seconds since the Unix epoch, from a clock.
    pub created: i64,
    /// SHA-256 of the spec file.
    pub spec_sha256: Option<String>,
    /// Name of the checkpoint's folder or repository.
    pub source: String,
    /// Its repository on the hub.
    pub repository: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
}

/// What was converted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Name of the checkpoint's folder or repository.
    pub name: String,
    /// Its repository on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// SHA-256 of every file of checkpoint and adapters.
    pub files: BTreeMap<String, String>,
}

/// What the artifacts were measured against.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reference {
    /// Perplexity of the source model in f32, or of the package that is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Figure>,
    /// Which of them: `f32`, or the package; where nothing is said, f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// SHA-256 of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_sha256: Option<String>,
    /// What embeddings were compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<String>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// How its weights are stored.
    pub recipe: String,
    /// The fewest bits that the recipe gives to a weight.
    pub bits: u32,
    /// How it ended.
    pub status: Status,
    /// Its package, relative to the report; absent where it was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Its manifest, relative to the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// SHA-256 of the package's tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Bytes of all files of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Bytes of the largest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_file_bytes: Option<u64>,
    /// Bytes of the weight files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// Weights of the model, each counted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// 8 × `weight_bytes` / `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_weight: Option<f64>,
    /// Bytes of the weights by component, where known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, u64>,
    /// The weights one by one with what they lost, where the run compressed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorError>,
    /// What was expected of it before it was measured, where a budget was searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// Why it is not worth keeping though its gates may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// The figures.
    pub measurements: Measurements,
    /// What the gates say.
    pub verdicts: Vec<Verdict>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How long its steps took.
    pub timings: Timings,
}

/// How an artifact ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All gates hold.
    Pass,
    /// A gate does not.
    Fail,
    /// A gate cannot tell.
    Inconclusive,
    /// A measurement is worthless.
    Invalid,
    /// No gate looked at what was measured of it.
    #[serde(rename = "not_judged")]
    NotJudged,
    /// It could not be made or measured.
    Error,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The step: `compress`, `evaluate` or `manifest`.
    pub stage: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How many runs ended so.
    pub attempts: u32,
}

/// How long the steps took, in seconds, when they were done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// Converting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convert: Option<f64>,
    /// Compressing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<f64>,
    /// Evaluating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<f64>,
}

/// The variants counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// All.
    pub variants: u64,
    /// Those whose gates hold.
    pub pass: u64,
    /// Those with a gate that does not.
    pub fail: u64,
    /// Those with a gate that cannot tell.
    pub inconclusive: u64,
    /// Those with a worthless measurement.
    pub invalid: u64,
    /// Those that no gate judged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_judged: u64,
    /// Those that could not be made or measured.
    pub error: u64,
    /// The smallest that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Status {
    /// The word for programs, as it stands in the report.
    pub fn key(self) -> &'static str {
        match self {
            Self::NotJudged => "not_judged",
            _ => self.name(),
        }
    }

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => Outcome::Pass.name(),
            Self::Fail => Outcome::Fail.name(),
            Self::Inconclusive => Outcome::Inconclusive.name(),
            Self::Invalid => Outcome::Invalid.name(),
            Self::NotJudged => "not judged",
            Self::Error => "error",
        }
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Pass => Self::Pass,
            Outcome::Fail => Self::Fail,
            Outcome::Inconclusive => Self::Inconclusive,
            Outcome::Invalid => Self::Invalid,
        }
    }
}

impl From<Option<Outcome>> for Status {
    fn from(outcome: Option<Outcome>) -> Self {
        outcome.map_or(Self::NotJudged, Self::from)
    }
}

impl Variant {
    /// The same with the status that its verdicts call for: a variant that could not be made has none, and one without
    /// verdicts was not judged, whatever an older version wrote.
    #[must_use]
    pub fn judged_by(self, verdicts: Vec<Verdict>) -> Self {
        let status = match self.status {
            Status::Error => Status::Error,
            _ => Outcome::of(&verdicts).into(),
        };
        Self { status, verdicts, ..self }
    }
}

impl Reference {
    /// What the perplexity is of, in a word or two.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("f32")
    }
}

impl Report {
    /// The exit code that the report calls for: 1 when a gate failed, else 4 when a variant could not be made or
    /// measured, else 3 when a gate is inconclusive or a measurement invalid, else 0, also where nothing was judged.
    pub fn exit_code(&self) -> u8 {
        let Summary { fail, inconclusive, invalid, error, .. } = self.summary;
        match (fail, error, inconclusive + invalid) {
            (1.., _, _) => 1,
            (0, 1.., _) => 4,
            (0, 0, 1..) => 3,
            (0, 0, 0) => 0,
        }
    }
}
