//! Errors of a package's weights relative to a baseline, from the values in both files.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use thiserror::Error;

use crate::base::cancel::{self, Cancelled};
use crate::base::error::{ErrorKind, Hint};
use crate::base::progress::{Progress, Unit};
use crate::compress::{self, MIN_ELEMENTS, StoredWeight};
use crate::interp::{Dequantized, OpError};
use crate::package::Package;
use crate::quant::Distortion;

/// Elements that a thread reads of each package at a time; a constant, so that sums are the same on any machine.
const CHUNK: usize = 1 << 16;

/// The weights of a package against those of the same name in a baseline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightErrors {
    /// What each weight lost, in the order of [`compress::audit`]; nothing where the baseline has none to compare with.
    pub weights: Vec<(String, Option<Distortion>)>,
    /// All weights that were compared together.
    pub total: Distortion,
    /// Weights that the baseline does not have.
    pub not_in_baseline: Vec<String>,
    /// Weights of the baseline that the package does not have.
    pub only_in_baseline: Vec<String>,
    /// Weights of another shape, with that here and that in the baseline.
    pub other_shape: Vec<(String, Vec<u64>, Vec<u64>)>,
}

/// A weight that cannot be read.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// Its constant.
    #[error("weight `{name}` of `{package}` cannot be read: {source}")]
    Weight {
        /// The weight.
        name: String,
        /// The package.
        package: String,
        /// Why.
        source: OpError,
    },
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Hint for WeightsError {
    fn hint(&self) -> Option<String> {
        None
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled(e) => e.error_kind(),
            Self::Weight { .. } => ErrorKind::Input,
        }
    }
}

/// Reads every weight of `package`, and the one of its name in `baseline`, and compares them value by value.
///
/// The baseline's weight is the one in the function of the same name, else in any function. Both are read in runs of a
/// few hundred kilobytes for each thread; the forms that join a mask with tables or integers are held dense, one weight at
/// a time.
pub fn weight_errors(
    package: &Package,
    baseline: &Package,
    progress: &dyn Progress,
) -> Result<WeightErrors, WeightsError> {
    let originals = compress::float_constants(baseline.program());
    let weights = compress::stored_weights(package.program(), MIN_ELEMENTS);
    let total = weights.iter().map(StoredWeight::elements).fold(0, u64::saturating_add);
    progress.begin("compare weights", Some(total), Unit::Items);
    let mut found = WeightErrors::default();
    let by_name: BTreeMap<&str, &StoredWeight<'_>> =
        originals.iter().rev().map(|((_, name), original)| (*name, original)).collect();
    let mut seen = BTreeSet::new();
    for weight in &weights {
        let name = weight.name.as_str();
        let same_function = weight.functions.iter().find_map(|f| originals.get(&(*f, name)));
        let distortion = match same_function.or_else(|| by_name.get(name).copied()) {
            None => {
                found.not_in_baseline.push(weight.name.clone());
                None
            }
            Some(original) => {
                seen.insert(original.blobs());
                if original.shape == weight.shape {
                    Some(distortion((package, weight), (baseline, original), progress)?)
                } else {
                    let shapes = (weight.shape.clone(), original.shape.clone());
                    found.other_shape.push((weight.name.clone(), shapes.0, shapes.1));
                    None
                }
            }
        };
        if let Some(distortion) = &distortion {
            found.total.merge(distortion);
        }
        found.weights.push((weight.name.clone(), distortion));
    }
    for original in compress::stored_weights(baseline.program(), MIN_ELEMENTS) {
        if !seen.contains(&original.blobs()) {
            found.only_in_baseline.push(original.name);
        }
    }
    progress.end();
    Ok(found)
}

fn distortion(
    (package, weight): (&Package, &StoredWeight<'_>),
    (baseline, original): (&Package, &StoredWeight<'_>),
    progress: &dyn Progress,
) -> Result<Distortion, WeightsError> {
    let (here, there) = (open(package, weight)?, open(baseline, original)?);
    let n = here.n_elements();
    // What the types declare may not be what the operations give.
    if there.shape() != here.shape() {
        let (shape, other) = (there.shape(), here.shape());
        let source = OpError::Unsupported(format!("the shape {shape:?} instead of {other:?}"));
        return Err(failed(baseline, original, source));
    }
    let starts: Vec<usize> = (0..n).step_by(CHUNK).collect();
    let parts: Vec<Distortion> = starts
        .par_iter()
        .map_init(
            || (vec![0.0; CHUNK.min(n)], vec![0.0; CHUNK.min(n)]),
            |(x, y), &at| {
                cancel::check()?;
                let len = CHUNK.min(n - at);
                there.read(at, &mut x[..len]);
                here.read(at, &mut y[..len]);
                progress.advance(len as u64);
                Ok(sums(&x[..len], &y[..len]))
            },
        )
        .collect::<Result<_, Cancelled>>()?;
    let mut total = Distortion::default();
    for part in &parts {
        total.merge(part);
    }
    Ok(total)
}

fn open(package: &Package, weight: &StoredWeight<'_>) -> Result<Dequantized, WeightsError> {
    let function = weight.functions.first().and_then(|f| package.program().functions.get(*f));
    let opset = function.map_or("", |function| function.opset.as_str());
    Dequantized::of(&weight.ops, opset, &*package.blobs())
        .map_err(|source| failed(package, weight, source))
}

fn failed(package: &Package, weight: &StoredWeight<'_>, source: OpError) -> WeightsError {
    let package = package.path().display().to_string();
    WeightsError::Weight { name: weight.name.clone(), package, source }
}

/// The sums over pairs of an original value and its replacement.
fn sums(original: &[f32], replacement: &[f32]) -> Distortion {
    let mut sums = Distortion { n: original.len() as u64, ..Distortion::default() };
    for (&x, &y) in original.iter().zip(replacement) {
        let (x, error) = (f64::from(x), f64::from(x) - f64::from(y));
        sums.squared_error += error * error;
        sums.energy += x * x;
        sums.max_error = sums.max_error.max(error.abs());
        sums.peak = sums.peak.max(x.abs());
    }
    sums
}
