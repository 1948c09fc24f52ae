//! Language models and encoders in packages: artifact, decoder, tokenizer, chat templates, sampling, generation, embedding.
//!
//! [`Artifact`] is opened from disk and loaded by a [`Runtime`](crate::runtime::Runtime) into an [`Engine`]; [`Decoder`]
//! feeds tokens to it, [`generate`] and [`generate_text`] continue prompts, [`embed`] computes embeddings.

mod artifact;
mod bundle;
pub mod chat;
pub(crate) mod chunks;
mod decoder;
mod embed;
mod engine;
mod error;
mod generate;
mod generate_text;
mod head;
mod layout;
mod prompt;
mod sampling;
mod scorer;
mod sentences;
mod stop;
#[cfg(test)]
pub(crate) mod testing;
mod text_decoder;
mod tokenizer;

pub use artifact::{Artifact, Place};
pub use bundle::{BundleGraph, BundleGraphError};
pub use chunks::Chunk;
pub use decoder::{CacheUsage, Decoder, EachChunk};
pub(crate) use embed::encode;
pub use embed::{Embedded, embed, embed_all};
pub use engine::Engine;
pub use error::LmError;
pub(crate) use error::OVERFLOW_HINT;
pub(crate) use generate::milliseconds;
pub use generate::{EachToken, Generated, Request, Stop, generate};
pub use generate_text::{EachPiece, GeneratedText, Piece, generate_text};
pub use head::{Head, HeadError};
pub use layout::{CacheForm, DecoderLayout, EncoderLayout, Layout, LayoutError, Role};
pub(crate) use prompt::encode_prompt;
pub(crate) use sampling::top;
pub use sampling::{Filter, Sampler, Sampling, SamplingError};
pub use scorer::{EachRows, Scorer};
pub use sentences::{Prepared, Sentence};
pub use tokenizer::{RECORD, SpecialToken, Tokenizer, TokenizerError, TokenizerRecord};
