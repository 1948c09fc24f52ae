//! The Hugging Face hub: a repository's files in the standard cache, whole and with the right digests.

mod download;
mod error;
mod listing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};

pub use error::Error;
use listing::Listing;

use crate::base::progress::Progress;

/// The hub itself.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Where and how to look for a model.
#[derive(Clone, Copy)]
pub struct Hub<'a> {
    /// Address of the hub, without a slash at the end.
    pub endpoint: &'a str,
    /// Folder of the cache, shared with `huggingface_hub` (`~/.cache/huggingface/hub`).
    pub cache_dir: &'a Path,
    /// Access token for private and gated repositories.
    pub token: Option<&'a str>,
    /// The pause before a failed request is tried again; doubled each time.
    pub backoff: Duration,
    /// Who is told how far downloads have come.
    pub progress: &'a dyn Progress,
}

/// A model on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The folder of the checkpoint.
    pub dir: PathBuf,
    /// The repository it came from, unless it is a folder of the user's.
    pub repository: Option<String>,
    /// The commit it came from.
    pub revision: Option<String>,
}

/// What a branch is called when the user names none.
const MAIN: &str = "main";

impl Hub<'_> {
    /// The folder of `model`: itself if it is one, else the repository of that name, downloaded where the cache does
    /// not have it.
    ///
    /// Without a network a revision that is in the cache is taken as it is.
    pub fn resolve(&self, model: &str, revision: Option<&str>) -> Result<Resolved, Error> {
        if Path::new(model).is_dir() {
            return Ok(Resolved { dir: model.into(), repository: None, revision: None });
        }
        if !is_repository(model) {
            return Err(Error::NoSuchModel { model: model.to_owned() });
        }
        let revision = revision.unwrap_or(MAIN);
        let api = self.api()?;
        let cache = Cache::new(self.cache_dir.to_owned());
        let named = Repo::with_revision(model.to_owned(), RepoType::Model, revision.to_owned());
        let listing = match download::retry(self.backoff, || Listing::fetch(&api, &named, self)) {
            Ok(listing) => listing,
            Err(error @ Error::Network { .. }) => {
                let Some((dir, commit)) = self.cached(&cache, &named) else { return Err(error) };
                let text = format!("{error}; taking `{model}` at {commit} from the cache");
                self.progress.note(&text);
                let repository = Some(model.to_owned());
                return Ok(Resolved { dir, repository, revision: Some(commit) });
            }
            Err(error) => return Err(error),
        };
        // Files are taken at the commit, so that a branch that moves meanwhile cannot mix two versions.
        let pinned = Repo::with_revision(model.to_owned(), RepoType::Model, listing.commit.clone());
        let dir = cache.repo(pinned.clone()).pointer_path(&listing.commit);
        let fetch = |file: &str| download::file(self, &api, &pinned, &dir, &listing, file);
        for file in listing.small_files() {
            fetch(&file)?;
        }
        for file in listing.weight_files(&dir)? {
            fetch(&file)?;
        }
        cache.repo(named).create_ref(&listing.commit)?;
        let repository = Some(model.to_owned());
        Ok(Resolved { dir, repository, revision: Some(listing.commit) })
    }

    /// One file of a dataset on its main branch, downloaded where the cache does not have it whole.
    pub fn dataset_file(&self, repository: &str, file: &str) -> Result<PathBuf, Error> {
        let api = self.api()?;
        let cache = Cache::new(self.cache_dir.to_owned());
        let repo = |revision: &str| {
            Repo::with_revision(repository.to_owned(), RepoType::Dataset, revision.to_owned())
        };
        let named = repo(MAIN);
        let listing = download::retry(self.backoff, || Listing::fetch(&api, &named, self))?;
        if !listing.files.contains_key(file) {
            let (repository, file) = (repository.to_owned(), file.to_owned());
            return Err(Error::NoFile { repository, file });
        }
        let pinned = repo(&listing.commit);
        let dir = cache.repo(pinned.clone()).pointer_path(&listing.commit);
        download::file(self, &api, &pinned, &dir, &listing, file)?;
        Ok(dir.join(file))
    }

    fn api(&self) -> Result<Api, Error> {
        let builder = ApiBuilder::from_cache(Cache::new(self.cache_dir.to_owned()));
        let token = self.token.map(str::to_owned);
        let api = builder
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_token(token)
            .with_progress(false)
            .build();
        api.map_err(|e| Error::Client { reason: e.to_string() })
    }

    /// The snapshot that the cache has for a revision.
    fn cached(&self, cache: &Cache, repo: &Repo) -> Option<(PathBuf, String)> {
        let reference = self.cache_dir.join(repo.folder_name()).join("refs").join(repo.revision());
        let commit = match fs_err::read_to_string(reference) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => repo.revision().to_owned(),
        };
        let dir = cache.repo(repo.clone()).pointer_path(&commit);
        let known = ["config.json", "adapter_config.json", "modules.json"];
        known.iter().any(|name| dir.join(name).is_file()).then_some((dir, commit))
    }
}

/// True if the hub could have a repository of that name.
fn is_repository(model: &str) -> bool {
    let part = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
    };
    model.split('/').count() <= 2 && model.split('/').all(part)
}

#[cfg(test)]
mod tests;
