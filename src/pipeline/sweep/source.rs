//! Source of a sweep: a checkpoint to convert or an existing package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::fs::{Staging, files_below, remove_stale_temp, write_atomic};
use crate::base::links::link_tree;
use crate::convert;
use crate::lm;
use crate::manifest::{self, Artifact, Manifest, TARGETS, records};
use crate::package::{FileRecord, Package};
use crate::pipeline::Failure;
use crate::pipeline::Session;
use crate::pipeline::job::{self, About, Found, Job};
use crate::source::adapter::Adapter;
use crate::source::checkpoint::{Checkpoint, FileDigest};
use crate::source::config::Allow;
use crate::sweep::{Place, Spec};

/// Source of a sweep.
pub(crate) enum Source {
    /// A checkpoint with its adapters, which is converted.
    Job(Box<Job>),
    /// A package in fp16, which is taken as it is.
    Package {
        /// Path.
        path: PathBuf,
        /// True if what the sweep makes of it may share its files.
        link: bool,
    },
}

impl Source {
    /// What `spec` says, found.
    pub(crate) fn of(spec: &Spec, token: Option<&str>, session: &Session) -> Result<Self, Failure> {
        let hint = "paths of a spec are relative to the spec's own folder";
        let find = |place: &Place| match place {
            Place::Path(path) | Place::Package(path) if !path.is_dir() => {
                Err(Failure::input(format!("`{}` is no folder", path.display())).hint(hint))
            }
            Place::Path(path) | Place::Package(path) => {
                job::find(&path.to_string_lossy(), None, token, session)
            }
            Place::Repository { repository, revision } => {
                job::find(repository, revision.as_deref(), token, session)
            }
        };
        let model = &spec.model;
        if let Place::Package(path) = &model.place {
            find(&model.place)?;
            return Ok(Self::Package { path: path.clone(), link: spec.output.link_baseline });
        }
        let all = |places: &[Place]| places.iter().map(find).collect::<Result<Vec<_>, _>>();
        let seq_len = model.seq_len.ok_or_else(|| Failure::input("the spec has no `seq_len`"))?;
        Ok(Self::Job(Box::new(Job {
            model: find(&model.place)?,
            lora: all(&model.lora)?,
            llm2vec: all(&model.llm2vec)?,
            encode_adapters: model.encode_adapters,
            seq_len,
            prompt_chunk: model.prompt_chunk.unwrap_or(convert::DEFAULT_PROMPT_CHUNK),
            kv_cache: model.kv_cache,
            target: model.target,
            allow: Allow {
                config_keys: model.allow_config_keys.clone(),
                unused_tensors: model.allow_unused_tensors.clone(),
            },
        })))
    }

    /// Name, repository and revision.
    pub(crate) fn names(&self) -> (String, Option<String>, Option<String>) {
        match self {
            Self::Job(job) => {
                let Found { name, repository, revision, .. } = job.model.clone();
                (name, repository, revision)
            }
            Self::Package { path, .. } => (stem(path), None, None),
        }
    }

    /// SHA-256 of every file that it consists of, by role and path.
    pub(crate) fn digests(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut sources = BTreeMap::new();
        match self {
            Self::Job(job) => {
                // By role and not by name: two adapters may have one name, and their order matters.
                let mut add = |role: &str, digests: BTreeMap<String, FileDigest>| {
                    for (path, digest) in digests {
                        sources.insert(format!("{role}/{path}"), digest.sha256);
                    }
                };
                add("model", Checkpoint::open(&job.model.dir)?.digests()?);
                for (role, adapters) in [("lora", &job.lora), ("llm2vec", &job.llm2vec)] {
                    for (i, found) in adapters.iter().enumerate() {
                        add(&format!("{role}/{i}"), Adapter::open(&found.dir)?.digests()?);
                    }
                }
            }
            Self::Package { path, .. } => {
                for file in records(path)? {
                    sources.insert(format!("package/{}", file.path), file.sha256);
                }
            }
        }
        Ok(sources)
    }

    /// Copies the tokenizer's files beside what the sweep makes, so that it can be used with text.
    pub(crate) fn write_tokenizer(&self, folder: &Path, session: &Session) -> Result<(), Failure> {
        let to = folder.join("tokenizer");
        remove_stale_temp(&to)?;
        match self {
            Self::Job(job) => job.write_tokenizer(&to, session),
            Self::Package { path, .. } => {
                let own = path.with_file_name(format!("{}.tokenizer", stem(path)));
                let shared = path.with_file_name("tokenizer");
                if let Some(from) = [own, shared].into_iter().find(|folder| folder.is_dir()) {
                    for file in files_below(&from)? {
                        write_atomic(&to.join(&file), &fs_err::read(from.join(&file))?)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The manifest of the variant at `path`.
    pub(crate) fn manifest(
        &self,
        about: &About<'_>,
        path: &Path,
        artifact: &Artifact,
        session: &Session,
    ) -> Result<Manifest, Failure> {
        match self {
            Self::Job(job) => job.manifest(about, path, artifact, session),
            Self::Package { path: from, .. } => {
                let version = Package::open(path)?.model().specification_version;
                // Packages of other makers have no such functions, and nothing is said of them.
                let layout = lm::Artifact::open(path).map(|a| a.layout()).unwrap_or_default();
                let encoder = layout.encoder.map(|encoder| encoder.seq_len);
                let seq_len = layout.decoder.map(|decoder| decoder.capacity).or(encoder);
                let target = TARGETS.iter().rev().find(|t| t.specification_version <= version);
                let target = target.unwrap_or(&TARGETS[0]);
                let facts = manifest::Facts {
                    name: about.name.to_owned(),
                    version: about.version.clone(),
                    created_by: self.tool(session)?,
                    source: manifest::Source {
                        name: stem(from),
                        files: records(from)?,
                        ..manifest::Source::default()
                    },
                    checkpoint: None,
                    adapters: Vec::new(),
                    recipe: about.recipe.to_owned(),
                    deployment_target: target.name.to_owned(),
                    kv_cache: layout.decoder.map(|decoder| decoder.cache.name().to_owned()),
                    seq_len: seq_len.map(|n| n as u64),
                    prompt_chunk: layout.decoder.map(|decoder| decoder.chunk as u64),
                    measurements: about.measurements,
                    verdicts: about.verdicts,
                };
                Ok(Manifest::of(path, artifact, facts)?)
            }
        }
    }

    /// This program and the libraries that it needs for this source.
    pub(crate) fn tool(&self, session: &Session) -> Result<manifest::Tool, Failure> {
        match self {
            Self::Job(_) => job::tool(session),
            Self::Package { .. } => Ok(job::tool_alone()),
        }
    }
}

/// Copies the package at `from` to `to`, whole or not at all; with `link`, the files are the same and no copies, where the
/// file system can do that.
pub(crate) fn copy_package(from: &Path, to: &Path, link: bool) -> Result<Vec<FileRecord>, Failure> {
    // What is no package is refused before anything is copied.
    Package::open(from)?;
    let staging = Staging::begin(to)?;
    if link {
        link_tree(from, staging.path())?;
    }
    for file in files_below(from)?.into_iter().filter(|_| !link) {
        crate::base::cancel::check()?;
        let target = staging.path().join(&file);
        if let Some(folder) = target.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::copy(from.join(&file), target)?;
    }
    let files = records(staging.path())?;
    staging.commit(true)?;
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a conversion is expected to take, or a package that is there.
pub(crate) fn preflight(source: &Source, output: &Path) -> Result<convert::Preflight, Failure> {
    match source {
        Source::Job(job) => {
            let request = job.request(&output.join("fp16.mlpackage"), true, output, false);
            Ok(convert::preflight(&request)?)
        }
        Source::Package { path, .. } => {
            let audit = crate::compress::audit(&Package::open(path)?)?;
            let files = files_below(path)?;
            let size = |file: &String| fs_err::metadata(path.join(file)).map(|m| m.len());
            let bytes = files.iter().map(size).sum::<Result<u64, _>>()?;
            Ok(convert::Preflight {
                parameters: audit.elements,
                package_bytes: bytes,
                memory_bytes: 0,
                seconds: 0.0,
                warnings: Vec::new(),
                checkpoint: None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};

    #[test]
    fn sources_are_told_apart_by_their_roles() {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
        // All by one name, as adapters of several trainings are.
        let found = |folder: &str| Found {
            dir: goldens.join(folder),
            name: "adapter".to_owned(),
            repository: None,
            revision: None,
        };
        let digests = |lora: [&str; 2]| {
            let job = Job {
                model: found("dictlm"),
                lora: lora.map(found).into(),
                llm2vec: vec![found("llm2vec")],
                encode_adapters: EncodeAdapters::default(),
                seq_len: 64,
                prompt_chunk: 16,
                kv_cache: KvCacheForm::default(),
                target: Target::default(),
                allow: Allow::default(),
            };
            Source::Job(Box::new(job)).digests().unwrap()
        };
        let one = digests(["lora", "rslora"]);
        let weights = |role: &str| one[&format!("{role}/adapter_model.safetensors")].clone();
        assert_ne!(weights("lora/0"), weights("lora/1"));
        assert!(one.contains_key("llm2vec/0/adapter_model.safetensors"), "{one:?}");
        assert!(one.contains_key("model/config.json"), "{one:?}");
        assert_ne!(one, digests(["rslora", "lora"]), "their order matters");
    }
}
