//! The options of a conversion.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::source::config::Allow;

/// KV cache form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvForm {
    /// Core ML state, kept between calls (iOS18).
    State,
    /// Model inputs and outputs; all targets.
    Io,
}

/// Minimum deployment target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are coremltools' own names")]
pub enum Target {
    #[serde(rename = "iOS16")]
    IOS16,
    #[serde(rename = "iOS17")]
    IOS17,
    #[serde(rename = "iOS18")]
    IOS18,
}

/// Storage of the encode adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterMode {
    /// Low-rank branches added to the weights shared with `decode`.
    Branches,
    /// Merged into separate weights.
    Merge,
}

/// Implements `FromStr` and `Display` from a table of names.
macro_rules! spelled {
    ($ty:ty, $what:literal, [$(($variant:path, $name:literal)),+ $(,)?]) => {
        impl $ty {
            /// All names, for help texts.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }
        impl FromStr for $ty {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $(if text.eq_ignore_ascii_case($name) { return Ok($variant); })+
                Err(format!(concat!($what, " `{}` is none of {}"), text, Self::NAMES.join(", ")))
            }
        }
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($variant => $name),+ })
            }
        }
    };
}

spelled!(KvForm, "cache form", [(KvForm::State, "state"), (KvForm::Io, "io")]);
spelled!(
    Target,
    "deployment target",
    [(Target::IOS16, "iOS16"), (Target::IOS17, "iOS17"), (Target::IOS18, "iOS18")]
);
spelled!(
    AdapterMode,
    "adapter mode",
    [(AdapterMode::Branches, "branches"), (AdapterMode::Merge, "merge")]
);
impl Target {
    /// Returns Core ML's specification version of this target.
    pub fn specification_version(self) -> i32 {
        match self {
            Self::IOS16 => 7,
            Self::IOS17 => 8,
            Self::IOS18 => 9,
        }
    }

    /// True if a package can hold several functions.
    pub fn has_functions(self) -> bool {
        self >= Self::IOS18
    }
}

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
    pub encode_adapters: AdapterMode,
    /// Number of cache positions; sequence length of `encode`.
    pub seq_len: u64,
    /// Tokens per call of `init`.
    pub prompt_chunk: u64,
    /// KV cache form.
    pub kv_cache: KvForm,
    /// Minimum deployment target.
    pub target: Target,
    /// Accepted configuration keys and unused tensors.
    pub allow: Allow,
    /// Output path of the package.
    pub output: PathBuf,
    /// Whether something existing_output there is replaced.
    pub replace: bool,
    /// Folder for intermediate files, removed at the end.
    pub tmp: PathBuf,
    /// Keeps intermediate files.
    pub keep_tmp: bool,
}
