//! `Model`: a planned program.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{LoadError, RunError};
use super::function::Function;
use super::options::{Options, Precision};
use super::plan;
use super::port::Port;
use super::state::State;
use crate::mil::{Blobs, Program, Rules};

/// A planned program.
#[derive(Debug)]
pub struct Model {
    functions: BTreeMap<String, Function>,
}

impl Model {
    /// Plans all functions of `program`; constants stay in `blobs` where they can.
    pub fn load(
        program: &Program,
        blobs: &Arc<dyn Blobs>,
        options: Options,
    ) -> Result<Self, LoadError> {
        let functions = plan::program(program, blobs.as_ref(), options)?;
        let mut states: BTreeMap<&str, &Port> = BTreeMap::new();
        for port in functions.values().flat_map(|f| &f.states) {
            let first = states.entry(&port.name).or_insert(port);
            if *first != port {
                let (first, second) = (first.to_string(), port.to_string());
                return Err(LoadError::States { name: port.name.clone(), first, second });
            }
        }
        Ok(Self { functions })
    }

    /// The same model with what its description asks of inputs.
    #[must_use]
    pub fn with_rules(mut self, rules: &Rules) -> Self {
        for (name, rules) in rules {
            let ports = self.functions.get_mut(name).into_iter().flat_map(|f| &mut f.inputs);
            for port in ports {
                if let Some(rule) = rules.get(&port.name) {
                    port.rule = rule.clone();
                }
            }
        }
        self
    }

    /// The functions by name.
    pub fn functions(&self) -> &BTreeMap<String, Function> {
        &self.functions
    }

    /// One function.
    pub fn function(&self, name: &str) -> Result<&Function, RunError> {
        self.functions.get(name).ok_or_else(|| RunError::NoFunction {
            name: name.to_owned(),
            present: self.functions.keys().cloned().collect(),
        })
    }

    /// The states of all functions, zero.
    pub fn state(&self) -> State {
        let first = self.functions.values().next();
        let halves = first.is_none_or(|f| f.precision == Precision::Declared);
        State::zeros(self.functions.values().flat_map(|f| &f.states), halves)
    }
}
