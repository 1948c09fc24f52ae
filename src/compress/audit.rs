//! What a package's weights take, read from the package itself.

use serde::Serialize;

use super::recipe::Component;
use super::select::{self, MIN_ELEMENTS, Weight};
use crate::mil::{Arg, ConstError, Op, edit};
use crate::package::Package;

/// One weight: its form, size and error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorAudit {
    /// The weight's name.
    pub name: String,
    /// The part of the model, as recipes call it.
    pub component: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// The scheme, or the operation that gives the dense weight back.
    pub form: String,
    /// Bytes of its data: indices, tables, scales, offsets.
    pub bytes: u64,
    /// Eight times the bytes over the elements.
    pub bits_per_weight: f64,
    /// Root of the squared error over the root of the squared weights, where the original was at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
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
}

impl TensorAudit {
    pub(super) fn dense(weight: &Weight, bytes: u64) -> Self {
        Self::new(
            weight.name.clone(),
            weight.component,
            &weight.shape,
            weight.dtype.to_string(),
            bytes,
            Some(0.0),
        )
    }

    pub(super) fn compressed(weight: &Weight, form: String, bytes: u64, error: f64) -> Self {
        Self::new(weight.name.clone(), weight.component, &weight.shape, form, bytes, Some(error))
    }

    fn new(
        name: String,
        component: Component,
        shape: &[u64],
        form: String,
        bytes: u64,
        relative_error: Option<f64>,
    ) -> Self {
        let elements: u64 = shape.iter().product();
        Self {
            name,
            component: component.to_string(),
            shape: shape.to_vec(),
            form,
            bytes,
            bits_per_weight: bits_per_weight(bytes, elements),
            relative_error,
        }
    }
}

fn bits_per_weight(bytes: u64, elements: u64) -> f64 {
    if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 }
}

/// Reads the weights of `package`, dense and compressed; each blob counts once.
pub fn audit(package: &Package) -> Result<Audit, ConstError> {
    let blobs = package.blobs();
    let mut tensors = Vec::new();
    for weight in select::weights(package.program(), MIN_ELEMENTS) {
        let bytes = blobs.blob(&weight.at)?.bytes().len() as u64;
        tensors.push((
            weight.at.clone(),
            TensorAudit::new(
                weight.name.clone(),
                weight.component,
                &weight.shape,
                weight.dtype.to_string(),
                bytes,
                None,
            ),
        ));
    }
    let mut ops: Vec<&Op> = Vec::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        if op.kind.starts_with("constexpr_") {
            ops.push(op);
        }
    });
    for op in ops {
        let mut places = op.inputs.values().flatten().filter_map(|arg| match arg {
            Arg::Value(value) => value.as_blob(),
            Arg::Name(_) => None,
        });
        let Some(first) = places.next() else { continue };
        let mut bytes = blobs.blob(first)?.bytes().len() as u64;
        for place in places {
            bytes += blobs.blob(place)?.bytes().len() as u64;
        }
        let shape =
            op.outputs.first().and_then(|o| o.ty.as_tensor()?.fixed_shape()).unwrap_or_default();
        let name = op.name().trim_end_matches("_to_fp16");
        let line =
            TensorAudit::new(name.to_owned(), Component::of(name), &shape, form(op), bytes, None);
        tensors.push((first.clone(), line));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors.dedup_by(|a, b| a.0 == b.0);
    let tensors: Vec<_> = tensors.into_iter().map(|(_, line)| line).collect();
    let bytes = tensors.iter().map(|t| t.bytes).sum();
    let elements = tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    Ok(Audit { tensors, bytes, elements, bits_per_weight: bits_per_weight(bytes, elements) })
}

/// The form of a compressed constant in words: the operation and the type of what it stores.
fn form(op: &Op) -> String {
    let stored = ["indices", "data", "nonzero_data"].iter().find_map(|parameter| {
        match op.inputs.get(*parameter)?.as_slice() {
            [Arg::Value(value)] => value.ty.as_tensor().map(|t| t.dtype),
            _ => None,
        }
    });
    let kind = op.kind.trim_start_matches("constexpr_");
    stored.map_or_else(|| kind.to_owned(), |dtype| format!("{kind} {dtype}"))
}
