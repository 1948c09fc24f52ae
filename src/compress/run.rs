//! One package in, one compressed package out, weight by weight.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;

use half::f16;

use super::audit::TensorAudit;
use super::behind::{Item, Stored, behind};
use super::error::CompressError;
use super::recipe::Recipe;
use super::rewrite::{self, Part};
use super::select::{self, Weight};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};
use crate::blob::Blob;
use crate::mil::{BlobRef, DType, Program, edit};
use crate::package::{Draft, FileRecord, Model, Package, WEIGHT_FILE};
use crate::quant::{self, ScaleGranularity, Scheme, Search};

/// Choices that are no part of a recipe.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How hard k-means tries.
    pub search: Search,
    /// Whether something standing at the output is replaced.
    pub replace: bool,
}

/// What a compression wrote.
#[derive(Debug)]
pub struct Compressed {
    /// The model, weights in place.
    pub model: Model,
    /// The package's files with their digests.
    pub files: Vec<FileRecord>,
    /// Every weight with its form, size and error.
    pub tensors: Vec<TensorAudit>,
}

/// Compresses `package` by `recipe` into a package at `output`.
///
/// Weights that no rule matches are copied. One weight is in memory, and the one before it while it is written.
pub fn run(
    package: &Package,
    recipe: &Recipe,
    output: &Path,
    options: Options,
    progress: &dyn Progress,
) -> Result<Compressed, CompressError> {
    let weights = select::weights(package.program());
    check(package, recipe, &weights)?;
    let chosen: BTreeMap<&BlobRef, (&Weight, Scheme)> = weights
        .iter()
        .filter_map(|w| {
            let scheme = recipe.scheme_for(&w.name, w.component)?;
            (scheme != Scheme::Fp16).then_some((&w.at, (w, scheme)))
        })
        .collect();
    let places = places(package.program());

    let draft = Draft::begin(output, options.replace)?;
    let blobs = package.blobs();
    let mut count = 0;
    let mut total = 0;
    for place in &places {
        count += chosen.get(place).map_or(1, |(_, scheme)| n_parts(*scheme));
        total += blobs.blob(place)?.bytes().len() as u64;
    }
    progress.begin("compress", Some(total), Unit::Bytes);
    let made = behind(draft.weights(count)?, |put| {
        let mut made = Vec::new();
        for place in &places {
            cancel::check()?;
            let blob = blobs.blob(place)?;
            let length = blob.bytes().len() as u64;
            let (audit, item) = if let Some((weight, scheme)) = chosen.get(place) {
                let (kind, parts, audit) = compress(weight, *scheme, &blob, options.search)?;
                (Some(audit), Item::Parts(kind, parts))
            } else {
                let weight = weights.iter().find(|w| w.at == *place);
                (weight.map(|w| TensorAudit::dense(w, length)), Item::Copy(blob))
            };
            made.push((place, audit));
            if put(item).is_break() {
                break;
            }
            progress.advance(length);
        }
        Ok(made)
    });
    let (made, stored, written) = made?;
    progress.end();
    let mut copied = BTreeMap::new();
    let mut forms = BTreeMap::new();
    let mut tensors = Vec::new();
    for ((place, audit), stored) in made.into_iter().zip(stored) {
        match stored {
            Stored::Form(form) => drop(forms.insert(place, form)),
            Stored::Copy(offset) => drop(copied.insert(place, offset)),
        }
        tensors.extend(audit);
    }

    let mut model = package.model().clone();
    let moved = edit::for_each_op_mut::<Infallible>(&mut model.program, &mut |op| {
        let form = op.const_value().and_then(|value| forms.get(value.as_blob()?));
        if let Some(form) = form {
            rewrite::replace(op, form);
            return Ok(());
        }
        edit::for_each_blob_mut(op, &mut |_, at| {
            let offset = copied.get(at).copied().expect("every place of the program was copied");
            *at = BlobRef { file: WEIGHT_FILE.to_owned(), offset };
            Ok(())
        })
    });
    match moved {
        Ok(()) => {}
    }
    let files = draft.finish(&model, Some(written))?;
    Ok(Compressed { model, files, tensors })
}

fn check(package: &Package, recipe: &Recipe, weights: &[Weight]) -> Result<(), CompressError> {
    if weights.is_empty() {
        return Err(CompressError::NoWeights);
    }
    let named: Vec<_> = weights.iter().map(|w| (w.name.as_str(), w.component)).collect();
    if let Some(selector) = recipe.idle_rule(&named) {
        return Err(CompressError::Idle { selector: selector.to_string(), weights: weights.len() });
    }
    let version = package.model().specification_version;
    for weight in weights {
        let Some(scheme) = recipe.scheme_for(&weight.name, weight.component) else { continue };
        if scheme == Scheme::Fp16 {
            continue;
        }
        if version < 9 {
            return Err(CompressError::Target { scheme: scheme.to_string(), version });
        }
        if weight.dtype != DType::F16 {
            return Err(CompressError::Fp32 { name: weight.name.clone() });
        }
        let by_block =
            matches!(scheme, Scheme::Affine { granularity: ScaleGranularity::PerBlock(_), .. });
        if by_block && weight.shape.len() != 2 {
            return Err(CompressError::Rank {
                name: weight.name.clone(),
                shape: weight.shape.clone(),
                scheme: scheme.to_string(),
            });
        }
    }
    Ok(())
}

/// All blobs of the program in the order of the file.
fn places(program: &Program) -> BTreeSet<BlobRef> {
    let mut places = BTreeSet::new();
    edit::for_each_op(program, &mut |_, op| {
        edit::for_each_blob(op, &mut |at| {
            places.insert(at.clone());
        });
    });
    places
}

/// How many blobs a weight has under `scheme`.
fn n_parts(scheme: Scheme) -> u32 {
    match scheme {
        Scheme::Fp16 => 1,
        Scheme::Palettize { .. } => 2,
        Scheme::Affine { dtype, .. } => {
            if dtype.is_signed() {
                2
            } else {
                3
            }
        }
    }
}

/// The operation of a compressed weight, its blobs, and what they come to.
fn compress(
    weight: &Weight,
    scheme: Scheme,
    blob: &Blob,
    search: Search,
) -> Result<(&'static str, Vec<Part>, TensorAudit), CompressError> {
    let wrong = |error| CompressError::Weight {
        name: weight.name.clone(),
        scheme: scheme.to_string(),
        error,
    };
    let values: &[f16] = bytemuck::try_cast_slice(blob.bytes())
        .expect("a blob's data is aligned to 64 bytes in a mapping that is aligned to a page");
    let rows = usize::try_from(weight.shape[0]).expect("the data is in memory");
    let cols = values.len() / rows.max(1);
    let dense = quant::Weight::new(values, rows, cols).map_err(wrong)?;
    let compressed = quant::compress(dense, scheme, search).map_err(wrong)?;
    let distortion = compressed.distortion(dense).map_err(wrong)?;
    let (kind, parts) =
        rewrite::parts(&compressed, &weight.shape).expect("a scheme other than fp16 has a form");
    let bytes = parts.iter().map(|part| part.bytes.len() as u64).sum();
    let error = distortion.relative_error();
    Ok((kind, parts, TensorAudit::compressed(weight, scheme.to_string(), bytes, error)))
}
