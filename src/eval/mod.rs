//! Metrics of packages against a reference: perplexity, divergence, transcripts, embeddings, latency, precision.
//!
//! [`evaluate`] measures an [`Artifact`](crate::lm::Artifact) against a [`Reference`].

pub mod compare;
pub mod defaults;
mod divergence;
mod energy;
mod error;
mod evaluate;
mod front;
mod latency;
mod logits;
mod overflow;
pub mod overlap;
mod paired;
mod perplexity;
pub mod precision;
pub mod probe;
pub mod reference;
mod rerun;
pub mod results;
mod similarity;
mod stats;
mod text;
mod tokens;
mod transcripts;
mod weights;

pub use divergence::Expected;
pub use error::EvalError;
pub use evaluate::{Bench, Evaluated, Plan, PromptPlan, TOP_K, TextPlan, evaluate};
pub use front::{By, Standing, dominated};
pub use latency::Repeat;
pub use paired::paired;
pub use reference::Reference;
pub use rerun::{Rerun, rerun};
pub use text::{Cut, Windows};
pub use tokens::{Token, Tokens, TokensError};
pub use weights::{WeightErrors, WeightsError, weight_errors};
