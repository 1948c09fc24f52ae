//! From constants of the program to tensors and packed elements, mapped where they can stay where they are.

use super::error::OpError;
use super::ops::count;
use super::stored::Packed;
use super::tensor::Tensor;
use crate::blob::Blob;
use crate::mil::{Blobs, ConstError, DType, Data, TensorData, Value, constant_bytes};

/// The shape of a constant tensor.
pub(crate) fn shape(value: &Value) -> Result<Vec<usize>, OpError> {
    let fixed = value.ty.as_tensor().and_then(crate::mil::TensorType::fixed_shape);
    let shape: Vec<usize> = fixed
        .and_then(|dims| dims.into_iter().map(|d| usize::try_from(d).ok()).collect())
        .ok_or_else(|| OpError::Const(ConstError::NotTensor { ty: value.ty.to_string() }))?;
    count(&shape)?;
    Ok(shape)
}

/// The elements as they are stored.
pub(crate) fn packed(value: &Value, blobs: &dyn Blobs) -> Result<Packed, OpError> {
    let shape = shape(value)?;
    let dtype = value.ty.as_tensor().map_or(DType::Str, |t| t.dtype);
    let mut mapped = None;
    let bytes = constant_bytes(value, blobs, &mut mapped)?;
    if value.as_blob().is_none() {
        return Ok(Packed::owned(dtype, shape, bytes.into_owned()));
    }
    drop(bytes);
    let blob =
        mapped.ok_or_else(|| OpError::invalid("a constant is neither here nor in a file"))?;
    Ok(Packed::mapped(dtype, shape, blob))
}

/// A constant as a tensor: fp16 and fp32 in a blob stay mapped, everything else is read.
pub(crate) fn tensor(value: &Value, blobs: &dyn Blobs) -> Result<Tensor, OpError> {
    if let Data::Tensor(TensorData::Strings(texts)) = &value.data {
        return Ok(Tensor::strings(&shape(value)?, texts.clone()));
    }
    let packed = packed(value, blobs)?;
    let (dtype, shape) = (packed.dtype(), packed.shape().to_vec());
    if let Some(blob) = packed.as_blob()
        && matches!(dtype, DType::F16 | DType::F32)
        && aligned(dtype, blob)
    {
        return Ok(Tensor::mapped(dtype, shape, blob.clone()));
    }
    let n = packed.len();
    Ok(if dtype.is_float() {
        let mut out = vec![0.0; n];
        packed.fill(0, &mut out);
        Tensor::f32(&shape, out).tagged(dtype)
    } else {
        let mut out = vec![0; n];
        packed.fill_ints(0, &mut out);
        if dtype == DType::Bool {
            Tensor::bool(&shape, out.into_iter().map(|i| i != 0).collect())
        } else {
            Tensor::i32(&shape, out).tagged(dtype)
        }
    })
}

fn aligned(dtype: DType, blob: &Blob) -> bool {
    let width = dtype.bits() as usize / 8;
    blob.bytes().as_ptr().addr().is_multiple_of(width)
}
