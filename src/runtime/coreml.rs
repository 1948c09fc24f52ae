//! Apple's framework as a [`Runtime`].

use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::{Held, Loaded, Runtime, RuntimeError, Source, State, Value, Values, held};
use crate::base::clock::Clock;
use crate::coreml::{self, Array, Class, CoreMlError, Element, Feature, Model, Options, Wanted};
use crate::interp::{self, Dictionary, Label, Labels, Tensor};
use crate::mil::DType;

/// Runs packages with the framework of this Mac.
#[derive(Clone)]
pub struct CoreMl<'a> {
    /// Compute units and cache of compiled models.
    pub options: Options,
    /// Clock.
    pub clock: &'a dyn Clock,
}

impl Runtime for CoreMl<'_> {
    fn name(&self) -> &'static str {
        "coreml"
    }

    fn load(&self, source: &Source<'_>) -> Result<Box<dyn Loaded>, RuntimeError> {
        // The head of a decoder is a program of our own, which stands in no package.
        let path = source.package.ok_or_else(|| RuntimeError {
            advice: Some("leave the text out, or pass `--backend interp`".to_owned()),
            ..RuntimeError::input(
                "Core ML gives no values from inside a program, which scoring a text needs"
                    .to_owned(),
            )
        })?;
        let names: Vec<_> = source.program.functions.keys().cloned().collect();
        let model = self.load_functions(path, names.clone(), names.len() > 1);
        Ok(Box::new(model.map_err(|e| RuntimeError::of(&e))?))
    }
}

impl CoreMl<'_> {
    /// Loads some functions of the package at `path`; `named` says whether it has others beside a single one.
    pub fn load_functions(
        &self,
        path: &Path,
        functions: Vec<String>,
        named: bool,
    ) -> Result<Model, CoreMlError> {
        let wanted = Wanted { path: path.to_owned(), functions, named };
        Model::load(&wanted, &self.options, self.clock)
    }
}

impl Loaded for Model {
    fn state(&self) -> State {
        // The error waits for the first call, which can return it.
        State::new(Self::state(self))
    }

    fn ints(&self, shape: &[usize], elements: Vec<i32>) -> Value {
        Arc::new(Array::i32(shape, &elements).expect("as many elements as the shape has"))
    }

    fn floats(&self, shape: &[usize], elements: Vec<f32>) -> Value {
        Arc::new(Array::f32(shape, &elements).expect("as many elements as the shape has"))
    }

    fn run(
        &self,
        function: &str,
        inputs: Values,
        state: &mut State,
        taps: &[&str],
    ) -> Result<Values, RuntimeError> {
        if let Some(tap) = taps.first() {
            let message = format!("Core ML gives no values from inside a program, such as `{tap}`");
            let advice = Some("pass `--backend interp`".to_owned());
            return Err(RuntimeError { advice, ..RuntimeError::input(message) });
        }
        let state = state
            .get_mut::<Result<coreml::State, CoreMlError>>()
            .ok_or_else(|| RuntimeError::foreign("the state"))?
            .as_mut()
            .map_err(|e| RuntimeError::of(e))?;
        let outputs = Self::run(self, function, &held(&inputs)?, state);
        Ok(values(outputs.map_err(|e| RuntimeError::of(&e))?))
    }

    fn batch(&self, function: &str, inputs: Vec<Values>) -> Result<Vec<Values>, RuntimeError> {
        let given = inputs.iter().map(held).collect::<Result<Vec<_>, _>>()?;
        let taken = Self::batch(self, function, &given).map_err(|e| RuntimeError::of(&e))?;
        Ok(taken.into_iter().map(values).collect())
    }
}

/// The arrays among the outputs; classes and their scores are not what is measured.
fn values(features: Vec<(String, Feature)>) -> Values {
    let keep = |(name, feature)| match feature {
        Feature::Array(array) => {
            let value: Value = Arc::new(array);
            Some((name, value))
        }
        _ => None,
    };
    features.into_iter().filter_map(keep).collect()
}

/// An output as the interpreter would give it.
pub fn value(feature: Feature) -> interp::Value {
    match feature {
        Feature::Array(array) => tensor(&array).into(),
        Feature::Text(text) => interp::Value::Label(Label::Text(text)),
        Feature::Int(n) => interp::Value::Label(Label::Int(n)),
        Feature::Scores(mut scores) => {
            scores.sort_by(|a, b| a.0.cmp(&b.0));
            let values = scores.iter().map(|(_, score)| *score).collect();
            let text = |class: &Class| match class {
                Class::Text(text) => text.clone(),
                Class::Int(n) => n.to_string(),
            };
            let whole = |class: &Class| match class {
                Class::Int(n) => Some(*n),
                Class::Text(_) => None,
            };
            let ints: Option<Vec<i64>> = scores.iter().map(|(class, _)| whole(class)).collect();
            let keys = ints.map_or_else(
                || Labels::Texts(scores.iter().map(|(class, _)| text(class)).collect()),
                |ints| Labels::Ints(ints.into()),
            );
            interp::Value::Dictionary(Dictionary { keys, values })
        }
    }
}

/// The array as a tensor of its type; fp64, which only arrays have, becomes fp32.
pub fn tensor(array: &Array) -> Tensor {
    let shape = array.shape();
    match array.element() {
        Element::F16 => {
            let halves = array.bytes().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b));
            Tensor::f16(shape, halves.collect())
        }
        Element::F32 | Element::F64 => Tensor::f32(shape, array.to_f32()),
        Element::I32 => Tensor::i32(shape, array.to_i32()),
        Element::I8 => Tensor::i32(shape, array.to_i32()).tagged(DType::I8),
    }
}

/// The tensor as an array; nothing for texts. Booleans, which arrays have not, become whole numbers.
pub fn array(tensor: &Tensor) -> Option<Array> {
    let (shape, bytes) = (tensor.shape(), tensor.to_bytes());
    let made = match tensor.dtype() {
        DType::F16 => Array::new(Element::F16, shape, bytes?),
        DType::F32 => Array::new(Element::F32, shape, bytes?),
        DType::I32 => Array::new(Element::I32, shape, bytes?),
        DType::Bool => {
            let whole: Vec<_> = tensor.as_bool()?.iter().map(|&b| i32::from(b)).collect();
            Array::i32(shape, &whole)
        }
        DType::Str => return None,
        _ => match tensor.as_i32() {
            Some(whole) => Array::i32(shape, whole),
            None => Array::f32(shape, &tensor.to_f32()?),
        },
    };
    Some(made.expect("as many elements as the shape has"))
}

impl Held for Array {
    fn shape(&self) -> Vec<usize> {
        Self::shape(self).to_vec()
    }

    fn to_f32(&self) -> Vec<f32> {
        Self::to_f32(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_tensors_are_the_same_elements() {
        let halves = Tensor::f16(&[2], vec![f16::from_f32(1.5), f16::INFINITY]);
        let cases = [
            (halves, Element::F16, DType::F16),
            (Tensor::f32(&[1, 2], vec![-0.25, f32::MAX]), Element::F32, DType::F32),
            (Tensor::i32(&[2, 1], vec![i32::MIN, 7]), Element::I32, DType::I32),
            (Tensor::bool(&[2], vec![true, false]), Element::I32, DType::I32),
            (Tensor::i32(&[2], vec![-3, 4]).tagged(DType::I8), Element::I32, DType::I32),
        ];
        for (given, element, dtype) in cases {
            let stored = array(&given).unwrap();
            assert_eq!((stored.element(), stored.shape()), (element, given.shape()));
            let back = tensor(&stored);
            assert_eq!((back.dtype(), back.to_f32()), (dtype, given.to_f32()), "{given:?}");
        }
        assert!(array(&Tensor::strings(&[1], vec!["a".to_owned()])).is_none());
    }

    #[test]
    fn classes_come_in_order() {
        let score = |name: &str, value| (Class::Text(name.to_owned()), value);
        let shown = value(Feature::Scores(vec![score("dog", 0.75), score("cat", 0.25)]));
        let interp::Value::Dictionary(dictionary) = &shown else { panic!("{shown:?}") };
        let pairs: Vec<_> = dictionary.iter().map(|(k, v)| format!("{k} {v}")).collect();
        assert_eq!(pairs, ["cat 0.25", "dog 0.75"]);
        let numbers = value(Feature::Scores(vec![(Class::Int(2), 0.5), (Class::Int(-1), 0.5)]));
        assert_eq!(numbers.describe(), "dict<int64, fp64> of 2");
        assert_eq!(value(Feature::Text("cat".to_owned())).describe(), "string[]");
    }
}
