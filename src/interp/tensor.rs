//! `Tensor`: a declared type, a shape, and elements in one of few carriers.
//!
//! Floats are carried in f32 whatever their declared type (or as they are stored, in f16), whole numbers in i32. A
//! tensor whose declared type is fp16 holds only values that fp16 has, unless it was made with `Precision::F32`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use half::f16;
use half::vec::HalfBitsVecExt as _;
use zerocopy::{FromBytes, Immutable, IntoBytes as _, KnownLayout};

use super::error::OpError;
use super::kernel::fp16;
use crate::blob::Blob;
use crate::mil::DType;

/// Elements that tensors share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffer<T>(pub(crate) Vec<T>);

/// Elements in memory, or inside a mapped blob in their stored form.
#[derive(Debug, Clone)]
pub(crate) enum Store<T> {
    Owned(Arc<Buffer<T>>),
    Mapped(Blob),
}

impl<T: FromBytes + Immutable + KnownLayout + Clone> Store<T> {
    pub(crate) fn new(elements: Vec<T>) -> Self {
        Self::Owned(Arc::new(Buffer(elements)))
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::Owned(buffer) => &buffer.0,
            Self::Mapped(blob) => <[T]>::ref_from_bytes(blob.bytes())
                .expect("size and alignment were checked when the constant was read"),
        }
    }

    /// The elements for writing: copied first when anybody else sees them.
    pub(crate) fn make_mut(&mut self) -> &mut Vec<T> {
        if let Self::Mapped(_) = self {
            *self = Self::new(self.as_slice().to_vec());
        }
        match self {
            Self::Owned(buffer) => &mut Arc::make_mut(buffer).0,
            Self::Mapped(_) => unreachable!("a mapped store was replaced above"),
        }
    }
}

/// The carriers.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    F32(Store<f32>),
    F16(Store<f16>),
    I32(Arc<Buffer<i32>>),
    Bool(Arc<Buffer<bool>>),
    Str(Arc<Buffer<String>>),
}

/// More elements than this no result has: `shape` counts in int32, and f32 elements would take 8 GiB.
const MAX_ELEMENTS: usize = if cfg!(fuzzing) { 1 << 16 } else { 1 << 31 };

/// More dimensions than this no result has; Core ML itself ends at 5 for most operations.
pub(crate) const MAX_RANK: usize = 32;

/// The number of elements of a shape that the program or its data decide; an error where nobody could hold them.
pub(crate) fn elements(shape: &[usize]) -> Result<usize, OpError> {
    // Zeros count as ones, so that strides of an empty tensor do not overflow either.
    shape
        .iter()
        .try_fold(1_usize, |n, &d| n.checked_mul(d.max(1)))
        .filter(|&n| n <= MAX_ELEMENTS)
        .map(|n| if shape.contains(&0) { 0 } else { n })
        .ok_or_else(|| {
            OpError::invalid(format!("shape {shape:?} has more than {MAX_ELEMENTS} elements"))
        })
}

/// A whole number in a type of 8 or 16 bits, wrapped around where it does not fit; other types hold it as it is.
pub(crate) fn wrap(n: i32, dtype: DType) -> i32 {
    match dtype {
        DType::I8 => i32::from(n as i8),
        DType::U8 => i32::from(n as u8),
        DType::I16 => i32::from(n as i16),
        DType::U16 => i32::from(n as u16),
        _ => n,
    }
}

/// A tensor: cheap to clone, elements in row-major order.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    pub(crate) data: Data,
    /// The first of the elements in `data` that belong to this tensor.
    start: usize,
}

/// Runs the same expression on the elements of any storage and wraps the resulting vector in the same storage.
macro_rules! map_storage {
    ($tensor:expr, $shape:expr, |$src:ident| $body:expr) => {{
        let tensor: &$crate::interp::Tensor = $tensor;
        match tensor.storage() {
            $crate::interp::tensor::Slice::F32($src) => tensor.with_f32($shape, $body),
            $crate::interp::tensor::Slice::F16($src) => tensor.with_f16($shape, $body),
            $crate::interp::tensor::Slice::I32($src) => tensor.with_i32($shape, $body),
            $crate::interp::tensor::Slice::Bool($src) => tensor.with_bool($shape, $body),
            $crate::interp::tensor::Slice::Str($src) => tensor.with_str($shape, $body),
        }
    }};
}
pub(crate) use map_storage;

/// The elements of a tensor in their storage.
pub(crate) enum Slice<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    I32(&'a [i32]),
    Bool(&'a [bool]),
    Str(&'a [String]),
}

impl Tensor {
    fn new(dtype: DType, shape: Vec<usize>, data: Data) -> Self {
        let tensor = Self { dtype, shape, data, start: 0 };
        debug_assert_eq!(tensor.capacity(), tensor.len(), "elements and shape agree");
        tensor
    }

    /// An fp32 tensor; the number of elements must be what the shape needs.
    pub fn f32(shape: &[usize], elements: Vec<f32>) -> Self {
        Self::new(DType::F32, shape.to_vec(), Data::F32(Store::new(elements)))
    }

    /// An int32 tensor.
    pub fn i32(shape: &[usize], elements: Vec<i32>) -> Self {
        Self::new(DType::I32, shape.to_vec(), Data::I32(Arc::new(Buffer(elements))))
    }

    /// A tensor of booleans.
    pub fn bool(shape: &[usize], elements: Vec<bool>) -> Self {
        Self::new(DType::Bool, shape.to_vec(), Data::Bool(Arc::new(Buffer(elements))))
    }

    /// A tensor of strings.
    pub fn strings(shape: &[usize], elements: Vec<String>) -> Self {
        Self::new(DType::Str, shape.to_vec(), Data::Str(Arc::new(Buffer(elements))))
    }

    /// An fp16 tensor from fp16 elements.
    pub fn f16(shape: &[usize], elements: Vec<f16>) -> Self {
        Self::new(DType::F16, shape.to_vec(), Data::F16(Store::new(elements)))
    }

    /// Floats inside a mapped blob, whose size and alignment the caller checked.
    pub(crate) fn mapped(dtype: DType, shape: Vec<usize>, blob: Blob) -> Self {
        let data = if dtype == DType::F16 {
            Data::F16(Store::Mapped(blob))
        } else {
            Data::F32(Store::Mapped(blob))
        };
        Self::new(dtype, shape, data)
    }

    /// Zeros of a declared type; fp16 takes two bytes an element.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let n = shape.iter().product();
        let zeros = match dtype {
            // Pages that nobody writes stay the system's.
            DType::F16 => Self::f16(shape, vec![0; n].reinterpret_into()),
            DType::Bool => Self::bool(shape, vec![false; n]),
            DType::Str => Self::strings(shape, vec![String::new(); n]),
            float if float.is_float() => Self::f32(shape, vec![0.0; n]),
            _ => Self::i32(shape, vec![0; n]),
        };
        zeros.tagged(dtype)
    }

    /// The declared type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as f32: floats as they are, whole numbers and booleans converted; nothing for strings.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        Some(match self.storage() {
            Slice::F32(v) => v.to_vec(),
            Slice::F16(v) => fp16::to_f32_vec(v),
            Slice::I32(v) => v.iter().map(|&i| i as f32).collect(),
            Slice::Bool(v) => v.iter().map(|&b| f32::from(u8::from(b))).collect(),
            Slice::Str(_) => return None,
        })
    }

    /// The elements of a tensor of floats, borrowed where they are held as f32.
    pub fn floats(&self) -> Option<Cow<'_, [f32]>> {
        self.f32s().ok()
    }

    /// The elements of a tensor of whole numbers.
    pub fn as_i32(&self) -> Option<&[i32]> {
        if let Slice::I32(v) = self.storage() { Some(v) } else { None }
    }

    /// The elements of a tensor of booleans.
    pub fn as_bool(&self) -> Option<&[bool]> {
        if let Slice::Bool(v) = self.storage() { Some(v) } else { None }
    }

    /// The elements of a tensor of strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        if let Slice::Str(v) = self.storage() { Some(v) } else { None }
    }

    /// The elements as little-endian bytes of the declared type; nothing for types without whole bytes.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let ints = || self.as_i32();
        Some(match self.dtype {
            DType::F16 => match self.storage() {
                Slice::F16(v) => v.as_bytes().to_vec(),
                Slice::F32(v) => v.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
                _ => return None,
            },
            DType::F32 => self.to_f32()?.as_bytes().to_vec(),
            DType::I32 | DType::U32 => ints()?.as_bytes().to_vec(),
            DType::I16 | DType::U16 => {
                ints()?.iter().flat_map(|&i| (i as u16).to_le_bytes()).collect()
            }
            DType::I8 | DType::U8 => ints()?.iter().map(|&i| i as u8).collect(),
            DType::Bool => self.as_bool()?.iter().map(|&b| u8::from(b)).collect(),
            _ => return None,
        })
    }

    /// Type and shape in the program's words: `fp16[1, 64]`.
    pub fn describe(&self) -> String {
        format!("{}{:?}", self.dtype, self.shape)
    }

    pub(crate) fn storage(&self) -> Slice<'_> {
        let range = self.start..self.start + self.len();
        match &self.data {
            Data::F32(store) => Slice::F32(&store.as_slice()[range]),
            Data::F16(store) => Slice::F16(&store.as_slice()[range]),
            Data::I32(buffer) => Slice::I32(&buffer.0[range]),
            Data::Bool(buffer) => Slice::Bool(&buffer.0[range]),
            Data::Str(buffer) => Slice::Str(&buffer.0[range]),
        }
    }

    fn capacity(&self) -> usize {
        match &self.data {
            Data::F32(store) => store.as_slice().len(),
            Data::F16(store) => store.as_slice().len(),
            Data::I32(buffer) => buffer.0.len(),
            Data::Bool(buffer) => buffer.0.len(),
            Data::Str(buffer) => buffer.0.len(),
        }
    }

    /// The elements of a float tensor as f32.
    pub(crate) fn f32s(&self) -> Result<Cow<'_, [f32]>, OpError> {
        match self.storage() {
            Slice::F32(v) => Ok(Cow::Borrowed(v)),
            Slice::F16(v) => Ok(Cow::Owned(fp16::to_f32_vec(v))),
            _ => Err(self.not("floats")),
        }
    }

    pub(crate) fn i32s(&self) -> Result<&[i32], OpError> {
        self.as_i32().ok_or_else(|| self.not("whole numbers"))
    }

    pub(crate) fn bools(&self) -> Result<&[bool], OpError> {
        self.as_bool().ok_or_else(|| self.not("booleans"))
    }

    fn not(&self, expected: &str) -> OpError {
        OpError::invalid(format!("a value of type {} should hold {expected}", self.describe()))
    }

    /// The elements as a vector of their own, without a copy when nobody else sees them.
    pub(crate) fn into_f32s(self) -> Result<Vec<f32>, OpError> {
        let whole = self.start == 0 && self.capacity() == self.len();
        match self.data {
            Data::F32(Store::Owned(buffer)) if whole => {
                Ok(Arc::try_unwrap(buffer).unwrap_or_else(|shared| Buffer(shared.0.clone())).0)
            }
            _ => Ok(self.f32s()?.into_owned()),
        }
    }

    /// The vector inside, when this is the only tensor that has it.
    pub(crate) fn reclaim(self) -> Option<Vec<f32>> {
        match self.data {
            Data::F32(Store::Owned(buffer)) => Arc::try_unwrap(buffer).ok().map(|b| b.0),
            _ => None,
        }
    }

    /// The same elements under another declared type of the same storage.
    pub(crate) fn tagged(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The same elements in another shape of as many elements.
    pub(crate) fn reshaped(mut self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.len(), "as many elements");
        self.shape = shape;
        self
    }

    /// A run of the elements, shared with this tensor.
    pub(crate) fn view(&self, offset: usize, shape: Vec<usize>) -> Self {
        debug_assert!(offset + shape.iter().product::<usize>() <= self.len(), "inside");
        Self { dtype: self.dtype, shape, data: self.data.clone(), start: self.start + offset }
    }

    /// Makes this tensor own exactly its elements, for writing.
    pub(crate) fn make_whole(self) -> Self {
        if self.start == 0 && self.capacity() == self.len() {
            return self;
        }
        let shape = self.shape.clone();
        map_storage!(&self, shape, |src| src.to_vec())
    }

    pub(crate) fn with_f32(&self, shape: Vec<usize>, elements: Vec<f32>) -> Self {
        Self::new(self.dtype, shape, Data::F32(Store::new(elements)))
    }

    pub(crate) fn with_f16(&self, shape: Vec<usize>, elements: Vec<f16>) -> Self {
        Self::new(self.dtype, shape, Data::F16(Store::new(elements)))
    }

    pub(crate) fn with_i32(&self, shape: Vec<usize>, elements: Vec<i32>) -> Self {
        Self::new(self.dtype, shape, Data::I32(Arc::new(Buffer(elements))))
    }

    pub(crate) fn with_bool(&self, shape: Vec<usize>, elements: Vec<bool>) -> Self {
        Self::new(self.dtype, shape, Data::Bool(Arc::new(Buffer(elements))))
    }

    pub(crate) fn with_str(&self, shape: Vec<usize>, elements: Vec<String>) -> Self {
        Self::new(self.dtype, shape, Data::Str(Arc::new(Buffer(elements))))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Formats a shape as `[1, ?, 64]`.
pub(crate) fn show(shape: &[Option<usize>]) -> String {
    let dims: Vec<_> = shape.iter().map(|d| d.map_or("?".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", dims.join(", "))
}
