//! From constants of the program to tensors and packed elements, mapped where they can stay where they are.

use std::cell::Cell;

use super::error::OpError;
use super::stored::Packed;
use super::tensor::Tensor;
use crate::blob::Blob;
use crate::mil::{Blobs, ConstError, DType, Data, TensorData, Value, constant_bytes};

/// More elements than this, of all constants of a program that do not stay as they are stored, are refused.
///
/// Any number of operations can refer to the same bytes, and each holds its own elements of four bytes.
const MAX_READ: usize = if cfg!(any(test, fuzzing)) { 1 << 22 } else { 1 << 31 };

/// Number of elements of constants in a program.
#[derive(Debug, Default)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    /// Takes `n` elements.
    pub(crate) fn take(&self, n: usize) -> Result<(), OpError> {
        self.0.set(self.0.get().saturating_add(n));
        if self.0.get() > MAX_READ {
            return Err(OpError::invalid(format!(
                "the constants up to here have over {MAX_READ} elements outside of blob files"
            )));
        }
        Ok(())
    }
}

/// The shape of a constant tensor.
pub(crate) fn shape(value: &Value) -> Result<Vec<usize>, OpError> {
    let fixed = value.ty.as_tensor().and_then(crate::mil::TensorType::fixed_shape);
    fixed
        .and_then(|dims| {
            dims.into_iter().map(|d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()
        })
        // Zeros count as ones: strides of an empty tensor must not overflow either.
        .filter(|dims| dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d.max(1))).is_some())
        .ok_or_else(|| OpError::Const(ConstError::NotTensor { ty: value.ty.to_string() }))
}

/// The elements as they are stored.
pub(crate) fn packed(value: &Value, blobs: &dyn Blobs, budget: &Budget) -> Result<Packed, OpError> {
    let shape = shape(value)?;
    let dtype = value.ty.as_tensor().map_or(DType::Str, |t| t.dtype);
    let mut mapped = None;
    let bytes = constant_bytes(value, blobs, &mut mapped)?;
    if value.as_blob().is_none() {
        budget.take(bytes.len().div_ceil(size_of::<f32>()))?;
        return Ok(Packed::owned(dtype, shape, bytes.into_owned()));
    }
    drop(bytes);
    let blob =
        mapped.ok_or_else(|| OpError::invalid("a constant is neither here nor in a file"))?;
    Ok(Packed::mapped(dtype, shape, blob))
}

/// A constant as a tensor: fp16 and fp32 in a blob stay mapped, everything else is read.
pub(crate) fn tensor(value: &Value, blobs: &dyn Blobs, budget: &Budget) -> Result<Tensor, OpError> {
    if let Data::Tensor(TensorData::Strings(texts)) = &value.data {
        let shape = shape(value)?;
        let (n, declared) = (texts.len(), shape.iter().product::<usize>());
        if n != declared {
            let fact = format!("{declared} strings are declared and {n} are there");
            return Err(OpError::invalid(fact));
        }
        let bytes = texts.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
        budget.take(bytes.div_ceil(size_of::<f32>()))?;
        return Ok(Tensor::strings(&shape, texts.clone()));
    }
    let packed = packed(value, blobs, budget)?;
    let (dtype, shape) = (packed.dtype(), packed.shape().to_vec());
    if let Some(blob) = packed.as_blob()
        && matches!(dtype, DType::F16 | DType::F32)
        && aligned(dtype, blob)
    {
        return Ok(Tensor::mapped(dtype, shape, blob.clone()));
    }
    let n = packed.len();
    budget.take(n)?;
    if dtype.is_int() && dtype.bits() >= 32 && dtype != DType::I32 {
        narrow(&packed)?;
    }
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

/// Whole numbers are carried in int32: what does not fit is refused rather than cut off.
fn narrow(packed: &Packed) -> Result<(), OpError> {
    let dtype = packed.dtype();
    let wide = |n: i128| Err(OpError::Unsupported(format!("{n} of type {dtype} beyond int32")));
    let fits = |n: i128| if i32::try_from(n).is_ok() { Ok(()) } else { wide(n) };
    let (words, _) = packed.bytes().as_chunks::<8>();
    match dtype {
        DType::I64 => words.iter().try_for_each(|w| fits(i64::from_le_bytes(*w).into())),
        DType::U64 => words.iter().try_for_each(|w| fits(u64::from_le_bytes(*w).into())),
        _ => {
            let (words, _) = packed.bytes().as_chunks::<4>();
            words.iter().try_for_each(|w| fits(u32::from_le_bytes(*w).into()))
        }
    }
}

fn aligned(dtype: DType, blob: &Blob) -> bool {
    let width = dtype.bits() as usize / 8;
    blob.bytes().as_ptr().addr().is_multiple_of(width)
}
