//! `compress`: a weight by a scheme, and whatever comes of it.

use half::f16;

use super::affine::{self, Affine};
use super::distortion::Distortion;
use super::error::Error;
use super::kmeans::Search;
use super::palette::{self, Palettized};
use super::scheme::{ScaleGranularity, Scheme, TableGranularity};
use super::weight::Weight;
use super::{dequant, fill, pack};

/// A weight in the form that a scheme gives it.
#[derive(Debug, Clone)]
pub enum Compressed<'a> {
    /// The values as they were.
    Dense(Weight<'a>),
    /// Indices and tables.
    Palettized(Palettized),
    /// Integers and scales.
    Affine(Affine),
}

/// `weight` compressed by `scheme`; the same whatever the number of threads.
pub fn compress(
    weight: Weight<'_>,
    scheme: Scheme,
    search: Search,
) -> Result<Compressed<'_>, Error> {
    let (rows, cols) = (weight.rows(), weight.cols());
    match scheme {
        Scheme::Fp16 => Ok(Compressed::Dense(weight)),
        Scheme::Palettize { bits, granularity } => {
            let group_size = match granularity {
                TableGranularity::PerTensor => rows,
                TableGranularity::PerGroupedChannel(n) => n,
            };
            palette::palettize(weight, bits, group_size, search).map(Compressed::Palettized)
        }
        Scheme::Affine { dtype, granularity } => {
            let block_shape = match granularity {
                ScaleGranularity::PerTensor => [rows, cols],
                ScaleGranularity::PerChannel => [1, cols],
                ScaleGranularity::PerBlock(n) => [1, n],
            };
            affine::quantize(weight, dtype, block_shape).map(Compressed::Affine)
        }
    }
}

impl Compressed<'_> {
    /// The values it stands for, row-major.
    pub fn dequantize(&self) -> Vec<f16> {
        match self {
            Self::Dense(weight) => weight.values().to_vec(),
            Self::Palettized(weight) => dequant::palettized(weight),
            Self::Affine(weight) => dequant::affine(weight),
        }
    }

    /// How far [`Self::dequantize`] is from `original`.
    pub fn distortion(&self, original: Weight<'_>) -> Result<Distortion, Error> {
        let original = original.values();
        let len = match self {
            Self::Dense(weight) => weight.values().len(),
            Self::Palettized(weight) => weight.indices.len(),
            Self::Affine(weight) => weight.data.len(),
        };
        if original.len() != len {
            return Err(Error::Mismatch { expected: original.len(), len });
        }
        Ok(Distortion::of(original, &|at, out| match self {
            Self::Dense(weight) => out.copy_from_slice(&weight.values()[at..at + out.len()]),
            Self::Palettized(weight) => fill::palettized(weight, at, out),
            Self::Affine(weight) => fill::affine(weight, at, out),
        }))
    }

    /// The bytes of its parts as they are stored, without alignment: indices or integers packed, tables, scales, zero points.
    pub fn stored_len(&self) -> usize {
        match self {
            Self::Dense(weight) => 2 * weight.values().len(),
            Self::Palettized(weight) => {
                pack::packed_len(weight.indices.len(), weight.bits) + 2 * weight.lut.len()
            }
            Self::Affine(weight) => {
                let packed =
                    |elements: &[u8]| pack::packed_len(elements.len(), weight.dtype.bits());
                packed(&weight.data)
                    + 2 * weight.scale.len()
                    + weight.offset.as_deref().map_or(0, packed)
            }
        }
    }
}
