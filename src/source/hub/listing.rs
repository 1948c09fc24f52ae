//! `Listing`: what the hub says a repository holds at a commit, and which of it a conversion needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hf_hub::Repo;
use hf_hub::api::sync::Api;
use serde::Deserialize;

use super::download::from_client;
use super::{Error, Hub};
use crate::source::checkpoint::COMPANIONS;
use crate::source::tokenizer::TEMPLATES;

/// The files of a repository at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) repository: String,
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Announced>,
}

/// What the hub announces about a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    pub(super) fn fetch(api: &Api, repo: &Repo, hub: &Hub<'_>) -> Result<Self, Error> {
        let repository = repo.url();
        // Sizes and digests come only when asked for.
        let request = api.repo(repo.clone()).info_request().query("blobs", "true");
        let mut response = request.call().map_err(|e| from_client(hub, repo, &repository, &e))?;
        let text = response
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string()
            .map_err(|e| from_client(hub, repo, &repository, &e))?;
        let answer: Answer = serde_json::from_str(&text)
            .map_err(|e| Error::BadAnswer { what: repository.clone(), reason: e.to_string() })?;
        let plain = |name: &str| {
            let normal = |c| matches!(c, std::path::Component::Normal(_));
            Path::new(name).components().all(normal)
        };
        if !answer.sha.chars().all(|c| c.is_ascii_hexdigit()) {
            let reason = format!("`{}` is not a commit", answer.sha);
            return Err(Error::BadAnswer { what: repository, reason });
        }
        let files = answer.siblings.into_iter().filter(|s| plain(&s.rfilename)).map(|s| {
            let (sha256, lfs_size) = s.lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
            (s.rfilename, Announced { size: lfs_size.or(s.size), sha256 })
        });
        Ok(Self { repository, commit: answer.sha, files: files.collect() })
    }

    /// Configurations and tokenizers, of the repository and of its folders one level down.
    pub(super) fn small_files(&self) -> Vec<String> {
        let wanted = |name: &str| {
            let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
            let depth = if folder.is_empty() { 0 } else { 1 + folder.matches('/').count() };
            match depth {
                0 => COMPANIONS.contains(&file) || file == "adapter_config.json",
                // Steps of a sentence-transformers model: `1_Pooling`, `2_Dense`, rarely `0_Transformer`.
                1 if folder == TEMPLATES => {
                    Path::new(file).extension().is_some_and(|e| e == "jinja")
                }
                1 => self.is_step(folder) && COMPANIONS.contains(&file),
                _ => false,
            }
        };
        self.files.keys().filter(|name| wanted(name)).cloned().collect()
    }

    /// The files that make up the weights, of the first format that is there in the order of transformers; an index must
    /// have been fetched into `dir`.
    pub(super) fn weight_files(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let has = |file: &str| self.files.contains_key(file);
        let mut out = Vec::new();
        for single in ["model.safetensors", "pytorch_model.bin"] {
            let index = format!("{single}.index.json");
            if has(single) {
                out.push(single.to_owned());
            } else if has(&index) {
                out.extend(self.shards(dir, &index)?);
            }
            if !out.is_empty() {
                break;
            }
        }
        let adapter = ["adapter_model.safetensors", "adapter_model.bin"];
        out.extend(adapter.into_iter().find(|file| has(file)).map(str::to_owned));
        for name in self.files.keys() {
            let Some((folder, file)) = name.rsplit_once('/').filter(|(f, _)| self.is_step(f))
            else {
                continue;
            };
            let first = !has(&format!("{folder}/model.safetensors"));
            if file == "model.safetensors" || (file == "pytorch_model.bin" && first) {
                out.push(name.clone());
            }
        }
        if out.is_empty() {
            return Err(Error::NoWeights { repository: self.repository.clone() });
        }
        Ok(out)
    }

    fn shards(&self, dir: &Path, index: &str) -> Result<BTreeSet<String>, Error> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let Index { weight_map } = serde_json::from_slice(&fs_err::read(dir.join(index))?)
            .map_err(|e| Error::BadAnswer {
                what: format!("{}/{index}", self.repository),
                reason: e.to_string(),
            })?;
        let shards: BTreeSet<String> = weight_map.into_values().collect();
        match shards.iter().find(|shard| !self.files.contains_key(*shard)) {
            None => Ok(shards),
            Some(file) => Err(Error::MissingShard {
                repository: self.repository.clone(),
                index: index.to_owned(),
                file: file.clone(),
            }),
        }
    }

    /// True if a folder is named like a step of a sentence-transformers model.
    fn is_step(&self, folder: &str) -> bool {
        let numbered = folder.split_once('_').is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        numbered && !folder.contains('/') && self.files.contains_key("modules.json")
    }
}
