//! One file from the hub into the cache, checked against what the hub announced.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiError};
use hf_hub::{Cache, Repo};

use super::listing::Listing;
use super::{Error, Hub};
use crate::base::progress::{Progress, Unit};
use crate::base::{cancel, digest};

/// Requests for one thing before its error is believed.
const ATTEMPTS: u32 = 4;

/// Asks again after a pause, doubled each time, as long as the error may pass.
pub(super) fn retry<T>(
    backoff: Duration,
    mut ask: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        cancel::check()?;
        match ask() {
            Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                thread::sleep(backoff * 2u32.pow(attempt - 1));
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Makes `file` stand in the snapshot `dir`, downloading what is not there or has another size.
pub(super) fn file(
    hub: &Hub<'_>,
    api: &Api,
    repo: &Repo,
    dir: &Path,
    listing: &Listing,
    file: &str,
) -> Result<(), Error> {
    let pointer = dir.join(file);
    let announced = listing.files.get(file).cloned().unwrap_or_default();
    let size_on_disk = || fs_err::metadata(&pointer).ok().map(|m| m.len());
    match (size_on_disk(), announced.size) {
        (Some(found), Some(expected)) if found != expected => remove(&pointer),
        (Some(_), _) => return Ok(()),
        // A link whose blob is gone has no size, and would be taken for the file.
        (None, _) => remove(&pointer),
    }
    let repository = repo.url();
    let fetch = || {
        let told = Told { progress: hub.progress };
        let what = format!("`{file}`");
        match api.repo(repo.clone()).download_with_progress(file, told) {
            Ok(_) => {}
            Err(error) => {
                if matches!(error, ApiError::InvalidResume) {
                    remove_partial(hub, repo);
                }
                return Err(from_api(hub, repo, &what, error));
            }
        }
        let found = size_on_disk().unwrap_or(0);
        match announced.size {
            Some(expected) if found != expected => {
                remove(&pointer);
                let (repository, file) = (repository.clone(), file.to_owned());
                Err(Error::WrongSize { repository, file, expected, found })
            }
            _ => Ok(()),
        }
    };
    retry(hub.backoff, fetch)?;
    let Some(expected) = announced.sha256.or_else(|| digest_in_name(&pointer)) else {
        return Ok(());
    };
    let (found, _) = digest::of_file(&pointer)?;
    if found == expected {
        return Ok(());
    }
    remove(&pointer);
    Err(Error::WrongDigest { repository, file: file.to_owned(), expected, found })
}

/// The cache names the blob of a large file after its SHA-256.
fn digest_in_name(pointer: &Path) -> Option<String> {
    let blob = fs_err::canonicalize(pointer).ok()?;
    let name = blob.file_name()?.to_str()?;
    let is_digest = name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit());
    is_digest.then(|| name.to_owned())
}

/// Takes a file out of the cache, link and blob, so that it cannot be taken for whole.
fn remove(pointer: &Path) {
    // What is not there need not go; what cannot go fails at the download that follows.
    if let Ok(blob) = fs_err::canonicalize(pointer) {
        drop(fs_err::remove_file(blob));
    }
    drop(fs_err::remove_file(pointer));
}

/// Takes away beginnings of downloads that are longer than the file.
fn remove_partial(hub: &Hub<'_>, repo: &Repo) {
    let blobs = Cache::new(hub.cache_dir.to_owned()).repo(repo.clone()).blob_path("");
    let Ok(entries) = fs_err::read_dir(blobs) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|e| e == "part") {
            drop(fs_err::remove_file(path));
        }
    }
}

/// Passes progress on.
struct Told<'a> {
    progress: &'a dyn Progress,
}

impl hf_hub::api::Progress for Told<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        self.progress.begin(filename, Some(size as u64), Unit::Bytes);
    }
    fn update(&mut self, size: usize) {
        self.progress.advance(size as u64);
    }
    fn finish(&mut self) {
        self.progress.end();
    }
}

/// An error of the HTTP client, in our words.
pub(super) fn from_client(hub: &Hub<'_>, repo: &Repo, what: &str, error: &ureq::Error) -> Error {
    let endpoint = hub.endpoint.to_owned();
    let repository = repo.url();
    match error {
        ureq::Error::StatusCode(404) => {
            Error::NotFound { endpoint, repository, revision: repo.revision().to_owned() }
        }
        ureq::Error::StatusCode(status @ (401 | 403)) => {
            Error::Denied { endpoint, repository, status: *status, with_token: hub.token.is_some() }
        }
        ureq::Error::StatusCode(status) => {
            Error::Status { endpoint, what: what.to_owned(), status: *status }
        }
        other => Error::Network { endpoint, reason: other.to_string() },
    }
}

fn from_api(hub: &Hub<'_>, repo: &Repo, what: &str, error: ApiError) -> Error {
    match error {
        ApiError::RequestError(error) => from_client(hub, repo, what, &error),
        ApiError::LockAcquisition(lock) => Error::Locked { lock },
        ApiError::TooManyRetries(inner) => from_api(hub, repo, what, *inner),
        ApiError::IoError(error) if is_local(&error) => error.into(),
        ApiError::IoError(error) => {
            Error::Network { endpoint: hub.endpoint.to_owned(), reason: error.to_string() }
        }
        // The beginning of a download did not fit and is gone now: the next attempt starts afresh.
        ApiError::InvalidResume => Error::Network {
            endpoint: hub.endpoint.to_owned(),
            reason: format!("the partial download of {what} does not fit"),
        },
        other => Error::BadAnswer { what: what.to_owned(), reason: other.to_string() },
    }
}

/// True if an error is the disk's rather than the connection's.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::StorageFull
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::QuotaExceeded
    )
}
