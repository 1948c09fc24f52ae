//! A language model in parts, as ANEMLL ships it: a folder with `meta.yaml`, compiled models and a tokenizer.
//!
//! The parts are embeddings, one or more chunks of layers with the functions `infer` and `prefill`, and a head; or one
//! package that is all of them (`model_type: monolithic`). Each stands as `.mlmodelc` or as `.mlpackage`. Up to version
//! 0.3.4 the name of the chunks in `meta.yaml` lacks its end, `_chunk_01of02`, which is added here.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PackageError;
use super::inside::inner_path;
use super::open::Package;
use crate::base::error::{ErrorKind, Hint};

const META: &str = "meta.yaml";

/// A description beyond this is none.
const MAX_META_BYTES: u64 = 1 << 20;

/// More chunks than any model has layers.
const MAX_CHUNKS: usize = 999;

/// Why a bundle cannot be opened.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The description does not read.
    #[error("`{}`: {what}", path.display())]
    Meta {
        /// Its path.
        path: PathBuf,
        /// Description of the problem.
        what: String,
    },
    /// A part that is not there.
    #[error("`{}` has no part `{name}`, neither as .mlmodelc nor as .mlpackage", path.display())]
    NoPart {
        /// The bundle.
        path: PathBuf,
        /// The part's name without extension.
        name: String,
        /// True if it is there as an archive.
        zipped: bool,
    },
    /// A part that cannot be opened.
    #[error(transparent)]
    Package(#[from] PackageError),
}

impl Hint for BundleError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(e) => e.hint(),
            Self::Package(e) => e.hint(),
            Self::NoPart { zipped: true, .. } => Some("unpack the .zip archives first".to_owned()),
            Self::NoPart { .. } => Some("download the whole bundle".to_owned()),
            Self::Meta { .. } => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Package(e) => e.error_kind(),
            Self::Meta { .. } | Self::NoPart { .. } => ErrorKind::Input,
        }
    }
}

/// What `meta.yaml` says of how to run the parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Positions of the cache.
    pub context_length: usize,
    /// Tokens that one call of `prefill` takes.
    pub batch_size: usize,
    /// True if the head gives the likeliest tokens instead of logits.
    pub argmax_in_model: bool,
    /// Tokens of the model, where the head does not tell.
    pub vocab_size: Option<usize>,
    /// Tokens of each part of a split head, where they do not follow from the rest.
    pub lm_head_chunk_sizes: Vec<usize>,
    /// Positions that local layers see, where the model has such layers.
    pub sliding_window: Option<usize>,
    /// True if `prefill` writes the cache at the position it is given.
    pub prefill_dynamic_slice: bool,
    /// Chunks that the layers are split into.
    num_chunks: usize,
    embeddings: Option<String>,
    lm_head: Option<String>,
    ffn: Option<String>,
    monolithic_model: Option<String>,
    split_rotate: bool,
    tokenizer_path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    model_info: Info,
}

#[derive(Debug, Deserialize)]
struct Info {
    parameters: Settings,
}

/// Role of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Tokens to hidden states.
    Embeddings,
    /// Some of the layers.
    Chunk,
    /// Hidden states to logits.
    Head,
    /// Tokens to logits.
    Whole,
}

/// An open bundle.
#[derive(Debug)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// How its parts are run.
    pub settings: Settings,
    /// The parts in the order they run in.
    pub parts: Vec<(Part, Package)>,
}

impl Bundle {
    /// True if a bundle stands at `path`.
    pub fn is_at(path: &Path) -> bool {
        path.join(META).is_file()
    }

    /// Opens the bundle at `path` with all its parts.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let meta = path.join(META);
        let wrong = |what: String| BundleError::Meta { path: meta.clone(), what };
        let size = fs_err::metadata(&meta)?.len();
        if size > MAX_META_BYTES {
            return Err(wrong(format!("{size} bytes are more than {MAX_META_BYTES}")));
        }
        let text = fs_err::read_to_string(&meta)?;
        let settings = serde_saphyr::from_str::<Meta>(&text)
            .map_err(|e| wrong(first_line(&e.to_string())))?
            .model_info
            .parameters;
        if settings.context_length == 0 || settings.batch_size == 0 {
            return Err(wrong("`context_length` and `batch_size` are needed".to_owned()));
        }
        if settings.split_rotate {
            return Err(wrong("`split_rotate` is not supported".to_owned()));
        }
        let mut parts = Vec::new();
        for (part, name) in settings.names().map_err(wrong)? {
            parts.push((part, Package::open(&find(path, &name).map_err(|e| e.for_meta(&meta))?)?));
        }
        Ok(Self { path: path.to_owned(), settings, parts })
    }

    /// The folder that holds its tokenizer.
    pub fn tokenizer_folder(&self) -> PathBuf {
        let named = self.settings.tokenizer_path.as_deref().and_then(inner_path);
        let named = named.map(|inner| self.path.join(inner)).filter(|folder| folder.is_dir());
        named.unwrap_or_else(|| self.path.clone())
    }
}

/// The fact without the picture of its place that follows it.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl Settings {
    /// The names of all parts without extension, in order.
    fn names(&self) -> Result<Vec<(Part, String)>, String> {
        if let Some(whole) = &self.monolithic_model {
            return Ok(vec![(Part::Whole, stem(whole).to_owned())]);
        }
        let name = |field: &Option<String>, what: &str| {
            field.as_deref().map(|name| stem(name).to_owned()).ok_or(format!("`{what}` is missing"))
        };
        let ffn = name(&self.ffn, "ffn")?;
        let base = ffn.rsplit_once("_chunk_").map_or(ffn.as_str(), |(base, _)| base);
        let n = self.num_chunks.max(1);
        if n > MAX_CHUNKS {
            return Err(format!("`num_chunks` of {n} is more than {MAX_CHUNKS}"));
        }
        let mut names = vec![(Part::Embeddings, name(&self.embeddings, "embeddings")?)];
        names.extend((1..=n).map(|k| (Part::Chunk, format!("{base}_chunk_{k:02}of{n:02}"))));
        names.push((Part::Head, name(&self.lm_head, "lm_head")?));
        Ok(names)
    }
}

/// Why a part was not found, before it is known which description named it.
enum NotFound {
    Outside(String),
    Absent(BundleError),
}

impl NotFound {
    fn for_meta(self, meta: &Path) -> BundleError {
        match self {
            Self::Absent(error) => error,
            Self::Outside(name) => BundleError::Meta {
                path: meta.to_owned(),
                what: format!("part `{name}` leads out of the bundle"),
            },
        }
    }
}

/// The place of the part `name`: compiled, as a package, or under the name without its chunk where it is the only one.
fn find(folder: &Path, name: &str) -> Result<PathBuf, NotFound> {
    if inner_path(name).is_none() {
        return Err(NotFound::Outside(name.to_owned()));
    }
    let alone = name.strip_suffix("_chunk_01of01");
    for name in std::iter::once(name).chain(alone) {
        for extension in ["mlmodelc", "mlpackage"] {
            let place = folder.join(format!("{name}.{extension}"));
            if place.is_dir() {
                return Ok(place);
            }
        }
    }
    let zipped = folder.join(format!("{name}.mlmodelc.zip")).exists();
    Err(NotFound::Absent(BundleError::NoPart {
        path: folder.to_owned(),
        name: name.to_owned(),
        zipped,
    }))
}

/// A file name without the extensions that parts have.
fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".zip").unwrap_or(name);
    name.strip_suffix(".mlmodelc").or_else(|| name.strip_suffix(".mlpackage")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(parameters: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let lines = format!("    {}\n", parameters.replace("; ", "\n    "));
        let meta = format!(
            "model_info:\n  name: tiny\n  version: 0.3\n  description: |\n    Two\n    lines\n  \
             parameters:\n{lines}# a comment\n"
        );
        fs_err::write(folder.path().join(META), meta).unwrap();
        fs_err::write(folder.path().join("q_embeddings.mlmodelc.zip"), "").unwrap();
        assert!(Bundle::is_at(folder.path()));
        let error = Bundle::open(folder.path()).unwrap_err();
        error.to_string().replace(&folder.path().display().to_string(), "F")
    }

    #[test]
    fn what_is_wrong_with_a_description_is_said() {
        let sizes = "context_length: 8; batch_size: 4";
        let cases = [
            (
                "context_length: 8".to_owned(),
                "`F/meta.yaml`: `context_length` and `batch_size` are needed",
            ),
            (sizes.to_owned(), "`F/meta.yaml`: `ffn` is missing"),
            (format!("{sizes}; ffn: a; lm_head: c"), "`F/meta.yaml`: `embeddings` is missing"),
            (
                format!("{sizes}; ffn: a; embeddings: ../b; lm_head: c"),
                "`F/meta.yaml`: part `../b` leads out of the bundle",
            ),
            (
                format!("{sizes}; ffn: a; embeddings: q_embeddings.mlmodelc; lm_head: c"),
                "`F` has no part `q_embeddings`, neither as .mlmodelc nor as .mlpackage",
            ),
            (
                format!("{sizes}; ffn: a; embeddings: b; lm_head: c; num_chunks: 4000000000"),
                "`F/meta.yaml`: `num_chunks` of 4000000000 is more than 999",
            ),
            (
                format!("{sizes}; split_rotate: true"),
                "`F/meta.yaml`: `split_rotate` is not supported",
            ),
        ];
        for (parameters, want) in cases {
            assert_eq!(opened(&parameters), want);
        }
        assert!(opened("context_length: many; batch_size: 1").starts_with("`F/meta.yaml`: "));
    }

    #[test]
    fn chunks_are_named_by_either_version() {
        let names = |ffn: &str, num_chunks: usize| {
            let named = |name: &str| Some(name.to_owned());
            let settings = Settings {
                num_chunks,
                ffn: named(ffn),
                embeddings: named("q_embeddings.mlmodelc"),
                lm_head: named("q_lm_head_lut8.mlpackage"),
                ..Settings::default()
            };
            settings.names().unwrap().into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        let two = [
            "q_embeddings",
            "q_FFN_PF_lut8_chunk_01of02",
            "q_FFN_PF_lut8_chunk_02of02",
            "q_lm_head_lut8",
        ];
        assert_eq!(names("q_FFN_PF_lut8.mlmodelc", 2), two);
        assert_eq!(names("q_FFN_PF_lut8_chunk_01of02.mlmodelc", 2), two);
        assert!(names("q_FFN_PF", 0).contains(&"q_FFN_PF_chunk_01of01".to_owned()));
    }
}
