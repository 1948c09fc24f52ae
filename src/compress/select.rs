//! Which constants of a program are weights, and which part of the model each belongs to.

use std::collections::BTreeMap;

use super::error::CompressError;
use super::recipe::{Component, Recipe};
use crate::mil::{Arg, BlobRef, DType, Op, Program, Value, edit};
use crate::quant::{Axes, Scheme};

/// Constants with fewer elements than this are no weights where nobody says otherwise: norms, biases, small tables.
pub const MIN_ELEMENTS: u64 = 2048;

/// A constant that recipes are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The constant's name in the first function that uses it.
    pub name: String,
    /// Location of the stored data.
    pub at: BlobRef,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Which axes are output and input channels; none if its uses differ in that.
    pub axes: Option<Axes>,
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

/// One line per use of a constant that makes it a weight: (kind, parameter, axes of output and input channels).
///
/// The axes are those of coremltools, `select_input_output_channel_axis`.
const USES: &[(&str, &str, AxesOf)] = &[
    ("linear", "weight", |_, _| Axes::OUTPUT_FIRST),
    ("conv", "weight", |_, _| Axes::OUTPUT_FIRST),
    ("conv_transpose", "weight", |_, _| Axes { output: 1, input: 0 }),
    ("matmul", "y", |rank, transposed| {
        if transposed {
            Axes { output: rank - 2, input: rank - 1 }
        } else {
            Axes { output: rank - 1, input: rank - 2 }
        }
    }),
    ("gather", "x", |_, _| Axes::OUTPUT_FIRST),
];

/// The axes for a rank, and for an operation that transposes its parameter or not.
type AxesOf = fn(usize, bool) -> Axes;

/// The weights of `program` in the order of their places in the blob file.
///
/// A weight is a stored float constant of rank 2 or more with at least `least` elements that a product or an
/// embedding uses. Tables that the graph itself makes (rotary angles) are not.
pub fn weights(program: &Program, least: u64) -> Vec<Weight> {
    // Booleans by name, for parameters that are constants of their own.
    let mut flags: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    edit::for_each_op(program, &mut |function, op| {
        if let Some(flag) = op.const_value().and_then(Value::as_bool) {
            flags.insert((function, op.name()), flag);
        }
    });
    let mut uses: BTreeMap<(&str, &str), Vec<(AxesOf, bool)>> = BTreeMap::new();
    edit::for_each_op(program, &mut |function, op| {
        for (kind, parameter, axes) in USES {
            if op.kind == *kind
                && let Some(name) = op.input_name(parameter)
            {
                let transposed = match op.inputs.get("transpose_y").map(Vec::as_slice) {
                    Some([Arg::Value(value)]) => value.as_bool().unwrap_or(false),
                    Some([Arg::Name(flag)]) => {
                        flags.get(&(function, flag.as_str())).copied().unwrap_or(false)
                    }
                    _ => false,
                };
                uses.entry((function, name)).or_default().push((*axes, transposed));
            }
        }
    });
    let mut found: BTreeMap<BlobRef, Weight> = BTreeMap::new();
    edit::for_each_op(program, &mut |function, op| {
        let Some(uses) = uses.get(&(function, op.name())) else { return };
        let Some(mut weight) = candidate(op, least) else { return };
        let rank = weight.shape.len();
        let mut axes = uses.iter().map(|(axes, transposed)| axes(rank, *transposed));
        let first = axes.next();
        weight.axes = first.filter(|first| axes.all(|other| other == *first));
        let axes = weight.axes;
        let known = found.entry(weight.at.clone()).or_insert(weight);
        if known.axes != axes {
            known.axes = None;
        }
        if known.functions.last().is_none_or(|last| last != function) {
            known.functions.push(function.to_owned());
        }
    });
    found.into_values().collect()
}

/// The weights that `recipe` compresses, and how; an error where there are none at all or a rule finds none.
pub fn matched<'a>(
    weights: &'a [Weight],
    recipe: &Recipe,
) -> Result<Vec<(&'a Weight, Scheme)>, CompressError> {
    if weights.is_empty() {
        return Err(CompressError::NoWeights);
    }
    let named: Vec<_> = weights.iter().map(|w| (w.name.as_str(), w.component)).collect();
    if let Some(selector) = recipe.unmatched_rule(&named) {
        return Err(CompressError::Idle { selector: selector.to_string(), weights: weights.len() });
    }
    let scheme = |weight: &Weight| recipe.scheme_for(&weight.name, weight.component);
    let all = weights.iter().filter_map(|weight| Some((weight, scheme(weight)?)));
    Ok(all.filter(|(_, scheme)| *scheme != Scheme::FP16).collect())
}

/// The name of the weight that a constant is: without what the pass to fp16 appends.
pub(super) fn dense_name(op: &str) -> &str {
    op.trim_end_matches("_to_fp16")
}

/// The name of the weight that a compressed constant is: also without what coremltools' compression appends.
pub(super) fn compressed_name(op: &str) -> &str {
    const ENDS: [&str; 5] =
        ["_to_fp16", "_palettized", "_palettized_pcs", "_quantized", "_sparsified"];
    let mut name = op;
    while let Some(shorter) = ENDS.iter().find_map(|end| name.strip_suffix(end)) {
        name = shorter;
    }
    name
}

fn candidate(op: &Op, least: u64) -> Option<Weight> {
    let value = op.const_value()?;
    let at = value.as_blob()?.clone();
    let tensor = value.ty.as_tensor()?;
    let shape = tensor.fixed_shape()?;
    let component = Component::of(op.name());
    let fits = shape.len() >= 2
        && tensor.elements()? >= least
        && matches!(tensor.dtype, DType::F16 | DType::F32)
        && component != Component::Table;
    let name = dense_name(op.name()).to_owned();
    fits.then(|| Weight {
        name,
        at,
        shape,
        axes: None,
        dtype: tensor.dtype,
        component,
        functions: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_what_passes_append() {
        let cases = [
            ("w", "w", "w"),
            ("w_to_fp16", "w", "w"),
            ("w_to_fp16_palettized", "w_to_fp16_palettized", "w"),
            ("w_sparsified_palettized", "w_sparsified_palettized", "w"),
            ("w_palettized_pcs", "w_palettized_pcs", "w"),
            ("w_quantized_scale", "w_quantized_scale", "w_quantized_scale"),
        ];
        for (op, dense, compressed) in cases {
            assert_eq!((dense_name(op), compressed_name(op)), (dense, compressed));
        }
    }
}
