//! A machine without the framework: the names of `enabled`, and nothing that could ever run.

use std::convert::Infallible;

use super::{
    Absent, Array, ComputePlan, CoreMlError, Feature, Framework, Options, Timings, Wanted,
};
use crate::base::clock::Clock;

/// The framework, which is not here.
pub fn detect() -> Result<Framework, Absent> {
    Err(Absent::HERE)
}

/// What each operation of a function would be computed on; nobody here can say.
pub fn plan(
    _wanted: &Wanted,
    _function: &str,
    _options: &Options,
) -> Result<ComputePlan, CoreMlError> {
    Err(Absent::HERE.into())
}

/// A loaded model, of which there can be none.
#[derive(Debug)]
pub struct Model(Infallible);

/// States of a loaded model, of which there can be none.
#[derive(Debug)]
pub struct State(Infallible);

#[expect(missing_docs, reason = "the methods of `enabled::Model`, documented there")]
impl Model {
    pub fn load(
        _wanted: &Wanted,
        _options: &Options,
        _clock: &dyn Clock,
    ) -> Result<Self, CoreMlError> {
        Err(Absent::HERE.into())
    }

    pub fn timings(&self) -> Timings {
        match self.0 {}
    }

    pub fn state(&self) -> Result<State, CoreMlError> {
        match self.0 {}
    }

    pub fn run(
        &self,
        _function: &str,
        _inputs: &[(&str, &Array)],
        _state: &mut State,
    ) -> Result<Vec<(String, Feature)>, CoreMlError> {
        match self.0 {}
    }

    pub fn batch(
        &self,
        _function: &str,
        _inputs: &[Vec<(&str, &Array)>],
    ) -> Result<Vec<Vec<(String, Feature)>>, CoreMlError> {
        match self.0 {}
    }
}

#[expect(missing_docs, reason = "the methods of `enabled::State`, documented there")]
impl State {
    pub fn names(&self) -> Vec<String> {
        match self.0 {}
    }

    pub fn read(&self, _name: &str) -> Result<Array, CoreMlError> {
        match self.0 {}
    }

    pub fn write(&mut self, _name: &str, _array: &Array) -> Result<(), CoreMlError> {
        match self.0 {}
    }
}
