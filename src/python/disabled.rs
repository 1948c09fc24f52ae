//! The interpreter of a binary without Python: it never starts.

use std::convert::Infallible;
use std::path::Path;

use serde_json::Value;

use super::{Environment, PythonError};

/// A Python that cannot be started in this build.
#[derive(Debug)]
pub struct Interpreter(Infallible);

impl Interpreter {
    /// Fails: this binary was built without the feature `python`.
    pub fn start(_environment: &Environment, _log: &Path) -> Result<Self, PythonError> {
        Err(PythonError::Disabled)
    }

    /// There is none to ask.
    pub fn version(&self) -> String {
        match self.0 {}
    }

    /// There is none to ask.
    pub fn call(&self, _request: &Value) -> Result<Value, PythonError> {
        match self.0 {}
    }
}
