//! Joins single-function packages into one program whose constants refer to a list of entries, each stored once.

use std::collections::BTreeMap;

use super::ConvertError;
use super::origin::{self, Origin};
use crate::base::digest;
use crate::blob::{Blob, BlobType};
use crate::mil::{BlobRef, DType, Type, edit};
use crate::package::{Model, Package, WEIGHT_FILE};
use crate::proto::model::{FunctionDescription, ModelDescription};

/// Offsets from here on stand for placeholders; no file is that long.
const PLACEHOLDER_BASE: u64 = 1 << 40;
/// Distance between the offsets of two placeholders.
const PLACEHOLDER_STEP: u64 = 64;

/// A program with its weights still to pour.
#[derive(Debug)]
pub(super) struct Joined {
    /// The model; its blob offsets are indices into `entries`.
    pub(super) model: Model,
    /// The distinct blobs in the order of their first use.
    pub(super) entries: Vec<Entry>,
}

/// One blob to write.
#[derive(Debug)]
pub(super) struct Entry {
    /// Element type.
    pub(super) dtype: DType,
    /// Shape in the program.
    pub(super) shape: Vec<u64>,
    /// Where the elements come from.
    pub(super) content: Content,
}

/// Where an entry's elements come from.
#[derive(Debug)]
pub(super) enum Content {
    /// The checkpoint or an adapter.
    Poured(Origin),
    /// The skeleton itself.
    Given(Blob),
}

/// What makes two constants the same blob.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Poured(origin::Key, DType),
    Given(BlobType, String),
}

/// Joins `parts`, given as (function name, package with the one function `main`); `origin` knows what a function's
/// placeholder stands for.
///
/// The first part's function is the default one. A part alone keeps the name `main`, which every target understands.
pub(super) fn join(
    parts: &[(String, Package)],
    origin: &dyn Fn(&str, u64) -> Result<Origin, ConvertError>,
) -> Result<Joined, ConvertError> {
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
    Ok(Joined {
        model: Model { specification_version, description, program },
        entries: entries.list,
    })
}

/// A whole package as it is, to be written again.
pub(super) fn copy(
    package: &Package,
    origin: &dyn Fn(&str, u64) -> Result<Origin, ConvertError>,
) -> Result<Joined, ConvertError> {
    let mut model = package.model().clone();
    let mut entries = Entries::default();
    edit::for_each_op_mut(&mut model.program, &mut |op| {
        edit::for_each_blob_mut(op, &mut |ty, at| {
            entries.enter(ty, at, package, &|id| origin("", id))
        })
    })?;
    Ok(Joined { model, entries: entries.list })
}

/// The entries so far, and which constants they stand for.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    index_of: BTreeMap<Key, usize>,
}

impl Entries {
    /// Replaces the offset of a blob by the index of its entry, adding the entry if it is new.
    fn enter(
        &mut self,
        ty: &Type,
        at: &mut BlobRef,
        package: &Package,
        origin: &dyn Fn(u64) -> Result<Origin, ConvertError>,
    ) -> Result<(), ConvertError> {
        let tensor = ty.as_tensor().expect("coremltools stores only tensors in blobs");
        let shape = tensor.fixed_shape().expect("a stored tensor has a fixed shape");
        let dtype = tensor.dtype;
        let (key, content) = if at.offset >= PLACEHOLDER_BASE {
            let origin = origin((at.offset - PLACEHOLDER_BASE) / PLACEHOLDER_STEP)?;
            (Key::Poured(origin.key(), dtype), Content::Poured(origin))
        } else {
            let blob = package.blobs().blob(at)?;
            (Key::Given(blob.ty, digest::of_bytes(blob.bytes())), Content::Given(blob))
        };
        let next = self.list.len();
        let index = *self.index_of.entry(key).or_insert(next);
        if index == next {
            self.list.push(Entry { dtype, shape, content });
        }
        WEIGHT_FILE.clone_into(&mut at.file);
        at.offset = index as u64;
        Ok(())
    }
}
