//! `constexpr_*`: compressed constants, kept in their stored form until a product or gather asks for elements.

use std::sync::Arc;

use half::f16;

use super::axis;
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::round;
use crate::interp::op_context::OpContext;
use crate::interp::options::Precision;
use crate::interp::stored::{Blockwise, Lut, Mask, Packed, Shared, Sparse, Stored, of_tensor};
use crate::interp::tensor::{Tensor, elements};
use crate::mil::DType;

type Built = Result<Kernel, OpError>;

fn stored(one: impl Stored + 'static) -> Kernel {
    Kernel::Stored(vec![Arc::new(one)])
}

fn constant(site: &OpContext<'_, '_>, parameter: &str) -> Result<Shared, OpError> {
    site.stored(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))
}

/// The declared result type; f32 when nothing is to be rounded.
fn result_type(site: &OpContext<'_, '_>, declared: DType) -> DType {
    if site.precision == Precision::F32 && declared.is_float() { DType::F32 } else { declared }
}

/// Indices into tables, `[groups.., entries, vector size]`.
pub(super) fn lut_to_dense(site: &OpContext<'_, '_>) -> Built {
    let indices = site.packed("indices")?;
    let (lut, vector_axis) = (constant(site, "lut")?, vector_axis(site, indices.shape().len())?);
    Ok(stored(Lut::new(indices, values(site, &lut)?, lut.shape(), lut.dtype(), vector_axis)?))
}

/// Before iOS18: one table, indices packed into uint8.
pub(super) fn lut_to_dense_ios16(site: &OpContext<'_, '_>) -> Built {
    let lut = constant(site, "lut")?;
    let entries = lut.len();
    let dtype = match entries {
        2 => DType::U1,
        4 => DType::U2,
        16 => DType::U4,
        64 => DType::U6,
        256 => DType::U8,
        n => return Err(OpError::invalid(format!("a lut of {n} entries"))),
    };
    let indices = unpacked(site, "indices", dtype)?;
    let rank = indices.shape().len();
    let mut tables = vec![1; rank];
    tables.extend([entries, 1]);
    Ok(stored(Lut::new(indices, values(site, &lut)?, &tables, lut.dtype(), 0)?))
}

/// scale · (data − offset), block by block.
pub(super) fn blockwise_shift_scale(site: &OpContext<'_, '_>) -> Built {
    let scale = constant(site, "scale")?;
    let grid = scale.shape().to_vec();
    let dtype = result_type(site, scale.dtype());
    Ok(stored(Blockwise::new(site.packed("data")?, scale, site.stored("offset")?, grid, dtype)?))
}

/// Before iOS18: scale · (data − zero point), for the tensor or for each place of one axis.
pub(super) fn affine_dequantize(site: &OpContext<'_, '_>) -> Built {
    let data = site.packed("quantized_data")?;
    let rank = data.shape().len();
    let axis = axis(site.int("axis", None)?, rank)?;
    let n = data.shape().get(axis).copied().unwrap_or(1);
    let vector = |parameter: &str| -> Result<Tensor, OpError> {
        let given = constant(site, parameter)?;
        let mut elements = values(site, &given)?;
        if let [one] = *elements {
            site.budget.take(n)?;
            elements = vec![one; n];
        }
        Ok(Tensor::f32(&[elements.len()], elements).tagged(given.dtype()))
    };
    let scale = vector("scale")?;
    let dtype = result_type(site, scale.dtype());
    let mut grid = vec![1; rank];
    if let Some(g) = grid.get_mut(axis) {
        *g = n;
    }
    let zero_point = of_tensor(vector("zero_point")?);
    Ok(stored(Blockwise::new(data, of_tensor(scale), Some(zero_point), grid, dtype)?))
}

/// The set bits of a mask take the values in order.
pub(super) fn sparse_to_dense(site: &OpContext<'_, '_>) -> Built {
    let mask = mask(site, "mask")?;
    Ok(stored(Sparse::new(mask, constant(site, "nonzero_data")?)?))
}

/// Before iOS18: the mask packed into uint8.
pub(super) fn sparse_to_dense_ios16(site: &OpContext<'_, '_>) -> Built {
    let mask = Mask::new(unpacked(site, "mask", DType::U1)?);
    Ok(stored(Sparse::new(mask, constant(site, "nonzero_data")?)?))
}

/// Table values for the set bits of a mask: the mask (spread over vectors) and the values.
pub(super) fn lut_to_sparse(site: &OpContext<'_, '_>) -> Built {
    let bits = mask(site, "indices_mask")?;
    let indices = site.packed("indices_nonzero_data")?;
    let lut = constant(site, "lut")?;
    let vector_axis = vector_axis(site, bits.shape().len())?;
    site.budget.take(bits.len().saturating_mul(2))?;
    let vector = lut.shape().last().copied().unwrap_or(1);
    if lut.len() == 0 {
        return Err(OpError::invalid(format!("a lut of shape {:?}", lut.shape())));
    }
    // Dense indices, zero where nothing is stored, one byte each.
    let dense = bits.spread(&codes(&indices, "indices_nonzero_data")?);
    let wide = 1_usize << indices.dtype().bits();
    let dtype = if wide == 256 { indices.dtype() } else { DType::U8 };
    let lut_values = widened(&values(site, &lut)?, wide, vector);
    let mut shape = lut.shape().to_vec();
    let rank = bits.shape().len();
    if let Some(entries) = shape.get_mut(rank) {
        *entries = 256;
    }
    let packed = Packed::owned(dtype, bits.shape().to_vec(), dense);
    let table = Lut::new(packed, lut_values, &shape, lut.dtype(), vector_axis)?;
    let out_mask = bits.repeated(vector_axis, vector);
    Ok(values_of_mask(&table, &out_mask))
}

/// Dequantized values for the set bits of a mask: the mask and the values.
pub(super) fn sparse_blockwise_shift_scale(site: &OpContext<'_, '_>) -> Built {
    let bits = mask(site, "data_mask")?;
    let given = site.packed("nonzero_data")?;
    let scale = constant(site, "scale")?;
    let grid = scale.shape().to_vec();
    let dtype = result_type(site, scale.dtype());
    site.budget.take(given.len().saturating_add(bits.len().saturating_mul(3)))?;
    let mut nonzero = vec![0.0; given.len()];
    given.fill(0, &mut nonzero);
    let dense: Vec<u8> = bits.spread(&nonzero).iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
    let packed = Packed::owned(DType::F32, bits.shape().to_vec(), dense);
    let dense = Blockwise::new(packed, scale, site.stored("offset")?, grid, dtype)?;
    Ok(values_of_mask(&dense, &bits))
}

/// fp16 kept as it is and used as fp32.
pub(super) fn cast(site: &OpContext<'_, '_>) -> Built {
    let source =
        site.constant("source_val")?.ok_or_else(|| OpError::Missing("source_val".to_owned()))?;
    Ok(Kernel::Stored(vec![of_tensor(source.tagged(site.out_dtype(0)?))]))
}

/// The values at the set bits as fp16 (or f32), with the mask before them.
fn values_of_mask(dense: &dyn Stored, mask: &Mask) -> Kernel {
    let mut all = vec![0.0; dense.len()];
    dense.fill(0, &mut all);
    let mut set: Vec<f32> =
        all.iter().enumerate().filter(|(i, _)| mask.is_set(*i)).map(|(_, &v)| v).collect();
    round::to(dense.dtype(), &mut set);
    let n = set.len();
    let values = match dense.dtype() {
        DType::F16 => Tensor::f16(&[n], set.iter().map(|&v| f16::from_f32(v)).collect()),
        dtype => Tensor::f32(&[n], set).tagged(dtype),
    };
    let bits = (0..mask.shape().iter().product()).map(|i| i32::from(mask.is_set(i))).collect();
    let bits = Tensor::i32(mask.shape(), bits).tagged(DType::U1);
    Kernel::Stored(vec![of_tensor(bits), of_tensor(values)])
}

/// All elements as f32.
fn values(site: &OpContext<'_, '_>, stored: &Shared) -> Result<Vec<f32>, OpError> {
    site.budget.take(stored.len())?;
    let mut out = vec![0.0; stored.len()];
    stored.fill(0, &mut out);
    Ok(out)
}

/// Tables of `entries` entries made to 256, so that indices of one byte fit.
fn widened(tables: &[f32], entries: usize, vector: usize) -> Vec<f32> {
    let widen = |table: &[f32]| {
        let mut wide = table.to_vec();
        wide.resize(256 * vector, 0.0);
        wide
    };
    tables.chunks(entries * vector).flat_map(widen).collect()
}

fn vector_axis(site: &OpContext<'_, '_>, rank: usize) -> Result<usize, OpError> {
    site.int("vector_axis", Some(0)).and_then(|a| axis(a, rank))
}

fn mask(site: &OpContext<'_, '_>, parameter: &str) -> Result<Mask, OpError> {
    let packed = site.packed(parameter)?;
    if packed.dtype() == DType::U1 {
        return Ok(Mask::new(packed));
    }
    // A mask that another operation made is carried a number per bit.
    let codes = codes(&packed, parameter)?;
    Ok(Mask::from_flags(packed.shape(), codes.iter().map(|&c| c != 0)))
}

/// A parameter's whole numbers, one in each byte.
fn codes(packed: &Packed, parameter: &str) -> Result<Vec<u8>, OpError> {
    let dtype = packed.dtype();
    if dtype.is_float() || dtype == DType::Str || dtype.bits() > 8 {
        let shape = packed.shape();
        return Err(OpError::invalid(format!(
            "`{parameter}` is {dtype}{shape:?}, no whole numbers of at most 8 bits"
        )));
    }
    let mut codes = vec![0; packed.len()];
    packed.fill_codes(0, &mut codes);
    Ok(codes)
}

/// A uint8 parameter reread as bit fields of the shape in `shape`.
fn unpacked(site: &OpContext<'_, '_>, parameter: &str, dtype: DType) -> Result<Packed, OpError> {
    let bytes = site.packed(parameter)?;
    let shape = site.ints("shape")?.ok_or_else(|| OpError::Missing("shape".to_owned()))?;
    let shape = super::extents(&shape)?;
    let bits = elements(&shape)? * dtype.bits() as usize;
    if bytes.bytes().len() != bits.div_ceil(8) {
        let n = bytes.bytes().len();
        return Err(OpError::invalid(format!("{n} bytes of {dtype} for shape {shape:?}")));
    }
    Ok(bytes.reread(dtype, shape))
}
