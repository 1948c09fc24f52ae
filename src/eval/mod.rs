//! Metrics of packages against a reference: perplexity, divergence, transcripts, embeddings, latency, precision.
//!
//! [`evaluate`] measures an [`Artifact`](crate::lm::Artifact) against a [`Reference`].

pub mod compare;
pub mod defaults;
mod divergence;
mod energy;
mod error;
mod evaluate;
mod latency;
mod logits;
mod overflow;
pub mod overlap;
mod paired;
mod pareto;
mod perplexity;
pub mod precision;
pub mod probe;
pub mod reference;
mod replay;
pub mod results;
mod similarity;
mod stats;
mod text;
mod tokens;
mod transcripts;
mod weights;

pub use divergence::Expected;
pub use error::EvalError;
pub use evaluate::{EvalContext, Evaluated, Plan, PromptPlan, TOP_K, TextPlan, evaluate};
pub use latency::Repeat;
pub use paired::paired;
pub use pareto::{Candidate, ComparisonKind, dominated};
pub use reference::Reference;
pub use replay::{Replay, replay};
pub use text::{WindowConfig, Windows};
pub use tokens::{Token, Tokens, TokensError};
pub use weights::{WeightErrors, WeightsError, weight_errors};
