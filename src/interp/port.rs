//! `Port`: an input or state of a function.

use std::fmt;

use super::error::OpError;
use super::tensor::{self, Tensor, show};
use crate::mil::{DType, Rule};

/// An input or state: its name, declared type, and what the model's description asks besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// The name.
    pub name: String,
    /// Type of one element.
    pub dtype: DType,
    /// The extents; nothing where an extent is known only when run.
    pub shape: Vec<Option<usize>>,
    /// The shapes that are allowed, and what stands in where nothing is given.
    pub rule: Rule,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, show(&self.shape))?;
        match &self.rule.allowed {
            Some(allowed) => write!(f, " of shape {allowed}"),
            None => Ok(()),
        }
    }
}

impl Port {
    pub(super) fn holds(&self, tensor: &Tensor) -> bool {
        self.shape.len() == tensor.rank()
            && self.shape.iter().zip(tensor.shape()).all(|(d, &n)| d.is_none_or(|d| d == n))
            && self.rule.allowed.as_ref().is_none_or(|allowed| allowed.holds(tensor.shape()))
    }

    /// What stands in for the input where none is given.
    pub(super) fn default(&self) -> Option<Result<Tensor, OpError>> {
        let fill = self.rule.default.as_ref()?;
        let full = |n| {
            if self.dtype.is_float() {
                Tensor::f32(&fill.shape, vec![fill.value as f32; n])
            } else {
                Tensor::i32(&fill.shape, vec![fill.value as i32; n])
            }
        };
        Some(tensor::elements(&fill.shape).map(full))
    }
}
