//! One package in, compressed packages out, weight by weight.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;

use half::f16;
use regex::Regex;
use serde::Serialize;

use super::audit::TensorAudit;
use super::background_writer::{Done, Files, WriteStatus, write_in_background};
use super::encoding::{self, Content, Encoding, Target};
use super::error::CompressError;
use super::recipe::Recipe;
use super::select::{self, MIN_ELEMENTS, Weight};
use crate::base::cancel;
use crate::base::progress::{Progress, Unit};
use crate::blob::Blob;
use crate::mil::{BlobRef, DType, Program, edit};
use crate::package::{Draft, FileRecord, Model, Package, WEIGHT_FILE};
use crate::quant::{self, Axes, Code, Distortion, Scheme, Search};

/// Choices that are no part of a recipe.
#[derive(Debug, Clone)]
pub struct Options {
    /// Effort of k-means.
    pub search: Search,
    /// True if something standing at the output is replaced.
    pub replace: bool,
    /// Constants with fewer elements are no weights.
    pub weight_threshold: u64,
    /// Weights that may stay as they are where they cannot be compressed.
    pub may_skip: Vec<Regex>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            search: Search::Quick,
            replace: false,
            weight_threshold: MIN_ELEMENTS,
            may_skip: Vec::new(),
        }
    }
}

/// Result of a compression.
#[derive(Debug)]
pub struct Compressed {
    /// The model, weights in place.
    pub model: Model,
    /// The package's files with their digests.
    pub files: Vec<FileRecord>,
    /// Every weight with its form, size and error.
    pub tensors: Vec<TensorAudit>,
    /// Weights that could not be compressed and were allowed to stay.
    pub skipped: Vec<Skipped>,
}

/// A weight that a recipe matches and that stayed as it was.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// The weight.
    pub name: String,
    /// Expected type.
    pub scheme: String,
    /// Why it could not.
    pub reason: String,
}

/// Compresses `package` by `recipe` into a package at `output`; see [`run_all`].
pub fn run(
    package: &Package,
    recipe: &Recipe,
    output: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Compressed, CompressError> {
    let mut all = run_all(package, &[(recipe, output)], options, progress)?;
    Ok(all.remove(0))
}

/// Compresses `package` by each recipe into a package at its path.
///
/// What several recipes want of a weight is made once. Weights that no rule matches are copied. Besides the scales and
/// tables of one weight, and a bit for each value where it is pruned, only a few pieces of it are in memory; of weights
/// that may be skipped the scales, tables and bits of all are, since whether they can be compressed is known before the
/// file begins.
pub fn run_all(
    package: &Package,
    outputs: &[(&Recipe, &Path)],
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Compressed>, CompressError> {
    let version = package.model().specification_version;
    let target = Target::of(version);
    let weights = select::weights(package.program(), options.weight_threshold);
    let blobs = package.blobs();
    let mut doubtful = BTreeMap::new();
    for weight in &weights {
        if options.may_skip.iter().any(|regex| regex.is_match(&weight.name)) {
            doubtful.insert(&weight.at, blobs.blob(&weight.at)?);
        }
    }
    let mut plans: Vec<Plan<'_>> = Vec::new();
    let mut tried = Tried::new();
    for (recipe, _) in outputs {
        plans.push(plan(recipe, &weights, &doubtful, &mut tried, (options.search, version))?);
    }
    let places = places(package.program());

    let mut drafts = Vec::new();
    let mut writers = Vec::new();
    for ((_, output), plan) in outputs.iter().zip(&plans) {
        let draft = Draft::begin(output, options.replace)?;
        let parts = |place: &BlobRef| {
            plan.chosen.get(place).map_or(1, |(weight, scheme)| {
                let channels = weight.axes.and_then(|axes| weight.shape.get(axes.output));
                encoding::n_parts(*scheme, target, channels.copied().unwrap_or(0))
            })
        };
        writers.push(draft.weights(places.iter().map(parts).sum())?);
        drafts.push(draft);
    }
    let mut total = 0;
    for place in &places {
        total += blobs.blob(place)?.bytes().len() as u64;
    }
    progress.begin("compress", Some(total), Unit::Bytes);
    let (made, done) = write_in_background(writers, |files| {
        let mut made: Vec<Vec<Made>> = plans.iter().map(|_| Vec::new()).collect();
        for place in &places {
            cancel::check()?;
            let flow = one_place(
                place,
                &plans,
                &weights,
                &mut tried,
                files,
                &mut made,
                &Work { package, search: options.search, target, progress },
            )?;
            if flow.is_break() {
                break;
            }
        }
        Ok(made)
    })?;
    progress.end();
    let mut all = Vec::new();
    for (((draft, made), done), plan) in drafts.into_iter().zip(made).zip(done).zip(plans) {
        all.push(finish(package, draft, made, done, plan, &places, target)?);
    }
    Ok(all)
}

/// Returns the scheme of each weight of a package.
struct Plan<'a> {
    chosen: BTreeMap<&'a BlobRef, (&'a Weight, Scheme)>,
    skipped: Vec<Skipped>,
}

/// What was found of weights that may be skipped, until it is written; nothing where it is cheaper to find again than to keep.
type Tried<'a> = BTreeMap<(&'a BlobRef, Scheme), Option<quant::Compressed<'a>>>;

/// True if it may be kept while other weights are tried: tables take long to find and little memory, and a mask or the scales
/// of blocks the other way round.
fn is_small(found: &quant::Compressed<'_>) -> bool {
    found.palette().is_some() && found.mask().is_none()
}

/// Resolved location.
#[derive(Clone)]
struct Made {
    /// The form, or nothing where the blob was copied.
    form: Option<Encoding>,
    /// The line of the report, if it is a weight.
    audit: Option<TensorAudit>,
}

/// Settings that all weights share.
struct Work<'a> {
    package: &'a Package,
    search: Search,
    target: Target,
    progress: &'a dyn Progress,
}

/// Puts the blob at `place` into every file: as it is, or compressed once for each scheme that is wanted of it.
fn one_place<'a>(
    place: &BlobRef,
    plans: &[Plan<'_>],
    weights: &'a [Weight],
    tried: &mut Tried<'a>,
    files: &Files,
    made: &mut [Vec<Made>],
    work: &Work<'_>,
) -> Result<WriteStatus, CompressError> {
    let blob = work.package.blobs().blob(place)?;
    let version = work.package.model().specification_version;
    let length = blob.bytes().len() as u64;
    let mut wanted: BTreeMap<Option<Scheme>, Vec<usize>> = BTreeMap::new();
    for (file, plan) in plans.iter().enumerate() {
        wanted.entry(plan.chosen.get(place).map(|(_, scheme)| *scheme)).or_default().push(file);
    }
    let weight = weights.iter().find(|weight| weight.at == *place);
    let ways = wanted.len() as u64;
    for (scheme, to) in wanted {
        let (flow, new) = if let (Some(scheme), Some(weight)) = (scheme, weight) {
            let compressed = match tried.remove(&(&weight.at, scheme)) {
                Some(Some(found)) => found,
                _ => found(weight, scheme, &blob, (work.search, version))?,
            };
            let mut form = Encoding::of(&compressed, &weight.shape, work.target);
            let share = length / ways;
            let (flow, distortion) =
                pour(&compressed, &mut form, files, &to, work.progress, share)?;
            let audit = TensorAudit::compressed(weight, scheme.to_string(), &form, &distortion);
            (flow, Made { form: Some(form), audit: Some(audit) })
        } else {
            let audit = weight.map(|weight| TensorAudit::dense(weight, length));
            let flow = files.copy(&to, &blob);
            work.progress.advance(length / ways);
            (flow, Made { form: None, audit })
        };
        for file in to {
            made[file].push(new.clone());
        }
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Writes the parts of a form, which are not kept; the error that its codes make. Progress is told `length` in all.
fn pour(
    compressed: &quant::Compressed<'_>,
    form: &mut Encoding,
    files: &Files,
    to: &[usize],
    progress: &dyn Progress,
    length: u64,
) -> Result<(WriteStatus, Distortion), CompressError> {
    let mut distortion = Distortion::default();
    for part in form.parts_mut() {
        let mut flow = files.begin(to, part.blob_type(), part.bits());
        match &mut part.content {
            _ if flow.is_break() => {}
            Content::Bytes(bytes) => flow = files.bytes(to, std::mem::take(bytes)),
            Content::Mask => {
                for bits in compressed.mask().into_iter().flat_map(|mask| mask.bits().chunks(PIECE))
                {
                    flow = files.bytes(to, bits.to_vec());
                    if flow.is_break() {
                        break;
                    }
                }
            }
            Content::Codes => {
                let all = compressed.poured_len().max(1) as u64;
                let (mut poured, mut told) = (0, 0);
                distortion = compressed.pour(&mut |bytes| {
                    poured += bytes.len() as u64;
                    let now = length * poured / all;
                    progress.advance(now - told);
                    told = now;
                    flow = files.bytes(to, bytes);
                    if cancel::check().is_err() { ControlFlow::Break(()) } else { flow }
                });
                cancel::check()?;
            }
        }
        if flow.is_break() {
            return Ok((flow, distortion));
        }
    }
    Ok((ControlFlow::Continue(()), distortion))
}

/// Bytes of a mask that are handed over at a time.
const PIECE: usize = 1 << 18;

/// Puts the new places into the program and ends the package.
fn finish(
    package: &Package,
    draft: Draft,
    made: Vec<Made>,
    (offsets, written): Done,
    plan: Plan<'_>,
    places: &BTreeSet<BlobRef>,
    target: Target,
) -> Result<Compressed, CompressError> {
    let mut tensors = Vec::new();
    let mut offsets = offsets.into_iter();
    let mut copied: BTreeMap<&BlobRef, u64> = BTreeMap::new();
    let mut forms: BTreeMap<&BlobRef, (Encoding, Vec<u64>)> = BTreeMap::new();
    for (place, Made { form, audit }) in places.iter().zip(made) {
        match form {
            None => copied.extend(offsets.next().map(|offset| (place, offset))),
            Some(form) => {
                let own = offsets.by_ref().take(form.parts().count()).collect();
                forms.insert(place, (form, own));
            }
        }
        tensors.extend(audit);
    }
    let mut model = package.model().clone();
    // In one go: places of the new file look like those of the old one.
    edit::map_ops(&mut model.program, &mut |mut op| {
        let form = op.const_value().and_then(|value| forms.get(value.as_blob()?));
        if let Some((form, offsets)) = form {
            return form.ops(&op, offsets, target);
        }
        let moved = edit::for_each_blob_mut::<Infallible>(&mut op, &mut |_, at| {
            let offset = copied.get(at).copied().expect("every place of the program was copied");
            *at = BlobRef { file: WEIGHT_FILE.to_owned(), offset };
            Ok(())
        });
        match moved {
            Ok(()) => vec![op],
        }
    });
    let files = draft.finish(&model, Some(written))?;
    Ok(Compressed { model, files, tensors, skipped: plan.skipped })
}

/// Which weights become what; whether they can.
///
/// The values of a weight are checked when it is tried, which is early enough for all but those in
/// `doubtful`, with their blobs: these may stay as they are, and how many blobs there will be stands first in the file.
fn plan<'a>(
    recipe: &Recipe,
    weights: &'a [Weight],
    doubtful: &'a BTreeMap<&BlobRef, Blob>,
    tried: &mut Tried<'a>,
    how: (Search, i32),
) -> Result<Plan<'a>, CompressError> {
    let mut plan = Plan { chosen: BTreeMap::new(), skipped: Vec::new() };
    for (weight, scheme) in select::matched(weights, recipe)? {
        let blob = doubtful.get(&weight.at);
        let mut possible = check(weight, scheme, how.1);
        if let (Ok(()), Some(blob)) = (&possible, blob)
            && let Entry::Vacant(place) = tried.entry((&weight.at, scheme))
        {
            match found(weight, scheme, blob, how) {
                Ok(found) => _ = place.insert(is_small(&found).then_some(found)),
                Err(CompressError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(error) => possible = Err(error),
            }
        }
        match possible {
            Ok(()) => drop(plan.chosen.insert(&weight.at, (weight, scheme))),
            Err(error) if blob.is_some() => {
                let (name, scheme) = (weight.name.clone(), scheme.to_string());
                plan.skipped.push(Skipped { name, scheme, reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(plan)
}

fn check(weight: &Weight, scheme: Scheme, version: i32) -> Result<(), CompressError> {
    encoding::check(scheme, version)?;
    if weight.dtype != DType::F16 {
        return Err(CompressError::Fp32 { name: weight.name.clone() });
    }
    if weight.axes.is_none() && needs_axes(scheme) {
        let (name, scheme) = (weight.name.clone(), scheme.to_string());
        return Err(CompressError::Axes { name, scheme });
    }
    Ok(())
}

/// True if it matters which axis is which.
fn needs_axes(scheme: Scheme) -> bool {
    use quant::scheme::{PerChannelScale, ScaleGranularity, TableGranularity};
    match scheme.code {
        Code::Float => false,
        Code::Palettize(p) => {
            let along = p.granularity != TableGranularity::PerTensor || p.cluster_dim > 1;
            match p.per_channel_scale {
                Some(PerChannelScale::Outputs) => true,
                Some(PerChannelScale::Inputs) => p.channel_axis.is_none(),
                None => along && p.channel_axis.is_none(),
            }
        }
        Code::Linear(linear) => matches!(
            linear.granularity,
            ScaleGranularity::PerChannel | ScaleGranularity::PerBlock(_)
        ),
    }
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

/// The weight by the scheme, which its package can hold.
fn found<'a>(
    weight: &Weight,
    scheme: Scheme,
    blob: &'a Blob,
    (search, version): (Search, i32),
) -> Result<quant::Compressed<'a>, CompressError> {
    let found = compress(weight, scheme, blob, search)?;
    encoding::check_found(&found, scheme, version)?;
    Ok(found)
}

/// The weight by the scheme.
fn compress<'a>(
    weight: &Weight,
    scheme: Scheme,
    blob: &'a Blob,
    search: Search,
) -> Result<quant::Compressed<'a>, CompressError> {
    let wrong = |error| CompressError::Weight {
        name: weight.name.clone(),
        scheme: scheme.to_string(),
        error,
    };
    let values: &[f16] = bytemuck::try_cast_slice(blob.bytes())
        .expect("a blob's data is aligned to 64 bytes in a mapping that is aligned to a page");
    let shape: Vec<usize> =
        weight.shape.iter().map(|&n| usize::try_from(n).expect("the data is in memory")).collect();
    // Where no axis is asked for any will do.
    let axes = weight.axes.unwrap_or(Axes::OUTPUT_FIRST);
    let dense = quant::Weight::new(values, &shape, axes).map_err(wrong)?;
    let found = quant::compress(dense, scheme, search);
    // Asked to stop, it ends early, and what it gives says nothing.
    cancel::check()?;
    found.map_err(wrong)
}
