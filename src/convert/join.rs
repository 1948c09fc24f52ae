//! Joins single-function packages into one program whose constants refer to a list of entries, each stored once.

use std::collections::BTreeMap;

use indexmap::IndexSet;

use super::ConvertError;
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
    /// The checkpoint, through a placeholder.
    Placeholder {
        /// The id in Python's table.
        id: u64,
        /// Whether the chat adapters stay out: this copy is the base's own weight.
        over_base: bool,
    },
    /// The skeleton itself.
    Given(Blob),
}

/// What makes two constants the same blob.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Placeholder(u64, bool, DType),
    Given(BlobType, String),
}

/// Joins `parts`, given as (function name, package with the one function `main`).
///
/// The first part's function is the default one. `over_base` says of a function and a placeholder whether that
/// function wants the base's own weight where others have the chat adapters merged.
pub(super) fn join(
    parts: &[(String, Package)],
    over_base: &dyn Fn(&str, u64) -> bool,
) -> Result<Joined, ConvertError> {
    let (default_name, first) = parts.first().expect("a request names at least one function");
    let mut program = first.program().clone();
    program.functions = BTreeMap::new();
    let mut description = first.model().description.clone();
    let mut keys = IndexSet::new();
    let mut entries = Vec::new();
    let mut specification_version = 0;
    let mut described = Vec::new();
    for (name, package) in parts {
        let mut one = package.program().clone();
        edit::for_each_op_mut(&mut one, &mut |op| {
            edit::for_each_blob_mut(op, &mut |ty, at| {
                point_to_entry(ty, at, package, &|id| over_base(name, id), &mut keys, &mut entries)
            })
        })?;
        let main = one.functions.remove("main").ok_or_else(|| ConvertError::NoMain { function: name.clone() })?;
        program.functions.insert(name.clone(), main);
        described.push(FunctionDescription {
            name: name.clone(),
            ..package.model().describe("main").expect("a program with `main` alone describes it")
        });
        specification_version = specification_version.max(package.model().specification_version);
    }
    if parts.len() > 1 {
        description = ModelDescription {
            functions: described,
            default_function_name: default_name.clone(),
            input: Vec::new(),
            output: Vec::new(),
            state: Vec::new(),
            ..description
        };
    } else if let Some(main) = program.functions.remove(default_name) {
        // A package of one function keeps Core ML's own name for it, which every target understands.
        program.functions.insert("main".to_owned(), main);
    }
    Ok(Joined { model: Model { specification_version, description, program }, entries })
}

/// Replaces the offset of a blob by the index of its entry, adding the entry if it is new.
fn point_to_entry(
    ty: &Type,
    at: &mut BlobRef,
    package: &Package,
    over_base: &dyn Fn(u64) -> bool,
    keys: &mut IndexSet<Key>,
    entries: &mut Vec<Entry>,
) -> Result<(), ConvertError> {
    let tensor = ty.as_tensor().expect("coremltools stores only tensors in blobs");
    let shape = tensor.fixed_shape().expect("a stored tensor has a fixed shape");
    let dtype = tensor.dtype;
    let (key, content) = if at.offset >= PLACEHOLDER_BASE {
        let id = (at.offset - PLACEHOLDER_BASE) / PLACEHOLDER_STEP;
        let over_base = over_base(id);
        (Key::Placeholder(id, over_base, dtype), Content::Placeholder { id, over_base })
    } else {
        let blob = package.blobs().blob(at)?;
        (Key::Given(blob.ty, digest::of_bytes(blob.bytes())), Content::Given(blob))
    };
    let (index, new) = keys.insert_full(key);
    if new {
        entries.push(Entry { dtype, shape, content });
    }
    at.file = WEIGHT_FILE.to_owned();
    at.offset = index as u64;
    Ok(())
}
