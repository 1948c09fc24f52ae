//! The interpreter as a [`Runtime`].

use std::borrow::Cow;
use std::sync::Arc;

use super::{Held, Loaded, Runtime, RuntimeError, Source, State, Value, Values, held};
use crate::interp::{self, Model, Options, Precision, Tensor};

/// Runs programs in this process.
#[derive(Debug, Clone, Copy)]
pub struct Interp {
    /// Rounding of results.
    pub precision: Precision,
}

impl Runtime for Interp {
    fn name(&self) -> &'static str {
        "interp"
    }

    fn load(&self, source: &Source<'_>) -> Result<Box<dyn Loaded>, RuntimeError> {
        let options = Options { precision: self.precision };
        let model = Model::load(source.program, &source.blobs, options)
            .map_err(|e| RuntimeError::of(&e))?;
        Ok(Box::new(model.with_rules(&source.rules)))
    }
}

impl Loaded for Model {
    fn state(&self) -> State {
        State::new(Self::state(self))
    }

    fn adopt(&self, state: &mut State) {
        if let Some(state) = state.get_mut::<interp::State>() {
            state.adopt(Self::state(self));
        }
    }

    fn ints(&self, shape: &[usize], elements: Vec<i32>) -> Value {
        Arc::new(Tensor::i32(shape, elements))
    }

    fn floats(&self, shape: &[usize], elements: Vec<f32>) -> Value {
        Arc::new(Tensor::f32(shape, elements))
    }

    fn run(
        &self,
        function: &str,
        inputs: Values,
        state: &mut State,
        taps: &[&str],
    ) -> Result<Values, RuntimeError> {
        let function = self.function(function).map_err(|e| RuntimeError::of(&e))?;
        let state =
            state.get_mut::<interp::State>().ok_or_else(|| RuntimeError::foreign("the state"))?;
        let tensors: Vec<_> =
            held(&inputs)?.into_iter().map(|(name, t): (_, &Tensor)| (name, t.clone())).collect();
        let outputs = function.run(&tensors, state, taps).map_err(|e| RuntimeError::of(&e))?;
        let keep = |(name, tensor): (&str, &Tensor)| {
            let value: Value = Arc::new(tensor.clone());
            (name.to_owned(), value)
        };
        Ok(outputs.iter().map(keep).collect())
    }
}

impl Held for Tensor {
    fn shape(&self) -> Vec<usize> {
        self.shape().to_vec()
    }

    fn to_f32(&self) -> Vec<f32> {
        self.to_f32().unwrap_or_default()
    }

    fn f32s(&self) -> Cow<'_, [f32]> {
        self.floats().unwrap_or_else(|| Held::to_f32(self).into())
    }
}
