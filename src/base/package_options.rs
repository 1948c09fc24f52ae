//! Options that conversions, sweeps and manifests share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// KV cache form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheForm {
    /// Core ML state, kept between calls (iOS18).
    #[default]
    State,
    /// Model inputs and outputs; all targets.
    Io,
}

/// Minimum deployment target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are coremltools' own names")]
pub enum Target {
    #[serde(rename = "iOS16")]
    IOS16,
    #[serde(rename = "iOS17")]
    IOS17,
    #[default]
    #[serde(rename = "iOS18")]
    IOS18,
}

/// Storage of the encode adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodeAdapters {
    /// Low-rank branches added to the weights shared with `decode`.
    #[default]
    Branches,
    /// Merged into separate weights.
    Merge,
}

/// Implements `FromStr` and `Display` from a table of names.
macro_rules! named {
    ($ty:ty, $what:literal, [$(($variant:path, $name:literal)),+ $(,)?]) => {
        impl $ty {
            /// All names, for help texts.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }
        impl FromStr for $ty {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $(if text.eq_ignore_ascii_case($name) { return Ok($variant); })+
                Err(format!(concat!("`{}` is not a ", $what, " ({})"), text, Self::NAMES.join(", ")))
            }
        }
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($variant => $name),+ })
            }
        }
    };
}

named!(KvCacheForm, "KV cache form", [(KvCacheForm::State, "state"), (KvCacheForm::Io, "io")]);
named!(
    Target,
    "deployment target",
    [(Target::IOS16, "iOS16"), (Target::IOS17, "iOS17"), (Target::IOS18, "iOS18")]
);
named!(
    EncodeAdapters,
    "storage of encode adapters",
    [(EncodeAdapters::Branches, "branches"), (EncodeAdapters::Merge, "merge")]
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
