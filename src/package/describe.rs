//! Features of a program without a description, from its function signatures.
//!
//! Shapes that an input may take stand in the function's attribute `FlexibleShapeInformation`, a tuple of pairs of a
//! name and a dictionary: `DefaultShapes` {input: shape}, `RangeDims` {input: [[least, most], …]}, `EnumeratedShapes`
//! {configuration: {input: shape}}.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use crate::mil::{
    DType, Data, Dim, Function, NamedType, Program, TensorData, TensorType, Type, Value,
};
use crate::proto::feature::{
    ArrayDataType, ArrayFeatureType, DictionaryFeatureType, DictionaryKey, Empty, EnumeratedShapes,
    FeatureDescription, FeatureKind, FeatureType, SequenceFeatureType, Shape, ShapeFlexibility,
    ShapeRange, SizeRange, StateFeatureType, StateKind,
};
use crate::proto::model::{FunctionDescription, ModelDescription};

/// The description of `program`: of its one function directly, of several one by one.
pub(super) fn program(program: &Program) -> ModelDescription {
    let mut functions: Vec<_> =
        program.functions.iter().map(|(name, f)| function(name, f)).collect();
    if functions.len() == 1
        && let Some(FunctionDescription { input, output, state, .. }) = functions.pop()
    {
        return ModelDescription { input, output, state, ..ModelDescription::default() };
    }
    let main = functions.iter().find(|f| f.name == "main").map(|f| f.name.clone());
    let default_function_name = main.unwrap_or_default();
    ModelDescription { functions, default_function_name, ..ModelDescription::default() }
}

/// The oldest specification that knows the opsets of `program`.
pub(super) fn specification_version(program: &Program) -> i32 {
    let version = |opset: &str| match opset {
        "CoreML6" => 7,
        "CoreML7" => 8,
        "CoreML8" => 9,
        "CoreML9" => 10,
        _ => 6,
    };
    program.functions.values().map(|f| version(&f.opset)).max().unwrap_or(6)
}

fn function(name: &str, function: &Function) -> FunctionDescription {
    let shapes = function.attributes.get("FlexibleShapeInformation");
    let feature = |named: &NamedType| feature(&named.name, &named.ty, shapes);
    let (state, input): (Vec<_>, Vec<_>) =
        function.inputs.iter().partition(|input| input.ty.is_state());
    let results = function.block.ops.iter().flat_map(|op| &op.outputs);
    let defined: BTreeMap<&str, &NamedType> =
        results.chain(&function.inputs).map(|named| (named.name.as_str(), named)).collect();
    let output = |name: &String| defined.get(name.as_str()).copied();
    FunctionDescription {
        name: name.to_owned(),
        input: input.into_iter().map(feature).collect(),
        output: function.block.outputs.iter().filter_map(output).map(feature).collect(),
        state: state.into_iter().map(feature).collect(),
        ..FunctionDescription::default()
    }
}

fn feature(name: &str, ty: &Type, shapes: Option<&Value>) -> FeatureDescription {
    let kind = match ty {
        Type::Tensor(tensor) if tensor.dtype == DType::Str => FeatureKind::String(Empty {}),
        Type::Tensor(tensor) if tensor.dtype == DType::I64 => FeatureKind::Int64(Empty {}),
        Type::Tensor(tensor) => FeatureKind::MultiArray(array(name, tensor, shapes)),
        Type::State(_) => {
            let array = ty.as_tensor().map(|tensor| StateKind::Array(array(name, tensor, shapes)));
            FeatureKind::State(StateFeatureType { r#type: array })
        }
        Type::Dictionary(key, _) => {
            let text = key.as_tensor().is_some_and(|key| key.dtype == DType::Str);
            let key =
                if text { DictionaryKey::String(Empty {}) } else { DictionaryKey::Int64(Empty {}) };
            FeatureKind::Dictionary(DictionaryFeatureType { key_type: Some(key) })
        }
        Type::List(..) | Type::Tuple(_) => FeatureKind::Sequence(SequenceFeatureType::default()),
    };
    FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        r#type: Some(FeatureType { r#type: Some(kind), is_optional: false }),
    }
}

fn array(name: &str, tensor: &TensorType, shapes: Option<&Value>) -> ArrayFeatureType {
    let data_type = match tensor.dtype {
        DType::F16 => ArrayDataType::Float16,
        DType::F32 => ArrayDataType::Float32,
        DType::F64 => ArrayDataType::Double,
        DType::I8 => ArrayDataType::Int8,
        DType::I32 => ArrayDataType::Int32,
        _ => ArrayDataType::InvalidArrayDataType,
    };
    let stated = |kind: &str| shapes.and_then(|all| entry(all, kind));
    let default = stated("DefaultShapes").and_then(|d| lookup(d, name)).and_then(ints);
    let fixed = tensor.shape.iter().map(|dim| match dim {
        Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
        Dim::Unknown { .. } => 1,
    });
    let range = stated("RangeDims").and_then(|d| lookup(d, name)).and_then(ranges);
    let listed = stated("EnumeratedShapes").and_then(|d| enumerated(d, name));
    let shape_flexibility = range
        .map(|size_ranges| ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }))
        .or(listed.map(|shapes| ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes })));
    ArrayFeatureType {
        shape: default.unwrap_or_else(|| fixed.collect()),
        data_type: i32::from(data_type),
        shape_flexibility,
        default_optional_value: None,
    }
}

/// The value of the pair that begins with `kind`.
fn entry<'v>(all: &'v Value, kind: &str) -> Option<&'v Value> {
    let Data::Tuple(pairs) = &all.data else { return None };
    pairs.iter().find_map(|pair| match &pair.data {
        Data::Tuple(parts) => match parts.as_slice() {
            [name, value] if name.as_str() == Some(kind) => Some(value),
            _ => None,
        },
        _ => None,
    })
}

fn pairs(dictionary: &Value) -> &[(Value, Value)] {
    if let Data::Dictionary(pairs) = &dictionary.data { pairs } else { &[] }
}

fn lookup<'v>(dictionary: &'v Value, name: &str) -> Option<&'v Value> {
    pairs(dictionary).iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

fn ints(value: &Value) -> Option<Vec<i64>> {
    match &value.data {
        Data::Tensor(TensorData::Ints(ints)) => Some(ints.iter().map(|&n| n.into()).collect()),
        _ => None,
    }
}

/// The shapes that the configurations give to `name`, each once, in order.
fn enumerated(dictionary: &Value, name: &str) -> Option<Vec<Shape>> {
    let (mut shapes, mut known) = (Vec::new(), BTreeSet::new());
    for (_, configuration) in pairs(dictionary) {
        let shape = ints(lookup(configuration, name)?)?;
        if known.insert(shape.clone()) {
            shapes.push(Shape { shape });
        }
    }
    Some(shapes)
}

/// Least and most of every dimension; a most below zero stands for no bound.
fn ranges(value: &Value) -> Option<Vec<SizeRange>> {
    let Data::List(dims) = &value.data else { return None };
    let range = |dim: &Value| match ints(dim)?.as_slice() {
        [least, most] => Some(SizeRange {
            lower_bound: u64::try_from(*least).ok()?,
            upper_bound: (*most).max(-1),
        }),
        _ => None,
    };
    dims.iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::text;

    fn described(attribute: &str, dims: &str) -> ArrayFeatureType {
        let program = text::read(&format!(
            "program(1.3) {{ func main<ios18>(tensor<fp16, [{dims}]> x) [FlexibleShapeInformation = {attribute}] \
             {{ }} -> (x); }}"
        ));
        let mut description = super::program(&program.unwrap());
        assert_eq!(description.output.pop().unwrap().name, "x");
        match description.input.pop().unwrap().r#type.unwrap().r#type.unwrap() {
            FeatureKind::MultiArray(array) => array,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flexible_shapes_come_from_the_attribute() {
        let default = "tuple<string, dict<string, tensor<int32, [?]>>>";
        let range = format!(
            "tuple<{default}, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>\
             (((\"DefaultShapes\", {{{{\"x\", [1, 4]}}}}), (\"RangeDims\", {{{{\"x\", [[1, 1], [2, -1]]}}}})))"
        );
        let array = described(&range, "1, ?");
        assert_eq!(array.shape, [1, 4]);
        let sizes = |lower_bound, upper_bound| SizeRange { lower_bound, upper_bound };
        let want = ShapeRange { size_ranges: vec![sizes(1, 1), sizes(2, -1)] };
        assert_eq!(array.shape_flexibility, Some(ShapeFlexibility::ShapeRange(want)));

        let enumerated = format!(
            "tuple<{default}, tuple<string, dict<string, dict<string, tensor<int32, [?]>>>>>\
             (((\"DefaultShapes\", {{{{\"x\", [1, 1]}}}}), (\"EnumeratedShapes\", \
             {{{{\"a\", {{{{\"x\", [1, 1]}}}}}}, {{\"b\", {{{{\"x\", [1, 64]}}}}}}}})))"
        );
        let array = described(&enumerated, "1, ?");
        let shape = |shape: &[i64]| Shape { shape: shape.to_vec() };
        let want = EnumeratedShapes { shapes: vec![shape(&[1, 1]), shape(&[1, 64])] };
        assert_eq!(array.shape_flexibility, Some(ShapeFlexibility::EnumeratedShapes(want)));
        // Anything else in its place says nothing.
        assert_eq!(described("int32(1)", "3, ?").shape, [3, 1]);
    }
}
