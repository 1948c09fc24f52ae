//! `Runtime`: executes the functions of a package; implemented by the interpreter and, on macOS, by Core ML.

mod choice;
mod coreml;
mod interp;
mod memory;

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

pub use choice::{
    Backend, BackendChain, CHAINS, Choice, INSIDE, NoBackend, Requirements, SkippedBackend,
    UNROUNDED, choose,
};
pub use coreml::{CoreMl, array, tensor, value};
pub use interp::Interp;
pub use memory::{peak_resident, reset_peak};

use crate::base::error::{ErrorKind, Hint};
use crate::mil::{Blobs, Program, Rules};

/// Something that runs ML programs.
pub trait Runtime: Send + Sync {
    /// Its name in reports: `interp` or `coreml`.
    fn name(&self) -> &'static str;
    /// Makes the functions of a program ready to run.
    fn load(&self, source: &Source<'_>) -> Result<Box<dyn Loaded>, RuntimeError>;
}

/// A program to load.
#[derive(Clone)]
pub struct Source<'a> {
    /// The program.
    pub program: &'a Program,
    /// Blob storage that its constants refer to.
    pub blobs: Arc<dyn Blobs>,
    /// Constraints of inputs from the model description.
    pub rules: Rules,
    /// The package that holds both as they are, for a runtime that opens packages itself.
    pub package: Option<&'a Path>,
}

/// A program that is ready to run. Values of one loaded program can be given to another of the same runtime.
pub trait Loaded: Send + Sync {
    /// States as they are before the first call.
    fn state(&self) -> State;
    /// Adds to `state`, made by another program of the same runtime, the states that only this one has. A runtime whose
    /// states fit every program that declares them has nothing to do.
    fn adopt(&self, _state: &mut State) {}
    /// An int32 tensor.
    fn ints(&self, shape: &[usize], elements: Vec<i32>) -> Value;
    /// A tensor of floats; the runtime casts it to the type of the input that it is given to.
    fn floats(&self, shape: &[usize], elements: Vec<f32>) -> Value;
    /// Runs `function`; gives its outputs and the values named in `taps`.
    fn run(
        &self,
        function: &str,
        inputs: Values,
        state: &mut State,
        taps: &[&str],
    ) -> Result<Values, RuntimeError>;
    /// Runs a function without states on several sets of inputs, as many at once as the runtime can; gives the outputs
    /// in the same order.
    fn batch(&self, function: &str, inputs: Vec<Values>) -> Result<Vec<Values>, RuntimeError> {
        inputs.into_iter().map(|one| self.run(function, one, &mut self.state(), &[])).collect()
    }
}

/// A tensor in the form that its runtime keeps it in.
pub trait Held: Any + fmt::Debug + Send + Sync {
    /// The extents, outermost first.
    fn shape(&self) -> Vec<usize>;
    /// The elements as f32.
    fn to_f32(&self) -> Vec<f32>;
    /// The same, without a copy where they are kept so.
    fn f32s(&self) -> Cow<'_, [f32]> {
        self.to_f32().into()
    }
}

/// A shared tensor.
pub type Value = Arc<dyn Held>;

/// Tensors by name.
pub type Values = BTreeMap<String, Value>;

/// The inputs in the form that one runtime keeps them in; an error where another made them.
fn held<T: Held>(inputs: &Values) -> Result<Vec<(&str, &T)>, RuntimeError> {
    let mut out = Vec::new();
    for (name, value) in inputs {
        let value: &dyn Any = value.as_ref();
        let own = value
            .downcast_ref()
            .ok_or_else(|| RuntimeError::foreign(&format!("value `{name}`")))?;
        out.push((name.as_str(), own));
    }
    Ok(out)
}

/// The states of one sequence, in the form that their runtime keeps them in.
pub struct State(Box<dyn Any + Send>);

impl State {
    /// Wraps what the runtime keeps.
    pub fn new<T: Any + Send>(inner: T) -> Self {
        Self(Box::new(inner))
    }

    /// Value that the runtime inserted.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.0.downcast_mut()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

/// An error of loading or running a program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// Error message.
    pub message: String,
    /// Hint, if any.
    pub advice: Option<String>,
    /// Kind of the error.
    pub blame: ErrorKind,
}

impl RuntimeError {
    /// Returns the message of a runtime's error.
    pub(super) fn of<E: std::error::Error + Hint>(error: &E) -> Self {
        Self { message: error.to_string(), advice: error.hint(), blame: error.error_kind() }
    }

    /// Something that another runtime made.
    pub(super) fn foreign(what: &str) -> Self {
        Self::input(format!("{what} belongs to another runtime"))
    }

    /// A fact about the input, without advice.
    pub(super) fn input(message: String) -> Self {
        Self { message, advice: None, blame: ErrorKind::Input }
    }
}

impl Hint for RuntimeError {
    fn hint(&self) -> Option<String> {
        self.advice.clone()
    }

    fn error_kind(&self) -> ErrorKind {
        self.blame
    }
}
