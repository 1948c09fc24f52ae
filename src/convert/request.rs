//! The options of a conversion.

use std::path::PathBuf;

use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::source::config::Allow;

/// Default of [`Request::prompt_chunk`].
pub const DEFAULT_PROMPT_CHUNK: u64 = 64;

/// Options of a conversion.
#[derive(Debug, Clone)]
pub struct Request {
    /// Checkpoint folder.
    pub model: PathBuf,
    /// LoRA adapters merged into all functions, in order.
    pub lora: Vec<PathBuf>,
    /// LLM2Vec adapters of `encode`, in order.
    pub llm2vec: Vec<PathBuf>,
    /// Storage of the encode adapters.
    pub encode_adapters: EncodeAdapters,
    /// Number of cache positions; sequence length of `encode`.
    pub seq_len: u64,
    /// Tokens per call of `init`.
    pub prompt_chunk: u64,
    /// KV cache form.
    pub kv_cache: KvCacheForm,
    /// Minimum deployment target.
    pub target: Target,
    /// Accepted configuration keys and unused tensors.
    pub allow: Allow,
    /// Output path of the package.
    pub output: PathBuf,
    /// Replaces an existing output.
    pub replace: bool,
    /// Folder for intermediate files, removed at the end.
    pub tmp: PathBuf,
    /// Keeps intermediate files.
    pub keep_tmp: bool,
}
