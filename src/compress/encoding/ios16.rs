//! Forms for iOS 16 and 17: one operation, whose parameters are attributes.
//!
//! - `constexpr_lut_to_dense`: indices packed into uint8, one table of 2, 4, 16, 64 or 256 entries
//! - `constexpr_affine_dequantize`: 8-bit integers, scale and zero point for the tensor or for each place along one axis
//! - `constexpr_sparse_to_dense`: the mask packed into uint8, the values at its set bits

use super::{Content, Line, Part, Source, bytes, codes, halves, integer_type, mask};
use crate::mil::{DType, Data, TensorData, Type, Value};
use crate::quant::scheme::{Fit, Palettize, ScaleGranularity, TableGranularity};
use crate::quant::{Affine, Bits, Code, Compressed, EncodedWeights, Scheme};

pub(super) fn can_hold(scheme: Scheme) -> bool {
    match (scheme.prune, scheme.code) {
        (_, Code::Float) => true,
        (Some(_), _) => false,
        (None, Code::Palettize(palettize)) => one_table(palettize),
        (None, Code::Linear(linear)) => {
            let along_one = matches!(
                linear.granularity,
                ScaleGranularity::PerTensor | ScaleGranularity::PerChannel
            );
            along_one && linear.dtype.bits() == Bits::EIGHT
        }
    }
}

fn one_table(palettize: Palettize) -> bool {
    let width = match palettize.fit {
        Fit::Kmeans(bits) | Fit::Uniform(bits) => bits.get() != 3,
        Fit::Unique => true,
    };
    let plain =
        palettize.cluster_dim == 1 && palettize.per_channel_scale.is_none() && !palettize.lut8;
    width && plain && palettize.granularity == TableGranularity::PerTensor
}

pub(super) fn n_parts(scheme: Scheme, output_channels: u64) -> u32 {
    match scheme.code {
        // The mask or the table beside the values or indices.
        Code::Float | Code::Palettize(_) => 2,
        // A single scale is written in the program.
        Code::Linear(linear) => {
            let one = linear.granularity == ScaleGranularity::PerTensor || output_channels == 1;
            if one { 1 } else { 3 }
        }
    }
}

pub(super) fn lines(compressed: &Compressed<'_>, shape: &[u64]) -> Vec<Line> {
    let (kind, parameters) = match compressed.coded() {
        EncodedWeights::Float => {
            let packed = compressed.mask().expect("floats are pruned").bits().len() as u64;
            let parameters = vec![
                ("mask", mask(DType::U8, &[packed])),
                ("nonzero_data", codes(DType::F16, &[compressed.n_stored() as u64])),
                ("shape", whole_numbers(shape)),
            ];
            ("constexpr_sparse_to_dense", parameters)
        }
        EncodedWeights::Palette(palette) => {
            let packed = compressed.poured_len() as u64;
            // The bytes of the packed indices are the elements here.
            let indices = Part { dtype: DType::U8, shape: vec![packed], content: Content::Codes };
            let n = palette.lut.len() as u64;
            let parameters = vec![
                ("indices", Source::Part(indices)),
                ("lut", bytes(DType::F16, &[n], halves(&palette.lut))),
                ("shape", whole_numbers(shape)),
            ];
            ("constexpr_lut_to_dense", parameters)
        }
        EncodedWeights::Linear(linear) => ("constexpr_affine_dequantize", affine(linear, shape)),
    };
    vec![Line { kind, suffix: "", parameters, results: Vec::new() }]
}

fn affine(linear: &Affine, shape: &[u64]) -> Vec<(&'static str, Source)> {
    let dtype = integer_type(linear.dtype);
    let zero_points = linear.offset.clone().unwrap_or_else(|| vec![0; linear.scale.len()]);
    let axis = linear.grid.counts().iter().position(|&n| n > 1);
    let (scale, zero_point) = if axis.is_none() {
        (one(DType::F16, halves(&linear.scale)), one(dtype, zero_points))
    } else {
        let n = [linear.scale.len() as u64];
        (bytes(DType::F16, &n, halves(&linear.scale)), bytes(dtype, &n, zero_points))
    };
    let axis = i32::try_from(axis.unwrap_or(0)).expect("a rank is small");
    vec![
        ("axis", Source::Value(Value::int(axis))),
        ("quantized_data", codes(dtype, shape)),
        ("scale", scale),
        ("zero_point", zero_point),
    ]
}

/// A scalar.
fn one(dtype: DType, bytes: Vec<u8>) -> Source {
    Source::Value(Value {
        ty: Type::tensor(dtype, &[]),
        data: Data::Tensor(TensorData::Bytes(bytes)),
    })
}

fn whole_numbers(shape: &[u64]) -> Source {
    let sizes = shape.iter().map(|&size| i32::try_from(size).unwrap_or(i32::MAX)).collect();
    Source::Value(Value {
        ty: Type::tensor(DType::U32, &[shape.len() as u64]),
        data: Data::Tensor(TensorData::Ints(sizes)),
    })
}
