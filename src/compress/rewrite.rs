//! The MIL forms of compressed weights: which blobs each has, and the operation that takes the constant's place.

use std::collections::BTreeMap;

use crate::mil::{Arg, BlobRef, DType, Op, Value};
use crate::package::WEIGHT_FILE;
use crate::quant::{Affine, Compressed, Dtype, Palettized, pack};

/// One blob of a compressed weight: the parameter it is given as, its type and shape, and its bytes.
#[derive(Debug)]
pub(super) struct Part {
    /// `indices`, `lut`, `data`, `scale` or `offset`.
    pub(super) parameter: &'static str,
    /// Element type.
    pub(super) dtype: DType,
    /// Shape in the program.
    pub(super) shape: Vec<u64>,
    /// The elements, packed.
    pub(super) bytes: Vec<u8>,
}

/// A part that is written.
#[derive(Debug)]
pub(super) struct Place {
    /// As the part's.
    pub(super) parameter: &'static str,
    /// As the part's.
    pub(super) dtype: DType,
    /// As the part's.
    pub(super) shape: Vec<u64>,
    /// The offset of its record in the blob file.
    pub(super) offset: u64,
}

/// A compressed weight as it stands in a program.
#[derive(Debug)]
pub(super) struct Form {
    /// The operation that gives the dense weight back.
    pub(super) kind: &'static str,
    /// Its arguments.
    pub(super) parts: Vec<Place>,
}

/// The operation and the blobs of `compressed`, a weight of `shape`; nothing for a dense one.
///
/// `constexpr_lut_to_dense`: indices as the weight, lut [groups, 1 …, 2^bits, 1]. `constexpr_blockwise_shift_scale`:
/// data as the weight, scale and offset with one element per block along each axis.
pub(super) fn parts(
    compressed: &Compressed<'_>,
    shape: &[u64],
) -> Option<(&'static str, Vec<Part>)> {
    match compressed {
        Compressed::Dense(_) => None,
        Compressed::Palettized(weight) => {
            Some(("constexpr_lut_to_dense", palettized(weight, shape)))
        }
        Compressed::Affine(weight) => {
            Some(("constexpr_blockwise_shift_scale", affine(weight, shape)))
        }
    }
}

fn palettized(weight: &Palettized, shape: &[u64]) -> Vec<Part> {
    let dtype = match weight.bits.get() {
        1 => DType::U1,
        2 => DType::U2,
        3 => DType::U3,
        4 => DType::U4,
        6 => DType::U6,
        _ => DType::U8,
    };
    let groups = (weight.rows / weight.group_size) as u64;
    let mut lut_shape = vec![1; shape.len() + 2];
    lut_shape[0] = groups;
    lut_shape[shape.len()] = weight.bits.n_values() as u64;
    vec![
        Part {
            parameter: "indices",
            dtype,
            shape: shape.to_vec(),
            bytes: pack::pack(&weight.indices, weight.bits),
        },
        Part { parameter: "lut", dtype: DType::F16, shape: lut_shape, bytes: halves(&weight.lut) },
    ]
}

fn affine(weight: &Affine, shape: &[u64]) -> Vec<Part> {
    let dtype = match weight.dtype {
        Dtype::Int4 => DType::I4,
        Dtype::Uint4 => DType::U4,
        Dtype::Int8 => DType::I8,
        Dtype::Uint8 => DType::U8,
    };
    let [block_rows, block_cols] = weight.block_shape;
    let mut scale_shape = vec![1; shape.len()];
    scale_shape[0] = (weight.rows / block_rows) as u64;
    if shape.len() == 2 {
        scale_shape[1] = (weight.cols / block_cols) as u64;
    }
    let packed = |elements: &[u8]| pack::pack(elements, weight.dtype.bits());
    let part = |parameter, shape: &[u64], dtype, bytes| Part {
        parameter,
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let mut parts = vec![
        part("data", shape, dtype, packed(&weight.data)),
        part("scale", &scale_shape, DType::F16, halves(&weight.scale)),
    ];
    if let Some(offset) = &weight.offset {
        parts.push(part("offset", &scale_shape, dtype, packed(offset)));
    }
    parts
}

fn halves(values: &[half::f16]) -> Vec<u8> {
    // Little-endian, as every machine that this is built for.
    bytemuck::cast_slice(values).to_vec()
}

/// Turns the constant `op` into the operation of `form`; its name and type stay.
pub(super) fn replace(op: &mut Op, form: &Form) {
    form.kind.clone_into(&mut op.kind);
    op.attributes.remove("val");
    op.inputs = form
        .parts
        .iter()
        .map(|Place { parameter, dtype, shape, offset }| {
            let at = BlobRef { file: WEIGHT_FILE.to_owned(), offset: *offset };
            ((*parameter).to_owned(), vec![Arg::Value(Value::blob(*dtype, shape, at))])
        })
        .collect::<BTreeMap<_, _>>();
}
