//! Forms for iOS 18: tables and scales for blocks along any axis, as inputs of operations that nest.
//!
//! - dense palette: `constexpr_lut_to_dense`, indices as the weight (or its vectors), lut `[blocks …, 2^bits, vector size]`;
//!   its entries may come from a `constexpr_blockwise_shift_scale`, and its result may go into one (scales of channels)
//! - dense integers: `constexpr_blockwise_shift_scale`, scale and offset with one element for each block
//! - sparse: `constexpr_sparse_to_dense` of a uint1 mask and the values at its set bits, which may come from
//!   `constexpr_lut_to_sparse` or `constexpr_sparse_blockwise_shift_scale`

use super::{Line, Source, bytes, codes, halves, index_type, integer_type, mask, sizes};
use crate::mil::{DType, Type, Value};
use crate::quant::{Affine, Code, Compressed, EncodedWeights, Palette, Scheme, pack};

pub(super) fn n_parts(scheme: Scheme) -> u32 {
    let coded = match scheme.code {
        Code::Float => 1,
        Code::Palettize(p) => 2 + u32::from(p.lut8) + u32::from(p.per_channel_scale.is_some()),
        Code::Linear(linear) => 2 + u32::from(linear.has_offset()),
    };
    coded + u32::from(scheme.prune.is_some())
}

pub(super) fn lines(compressed: &Compressed<'_>, shape: &[u64]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mask = compressed.mask().map(|_| mask(DType::U1, shape));
    let n_stored = compressed.n_stored() as u64;
    // Codes have the shape of the weight, or stand in a row where a mask says where they belong.
    let stored_shape = |dense: Vec<u64>| if mask.is_some() { vec![n_stored] } else { dense };
    let (kind, coded) = match compressed.coded() {
        EncodedWeights::Float => {
            let nonzero_data = codes(DType::F16, &[n_stored]);
            let mask = mask.expect("floats are stored as they are unless some are pruned");
            let parameters = vec![("mask", mask), ("nonzero_data", nonzero_data)];
            return vec![last("constexpr_sparse_to_dense", parameters)];
        }
        EncodedWeights::Palette(palette) => {
            let shape = stored_shape(sizes(&compressed.code_shape()));
            let indices = codes(index_type(palette.bits), &shape);
            let lut = table(palette, &mut lines);
            let name = if mask.is_some() { "indices_nonzero_data" } else { "indices" };
            let mut parameters = vec![(name, indices), ("lut", lut)];
            if let Some(vectors) = &palette.vectors {
                let axis = i32::try_from(vectors.axis).expect("a rank is small");
                parameters.push(("vector_axis", Source::Value(Value::int(axis))));
            }
            let kind =
                if mask.is_some() { "constexpr_lut_to_sparse" } else { "constexpr_lut_to_dense" };
            (kind, parameters)
        }
        EncodedWeights::Linear(linear) => {
            let dtype = integer_type(linear.dtype);
            let name = if mask.is_some() { "nonzero_data" } else { "data" };
            let mut parameters = vec![(name, codes(dtype, &stored_shape(shape.to_vec())))];
            parameters.extend(scales(linear));
            let kind = if mask.is_some() {
                "constexpr_sparse_blockwise_shift_scale"
            } else {
                "constexpr_blockwise_shift_scale"
            };
            (kind, parameters)
        }
    };
    if let Some(mask) = mask {
        let name = if kind == "constexpr_lut_to_sparse" { "indices_mask" } else { "data_mask" };
        let mut parameters = vec![(name, mask)];
        parameters.extend(coded);
        let results = vec![Type::tensor(DType::U1, shape), Type::tensor(DType::F16, &[n_stored])];
        let at = lines.len();
        lines.push(Line { kind, suffix: "_nonzero", parameters, results });
        let parameters =
            vec![("mask", Source::Result(at, 0)), ("nonzero_data", Source::Result(at, 1))];
        lines.push(last("constexpr_sparse_to_dense", parameters));
        return lines;
    }
    let scale = compressed.palette().and_then(|palette| palette.scale.as_ref());
    let Some(scale) = scale else {
        lines.push(last(kind, coded));
        return lines;
    };
    let at = lines.len();
    let results = vec![Type::tensor(DType::F16, shape)];
    lines.push(Line { kind, suffix: "_unscaled", parameters: coded, results });
    let scales = bytes(DType::F16, &sizes(&scale.shape()), halves(&scale.values));
    let parameters = vec![("data", Source::Result(at, 0)), ("scale", scales)];
    lines.push(last("constexpr_blockwise_shift_scale", parameters));
    lines
}

/// The entries of the tables: as they are, or from a line of their own.
fn table(palette: &Palette, lines: &mut Vec<Line>) -> Source {
    let mut shape = sizes(&palette.grid.counts());
    let rank = shape.len();
    shape.extend([palette.bits.n_values() as u64, palette.cluster_dim() as u64]);
    let Some(lut8) = &palette.lut8 else {
        return bytes(DType::F16, &shape, halves(&palette.lut));
    };
    let data = bytes(DType::I8, &shape, lut8.data.clone());
    let scale = bytes(DType::F16, &vec![1; rank + 2], halves(&[lut8.scale]));
    let results = vec![Type::tensor(DType::F16, &shape)];
    let parameters = vec![("data", data), ("scale", scale)];
    lines.push(Line {
        kind: "constexpr_blockwise_shift_scale",
        suffix: "_lut",
        parameters,
        results,
    });
    Source::Result(lines.len() - 1, 0)
}

fn scales(linear: &Affine) -> Vec<(&'static str, Source)> {
    let shape = sizes(&linear.grid.counts());
    let mut parameters = vec![("scale", bytes(DType::F16, &shape, halves(&linear.scale)))];
    if let Some(offset) = &linear.offset {
        let packed = pack::pack(offset, linear.dtype.bits());
        parameters.push(("offset", bytes(integer_type(linear.dtype), &shape, packed)));
    }
    parameters
}

fn last(kind: &'static str, parameters: Vec<(&'static str, Source)>) -> Line {
    Line { kind, suffix: "", parameters, results: Vec::new() }
}
