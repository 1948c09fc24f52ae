//! Opens the tokenizer of a package: the finished one beside it, or any folder that transformers reads.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Session;
use super::tokenizer_folder::MODEL_FILES;
use crate::lm::{Artifact, RECORD, Tokenizer, TokenizerRecord};
use crate::pipeline::Failure;
use crate::python::PythonError;
use crate::source::{embedding, tokenizer};

/// Opens the folder `asked`, or the one beside the package of `artifact`.
pub(crate) fn open_tokenizer(
    artifact: &Artifact,
    asked: Option<&Path>,
    session: &Session,
) -> Result<Tokenizer, Failure> {
    let own = tokenizer_folder(artifact, None);
    match asked {
        Some(folder) => in_folder(folder, &own, session),
        None => Ok(Tokenizer::open(&own)?),
    }
}

/// Opens `folder`, with the recipe for embeddings from `own` where `folder` has none.
///
/// A folder that no conversion wrote is finished by transformers first. Without a Python environment its tokenizer.json
/// is read as it is, with a warning.
pub(crate) fn in_folder(
    folder: &Path,
    own: &Path,
    session: &Session,
) -> Result<Tokenizer, Failure> {
    // A tokenizer.json alone is all there is to read.
    let settings = ["tokenizer_config.json", "special_tokens_map.json", "config.json"];
    let complete = folder.join("tokenizer.json").is_file()
        && (folder.join(RECORD).is_file() || !settings.iter().any(|n| folder.join(n).is_file()));
    if complete || !tokenizer::is_in(folder) {
        return Ok(Tokenizer::open_beside(folder, own)?);
    }
    if !session.has_python() {
        session.warn(&format!(
            "`{}` was not written by a conversion and there is no Python environment: its tokenizer.json is read as it \
             is, which may differ from transformers (make the environment with `coremill setup`)",
            folder.display()
        ));
        return Ok(Tokenizer::open_beside(folder, own)?);
    }
    let finished = tempfile::tempdir()?;
    let request =
        json!({"op": "tokenizer", "model": folder, "adapters": [], "out": finished.path()});
    let answer = session.python()?.call(&request)?;
    let record: TokenizerRecord = serde_json::from_value(answer)
        .map_err(|e| PythonError::Protocol { message: e.to_string() })?;
    for warning in &record.warnings {
        session.warn(warning);
    }
    let text = serde_json::to_vec(&record).map_err(std::io::Error::from)?;
    fs_err::write(finished.path().join(RECORD), text)?;
    for name in MODEL_FILES.iter().filter(|name| folder.join(name).is_file()) {
        fs_err::copy(folder.join(name), finished.path().join(name))?;
    }
    let recipe = if folder.join(embedding::FILE).is_file() { folder } else { own };
    Ok(Tokenizer::open_beside(finished.path(), recipe)?)
}

/// The tokenizer asked for, the package's own, or the one that its folder shares.
pub(crate) fn tokenizer_folder(artifact: &Artifact, asked: Option<&Path>) -> PathBuf {
    if let Some(folder) = asked {
        return folder.to_owned();
    }
    let own = artifact.tokenizer_folder();
    let shared = own.with_file_name("tokenizer");
    if own.is_dir() || !shared.is_dir() { own } else { shared }
}
