//! The manifest's fields, and how it is written and read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::signature::Signature;
use super::{Artifact, SCHEMA_VERSION, compatible, functions};
use crate::base::error::{ErrorKind, Hint};
use crate::base::fs::write_atomic;
use crate::eval::{
    results::KvCache, results::Measurements, results::Perplexity, results::Similarity,
    results::Transcripts,
};
use crate::gate::{self, Outcome, Verdict};
use crate::package::{FileRecord, Package, PackageError};

/// What a package is, from what it was made, and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The artifact's name.
    pub name: String,
    /// Its semantic version.
    pub version: Version,
    /// File name of the package, which stands beside the manifest.
    pub package: String,
    /// The tool that made it and the libraries it used.
    pub created_by: Tool,
    /// Bytes of all files of the package.
    pub size_bytes: u64,
    /// SHA-256 of the tree: over `path NUL digest LF` of each file in path order.
    pub sha256: String,
    /// Every file of the package.
    pub files: Vec<FileRecord>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Weights of the model, each counted once however many functions use it.
    pub parameters: u64,
    /// The checkpoint.
    pub source: Source,
    /// How the checkpoint was read: configuration, tensors, tokenizer, warnings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<serde_json::Value>,
    /// Adapters in the order in which they were applied.
    pub adapters: Vec<Adapter>,
    /// How the weights are stored: a recipe, `fp16` for none.
    pub recipe: String,
    /// The oldest system that loads it, as coremltools names it.
    pub deployment_target: String,
    /// Core ML's specification version.
    pub specification_version: i32,
    /// What runs it: systems, and the versions of this tool, each with its range.
    pub compatible: BTreeMap<String, String>,
    /// What each function takes and gives.
    pub functions: BTreeMap<String, Signature>,
    /// `state` or `io`; absent without a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<String>,
    /// Positions of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_len: Option<u64>,
    /// Tokens that one call of `init` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_chunk: Option<u64>,
    /// What it is worth; figures that differ from run to run are left out.
    pub quality: Quality,
    /// Verdicts of the gates; those over times and memory are left out.
    pub verdicts: Vec<Verdict>,
    /// Names of the gates among `verdicts` that failed; absent if none did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_gates: Vec<String>,
}

/// A tool and the libraries it used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Libraries with their versions.
    pub libraries: BTreeMap<String, String>,
}

/// The checkpoint that a package was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The name of its folder, or of its repository.
    pub name: String,
    /// Its repository on the hub, where it came from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The revision: a full commit, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The files that were used.
    pub files: Vec<FileRecord>,
}

/// An adapter that a package was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Where it came from.
    #[serde(flatten)]
    pub source: Source,
    /// What it is for.
    pub kind: AdapterKind,
    /// How it is in the package.
    pub mode: AdapterMode,
    /// The weights it stands on.
    pub over: AdapterBase,
}

/// What an adapter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// It changes what the model writes.
    Lora,
    /// It makes the model embed.
    Llm2vec,
}

/// How an adapter is in the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterMode {
    /// Added to the weights.
    Merged,
    /// As low-rank branches beside weights that other functions use too.
    Branches,
}

/// The weights an adapter stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdapterBase {
    /// The checkpoint's own.
    #[serde(rename = "base")]
    Base,
    /// The checkpoint's with the chat adapters merged.
    #[serde(rename = "base+lora")]
    BaseAndLora,
}

/// The measurements that are the same whenever and wherever they are taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Language modelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Perplexity>,
    /// Greedy generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcripts: Option<Transcripts>,
    /// Embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
    /// The cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<KvCache>,
}

/// What the package itself does not say.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The artifact's name.
    pub name: String,
    /// Its version; `0.1.0` where nobody says another.
    pub version: Version,
    /// The tool that made it.
    pub created_by: Tool,
    /// The checkpoint.
    pub source: Source,
    /// How it was read.
    pub checkpoint: Option<serde_json::Value>,
    /// Its adapters.
    pub adapters: Vec<Adapter>,
    /// The recipe.
    pub recipe: String,
    /// The target as coremltools names it.
    pub deployment_target: String,
    /// `state` or `io`.
    pub kv_cache: Option<String>,
    /// Positions of the context.
    pub seq_len: Option<u64>,
    /// Tokens of a prompt chunk.
    pub prompt_chunk: Option<u64>,
    /// Everything measured.
    pub measurements: &'a Measurements,
    /// What the gates said.
    pub verdicts: &'a [Verdict],
}

/// Why there is no manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no manifest.
    #[error("`{}` is no manifest: {what}", path.display())]
    Json {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is of a form that this version does not know.
    #[error("`{}` has schema version {found}, newer than {SCHEMA_VERSION}", path.display())]
    Newer {
        /// Its path.
        path: PathBuf,
        /// Its schema version.
        found: u64,
    },
    /// The package cannot be opened.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The target is none that is known.
    #[error("deployment target `{0}` is unknown")]
    Target(String),
}

impl Hint for ManifestError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use a newer version of coremill".to_owned()),
            Self::Package(e) => e.hint(),
            Self::Target(name) => {
                let names: Vec<_> = super::TARGETS.iter().map(|t| t.name).collect();
                let near = crate::base::did_you_mean::did_you_mean(name, names.iter().copied());
                Some(match near {
                    Some(near) => format!("did you mean `{near}`"),
                    None => format!("known are {}", names.join(", ")),
                })
            }
            Self::Io(_) | Self::Json { .. } => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

impl Manifest {
    /// The manifest of the package at `package`, whose files are those of `artifact`.
    pub fn of(
        package: &Path,
        artifact: &Artifact,
        facts: Facts<'_>,
    ) -> Result<Self, ManifestError> {
        let opened = Package::open(package)?;
        let target = facts.deployment_target;
        let compatible = compatible(&target, &facts.created_by.version)
            .ok_or_else(|| ManifestError::Target(target.clone()))?;
        let file_name = package.file_name().map(|n| n.to_string_lossy().into_owned());
        let reproducible = |v: &&Verdict| gate::find(&v.gate).is_none_or(|gate| gate.reproducible);
        let verdicts: Vec<Verdict> = facts.verdicts.iter().filter(reproducible).cloned().collect();
        let failed = verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Fail);
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            name: facts.name,
            version: facts.version,
            package: file_name.unwrap_or_default(),
            created_by: facts.created_by,
            size_bytes: artifact.size_bytes,
            sha256: artifact.sha256.clone(),
            files: artifact.files.clone(),
            weight_bytes: artifact.weight_bytes,
            parameters: artifact.parameters,
            source: facts.source,
            checkpoint: facts.checkpoint,
            adapters: facts.adapters,
            recipe: facts.recipe,
            deployment_target: target,
            specification_version: opened.model().specification_version,
            compatible,
            functions: functions(opened.model()),
            kv_cache: facts.kv_cache,
            seq_len: facts.seq_len,
            prompt_chunk: facts.prompt_chunk,
            quality: Quality::of(facts.measurements),
            failed_gates: failed.map(|verdict| verdict.gate.clone()).collect(),
            verdicts,
        })
    }

    /// The manifest's bytes, the same for the same manifest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data is JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Writes it whole to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ManifestError> {
        Ok(write_atomic(path, &self.to_bytes())?)
    }

    /// Reads the manifest at `path`.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let bytes = fs_err::read(path)?;
        let wrong = |e: serde_json::Error| ManifestError::Json {
            path: path.to_owned(),
            what: e.to_string(),
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        let schema = value.get("schema_version").and_then(serde_json::Value::as_u64);
        if let Some(found) = schema.filter(|&found| found > u64::from(SCHEMA_VERSION)) {
            return Err(ManifestError::Newer { path: path.to_owned(), found });
        }
        // From the text again, so that an error names its line.
        serde_json::from_slice(&bytes).map_err(wrong)
    }

    /// Bits per weight: all bytes of the weights over all weights, whatever a recipe leaves alone included.
    pub fn bits_per_weight(&self) -> f64 {
        super::artifact::bits_per_weight(self.weight_bytes, self.parameters)
    }
}

impl Quality {
    /// What of `measurements` belongs to the artifact and not to the run.
    pub fn of(measurements: &Measurements) -> Self {
        Self {
            perplexity: measurements.perplexity.clone(),
            transcripts: measurements.transcripts.clone(),
            similarity: measurements.similarity.clone(),
            kv_cache: measurements.kv_cache.clone(),
        }
    }
}

/// `NAME.manifest.json` beside `NAME.mlpackage`.
pub fn manifest_path(package: &Path) -> PathBuf {
    let name = package.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".mlpackage").unwrap_or(&name);
    package.with_file_name(format!("{name}.manifest.json"))
}

/// The package that the manifest at `path` speaks of.
pub fn package_path(path: &Path, manifest: &Manifest) -> PathBuf {
    path.with_file_name(&manifest.package)
}
