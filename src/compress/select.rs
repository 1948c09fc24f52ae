//! Which constants of a program are weights, and which part of the model each belongs to.

use std::collections::{BTreeMap, BTreeSet};

use super::recipe::Component;
use crate::mil::{BlobRef, DType, Op, Program, edit};

/// Constants with fewer elements than this are no weights: norms, biases, small tables.
pub(super) const MIN_ELEMENTS: u64 = 2048;

/// A constant that recipes are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The constant's name in the first function that uses it.
    pub name: String,
    /// Where it is stored.
    pub at: BlobRef,
    /// Its shape, output channels first.
    pub shape: Vec<u64>,
    /// Its element type, fp16 or fp32.
    pub dtype: DType,
    /// The part of the model.
    pub component: Component,
    /// The functions that use it.
    pub functions: Vec<String>,
}

impl Weight {
    /// Elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Operations whose parameter, given as a constant, is a weight: (kind, parameter).
const USES: &[(&str, &str)] = &[
    ("linear", "weight"),
    ("conv", "weight"),
    ("conv_transpose", "weight"),
    ("matmul", "y"),
    ("gather", "x"),
];

/// The weights of `program` in the order of their places in the blob file.
///
/// A weight is a stored float constant of rank 2 or more with at least `MIN_ELEMENTS` (2048) elements that a product or an
/// embedding uses. Tables that the graph itself makes (rotary angles) are not.
pub fn weights(program: &Program) -> Vec<Weight> {
    let mut uses = BTreeSet::new();
    edit::for_each_op(program, &mut |function, op| {
        for (kind, parameter) in USES {
            if op.kind == *kind
                && let Some(name) = op.input_name(parameter)
            {
                uses.insert((function, name));
            }
        }
    });
    let mut found: BTreeMap<BlobRef, Weight> = BTreeMap::new();
    edit::for_each_op(program, &mut |function, op| {
        let used = uses.contains(&(function, op.name()));
        let Some(weight) = used.then(|| candidate(op)).flatten() else { return };
        let known = found.entry(weight.at.clone()).or_insert(weight);
        if known.functions.last().is_none_or(|last| last != function) {
            known.functions.push(function.to_owned());
        }
    });
    found.into_values().collect()
}

fn candidate(op: &Op) -> Option<Weight> {
    let value = op.const_value()?;
    let at = value.as_blob()?.clone();
    let tensor = value.ty.as_tensor()?;
    let shape = tensor.fixed_shape()?;
    let component = Component::of(op.name());
    let fits = shape.len() >= 2
        && tensor.elements()? >= MIN_ELEMENTS
        && matches!(tensor.dtype, DType::F16 | DType::F32)
        && component != Component::Table;
    let name = op.name().trim_end_matches("_to_fp16").to_owned();
    fits.then(|| Weight { name, at, shape, dtype: tensor.dtype, component, functions: Vec::new() })
}
