//! Precision report: each value of a function in its declared type compared with its f32 value.
//!
//! The same calls are made twice, once with each result rounded to its declared type and once unrounded. Values are
//! tapped in batches, so memory is bounded by [`BUDGET`] and not by the program: a function with many values is run
//! several times over. Errors build up along the program; [`Loss::inputs_rms_error`] tells an operation that loses
//! from one that hands on what was lost before it.

mod calls;
mod difference;
mod first;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use calls::{Sentences, Text, of_decoder, of_encoder, of_function};
pub(super) use calls::{first_of_decoder, first_of_encoder};
use difference::Difference;

use crate::base::cancel;
use crate::eval::error::EvalError;
use crate::interp::{self, Precision};
use crate::mil;
use crate::runtime::Values;

/// Bytes of tapped values that are held at a time.
const BUDGET: u64 = 256 << 20;
/// Elements assumed of a value whose extents are known only when it is computed.
const UNKNOWN: u64 = 1 << 20;

/// One value of one operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Loss {
    /// The value's name, which is the operation's.
    pub name: String,
    /// The kind of operation.
    pub kind: String,
    /// Location: `function/name`.
    pub at: String,
    /// Its place among the values that are computed, from 1.
    pub index: usize,
    /// True if it is a result of the function.
    pub output: bool,
    /// The declared type.
    pub dtype: String,
    /// Elements compared, over all calls.
    pub elements: u64,
    /// The largest magnitude in f32.
    pub largest: f64,
    /// Elements that are infinite and finite in f32.
    pub overflows: u64,
    /// Elements that are no number and one in f32.
    pub nans: u64,
    /// Elements that are 0 and not 0 in f32.
    pub underflows: u64,
    /// The largest |x − f32| / |f32| of an element whose magnitude in f32 is at least the smallest normal fp16.
    pub max_error: f64,
    /// √(Σ (x − f32)² / Σ f32²) over elements that are finite both ways.
    pub rms_error: f64,
    /// The largest `rms_error` among the values that the operation reads; nothing where it reads none.
    pub inputs_rms_error: Option<f64>,
    /// Whole numbers and booleans that differ.
    pub differing: u64,
}

/// A function's values, in the order in which they are computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Precisions {
    /// The function.
    pub function: String,
    /// Calls made in each precision.
    pub calls: u64,
    /// Index of the first operation with an infinity or NaN that f32 does not have.
    pub first: Option<usize>,
    /// The values.
    pub operations: Vec<Loss>,
}

impl Precisions {
    /// The `n` values that lose most: by overflows, then NaNs, then relative error, the earlier of equals first.
    pub fn worst(&self, n: usize) -> Vec<&Loss> {
        let mut all: Vec<&Loss> = self.operations.iter().filter(|op| op.loses()).collect();
        all.sort_by(|a, b| {
            let counts = |op: &Loss| (op.overflows, op.nans);
            // Errors of what is left beside infinities say nothing.
            let error = |op: &Loss| if op.breaks() { 0.0 } else { op.rms_error };
            counts(b).cmp(&counts(a)).then(error(b).total_cmp(&error(a)))
        });
        all.truncate(n);
        all
    }

    /// The first operation with an infinity or NaN that f32 does not have.
    pub fn first(&self) -> Option<&Loss> {
        self.operations.iter().find(|op| Some(op.index) == self.first)
    }
}

impl Loss {
    fn breaks(&self) -> bool {
        self.overflows > 0 || self.nans > 0
    }

    fn loses(&self) -> bool {
        self.breaks() || self.underflows > 0 || self.rms_error > 0.0 || self.differing > 0
    }
}

/// A value to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    name: String,
    kind: String,
    dtype: mil::DType,
    output: bool,
    bytes: u64,
    reads: Vec<String>,
}

impl Watched {
    /// What a planned function computes; `source` is the function as the program has it.
    pub fn of(planned: &interp::Function, source: &mil::Function) -> Vec<Self> {
        let mut reads: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for op in &source.block.ops {
            let named = |arg: &mil::Arg| match arg {
                mil::Arg::Name(name) => Some(name.clone()),
                mil::Arg::Value(_) => None,
            };
            let names: Vec<_> = op.inputs.values().flatten().filter_map(named).collect();
            for out in &op.outputs {
                reads.insert(&out.name, names.clone());
            }
        }
        let watched = |(kind, port): (&str, interp::Port)| {
            let elements = port.shape.iter().try_fold(1_u64, |n, d| n.checked_mul((*d)? as u64));
            Self {
                kind: kind.to_owned(),
                dtype: port.dtype,
                output: source.block.outputs.contains(&port.name),
                bytes: elements.unwrap_or(UNKNOWN).saturating_mul(4),
                reads: reads.get(port.name.as_str()).cloned().unwrap_or_default(),
                name: port.name,
            }
        };
        planned.computed().map(watched).collect()
    }
}

/// Makes all calls in one precision and hands over the outputs and tapped values of each.
pub(super) type MakeCalls<'a> =
    dyn FnMut(Precision, &[&str], &mut dyn FnMut(Values)) -> Result<(), EvalError> + 'a;

/// Compares the `watched` values of `function` over all `calls`.
pub(super) fn compare(
    function: &str,
    watched: &[Watched],
    calls: usize,
    make: &mut MakeCalls<'_>,
) -> Result<Precisions, EvalError> {
    let mut found: Vec<Difference> = Vec::with_capacity(watched.len());
    for batch in batches(watched, BUDGET / calls.max(1) as u64) {
        found.extend(differences(&watched[batch], calls, make)?);
    }
    let errors: BTreeMap<&str, f64> =
        watched.iter().zip(&found).map(|(w, d)| (w.name.as_str(), d.rms_error())).collect();
    let operations: Vec<Loss> = watched
        .iter()
        .zip(&found)
        .enumerate()
        .map(|(i, (value, difference))| {
            let read = value.reads.iter().filter_map(|name| errors.get(name.as_str()).copied());
            Loss {
                name: value.name.clone(),
                kind: value.kind.clone(),
                at: format!("{function}/{}", value.name),
                index: i + 1,
                output: value.output,
                dtype: value.dtype.name().to_owned(),
                elements: difference.elements,
                largest: difference.largest,
                overflows: difference.overflows,
                nans: difference.nans,
                underflows: difference.underflows,
                max_error: difference.max_error,
                rms_error: difference.rms_error(),
                inputs_rms_error: read.reduce(f64::max),
                differing: difference.differing,
            }
        })
        .collect();
    let first = operations.iter().find(|op| op.breaks()).map(|op| op.index);
    Ok(Precisions { function: function.to_owned(), calls: calls as u64, first, operations })
}

/// Compares some values over all `calls`, made once in each precision.
fn differences(
    watched: &[Watched],
    calls: usize,
    make: &mut MakeCalls<'_>,
) -> Result<Vec<Difference>, EvalError> {
    cancel::check()?;
    let mut found = vec![Difference::default(); watched.len()];
    let taps: Vec<&str> = watched.iter().map(|w| w.name.as_str()).collect();
    let wanted: BTreeSet<&str> = taps.iter().copied().collect();
    let mut declared: Vec<Values> = Vec::with_capacity(calls);
    make(Precision::Declared, &taps, &mut |mut values| {
        values.retain(|name, _| wanted.contains(name.as_str()));
        declared.push(values);
    })?;
    let mut declared = declared.into_iter();
    make(Precision::F32, &taps, &mut |values| {
        let Some(rounded) = declared.next() else { return };
        for (difference, value) in found.iter_mut().zip(watched) {
            if let (Some(x), Some(y)) = (rounded.get(&value.name), values.get(&value.name)) {
                difference.add(&x.to_f32(), &y.to_f32(), value.dtype.is_float());
            }
        }
    })?;
    Ok(found)
}

/// Runs of values that take at most `budget` bytes together, each of at least one.
fn batches(watched: &[Watched], budget: u64) -> Vec<std::ops::Range<usize>> {
    let mut out = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (i, value) in watched.iter().enumerate() {
        if i > start && bytes.saturating_add(value.bytes) > budget {
            out.push(start..i);
            (start, bytes) = (i, 0);
        }
        bytes = bytes.saturating_add(value.bytes);
    }
    if start < watched.len() {
        out.push(start..watched.len());
    }
    out
}

#[cfg(test)]
mod tests;
