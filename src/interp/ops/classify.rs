//! `classify`: the most probable class and the probability of each, as a classifier's outputs.

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::op_context::OpContext;
use crate::interp::value::{Dictionary, Labels, Value};
use crate::mil::{self, Data, TensorData};

/// The first class of the greatest probability, and all classes with theirs.
pub(super) fn classify(site: &OpContext<'_, '_>) -> Result<Kernel, OpError> {
    let probabilities = site.input("probabilities")?;
    let labels = labels(site.literal("classes")?)?;
    Ok(Kernel::values(move |run| {
        let given = run.get(&probabilities);
        let values = given.f32s()?;
        if values.len() != labels.len() {
            let (n, given) = (labels.len(), given.describe());
            return Err(OpError::invalid(format!("{n} classes for probabilities {given}")));
        }
        let mut best = 0;
        for (i, &v) in values.iter().enumerate() {
            // A NaN is never the greatest, not even the first.
            if v > values[best] || (values[best].is_nan() && !v.is_nan()) {
                best = i;
            }
        }
        let label = labels.get(best).ok_or_else(|| OpError::invalid("there are no classes"))?;
        let values = values.iter().map(|&v| f64::from(v)).collect();
        let keys = labels.clone();
        Ok(vec![Value::Label(label), Value::Dictionary(Dictionary { keys, values })])
    }))
}

/// The classes as coremltools writes them, a list of scalars, or as one tensor.
fn labels(classes: &mil::Value) -> Result<Labels, OpError> {
    let (mut texts, mut ints) = (Vec::new(), Vec::new());
    let mut add = |value: &mil::Value| match &value.data {
        Data::Tensor(TensorData::Strings(many)) => {
            texts.extend(many.iter().cloned());
            Ok(())
        }
        Data::Tensor(TensorData::Longs(many)) => {
            ints.extend(many);
            Ok(())
        }
        Data::Tensor(TensorData::Ints(many)) => {
            ints.extend(many.iter().map(|&n| i64::from(n)));
            Ok(())
        }
        _ => Err(OpError::invalid(format!("a class of type {}", value.ty))),
    };
    match &classes.data {
        Data::List(values) => values.iter().try_for_each(&mut add)?,
        _ => add(classes)?,
    }
    match (texts.is_empty(), ints.is_empty()) {
        (_, true) => Ok(Labels::Texts(texts.into())),
        (true, false) => Ok(Labels::Ints(ints.into())),
        (false, false) => Err(OpError::invalid("classes are names and numbers")),
    }
}
