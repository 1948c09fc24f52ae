//! What an artifact is worth, measured on the artifact itself against a reference.
//!
//! [`Artifact`] is opened from disk and loaded by a [`Runtime`] into an [`Engine`]; [`Decoder`] feeds tokens to it,
//! [`generate`] and [`speak`] continue prompts with it, [`embed`] uses the engine, [`evaluate`] measures it against a [`Reference`].

mod artifact;
mod bundle;
pub mod chat;
mod chunks;
pub mod compare;
mod decoder;
pub mod defaults;
mod divergence;
mod embed;
mod energy;
mod engine;
mod error;
mod evaluate;
mod front;
mod generate;
mod head;
mod latency;
mod layout;
mod logits;
mod memory;
mod overflow;
pub mod overlap;
mod paired;
mod perplexity;
pub mod precision;
pub mod probe;
pub mod reference;
mod rerun;
pub mod results;
pub mod runtime;
mod sampling;
mod scorer;
mod sentences;
mod similarity;
mod speak;
mod stats;
mod stop;
#[cfg(test)]
mod testing;
mod text;
mod tokenizer;
mod tokens;
mod transcripts;
mod weights;
mod words;

pub use artifact::{Artifact, Place};
pub use bundle::{Wiring, WiringError};
pub use chunks::Chunk;
pub use decoder::{CacheUsage, Decoder, EachChunk};
pub use divergence::Expected;
pub use embed::{Embedded, embed, embed_all};
pub use engine::Engine;
pub use error::EvalError;
pub use evaluate::{Bench, Evaluated, Plan, PromptPlan, TOP_K, TextPlan, evaluate};
pub use front::{By, Standing, dominated};
pub use generate::{EachToken, Generated, Request, Stop, generate};
pub use head::{Head, HeadError};
pub use latency::Repeat;
pub use layout::{CacheForm, DecoderLayout, EncoderLayout, Layout, LayoutError, Role};
pub use memory::peak_resident;
pub use paired::paired;
pub use reference::Reference;
pub use rerun::{Rerun, rerun};
pub use runtime::Runtime;
pub use sampling::{Filter, Sampler, Sampling, SamplingError};
pub use scorer::{EachRows, Scorer};
pub use sentences::{Prepared, Sentence};
pub use speak::{EachPiece, Piece, Spoken, speak};
pub use text::{Cut, Windows};
pub use tokenizer::{RECORD, SpecialToken, Tokenizer, TokenizerError, TokenizerRecord};
pub use tokens::{Token, Tokens, TokensError};
pub use weights::{WeightErrors, WeightsError, weight_errors};
