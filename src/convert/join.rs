//! Joins single-function packages into one program with deduplicated constants.

use std::collections::BTreeMap;

use super::ConvertError;
use super::origin::{self, WeightOrigin};
use crate::base::digest;
use crate::blob::{Blob, BlobType};
use crate::mil::{BlobRef, DType, Type, edit};
use crate::package::{Model, Package, WEIGHT_FILE};
use crate::proto::model::{FunctionDescription, ModelDescription};

/// Blob offsets from this value on are placeholder ids; no weight file is that long.
const PLACEHOLDER_BASE: u64 = 1 << 40;
/// Offset difference between consecutive placeholder ids.
const PLACEHOLDER_STEP: u64 = 64;

/// A program whose weights are not written yet.
#[derive(Debug)]
pub(super) struct JoinedProgram {
    /// The model. Its blob offsets are indices into `entries`.
    pub(super) model: Model,
    /// Distinct blobs in order of first use.
    pub(super) entries: Vec<BlobEntry>,
}

/// One blob to write.
#[derive(Debug)]
pub(super) struct BlobEntry {
    /// Element type.
    pub(super) dtype: DType,
    /// Shape in the program.
    pub(super) shape: Vec<u64>,
    /// Source of the elements.
    pub(super) content: BlobContent,
}

/// Source of a blob's elements.
#[derive(Debug)]
pub(super) enum BlobContent {
    /// Checkpoint or adapter.
    FromCheckpoint(WeightOrigin),
    /// Constant of the skeleton package.
    FromSkeleton(Blob),
}

/// Deduplication key of a constant.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    FromCheckpoint(origin::Key, DType),
    FromSkeleton(BlobType, String),
}

/// Joins `parts`, pairs of function name and package with the single function `main`. `origin` resolves the placeholder
/// ids of a function.
///
/// The first function is the default one. A single part keeps the name `main`, which every target supports.
pub(super) fn join(
    parts: &[(String, Package)],
    origin: &dyn Fn(&str, u64) -> Result<WeightOrigin, ConvertError>,
) -> Result<JoinedProgram, ConvertError> {
    let (default_name, first) = parts.first().expect("a request names at least one function");
    let mut program = first.program().clone();
    program.functions = BTreeMap::new();
    let mut entries = Entries::default();
    let mut specification_version = 0;
    let mut described = Vec::new();
    for (name, package) in parts {
        let mut one = package.program().clone();
        edit::for_each_op_mut(&mut one, &mut |op| {
            edit::for_each_blob_mut(op, &mut |ty, at| {
                entries.enter(ty, at, package, &|id| origin(name, id))
            })
        })?;
        let main = one
            .functions
            .remove("main")
            .ok_or_else(|| ConvertError::NoMain { function: name.clone() })?;
        let joined_name = if parts.len() > 1 { name.clone() } else { "main".to_owned() };
        program.functions.insert(joined_name, main);
        described.push(FunctionDescription {
            name: name.clone(),
            ..package.model().describe("main").expect("a program with `main` alone describes it")
        });
        specification_version = specification_version.max(package.model().specification_version);
    }
    let mut description = first.model().description.clone();
    if parts.len() > 1 {
        description = ModelDescription {
            functions: described,
            default_function_name: default_name.clone(),
            input: Vec::new(),
            output: Vec::new(),
            state: Vec::new(),
            ..description
        };
    }
    Ok(JoinedProgram {
        model: Model { specification_version, description, program },
        entries: entries.list,
    })
}

/// Returns a package unchanged in the form that [`write_weights`](super::write_weights) takes.
pub(super) fn copy(
    package: &Package,
    origin: &dyn Fn(&str, u64) -> Result<WeightOrigin, ConvertError>,
) -> Result<JoinedProgram, ConvertError> {
    let mut model = package.model().clone();
    let mut entries = Entries::default();
    edit::for_each_op_mut(&mut model.program, &mut |op| {
        edit::for_each_blob_mut(op, &mut |ty, at| {
            entries.enter(ty, at, package, &|id| origin("", id))
        })
    })?;
    Ok(JoinedProgram { model, entries: entries.list })
}

/// Blobs collected so far, by deduplication key.
#[derive(Default)]
struct Entries {
    list: Vec<BlobEntry>,
    index_of: BTreeMap<Key, usize>,
}

impl Entries {
    /// Replaces a blob offset with the index of its entry, which is added if new.
    fn enter(
        &mut self,
        ty: &Type,
        at: &mut BlobRef,
        package: &Package,
        origin: &dyn Fn(u64) -> Result<WeightOrigin, ConvertError>,
    ) -> Result<(), ConvertError> {
        let tensor = ty.as_tensor().expect("coremltools stores only tensors in blobs");
        let shape = tensor.fixed_shape().expect("a stored tensor has a fixed shape");
        let dtype = tensor.dtype;
        let (key, content) = if at.offset >= PLACEHOLDER_BASE {
            let origin = origin((at.offset - PLACEHOLDER_BASE) / PLACEHOLDER_STEP)?;
            (Key::FromCheckpoint(origin.key(), dtype), BlobContent::FromCheckpoint(origin))
        } else {
            let blob = package.blobs().blob(at)?;
            (
                Key::FromSkeleton(blob.ty, digest::of_bytes(blob.bytes())),
                BlobContent::FromSkeleton(blob),
            )
        };
        let next = self.list.len();
        let index = *self.index_of.entry(key).or_insert(next);
        if index == next {
            self.list.push(BlobEntry { dtype, shape, content });
        }
        WEIGHT_FILE.clone_into(&mut at.file);
        at.offset = index as u64;
        Ok(())
    }
}
