//! `Array`: the elements of a Core ML array in row-major order, and their way into and out of strided storage.
//!
//! The framework pads the last dimensions of arrays that the Neural Engine or a pixel buffer holds, so an array of
//! shape [2, 3] may have strides [32, 1]. Offsets and strides count elements, as `MLMultiArray.strides` does.

use std::fmt;

use half::f16;
use serde::Serialize;
use thiserror::Error;

/// Types of elements that the framework's arrays have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of the program's types")]
pub enum Element {
    F16,
    F32,
    F64,
    I32,
    I8,
}

impl Element {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 => 8,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "fp16",
            Self::F32 => "fp32",
            Self::F64 => "fp64",
            Self::I32 => "int32",
            Self::I8 => "int8",
        })
    }
}

/// How shape, strides and bytes do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArrayError {
    /// Not one stride for each dimension.
    #[error("shape {shape:?} has {} strides", strides.len())]
    Rank {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<usize>,
    },
    /// More elements than a machine can address.
    #[error("shape {shape:?} with strides {strides:?} has no size")]
    Size {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<usize>,
    },
    /// Elements behind the end of the bytes.
    #[error("shape {shape:?} with strides {strides:?} needs {needed} bytes, there are {present}")]
    Short {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<usize>,
        /// Bytes up to the last element's end.
        needed: usize,
        /// Bytes there are.
        present: usize,
    },
    /// Two elements in one place.
    #[error("shape {shape:?} with strides {strides:?} puts several elements in one place")]
    Overlap {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<usize>,
    },
    /// Bytes that are not as many as the shape's elements take.
    #[error("shape {shape:?} of {element} takes {needed} bytes, {present} were given")]
    Packed {
        /// The shape.
        shape: Vec<usize>,
        /// The type.
        element: Element,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes there are.
        present: usize,
    },
}

/// Elements of one type in row-major order, without gaps, little endian.
#[derive(Clone, PartialEq, Eq)]
pub struct Array {
    element: Element,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// An array of `bytes`, as many as `shape` needs.
    pub fn new(element: Element, shape: &[usize], bytes: Vec<u8>) -> Result<Self, ArrayError> {
        let needed = packed(element.size(), shape)?;
        if bytes.len() != needed {
            let (shape, present) = (shape.to_vec(), bytes.len());
            return Err(ArrayError::Packed { shape, element, needed, present });
        }
        Ok(Self { element, shape: shape.to_vec(), bytes })
    }

    /// An array of floats.
    pub fn f32(shape: &[usize], elements: &[f32]) -> Result<Self, ArrayError> {
        Self::new(Element::F32, shape, elements.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// An array of whole numbers.
    pub fn i32(shape: &[usize], elements: &[i32]) -> Result<Self, ArrayError> {
        Self::new(Element::I32, shape, elements.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// The type of the elements.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements as f64, which holds each type exactly.
    fn values(&self) -> Vec<f64> {
        fn read<const N: usize>(bytes: &[u8], one: fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| one(*chunk)).collect()
        }
        match self.element {
            Element::F16 => read(&self.bytes, |b| f16::from_le_bytes(b).to_f64()),
            Element::F32 => read(&self.bytes, |b| f32::from_le_bytes(b).into()),
            Element::F64 => read(&self.bytes, f64::from_le_bytes),
            Element::I32 => read(&self.bytes, |b| i32::from_le_bytes(b).into()),
            Element::I8 => read(&self.bytes, |b| i8::from_le_bytes(b).into()),
        }
    }

    /// The elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values().into_iter().map(|x| x as f32).collect()
    }

    /// The elements as i32: floats cut towards zero and kept within range, NaN as 0.
    pub fn to_i32(&self) -> Vec<i32> {
        self.values().into_iter().map(|x| x as i32).collect()
    }

    /// The same elements in another type: floats to the nearest, even where two are as near; whole numbers cut
    /// towards zero and kept within range.
    #[must_use]
    pub fn cast(&self, element: Element) -> Self {
        if element == self.element {
            return self.clone();
        }
        let values = self.values().into_iter();
        let bytes = match element {
            Element::F16 => values.flat_map(|x| f16::from_f64(x).to_le_bytes()).collect(),
            Element::F32 => values.flat_map(|x| (x as f32).to_le_bytes()).collect(),
            Element::F64 => values.flat_map(f64::to_le_bytes).collect(),
            Element::I32 => values.flat_map(|x| (x as i32).to_le_bytes()).collect(),
            Element::I8 => values.flat_map(|x| (x as i8).to_le_bytes()).collect(),
        };
        Self { element, shape: self.shape.clone(), bytes }
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.element, self.shape)
    }
}

/// Bytes of `shape` without gaps.
fn packed(size: usize, shape: &[usize]) -> Result<usize, ArrayError> {
    let bytes = shape.iter().try_fold(size, |n, &d| n.checked_mul(d));
    bytes.ok_or_else(|| ArrayError::Size { shape: shape.to_vec(), strides: Vec::new() })
}

/// Takes elements of `size` bytes out of storage with `strides`, in row-major order.
pub fn gather(
    storage: &[u8],
    size: usize,
    shape: &[usize],
    strides: &[usize],
) -> Result<Vec<u8>, ArrayError> {
    let layout = Layout::of(size, shape, strides, storage.len())?;
    let mut out = Vec::with_capacity(packed(size, shape)?);
    layout.runs(|start, length| out.extend_from_slice(&storage[start..start + length]));
    Ok(out)
}

/// Puts `elements` of `size` bytes each, in row-major order, into storage with `strides`; what lies between stays.
pub fn scatter(
    elements: &[u8],
    size: usize,
    shape: &[usize],
    strides: &[usize],
    storage: &mut [u8],
) -> Result<(), ArrayError> {
    let layout = Layout::of(size, shape, strides, storage.len())?;
    if layout.overlaps() {
        return Err(ArrayError::Overlap { shape: shape.to_vec(), strides: strides.to_vec() });
    }
    let needed = packed(size, shape)?;
    if elements.len() != needed {
        let (shape, strides, present) = (shape.to_vec(), strides.to_vec(), elements.len());
        return Err(ArrayError::Short { shape, strides, needed, present });
    }
    let mut rest = elements;
    layout.runs(|start, length| {
        let (run, after) = rest.split_at(length);
        storage[start..start + length].copy_from_slice(run);
        rest = after;
    });
    Ok(())
}

/// Shape and strides that were found to stay within their storage.
struct Layout<'a> {
    size: usize,
    shape: &'a [usize],
    strides: &'a [usize],
    /// Dimensions, from the first, whose elements do not follow each other.
    outer: usize,
    /// Elements that follow each other in the others.
    run: usize,
}

impl<'a> Layout<'a> {
    fn of(
        size: usize,
        shape: &'a [usize],
        strides: &'a [usize],
        present: usize,
    ) -> Result<Self, ArrayError> {
        let owned = || (shape.to_vec(), strides.to_vec());
        if shape.len() != strides.len() {
            let (shape, strides) = owned();
            return Err(ArrayError::Rank { shape, strides });
        }
        let needed = end(size, shape, strides).ok_or_else(|| {
            let (shape, strides) = owned();
            ArrayError::Size { shape, strides }
        })?;
        if needed > present {
            let (shape, strides) = owned();
            return Err(ArrayError::Short { shape, strides, needed, present });
        }
        let (mut outer, mut run) = (shape.len(), 1);
        while outer > 0 && (shape[outer - 1] == 1 || strides[outer - 1] == run) {
            run *= shape[outer - 1];
            outer -= 1;
        }
        Ok(Self { size, shape, strides, outer, run })
    }

    /// Calls `each` with start and length, in bytes, of each run of elements that follow each other.
    fn runs(&self, mut each: impl FnMut(usize, usize)) {
        if self.shape.contains(&0) {
            return;
        }
        let length = self.run * self.size;
        let mut index = vec![0; self.outer];
        let mut start = 0;
        loop {
            each(start * self.size, length);
            let mut dim = self.outer;
            loop {
                if dim == 0 {
                    return;
                }
                dim -= 1;
                index[dim] += 1;
                start += self.strides[dim];
                if index[dim] < self.shape[dim] {
                    break;
                }
                start -= self.strides[dim] * self.shape[dim];
                index[dim] = 0;
            }
        }
    }

    /// True if two elements may share a place: some stride does not reach beyond what the shorter ones span.
    fn overlaps(&self) -> bool {
        if self.shape.contains(&0) {
            return false;
        }
        let mut dims: Vec<_> =
            self.strides.iter().zip(self.shape).filter(|(_, extent)| **extent > 1).collect();
        dims.sort();
        let mut span = 0;
        for (&stride, &extent) in dims {
            if stride <= span {
                return true;
            }
            span += stride * (extent - 1);
        }
        false
    }
}

/// Bytes up to the end of the last element; nothing where they cannot be counted.
fn end(size: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    packed(size, shape).ok()?;
    if shape.contains(&0) {
        return Some(0);
    }
    let last = shape.iter().zip(strides).try_fold(0_usize, |sum, (&extent, &stride)| {
        // One stride beyond the last element is counted too, so that walking over it cannot overflow.
        stride.checked_mul(extent)?;
        sum.checked_add(stride.checked_mul(extent - 1)?)
    })?;
    last.checked_add(1)?.checked_mul(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The offset of every element, one by one.
    fn offsets(shape: &[usize], strides: &[usize]) -> Vec<usize> {
        let n: usize = shape.iter().product();
        let offset = |mut at: usize| {
            let mut sum = 0;
            for (&extent, &stride) in shape.iter().zip(strides).rev() {
                sum += at % extent * stride;
                at /= extent;
            }
            sum
        };
        (0..n).map(offset).collect()
    }

    /// Shapes with strides that are padded, permuted or both, and never put two elements in one place.
    fn layouts() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        let dims = prop::collection::vec((0_usize..5, 0_usize..4), 0..5);
        (dims, any::<u64>()).prop_map(|(dims, seed)| {
            let shape: Vec<usize> = dims.iter().map(|d| d.0).collect();
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order.sort_by_key(|&i| (seed >> (i * 8)) & 0xff);
            let (mut strides, mut next) = (vec![0; shape.len()], 1);
            for i in order {
                strides[i] = next;
                next = next * shape[i].max(1) + dims[i].1;
            }
            (shape, strides)
        })
    }

    proptest! {
        #[test]
        fn gathering_and_scattering_visit_every_element_once(
            (shape, strides) in layouts(),
            size in prop::sample::select(vec![1_usize, 2, 4, 8]),
            slack in 0_usize..3,
        ) {
            let places = offsets(&shape, &strides);
            let most = places.iter().max().map_or(0, |most| most + 1) + slack;
            let storage: Vec<u8> = (0..most * size).map(|i| (i * 37 % 251) as u8).collect();
            let want: Vec<u8> =
                places.iter().flat_map(|p| storage[p * size..][..size].to_vec()).collect();
            prop_assert_eq!(&gather(&storage, size, &shape, &strides).unwrap(), &want);

            let mut back = vec![0xEE; storage.len()];
            scatter(&want, size, &shape, &strides, &mut back).unwrap();
            for (i, byte) in back.iter().enumerate() {
                let touched = places.contains(&(i / size));
                prop_assert_eq!(*byte, if touched { storage[i] } else { 0xEE });
            }
        }
    }

    #[test]
    fn rows_that_are_padded_to_64_bytes() {
        // [2, 3] of fp16 with rows of 32 elements, as the Neural Engine keeps them.
        let mut storage = vec![0xFF_u8; 2 * 64];
        let elements: Vec<u8> = (0..12).collect();
        scatter(&elements, 2, &[2, 3], &[32, 1], &mut storage).unwrap();
        assert_eq!(storage[..7], [0, 1, 2, 3, 4, 5, 0xFF]);
        assert_eq!(storage[64..71], [6, 7, 8, 9, 10, 11, 0xFF]);
        assert_eq!(gather(&storage, 2, &[2, 3], &[32, 1]).unwrap(), elements);
        // The padding behind the last row need not be there.
        assert_eq!(gather(&storage[..70], 2, &[2, 3], &[32, 1]).unwrap(), elements);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut storage = [0; 24];
        let cases: &[(&[usize], &[usize], &str)] = &[
            (&[2, 3], &[3], "shape [2, 3] has 1 strides"),
            (&[2, 4], &[4, 1], "shape [2, 4] with strides [4, 1] needs 32 bytes, there are 24"),
            (&[2], &[6], "shape [2] with strides [6] needs 28 bytes, there are 24"),
            (&[2, usize::MAX], &[1, 1], "has no size"),
            (&[2], &[usize::MAX], "has no size"),
        ];
        for (shape, strides, want) in cases {
            for error in [
                gather(&storage, 4, shape, strides).unwrap_err(),
                scatter(&[], 4, shape, strides, &mut storage).unwrap_err(),
            ] {
                assert!(error.to_string().contains(want), "{error}");
            }
        }
        let overlap = scatter(&[0; 16], 4, &[2, 2], &[1, 1], &mut storage).unwrap_err();
        assert!(matches!(overlap, ArrayError::Overlap { .. }), "{overlap}");
        let few = scatter(&[0; 4], 4, &[2], &[1], &mut storage).unwrap_err();
        assert!(matches!(few, ArrayError::Short { needed: 8, present: 4, .. }), "{few}");
        assert!(Array::new(Element::F16, &[3], vec![0; 4]).is_err());
    }

    #[test]
    fn casts_round_as_the_types_do() {
        let floats = Array::f32(&[4], &[1.000_488_3, -2.5, 70_000.0, f32::NAN]).unwrap();
        // 1 + 2^-11 lies half way between two fp16 values: the even one is 1.
        let halves = floats.cast(Element::F16);
        assert_eq!(halves.bytes()[..6], [0x00, 0x3c, 0x00, 0xc1, 0x00, 0x7c]);
        assert!(halves.to_f32()[3].is_nan());
        assert_eq!(floats.cast(Element::I32).to_i32(), [1, -2, 70_000, 0]);
        assert_eq!(floats.cast(Element::I8).to_i32(), [1, -2, 127, 0]);
        let wide = Array::i32(&[2], &[i32::MIN, 7]).unwrap();
        assert_eq!(wide.cast(Element::F64).to_i32(), [i32::MIN, 7]);
        assert_eq!(wide.cast(Element::F32).to_f32(), [-2_147_483_648.0, 7.0]);
    }
}
