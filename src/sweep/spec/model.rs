//! `[model]`: a checkpoint with its adapters and the shape of its package, or a package that is there already.

use std::path::Path;

use toml::Spanned;

use super::either::TextOrTable;
use super::raw::{Model, Repository};
use super::{ModelSpec, Place, Wrong, resolve};
use crate::base::did_you_mean::did_you_mean;
use crate::base::package_options::Target;
use crate::base::toml_error::TomlError as SpecError;

/// Where a model of this form is to be found, if that is said once and rightly.
fn place(raw: &Model, folder: &Path) -> Result<Place, String> {
    let given = [
        ("path", raw.path.is_some()),
        ("repository", raw.repository.is_some()),
        ("package", raw.package.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given[..] {
        [] => Err("neither `path` nor `repository` nor `package` is given".to_owned()),
        [_] => Ok(()),
        [a, b, ..] => Err(format!("both `{a}` and `{b}` are given")),
    }?;
    match (&raw.path, &raw.repository, &raw.package) {
        (_, Some(repository), _) => {
            Ok(Place::Repository { repository: repository.clone(), revision: raw.revision.clone() })
        }
        (path, _, _) if raw.revision.is_some() => {
            let key = if path.is_some() { "path" } else { "package" };
            Err(format!("`revision` goes with `repository`, not `{key}`"))
        }
        (Some(path), _, _) => Ok(Place::Path(resolve(folder, path))),
        (_, _, package) => {
            Ok(Place::Package(resolve(folder, package.as_deref().unwrap_or(Path::new("")))))
        }
    }
}

/// Returns the first key that only applies to conversions.
fn conversion_key(raw: &Model) -> Option<&'static str> {
    let given = [
        ("lora", raw.lora.is_some()),
        ("llm2vec", raw.llm2vec.is_some()),
        ("seq_len", raw.seq_len.is_some()),
        ("prompt_chunk", raw.prompt_chunk.is_some()),
        ("kv_cache", raw.kv_cache.is_some()),
        ("target", raw.target.is_some()),
        ("encode_adapters", raw.encode_adapters.is_some()),
        ("allow_config_keys", raw.allow_config_keys.is_some()),
        ("allow_unused_tensors", raw.allow_unused_tensors.is_some()),
    ];
    given.iter().find(|(_, given)| *given).map(|(key, _)| *key)
}

pub(super) fn model(
    raw: Spanned<Model>,
    folder: &Path,
    wrong: &Wrong<'_>,
) -> Result<ModelSpec, SpecError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let place = place(&raw, folder).map_err(|what| wrong(span.clone(), what))?;
    let is_package = matches!(place, Place::Package(_));
    if let Some(key) = conversion_key(&raw).filter(|_| is_package) {
        let what = format!("`{key}` is for conversions, and a `package` is not converted");
        return Err(wrong(span, what));
    }
    let seq_len = raw.seq_len.as_ref().map(|seq_len| *seq_len.get_ref());
    match (&raw.seq_len, seq_len) {
        (Some(at), Some(0)) => return Err(wrong(at.span(), "seq_len is 0".to_owned())),
        (None, _) if !is_package => {
            return Err(wrong(span, "missing field `seq_len`".to_owned()));
        }
        _ => {}
    }
    if let (Some(chunk), Some(seq_len)) = (&raw.prompt_chunk, seq_len) {
        let n = *chunk.get_ref();
        if n == 0 || !seq_len.is_multiple_of(n) {
            let what = format!("prompt_chunk {n} does not divide seq_len {seq_len}");
            return Err(wrong(chunk.span(), what));
        }
    }
    let target = match raw.target {
        None => Target::default(),
        Some(target) => target.get_ref().parse().map_err(|error| {
            wrong(target.span(), error).with_hint(
                did_you_mean(target.get_ref(), Target::NAMES.iter().copied())
                    .map(|name| format!("did you mean `{name}`")),
            )
        })?,
    };
    let adapters = |raw: Option<Vec<TextOrTable<Repository>>>| {
        raw.unwrap_or_default().into_iter().map(|raw| adapter(raw, folder)).collect()
    };
    Ok(ModelSpec {
        place,
        lora: adapters(raw.lora),
        llm2vec: adapters(raw.llm2vec),
        seq_len,
        prompt_chunk: raw.prompt_chunk.map(Spanned::into_inner),
        kv_cache: raw.kv_cache.unwrap_or_default(),
        target,
        encode_adapters: raw.encode_adapters.unwrap_or_default(),
        allow_config_keys: raw.allow_config_keys.unwrap_or_default(),
        allow_unused_tensors: raw.allow_unused_tensors.unwrap_or_default(),
    })
}

fn adapter(raw: TextOrTable<Repository>, folder: &Path) -> Place {
    match raw {
        TextOrTable::Text(path) => Place::Path(resolve(folder, Path::new(&path))),
        TextOrTable::Table(Repository { repository, revision }) => {
            Place::Repository { repository, revision }
        }
    }
}
