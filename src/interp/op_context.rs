//! `OpContext`: one operation while the program is planned, with its parameters by name and type.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::constant::{self, Budget};
use super::error::OpError;
use super::exec::{Operand, Subgraph};
use super::options::Precision;
use super::stored::{self, Packed, Shared, Stored};
use super::tensor::{Slice, Tensor};
use crate::mil::{self, Arg, Blobs, DType, Type};

/// What a name stands for while the program is planned.
#[derive(Clone)]
pub(crate) enum Binding<'p> {
    /// A tensor computed when the function runs.
    Slot(usize),
    /// A list or a dictionary computed when the function runs.
    Other(usize, &'p Type),
    /// A constant of the program, not read yet.
    Const(&'p mil::Value),
    /// A constant that has been computed.
    Tensor(Tensor),
    /// A constant in its stored form.
    Stored(Shared),
    /// A state, by the name of the function's input.
    State(String),
}

/// The names in sight.
pub(crate) type Scope<'p> = BTreeMap<String, Binding<'p>>;

/// One operation being planned.
pub(crate) struct OpContext<'a, 'p> {
    pub(crate) op: &'p mil::Op,
    pub(crate) scope: &'a Scope<'p>,
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) budget: &'a Budget,
    pub(crate) precision: Precision,
    /// The operations after this one in its block.
    pub(crate) later: &'p [mil::Op],
    /// The operation's nested blocks.
    pub(crate) bodies: &'a [Subgraph],
    /// Slots that the operation reads, once per reading.
    pub(crate) uses: RefCell<Vec<usize>>,
}

impl<'p> OpContext<'_, 'p> {
    /// A required argument.
    pub(crate) fn input(&self, parameter: &str) -> Result<Operand, OpError> {
        self.optional(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))
    }

    /// An argument that may be absent.
    pub(crate) fn optional(&self, parameter: &str) -> Result<Option<Operand>, OpError> {
        match self.binding(parameter)? {
            None => Ok(None),
            Some(binding) => self.argument(parameter, binding).map(Some),
        }
    }

    /// All bindings of an argument that is a list.
    pub(crate) fn inputs(&self, parameter: &str) -> Result<Vec<Operand>, OpError> {
        let args = self.op.inputs.get(parameter);
        let args = args.ok_or_else(|| OpError::Missing(parameter.to_owned()))?;
        args.iter().map(|arg| self.argument(parameter, self.resolve(arg)?)).collect()
    }

    /// All bindings of an argument that is a list, whatever they are.
    pub(crate) fn values(&self, parameter: &str) -> Result<Vec<Operand>, OpError> {
        let args = self.op.inputs.get(parameter);
        let args = args.ok_or_else(|| OpError::Missing(parameter.to_owned()))?;
        let value = |arg| match self.resolve(arg)? {
            Binding::Other(slot, _) => Ok(self.slot(slot)),
            binding => self.argument(parameter, binding),
        };
        args.iter().map(value).collect()
    }

    /// The slot of an argument that is a list when the function runs.
    pub(crate) fn list(&self, parameter: &str) -> Result<usize, OpError> {
        match self.binding(parameter)? {
            Some(Binding::Other(slot, Type::List(..))) => {
                self.slot(slot);
                Ok(slot)
            }
            Some(_) => Err(OpError::invalid(format!("parameter `{parameter}` is no list"))),
            None => Err(OpError::Missing(parameter.to_owned())),
        }
    }

    /// A constant argument as it stands in the program.
    pub(crate) fn literal(&self, parameter: &str) -> Result<&'p mil::Value, OpError> {
        match self.binding(parameter)? {
            Some(Binding::Const(value)) => Ok(value),
            Some(_) => Err(OpError::NotConstant(parameter.to_owned())),
            None => Err(OpError::Missing(parameter.to_owned())),
        }
    }

    /// A constant argument in its stored form; nothing when it is computed.
    pub(crate) fn stored(&self, parameter: &str) -> Result<Option<Shared>, OpError> {
        Ok(match self.binding(parameter)? {
            Some(Binding::Stored(stored)) => Some(stored),
            Some(Binding::Tensor(tensor)) => Some(stored::of_tensor(tensor)),
            Some(Binding::Const(value)) => {
                Some(stored::of_tensor(constant::tensor(value, self.blobs, self.budget)?))
            }
            _ => None,
        })
    }

    /// A constant argument's elements as they are stored.
    pub(crate) fn packed(&self, parameter: &str) -> Result<Packed, OpError> {
        match self.binding(parameter)? {
            Some(Binding::Const(value)) => constant::packed(value, self.blobs, self.budget),
            Some(Binding::Stored(stored)) => packed_again(&self.expand(&*stored)?),
            Some(Binding::Tensor(tensor)) => packed_again(&tensor),
            Some(_) => Err(OpError::NotConstant(parameter.to_owned())),
            None => Err(OpError::Missing(parameter.to_owned())),
        }
    }

    /// A constant argument as a tensor; nothing when it is absent, an error when it is computed.
    pub(crate) fn constant(&self, parameter: &str) -> Result<Option<Tensor>, OpError> {
        match self.binding(parameter)? {
            None => Ok(None),
            Some(binding) => match self.argument(parameter, binding)? {
                Operand::Const(tensor) => Ok(Some(tensor)),
                Operand::Slot(_) => Err(OpError::NotConstant(parameter.to_owned())),
            },
        }
    }

    /// A constant whole number.
    pub(crate) fn int(&self, parameter: &str, default: Option<i32>) -> Result<i32, OpError> {
        match self.constant(parameter)? {
            Some(tensor) => match tensor.as_i32() {
                Some(&[n]) => Ok(n),
                _ => Err(kind(parameter, "one whole number", &tensor)),
            },
            None => default.ok_or_else(|| OpError::Missing(parameter.to_owned())),
        }
    }

    /// Constant whole numbers.
    pub(crate) fn ints(&self, parameter: &str) -> Result<Option<Vec<i32>>, OpError> {
        let Some(tensor) = self.constant(parameter)? else { return Ok(None) };
        match tensor.as_i32() {
            Some(ints) => Ok(Some(ints.to_vec())),
            None => Err(kind(parameter, "whole numbers", &tensor)),
        }
    }

    /// A constant float.
    pub(crate) fn float(&self, parameter: &str, default: Option<f32>) -> Result<f32, OpError> {
        match self.constant(parameter)? {
            Some(tensor) => match tensor.to_f32().as_deref() {
                Some(&[x]) => Ok(x),
                _ => Err(kind(parameter, "one number", &tensor)),
            },
            None => default.ok_or_else(|| OpError::Missing(parameter.to_owned())),
        }
    }

    /// Constant floats; nothing when they are absent.
    pub(crate) fn floats(&self, parameter: &str) -> Result<Option<Vec<f32>>, OpError> {
        self.constant(parameter)?.map(|t| Ok(t.f32s()?.into_owned())).transpose()
    }

    /// A constant boolean.
    pub(crate) fn bool(&self, parameter: &str, default: bool) -> Result<bool, OpError> {
        match self.constant(parameter)? {
            Some(tensor) => match tensor.as_bool() {
                Some(&[b]) => Ok(b),
                _ => Err(kind(parameter, "one boolean", &tensor)),
            },
            None => Ok(default),
        }
    }

    /// Constant booleans.
    pub(crate) fn bools(&self, parameter: &str) -> Result<Option<Vec<bool>>, OpError> {
        let Some(tensor) = self.constant(parameter)? else { return Ok(None) };
        match tensor.as_bool() {
            Some(bools) => Ok(Some(bools.to_vec())),
            None => Err(kind(parameter, "booleans", &tensor)),
        }
    }

    /// A constant string.
    pub(crate) fn text(&self, parameter: &str) -> Result<Option<String>, OpError> {
        let Some(tensor) = self.constant(parameter)? else { return Ok(None) };
        match tensor.as_strings() {
            Some([text]) => Ok(Some(text.clone())),
            _ => Err(kind(parameter, "a string", &tensor)),
        }
    }

    /// The name of the state that a parameter is bound to.
    pub(crate) fn state(&self, parameter: &str) -> Result<String, OpError> {
        match self.binding(parameter)? {
            Some(Binding::State(name)) => Ok(name),
            Some(_) => Err(OpError::invalid(format!("parameter `{parameter}` is no state"))),
            None => Err(OpError::Missing(parameter.to_owned())),
        }
    }

    /// The declared type of a result.
    pub(crate) fn out_dtype(&self, i: usize) -> Result<DType, OpError> {
        let out = self.op.outputs.get(i).and_then(|o| o.ty.as_tensor());
        out.map(|t| t.dtype).ok_or_else(|| OpError::invalid(format!("result {i} is no tensor")))
    }

    /// What a parameter is bound to, among the inputs or (as before iOS18) the attributes.
    fn binding(&self, parameter: &str) -> Result<Option<Binding<'p>>, OpError> {
        match self.op.inputs.get(parameter).map(Vec::as_slice) {
            Some([arg]) => self.resolve(arg).map(Some),
            Some([]) => Ok(None),
            Some(many) => Err(OpError::Kind {
                parameter: parameter.to_owned(),
                expected: "one value",
                actual: format!("a list of {}", many.len()),
            }),
            None => Ok(self.op.attributes.get(parameter).map(Binding::Const)),
        }
    }

    fn resolve(&self, arg: &'p Arg) -> Result<Binding<'p>, OpError> {
        match arg {
            Arg::Value(value) => Ok(Binding::Const(value)),
            Arg::Name(name) => self
                .scope
                .get(name)
                .cloned()
                .ok_or_else(|| OpError::invalid(format!("nothing before it defines `{name}`"))),
        }
    }

    /// All elements of a constant.
    fn expand(&self, stored: &dyn Stored) -> Result<Tensor, OpError> {
        self.budget.take(stored.len())?;
        Ok(stored::expand(stored))
    }

    fn slot(&self, slot: usize) -> Operand {
        self.uses.borrow_mut().push(slot);
        Operand::Slot(slot)
    }

    fn argument(&self, parameter: &str, binding: Binding<'p>) -> Result<Operand, OpError> {
        Ok(match binding {
            Binding::Slot(slot) => self.slot(slot),
            Binding::Other(_, ty) => {
                let fact = format!("parameter `{parameter}` has type {ty}");
                return Err(OpError::invalid(fact));
            }
            Binding::Const(value) => {
                Operand::Const(constant::tensor(value, self.blobs, self.budget)?)
            }
            Binding::Tensor(tensor) => Operand::Const(tensor),
            Binding::Stored(stored) => Operand::Const(self.expand(&*stored)?),
            Binding::State(name) => {
                let fact = format!("parameter `{parameter}` is the state `{name}`");
                return Err(OpError::invalid(fact));
            }
        })
    }
}

/// Whole numbers that are constant or computed.
pub(crate) enum Ints {
    /// Known when the program was planned.
    Const(Vec<i32>),
    /// Computed when the function runs.
    In(Operand),
}

impl Ints {
    /// A parameter of whole numbers.
    pub(crate) fn of(site: &OpContext<'_, '_>, parameter: &str) -> Result<Self, OpError> {
        Ok(match site.input(parameter)? {
            Operand::Const(tensor) => Self::Const(tensor.i32s()?.to_vec()),
            slot @ Operand::Slot(_) => Self::In(slot),
        })
    }

    /// The numbers.
    pub(crate) fn get<'s>(
        &'s self,
        run: &'s super::exec::ExecContext<'_>,
    ) -> Result<&'s [i32], OpError> {
        match self {
            Self::Const(ints) => Ok(ints),
            Self::In(from) => run.get(from).i32s(),
        }
    }
}

fn kind(parameter: &str, expected: &'static str, tensor: &Tensor) -> OpError {
    OpError::Kind { parameter: parameter.to_owned(), expected, actual: tensor.describe() }
}

fn packed_again(tensor: &Tensor) -> Result<Packed, OpError> {
    let (dtype, bytes) = match tensor.storage() {
        // Whole numbers were carried in i32; their own type says how many of its bits count.
        Slice::I32(v) if tensor.dtype().bits() < 8 => {
            (DType::U8, v.iter().map(|&i| i as u8).collect())
        }
        _ => {
            let shape_mismatch =
                || OpError::invalid(format!("{} cannot be packed", tensor.describe()));
            (tensor.dtype(), tensor.to_bytes().ok_or_else(shape_mismatch)?)
        }
    };
    Ok(Packed::owned(dtype, tensor.shape().to_vec(), bytes))
}
