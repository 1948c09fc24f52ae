//! A model with its adapters and the interface of its package.

use std::path::{Path, PathBuf};

use super::Session;
use crate::base::nearest::nearest;
use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::compress;
use crate::convert::{self, ModelInfo, Request};
use crate::eval::results::Measurements;
use crate::gate::Verdict;
use crate::manifest::{self, Artifact, Manifest};
use crate::package::{FileRecord, Package};
use crate::pipeline::Failure;
use crate::source::adapter::Adapter;
use crate::source::checkpoint::{Checkpoint, FileDigest};
use crate::source::config::Allow;
use crate::source::embedding::{self, EmbeddingConfig};
use crate::source::llm2vec::Llm2Vec;
use crate::source::record::CheckpointRecord;

/// A local checkpoint or adapter directory, possibly a snapshot of a hub repository.
#[derive(Debug, Clone)]
pub struct Found {
    /// Directory.
    pub dir: PathBuf,
    /// Name: the repository, or the directory's name.
    pub name: String,
    /// Hub repository, if any.
    pub repository: Option<String>,
    /// Commit of the repository, if any.
    pub revision: Option<String>,
}

/// Finds a model: a local directory, or a hub repository, which is downloaded.
///
/// # Errors
/// Fails if `model` is neither, or if the hub cannot be reached.
pub fn find(
    model: &str,
    revision: Option<&str>,
    token: Option<&str>,
    session: &Session,
) -> Result<Found, Failure> {
    let path = Path::new(model);
    let called = |path: &Path| {
        let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        full.file_name()
            .map_or_else(|| model.to_owned(), |name| name.to_string_lossy().into_owned())
    };
    if path.is_dir() {
        if let Some(revision) = revision {
            return Err(Failure::input(format!(
                "`{model}` is a directory and has no revision `{revision}`"
            ))
            .hint("`--revision` applies to repositories of the hub"));
        }
        return Ok(Found {
            dir: path.to_owned(),
            name: called(path),
            repository: None,
            revision: None,
        });
    }
    if path.is_file() {
        // The error names the kind of the file.
        return Err(Checkpoint::open(path).err().map_or_else(|| no_folder(model), Failure::from));
    }
    if is_path(model) {
        return Err(no_folder(model));
    }
    let (dir, repository, revision) =
        download(model, revision, token, session).map_err(|failure| Failure {
            message: format!("`{model}` is not a folder here, and {}", failure.message),
            ..failure
        })?;
    let name = repository.clone().unwrap_or_else(|| called(&dir));
    Ok(Found { dir, name, repository, revision })
}

/// True if `model` can only be a path: it is written as one, or its parent directory exists.
fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    let is_written_so = path.is_absolute()
        || ["./", "../", "~", ".\\"].iter().any(|start| model.starts_with(start))
        || model.contains('\\')
        || model.ends_with('/')
        || model.matches('/').count() > 1
        || [".gguf", ".safetensors", ".bin", ".json", ".mlpackage", ".pt", ".pth"]
            .iter()
            .any(|ending| model.ends_with(ending));
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    is_written_so || parent.is_some_and(Path::is_dir)
}

fn no_folder(model: &str) -> Failure {
    let path = Path::new(model);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside: Vec<String> = fs_err::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = nearest(&name, beside.iter().map(String::as_str));
    let failure = Failure::input(format!("there is no folder `{model}`"));
    match near.filter(|near| parent.join(near).is_dir()) {
        Some(near) => failure.hint(format!("did you mean `{}`", parent.join(near).display())),
        None if model.starts_with('~') => {
            failure.hint("`~` is expanded by the shell, without quotes")
        }
        None => failure.hint("pass a folder, or a repository as OWNER/NAME"),
    }
}

#[cfg(feature = "hub")]
fn download(
    model: &str,
    revision: Option<&str>,
    token: Option<&str>,
    session: &Session,
) -> Result<(PathBuf, Option<String>, Option<String>), Failure> {
    let found = hub(token, session).resolve(model, revision)?;
    Ok((found.dir, found.repository, found.revision))
}

/// Returns the hub or mirror of the settings.
#[cfg(feature = "hub")]
pub(crate) fn hub<'a>(token: Option<&'a str>, session: &'a Session) -> crate::source::hub::Hub<'a> {
    let settings = &session.settings;
    crate::source::hub::Hub {
        endpoint: settings
            .hf_endpoint
            .as_deref()
            .unwrap_or(crate::source::hub::ENDPOINT)
            .trim_end_matches('/'),
        cache_dir: &settings.hub_cache,
        token: token.or(settings.hf_token.as_deref()),
        backoff: std::time::Duration::from_secs(1),
        progress: &*session.progress,
    }
}

#[cfg(not(feature = "hub"))]
fn download(
    model: &str,
    _revision: Option<&str>,
    _token: Option<&str>,
    _context: &Session,
) -> Result<(PathBuf, Option<String>, Option<String>), Failure> {
    Err(Failure::input(format!(
        "`{model}` is no folder, and this coremill was built without the hub"
    )))
}

/// The source and interface of a package before compression.
#[derive(Debug, Clone)]
pub struct Job {
    /// Checkpoint.
    pub model: Found,
    /// LoRA adapters merged into all functions, in order.
    pub lora: Vec<Found>,
    /// LLM2Vec adapters of `encode`, in order.
    pub llm2vec: Vec<Found>,
    /// Storage of the LLM2Vec adapters.
    pub encode_adapters: EncodeAdapters,
    /// Number of KV cache positions.
    pub seq_len: u64,
    /// Tokens per call of `init`.
    pub prompt_chunk: u64,
    /// KV cache form.
    pub kv_cache: KvCacheForm,
    /// Minimum deployment target.
    pub target: Target,
    /// Accepted configuration keys and unused tensors.
    pub allow: Allow,
}

impl Job {
    /// Creates a job with the defaults of the command line.
    pub fn new(model: Found, seq_len: u64) -> Self {
        Self {
            model,
            lora: Vec::new(),
            llm2vec: Vec::new(),
            encode_adapters: EncodeAdapters::default(),
            seq_len,
            prompt_chunk: convert::DEFAULT_PROMPT_CHUNK,
            kv_cache: KvCacheForm::default(),
            target: Target::default(),
            allow: Allow::default(),
        }
    }

    /// Returns the conversion request for a package at `output`.
    pub(crate) fn request(
        &self,
        output: &Path,
        replace: bool,
        tmp: &Path,
        keep_tmp: bool,
    ) -> Request {
        let dirs = |found: &[Found]| found.iter().map(|f| f.dir.clone()).collect();
        Request {
            model: self.model.dir.clone(),
            lora: dirs(&self.lora),
            llm2vec: dirs(&self.llm2vec),
            encode_adapters: self.encode_adapters,
            seq_len: self.seq_len,
            prompt_chunk: self.prompt_chunk.min(self.seq_len),
            kv_cache: self.kv_cache,
            target: self.target,
            allow: self.allow.clone(),
            output: output.to_owned(),
            replace,
            tmp: tmp.to_owned(),
            keep_tmp,
        }
    }

    /// Writes the embedding configuration of `encode` beside the tokenizer in `folder`.
    pub(crate) fn write_recipe(
        &self,
        checkpoint: &Checkpoint,
        folder: &Path,
    ) -> Result<(), Failure> {
        if self.llm2vec.is_empty() && !checkpoint.embeds() {
            return Ok(());
        }
        let adapters: Vec<PathBuf> = self.llm2vec.iter().map(|found| found.dir.clone()).collect();
        let (root, model_dir) = (checkpoint.dir(), checkpoint.model_dir());
        let recipe = EmbeddingConfig::of(root, model_dir, checkpoint.config(), &adapters, folder)?;
        crate::base::fs::write_atomic(&folder.join(embedding::FILE), &recipe.to_json())?;
        Ok(())
    }

    /// Returns the manifest of the package at `path`.
    pub(crate) fn manifest(
        &self,
        about: &About<'_>,
        path: &Path,
        artifact: &Artifact,
        session: &Session,
    ) -> Result<Manifest, Failure> {
        let decoder = about.facts.is_none_or(|facts| facts.kind == "decoder");
        let adapters = self.adapters()?;
        let checkpoint = Checkpoint::open(&self.model.dir)?;
        let adapters_of_encode: Vec<_> =
            self.llm2vec.iter().map(|found| found.dir.clone()).collect();
        let record = CheckpointRecord {
            refusals: Vec::new(),
            llm2vec: match &adapters_of_encode[..] {
                [] => None,
                adapters => Some(Llm2Vec::of(adapters).map_err(convert::ConvertError::from)?),
            },
            ..CheckpointRecord::of(&checkpoint, &self.allow)
        };
        let facts = manifest::Facts {
            name: about.name.to_owned(),
            version: about.version.clone(),
            created_by: tool(session)?,
            source: source(&self.model, checkpoint.digests()?),
            checkpoint: Some(
                serde_json::to_value(&record).map_err(|e| Failure::input(e.to_string()))?,
            ),
            adapters,
            recipe: about.recipe.to_owned(),
            deployment_target: self.target.to_string(),
            kv_cache: decoder.then(|| self.kv_cache.to_string()),
            seq_len: Some(self.seq_len),
            prompt_chunk: decoder.then(|| self.prompt_chunk.min(self.seq_len)),
            measurements: about.measurements,
            verdicts: about.verdicts,
        };
        Ok(Manifest::of(path, artifact, facts)?)
    }

    fn adapters(&self) -> Result<Vec<manifest::Adapter>, Failure> {
        let mode = match self.encode_adapters {
            EncodeAdapters::Branches => manifest::AdapterMode::Branches,
            EncodeAdapters::Merge => manifest::AdapterMode::Merged,
        };
        let nowhere = Path::new("");
        let request = self.request(nowhere, false, nowhere, false);
        let over = if self.llm2vec.is_empty() || convert::encodes_over_base(&request)? {
            manifest::Over::Base
        } else {
            manifest::Over::BaseAndLora
        };
        let chat = self.lora.iter().map(|found| {
            (
                found,
                manifest::AdapterKind::Lora,
                manifest::AdapterMode::Merged,
                manifest::Over::Base,
            )
        });
        let encode =
            self.llm2vec.iter().map(|found| (found, manifest::AdapterKind::Llm2vec, mode, over));
        chat.chain(encode)
            .map(|(found, kind, mode, over)| {
                let files = Adapter::open(&found.dir)?.digests()?;
                Ok(manifest::Adapter { source: source(found, files), kind, mode, over })
            })
            .collect()
    }
}

/// Fields of a manifest beside the job and the files.
pub struct About<'a> {
    /// Name of the artifact.
    pub name: &'a str,
    /// Version of the artifact.
    pub version: &'a semver::Version,
    /// Compression recipe.
    pub recipe: &'a str,
    /// Model information, if the package was just converted.
    pub facts: Option<&'a ModelInfo>,
    /// Measurements.
    pub measurements: &'a Measurements,
    /// Verdicts of the gates.
    pub verdicts: &'a [Verdict],
}

/// Returns the artifact record of the package at `path` with the files `files`.
pub(crate) fn artifact(path: &Path, files: Vec<FileRecord>) -> Result<Artifact, Failure> {
    let audit = compress::audit(&Package::open(path)?)?;
    let mut artifact = Artifact::from_files(files, audit.elements);
    for tensor in audit.tensors {
        *artifact.components.entry(tensor.component).or_default() += tensor.bytes;
    }
    Ok(artifact)
}

/// Returns this program with the versions of its Python libraries.
pub(crate) fn tool(session: &Session) -> Result<manifest::Tool, Failure> {
    let libraries = session.environment()?.packages.clone();
    Ok(manifest::Tool { libraries, ..tool_alone() })
}

/// Returns this program without Python libraries.
pub(crate) fn tool_alone() -> manifest::Tool {
    manifest::Tool {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        libraries: std::collections::BTreeMap::new(),
    }
}

fn source(
    found: &Found,
    digests: std::collections::BTreeMap<String, FileDigest>,
) -> manifest::Source {
    let record = |(path, digest): (String, FileDigest)| FileRecord {
        path,
        size: digest.size,
        sha256: digest.sha256,
    };
    manifest::Source {
        name: found.name.clone(),
        repository: found.repository.clone(),
        revision: found.revision.clone(),
        files: digests.into_iter().map(record).collect(),
    }
}
