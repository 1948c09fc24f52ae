//! `List`: tensors of one type and shape that grow as they are written; what was never written is zero.

use std::sync::Arc;

use super::error::OpError;
use super::tensor::show;
use super::tensor::{self, Buffer, Tensor};
use crate::mil::DType;

/// More elements than this are refused: an index comes from data.
const MAX_LENGTH: usize = if cfg!(fuzzing) { 1 << 12 } else { 1 << 22 };

/// A list: cheap to clone, copied when it is written while somebody else sees it.
#[derive(Debug, Clone)]
pub struct List {
    elements: Arc<Buffer<Option<Tensor>>>,
    dtype: DType,
    /// Extents of an element; nothing where the first element written decides.
    shape: Vec<Option<usize>>,
    /// True if it grows when it is written beyond its end.
    dynamic: bool,
}

impl List {
    /// A list of `length` elements that nobody has written.
    pub(crate) fn new(
        length: usize,
        dtype: DType,
        shape: Vec<Option<usize>>,
        dynamic: bool,
    ) -> Result<Self, OpError> {
        check_length(length)?;
        Ok(Self { elements: Arc::new(Buffer(vec![None; length])), dtype, shape, dynamic })
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.elements.0.len()
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.elements.0.is_empty()
    }

    /// Type of its elements and their number.
    pub(crate) fn describe(&self) -> String {
        format!("list<{}{}, {}>", self.dtype, show(&self.shape), self.len())
    }

    /// The element at `index`.
    pub(crate) fn read(&self, index: i32) -> Result<Tensor, OpError> {
        let at = usize::try_from(index).ok().filter(|&at| at < self.len()).ok_or_else(|| {
            OpError::invalid(format!("index {index} is outside a list of {}", self.len()))
        })?;
        match &self.elements.0[at] {
            Some(element) => Ok(element.clone()),
            None => Ok(Tensor::zeros(self.dtype, &self.element_shape()?)),
        }
    }

    /// Puts `element` at `index`; a list that may grow does.
    pub(crate) fn write(&mut self, index: i32, element: Tensor) -> Result<(), OpError> {
        let fits = self.shape.len() == element.rank()
            && self.shape.iter().zip(element.shape()).all(|(d, &n)| d.is_none_or(|d| d == n));
        if !fits || element.dtype() != self.dtype {
            let (element, list) = (element.describe(), self.describe());
            return Err(OpError::invalid(format!("a value {element} for {list}")));
        }
        let at = usize::try_from(index).ok().filter(|&at| self.dynamic || at < self.len());
        let at = at.ok_or_else(|| {
            OpError::invalid(format!("index {index} is outside a list of {}", self.len()))
        })?;
        if at >= self.len() {
            check_length(at.saturating_add(1))?;
            Arc::make_mut(&mut self.elements).0.resize(at + 1, None);
        }
        for (known, &n) in self.shape.iter_mut().zip(element.shape()) {
            *known = Some(n);
        }
        Arc::make_mut(&mut self.elements).0[at] = Some(element);
        Ok(())
    }

    /// The elements at `indices` as one tensor with a dimension in front.
    pub(crate) fn gather(&self, indices: &[i32]) -> Result<Vec<Tensor>, OpError> {
        let element = self.element_shape()?;
        let mut shape = vec![indices.len()];
        shape.extend(&element);
        tensor::elements(&shape)?;
        indices.iter().map(|&i| self.read(i)).collect()
    }

    /// The shape that all elements have, once it is known.
    pub(crate) fn element_shape(&self) -> Result<Vec<usize>, OpError> {
        self.shape.iter().copied().collect::<Option<_>>().ok_or_else(|| {
            OpError::invalid(format!("{} has no element that gives its shape", self.describe()))
        })
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }
}

fn check_length(length: usize) -> Result<(), OpError> {
    if length > MAX_LENGTH {
        return Err(OpError::invalid(format!(
            "a list of {length} elements is longer than {MAX_LENGTH}"
        )));
    }
    Ok(())
}
