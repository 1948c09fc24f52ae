//! Elements of constants, from the program or a blob file.

use std::borrow::Cow;

use thiserror::Error;

use super::{BlobRef, DType, Data, TensorData, Value};
use crate::base::error::Hint;
use crate::blob::{Blob, BlobError};

/// Gives the blobs that a program refers to; a package is one.
pub trait Blobs: Send + Sync {
    /// The blob at a place, checked against its file.
    fn blob(&self, at: &BlobRef) -> Result<Blob, ConstError>;
}

/// Why a constant has no usable elements.
#[derive(Debug, Error)]
pub enum ConstError {
    /// The blob file.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A file name that leads out of the package.
    #[error("blob file name `{name}` leads out of the package")]
    Outside {
        /// The name as the program states it.
        name: String,
    },
    /// A value that is no tensor of fixed shape.
    #[error("the value of type {ty} is no tensor of fixed shape")]
    NotTensor {
        /// Its type.
        ty: String,
    },
    /// Another number of bytes or elements than type and shape need.
    #[error("a value of type {ty} needs {expected} bytes and has {actual}")]
    Size {
        /// Its type.
        ty: String,
        /// Bytes needed.
        expected: u64,
        /// Bytes there.
        actual: u64,
    },
    /// The record's type is not the declared one.
    #[error("a value of type {ty} refers to a blob of {stored:?}")]
    Type {
        /// Its type.
        ty: String,
        /// The type in the record.
        stored: crate::blob::BlobType,
    },
}

impl Hint for ConstError {
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The elements of a tensor constant as little-endian bytes, sub-byte types packed from the low bits up.
///
/// `mapped` receives the blob when there is one, so that the bytes can be borrowed from it.
pub fn constant_bytes<'a>(
    value: &'a Value,
    blobs: &dyn Blobs,
    mapped: &'a mut Option<Blob>,
) -> Result<Cow<'a, [u8]>, ConstError> {
    let ty = || value.ty.to_string();
    let not_tensor = || ConstError::NotTensor { ty: ty() };
    // Strings have no bytes: any number of them would seem to fit into none.
    let tensor = value.ty.as_tensor().filter(|t| t.dtype != DType::Str).ok_or_else(not_tensor)?;
    let elements = tensor.elements().ok_or_else(not_tensor)?;
    let expected = tensor.dtype.bytes_for(elements).ok_or_else(not_tensor)?;
    let bytes = match &value.data {
        Data::Blob(at) => {
            let blob = blobs.blob(at)?;
            if tensor.dtype.blob_type() != Some(blob.ty) {
                return Err(ConstError::Type { ty: ty(), stored: blob.ty });
            }
            Cow::Borrowed(mapped.insert(blob).bytes())
        }
        Data::Tensor(data) => immediate_bytes(tensor.dtype, data).ok_or_else(not_tensor)?,
        _ => return Err(not_tensor()),
    };
    let actual = bytes.len() as u64;
    if actual == expected {
        Ok(bytes)
    } else {
        Err(ConstError::Size { ty: ty(), expected, actual })
    }
}

/// Elements written in the program as bytes of the declared type; nothing for strings.
fn immediate_bytes(dtype: DType, data: &TensorData) -> Option<Cow<'_, [u8]>> {
    Some(match data {
        TensorData::Bytes(bytes) => Cow::Borrowed(bytes),
        TensorData::Floats(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        TensorData::Doubles(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        TensorData::Longs(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        TensorData::Bools(values) => values.iter().map(|&v| u8::from(v)).collect(),
        TensorData::Ints(values) => match dtype.bits() {
            32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            16 => values.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
            8 => values.iter().map(|v| *v as u8).collect(),
            _ => return None,
        },
        TensorData::Strings(_) => return None,
    })
}
