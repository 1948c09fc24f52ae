//! What each function of a program takes, gives and keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mil::{Dim, Function, NamedType, Type};
use crate::package::Model;

/// What a function takes, gives and keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Inputs in order.
    pub inputs: Vec<Feature>,
    /// Outputs in order.
    pub outputs: Vec<Feature>,
    /// States: kept between calls.
    pub states: Vec<Feature>,
}

/// A named tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Type of one element, as coremltools prints it.
    pub dtype: String,
    /// Extent of each dimension; `null` where it is known only when run.
    pub shape: Vec<Option<u64>>,
}

/// The signatures of all functions of `model`, as its program declares them.
pub fn functions(model: &Model) -> BTreeMap<String, Signature> {
    let functions = &model.program.functions;
    functions.iter().map(|(name, function)| (name.clone(), Signature::of(function))).collect()
}

impl Signature {
    fn of(function: &Function) -> Self {
        let (states, inputs): (Vec<_>, Vec<_>) =
            function.inputs.iter().partition(|input| input.ty.is_state());
        let results = function.block.ops.iter().rev().flat_map(|op| &op.outputs);
        let named: Vec<&NamedType> = results.chain(&function.inputs).collect();
        let output = |name: &String| {
            let found = named.iter().find(|value| value.name == *name);
            found.map(|value| Feature::of(value)).unwrap_or(Feature {
                name: name.clone(),
                dtype: "?".to_owned(),
                shape: Vec::new(),
            })
        };
        Self {
            inputs: inputs.into_iter().map(Feature::of).collect(),
            outputs: function.block.outputs.iter().map(output).collect(),
            states: states.into_iter().map(Feature::of).collect(),
        }
    }
}

impl Feature {
    fn of(value: &NamedType) -> Self {
        let name = value.name.clone();
        let Some(tensor) = value.ty.as_tensor() else {
            let dtype = Type::to_string(&value.ty);
            return Self { name, dtype, shape: Vec::new() };
        };
        let extent = |dim: &Dim| if let Dim::Fixed(n) = dim { Some(*n) } else { None };
        let shape = tensor.shape.iter().map(extent).collect();
        Self { name, dtype: tensor.dtype.name().to_owned(), shape }
    }

    /// `fp16[1, 2048]`.
    pub fn ty(&self) -> String {
        let extent = |n: &Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let shape: Vec<_> = self.shape.iter().map(extent).collect();
        format!("{}[{}]", self.dtype, shape.join(", "))
    }
}

/// How `new` differs from `old`, one line each; empty when they are the same.
pub(super) fn differences(
    old: &BTreeMap<String, Signature>,
    new: &BTreeMap<String, Signature>,
) -> Vec<String> {
    let mut out = Vec::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        out.push(format!("function `{name}` is gone"));
    }
    for (name, signature) in new {
        let Some(before) = old.get(name) else {
            out.push(format!("function `{name}` is new"));
            continue;
        };
        for (role, a, b) in [
            ("input", &before.inputs, &signature.inputs),
            ("output", &before.outputs, &signature.outputs),
            ("state", &before.states, &signature.states),
        ] {
            let named = |list: &[Feature], name: &str| {
                list.iter().find(|f| f.name == name).map(Feature::ty)
            };
            let gone = a.iter().filter(|f| named(b, &f.name).is_none());
            out.extend(gone.map(|f| format!("function `{name}`: {role} `{}` is gone", f.name)));
            for feature in b {
                let (feature_name, ty) = (&feature.name, feature.ty());
                match named(a, feature_name) {
                    None => out.push(format!(
                        "function `{name}`: {role} `{feature_name}` of type {ty} is new"
                    )),
                    Some(before) if before != ty => out.push(format!(
                        "function `{name}`: {role} `{feature_name}` is {ty}, not {before}"
                    )),
                    Some(_) => {}
                }
            }
        }
    }
    out
}
