//! Checkpoints as streams of named tensors: safetensors, PyTorch files, PEFT adapters merged in f32, the Hugging Face hub.
//!
//! Files are read at positions (`pread`) into small buffers rather than mapped: the peak of anonymous memory is the
//! block in hand, a file that shrinks while it is read is an error instead of a signal, and nothing here is unsafe.
//! The page cache makes a second read of the same rows as quick as a mapping would.

pub mod adapter;
pub mod checkpoint;
pub mod config;
pub mod dtype;
pub mod embedding;
#[cfg(feature = "hub")]
pub mod hub;
pub mod json;
pub mod lfs;
pub mod llm2vec;
mod names;
mod positional;
pub mod record;
pub mod safetensors;
pub mod sentence;
pub mod tokenizer;
pub mod torch;
pub mod weights;

#[cfg(test)]
pub(crate) mod fixture;
