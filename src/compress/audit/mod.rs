//! Sizes and storage formats of a package's weights, read from the package.
//!
//! The convention: bits per weight are eight times the bytes of the weight's blobs (codes, tables, scales, zero points,
//! mask) over the elements of the dense weight. The 64-byte record of each blob and the zeros up to the next multiple of
//! 64 are `alignment`, which only the second figure, with alignment, has in it. What is written in the program itself, such
//! as the single scale of a tensor before iOS18, is not counted. A weight that functions share counts once, and so does a
//! blob that weights share.

mod parts;
mod storage_format;
mod weight_graph;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use parts::{Parts, Role};
pub use storage_format::{Scales, StorageFormat, Tables};
pub(super) use weight_graph::is_constant;
pub use weight_graph::{StoredWeight, float_constants, stored_weights};

use super::encoding::Encoding;
use super::recipe::Component;
use super::select::{MIN_ELEMENTS, Weight};
use crate::mil::{BlobRef, ConstError, DType, edit};
use crate::package::Package;
use crate::quant::Distortion;

/// The convention in one line.
pub const CONVENTION: &str = "bits per weight = 8 × bytes of its blobs / elements; with alignment: also their records and \
                              padding to 64 bytes; what functions share counts once";

/// One weight: its form, size and error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorAudit {
    /// The weight's name.
    pub name: String,
    /// The part of the model, as recipes call it.
    pub component: String,
    /// The shape of the dense weight.
    pub shape: Vec<u64>,
    /// The type of its elements once it is dense.
    pub dtype: String,
    /// The scheme, or how the weight is stored, in words.
    pub form: String,
    /// Storage format, if read from the package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<StorageFormat>,
    /// Elements of the dense weight.
    pub elements: u64,
    /// Bytes of its data: codes, tables, scales, zero points, mask.
    pub bytes: u64,
    /// The same by what they are, and the alignment.
    pub parts: Parts,
    /// Eight times the bytes over the elements.
    pub bits_per_weight: f64,
    /// The same with the alignment.
    pub bits_with_alignment: f64,
    /// The functions that use it.
    pub functions: Vec<String>,
    /// Root of the squared error over the root of the squared weights, where the original was at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
    /// The peak signal-to-noise ratio in dB, where there is noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psnr_db: Option<f64>,
    /// The largest difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
}

/// Some weights together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentAudit {
    /// The part of the model.
    pub component: String,
    /// Number of weights.
    pub weights: u64,
    /// Their elements.
    pub elements: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// The same by what they are, and the alignment.
    pub parts: Parts,
    /// Eight times the bytes over the elements.
    pub bits_per_weight: f64,
    /// The same with the alignment.
    pub bits_with_alignment: f64,
}

/// Bytes of the blob file beside weights: norms, biases, rotary tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rest {
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their records, and zeros up to the next multiple of 64.
    pub alignment: u64,
}

/// All weights of a package.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    /// The weights in the order of the blob file.
    pub tensors: Vec<TensorAudit>,
    /// Bytes of all weights' data.
    pub bytes: u64,
    /// Elements of all weights.
    pub elements: u64,
    /// Eight times the bytes over the elements.
    pub bits_per_weight: f64,
    /// The same with the alignment.
    pub bits_with_alignment: f64,
    /// The bytes by what they are, and the alignment.
    pub parts: Parts,
    /// The weights of each part of the model.
    pub components: Vec<ComponentAudit>,
    /// Bytes of the blob file beside weights.
    pub rest: Rest,
    /// Unit of the figures.
    pub convention: &'static str,
}

impl TensorAudit {
    pub(super) fn dense(weight: &Weight, bytes: u64) -> Self {
        let mut parts = Parts::default();
        parts.add(Role::Codes, bytes);
        let line = Self::of(weight.into(), weight.dtype.to_string(), parts);
        Self { relative_error: Some(0.0), ..line }
    }

    pub(super) fn compressed(
        weight: &Weight,
        scheme: String,
        encoding: &Encoding,
        distortion: &Distortion,
    ) -> Self {
        let mut parts = Parts::default();
        for (role, part) in encoding.roles() {
            parts.add(role, part.bits().div_ceil(8));
        }
        Self::of(weight.into(), scheme, parts).with_error(distortion)
    }

    /// The line of a weight that is stored in `parts`; its error is not known.
    fn of(weight: Subject<'_>, form: String, parts: Parts) -> Self {
        let elements = weight.shape.iter().product();
        Self {
            name: weight.name.to_owned(),
            component: weight.component.to_string(),
            shape: weight.shape.to_vec(),
            dtype: weight.dtype.to_string(),
            form,
            stored: None,
            elements,
            bytes: parts.bytes(),
            parts,
            bits_per_weight: bits_per_weight(parts.bytes(), elements),
            bits_with_alignment: bits_per_weight(parts.aligned(), elements),
            functions: weight.functions,
            relative_error: None,
            psnr_db: None,
            max_error: None,
        }
    }

    /// The same line with how far the weight is from its original.
    #[must_use]
    pub fn with_error(self, distortion: &Distortion) -> Self {
        Self {
            relative_error: Some(distortion.relative_error()),
            psnr_db: distortion.psnr(),
            max_error: Some(distortion.max_error),
            ..self
        }
    }
}

fn bits_per_weight(bytes: u64, elements: u64) -> f64 {
    if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 }
}

/// Reads the weights of `package`, dense and compressed, and the sizes of their blobs.
pub fn audit(package: &Package) -> Result<Audit, ConstError> {
    let blobs = package.blobs();
    let size = |at: &BlobRef| Ok::<_, ConstError>(blobs.blob(at)?.bytes().len() as u64);
    let mut counted: BTreeSet<&BlobRef> = BTreeSet::new();
    let mut sums: BTreeMap<&'static str, ComponentAudit> = BTreeMap::new();
    let mut tensors = Vec::new();
    for weight in stored_weights(package.program(), MIN_ELEMENTS) {
        let component = weight.component.name();
        let sum = sums.entry(component).or_insert_with(|| ComponentAudit::empty(component));
        let mut parts = Parts::default();
        for (role, at) in weight.blobs() {
            let bytes = size(at)?;
            parts.add(role, bytes);
            if counted.insert(at) {
                sum.parts.add(role, bytes);
            }
        }
        sum.weights += 1;
        sum.elements = sum.elements.saturating_add(weight.elements());
        let coding = weight.storage_format();
        let line = TensorAudit::of((&weight).into(), coding.to_string(), parts);
        tensors.push(TensorAudit { stored: Some(coding), ..line });
    }
    let mut rest = Rest::default();
    let mut others: BTreeSet<&BlobRef> = BTreeSet::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        edit::for_each_blob(op, &mut |at| others.extend([at]));
    });
    for at in others.difference(&counted) {
        let bytes = size(at)?;
        rest.blobs += 1;
        rest.bytes += bytes;
        rest.alignment += crate::blob::overhead(bytes);
    }
    let components: Vec<_> = sums.into_values().map(ComponentAudit::summed).collect();
    let mut all = ComponentAudit::empty("all");
    for component in &components {
        all.take(component);
    }
    let all = all.summed();
    Ok(Audit {
        tensors,
        bytes: all.bytes,
        elements: all.elements,
        bits_per_weight: all.bits_per_weight,
        bits_with_alignment: all.bits_with_alignment,
        parts: all.parts,
        components,
        rest,
        convention: CONVENTION,
    })
}

impl Audit {
    /// All weights together.
    pub fn all(&self) -> ComponentAudit {
        ComponentAudit {
            component: "all".to_owned(),
            weights: self.tensors.len() as u64,
            elements: self.elements,
            bytes: self.bytes,
            parts: self.parts,
            bits_per_weight: self.bits_per_weight,
            bits_with_alignment: self.bits_with_alignment,
        }
    }
}

/// A weight, before it is stored or after it is read.
struct Subject<'a> {
    name: &'a str,
    component: Component,
    shape: &'a [u64],
    dtype: DType,
    functions: Vec<String>,
}

impl<'a> From<&'a Weight> for Subject<'a> {
    fn from(weight: &'a Weight) -> Self {
        let Weight { name, component, shape, dtype, functions, .. } = weight;
        let functions = functions.clone();
        Self { name, component: *component, shape, dtype: *dtype, functions }
    }
}

impl<'a> From<&'a StoredWeight<'_>> for Subject<'a> {
    fn from(weight: &'a StoredWeight<'_>) -> Self {
        let StoredWeight { name, component, shape, dtype, functions, .. } = weight;
        let functions = functions.iter().map(|&function| function.to_owned()).collect();
        Self { name, component: *component, shape, dtype: *dtype, functions }
    }
}

impl ComponentAudit {
    /// No weights of a part of the model.
    pub(super) fn empty(component: &str) -> Self {
        Self {
            component: component.to_owned(),
            weights: 0,
            elements: 0,
            bytes: 0,
            parts: Parts::default(),
            bits_per_weight: 0.0,
            bits_with_alignment: 0.0,
        }
    }

    fn take(&mut self, other: &Self) {
        self.weights += other.weights;
        self.elements = self.elements.saturating_add(other.elements);
        self.parts.merge(&other.parts);
    }

    fn summed(self) -> Self {
        Self {
            bytes: self.parts.bytes(),
            bits_per_weight: bits_per_weight(self.parts.bytes(), self.elements),
            bits_with_alignment: bits_per_weight(self.parts.aligned(), self.elements),
            ..self
        }
    }
}
