//! What goes wrong when a program is planned and when it runs.

use std::fmt;

use thiserror::Error;

use crate::base::cancel::Cancelled;
use crate::base::error::{ErrorKind, Hint};
use crate::mil::ConstError;

/// Why one operation cannot be planned or did not run.
#[derive(Debug, Error)]
pub enum OpError {
    /// A required parameter is not there.
    #[error("parameter `{0}` is missing")]
    Missing(String),
    /// A parameter that has to be constant is computed.
    #[error("parameter `{0}` is not constant")]
    NotConstant(String),
    /// A parameter of another kind than the operation takes.
    #[error("parameter `{parameter}` should be {expected}, not {actual}")]
    Kind {
        /// The parameter.
        parameter: String,
        /// What the operation takes.
        expected: &'static str,
        /// What is there.
        actual: String,
    },
    /// A form of the operation that this runtime does not have.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Values that do not go together.
    #[error("{0}")]
    Invalid(String),
    /// A constant without usable elements.
    #[error(transparent)]
    Const(#[from] ConstError),
    /// An operation or an input of a nested block.
    #[error("{place} failed: {source}")]
    Within {
        /// The operation.
        place: String,
        /// Why.
        source: Box<OpError>,
    },
    /// The run was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl OpError {
    /// Values that do not go together, said in one phrase.
    pub(crate) fn invalid(fact: impl Into<String>) -> Self {
        Self::Invalid(fact.into())
    }

    /// What is wrong with an input of a nested block.
    pub(crate) fn within(self, input: &str) -> Self {
        Self::Within { place: format!("block input `{input}`"), source: Box::new(self) }
    }

    /// True if the operation, or one within it, was asked to stop.
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_) => true,
            Self::Within { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }
}

/// One kind of thing that this runtime does not have, as often as it occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The operation.
    pub kind: String,
    /// The opset of the function.
    pub opset: String,
    /// The form that is missing, or nothing when the whole operation is.
    pub form: Option<String>,
    /// Number of occurrences.
    pub count: usize,
    /// The first occurrence, as `function/operation`.
    pub first: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.kind)?;
        if let Some(form) = &self.form {
            write!(f, " ({form})")?;
        }
        write!(f, " of {}, {} times, first at `{}`", self.opset, self.count, self.first)
    }
}

/// Why a program cannot be planned.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Operations that this runtime does not have, all of them.
    #[error("{} of operations are not supported: {}", kinds(.0.len()), list(.0))]
    Unsupported(Vec<Unsupported>),
    /// One operation does not hold together.
    #[error("function `{function}`: operation `{op}` (`{kind}`) cannot be planned: {source}")]
    Op {
        /// The function.
        function: String,
        /// The operation's name.
        op: String,
        /// Its kind.
        kind: String,
        /// Description of the problem.
        source: OpError,
    },
    /// A name that nothing defines.
    #[error("function `{function}`: `{name}` is used and never defined")]
    Undefined {
        /// The function.
        function: String,
        /// The name.
        name: String,
    },
    /// Blocks nested deeper than the bound.
    #[error("function `{function}`: operation `{op}` is nested deeper than {limit} blocks")]
    Depth {
        /// The function.
        function: String,
        /// The operation that holds the block.
        op: String,
        /// The bound.
        limit: usize,
    },
    /// A declared shape of more elements than any tensor here has.
    #[error("function `{function}`: `{name}` has type {ty}, too large to be held")]
    Huge {
        /// The function.
        function: String,
        /// The name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// A name that two operations define.
    #[error("function `{function}`: `{name}` is defined twice")]
    Twice {
        /// The function.
        function: String,
        /// The name.
        name: String,
    },
    /// An input, output or state of a type that this runtime does not carry.
    #[error("function `{function}`: `{name}` has type {ty}, which is not supported here")]
    Type {
        /// The function.
        function: String,
        /// The name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// A state that two functions declare differently.
    #[error("state `{name}` has type {first} in one function and {second} in another")]
    States {
        /// The state.
        name: String,
        /// Its type in the first function.
        first: String,
        /// Its type in a later one.
        second: String,
    },
}

fn kinds(n: usize) -> String {
    if n == 1 { "1 kind".to_owned() } else { format!("{n} kinds") }
}

fn list(all: &[Unsupported]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a function did not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A function that the program does not have.
    #[error("no function `{name}`, only {}", present.join(", "))]
    NoFunction {
        /// The name asked for.
        name: String,
        /// The functions there are.
        present: Vec<String>,
    },
    /// An input that was not given.
    #[error("input `{name}` of type {expected} is not given")]
    NoInput {
        /// The input.
        name: String,
        /// Its type.
        expected: String,
    },
    /// A name given that is no input.
    #[error("`{name}` is no input, only {}", present.join(", "))]
    NotAnInput {
        /// The name.
        name: String,
        /// The inputs there are.
        present: Vec<String>,
    },
    /// An input of another type or shape.
    #[error("input `{name}` should be {expected}, not {actual}")]
    Input {
        /// The input.
        name: String,
        /// The declared type.
        expected: String,
        /// What was given.
        actual: String,
    },
    /// A state that is not there, of another type, or lost.
    #[error("state `{name}` should be {expected}, not {actual}")]
    State {
        /// The state.
        name: String,
        /// The declared type.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// A value asked for that the function does not compute.
    #[error("no value `{name}` to tap in function `{function}`")]
    NoTap {
        /// The name.
        name: String,
        /// The function.
        function: String,
    },
    /// An operation failed.
    #[error("operation `{op}` (`{kind}`) failed: {source}")]
    Op {
        /// The operation's name.
        op: String,
        /// Its kind.
        kind: String,
        /// Why.
        source: OpError,
    },
}

impl Hint for LoadError {
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoTap { .. } => Some("values that constants alone decide, and values of nested blocks, have no step to tap".to_owned()),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Op { source, .. } if source.is_cancelled() => ErrorKind::Interrupt,
            _ => ErrorKind::Input,
        }
    }
}
