//! `State`: the tensors that a package keeps between calls, updated in place.

use std::collections::BTreeMap;

use half::f16;

use super::error::RunError;
use super::port::Port;
use super::tensor::{Data, Slice, Tensor};
use crate::mil::DType;

/// The states of a package by name; functions that declare the same name share the tensor.
#[derive(Debug, Clone, Default)]
pub struct State {
    tensors: BTreeMap<String, Option<Tensor>>,
}

impl State {
    /// All states zero.
    pub(crate) fn zeros<'a>(ports: impl Iterator<Item = &'a Port>, halves: bool) -> Self {
        let zeros = |port: &Port| {
            let shape: Vec<usize> = port.shape.iter().map(|d| d.unwrap_or(1)).collect();
            let dtype = if halves { port.dtype } else { DType::F32 };
            let zeros =
                Tensor::zeros(if port.dtype.is_float() { dtype } else { port.dtype }, &shape);
            (port.name.clone(), Some(zeros.tagged(port.dtype)))
        };
        Self { tensors: ports.map(zeros).collect() }
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A state as it is now.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)?.as_ref()
    }

    /// Replaces a state; type and shape must be those it has.
    pub fn set(&mut self, name: &str, tensor: Tensor) -> Result<(), RunError> {
        let scalar = self.get(name).is_some_and(|old| old.rank() == 0) && tensor.len() == 1;
        let tensor = if scalar { tensor.reshaped(Vec::new()) } else { tensor };
        let wrong = |expected: String| RunError::State {
            name: name.to_owned(),
            expected,
            actual: tensor.describe(),
        };
        match self.get(name) {
            Some(old) if old.shape() == tensor.shape() && old.dtype() == tensor.dtype() => {}
            Some(old) => return Err(wrong(old.describe())),
            None => return Err(wrong("a state of this package".to_owned())),
        }
        self.put(name, tensor);
        Ok(())
    }

    /// Takes over the states of `other` that are not here yet.
    pub fn adopt(&mut self, other: Self) {
        for (name, tensor) in other.tensors {
            self.tensors.entry(name).or_insert(tensor);
        }
    }

    /// Bytes that the states take.
    pub fn bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.len() * t.dtype().bits() as usize / 8;
        self.tensors.values().flatten().map(bytes).sum()
    }

    /// Hands the tensor over, so that it can be changed without a copy; it has to be [`Self::put`] back.
    pub(crate) fn take(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.get_mut(name)?.take()
    }

    /// Stores a tensor, fp16 in two bytes an element where the state was so.
    pub(crate) fn put(&mut self, name: &str, tensor: Tensor) {
        let tensor = tensor.make_whole();
        let tensor = match (tensor.dtype(), &tensor.data, tensor.storage()) {
            (DType::F16, Data::F32(_), Slice::F32(values))
                if values.iter().all(|&v| v.is_nan() || f16::from_f32(v).to_f32() == v) =>
            {
                Tensor::f16(tensor.shape(), values.iter().map(|&v| f16::from_f32(v)).collect())
            }
            _ => tensor,
        };
        self.tensors.insert(name.to_owned(), Some(tensor));
    }
}
