//! What a conversion is asked to do.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::source::config::Allow;

/// How the key/value cache travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvForm {
    /// In states, which Core ML keeps between calls (iOS18).
    State,
    /// As inputs and outputs, for older targets too.
    Io,
}

/// The oldest system that the package must run on.
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

/// What becomes of the adapters of `encode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterMode {
    /// Low-rank branches beside the weights that `decode` uses.
    Branches,
    /// Folded into weights of their own.
    Merge,
}

/// A table of an option's spellings; `FromStr` and `Display` follow from it.
macro_rules! spelled {
    ($ty:ty, $what:literal, [$(($variant:path, $name:literal)),+ $(,)?]) => {
        impl $ty {
            /// All spellings, for help texts.
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
    /// Core ML's specification version for this target.
    pub fn specification_version(self) -> i32 {
        match self {
            Self::IOS16 => 7,
            Self::IOS17 => 8,
            Self::IOS18 => 9,
        }
    }

    /// Whether one package can hold several functions.
    pub fn has_functions(self) -> bool {
        self >= Self::IOS18
    }
}

/// A conversion, every choice made.
#[derive(Debug, Clone)]
pub struct Request {
    /// Folder of the checkpoint.
    pub model: PathBuf,
    /// Chat adapters, merged into the weights of all functions.
    pub lora: Vec<PathBuf>,
    /// Adapters of `encode` (LLM2Vec), in the order they are applied.
    pub llm2vec: Vec<PathBuf>,
    /// What becomes of the adapters of `encode`.
    pub encode_adapters: AdapterMode,
    /// Positions of the cache, and the length of `encode`'s input.
    pub seq_len: u64,
    /// Tokens that one call of `init` takes.
    pub prompt_chunk: u64,
    /// How the cache travels.
    pub kv_cache: KvForm,
    /// The oldest system to run on.
    pub target: Target,
    /// What passes although it is not understood.
    pub allow: Allow,
    /// Where the package shall stand.
    pub output: PathBuf,
    /// Whether something standing there is replaced.
    pub replace: bool,
    /// Folder for intermediate files, which are removed at the end.
    pub tmp: PathBuf,
    /// Whether intermediate files are kept for a look.
    pub keep_tmp: bool,
}
