//! From the typed program to Core ML's messages.

use std::collections::BTreeMap;

use super::{
    Arg, Block, Data, Dim, Function, NamedType, Op, Program, TensorData, TensorType, Type, Value,
};
use crate::proto::mil as proto;

/// The messages of `program`.
pub fn program(program: &Program) -> proto::Program {
    proto::Program {
        version: program.version,
        functions: program.functions.iter().map(|(name, f)| (name.clone(), function(f))).collect(),
        doc_string: String::new(),
        attributes: attributes(&program.attributes),
    }
}

fn function(function: &Function) -> proto::Function {
    proto::Function {
        inputs: named_types(&function.inputs),
        opset: function.opset.clone(),
        block_specializations: BTreeMap::from([(function.opset.clone(), block(&function.block))]),
        attributes: attributes(&function.attributes),
    }
}

fn block(block: &Block) -> proto::Block {
    proto::Block {
        inputs: named_types(&block.inputs),
        outputs: block.outputs.clone(),
        operations: block.ops.iter().map(operation).collect(),
        attributes: attributes(&block.attributes),
    }
}

fn operation(op: &Op) -> proto::Operation {
    let binding = |arg: &Arg| proto::Binding {
        binding: Some(match arg {
            Arg::Name(name) => proto::BindingKind::Name(name.clone()),
            Arg::Value(v) => proto::BindingKind::Value(value(v)),
        }),
    };
    let argument =
        |args: &Vec<Arg>| proto::Argument { arguments: args.iter().map(binding).collect() };
    proto::Operation {
        r#type: op.kind.clone(),
        inputs: op.inputs.iter().map(|(name, args)| (name.clone(), argument(args))).collect(),
        outputs: named_types(&op.outputs),
        blocks: op.blocks.iter().map(block).collect(),
        attributes: attributes(&op.attributes),
    }
}

fn named_types(types: &[NamedType]) -> Vec<proto::NamedValueType> {
    let one = |named: &NamedType| proto::NamedValueType {
        name: named.name.clone(),
        r#type: Some(ty(&named.ty)),
    };
    types.iter().map(one).collect()
}

fn attributes(values: &BTreeMap<String, Value>) -> BTreeMap<String, proto::Value> {
    values.iter().map(|(name, v)| (name.clone(), value(v))).collect()
}

fn ty(of: &Type) -> proto::ValueType {
    use proto::ValueTypeKind as Kind;
    let kind = match of {
        Type::Tensor(tensor) => Kind::Tensor(tensor_type(tensor)),
        Type::List(element, length) => Kind::List(Box::new(proto::ListType {
            r#type: Some(Box::new(ty(element))),
            length: Some(dim(*length)),
        })),
        Type::Tuple(types) => {
            Kind::Tuple(proto::TupleType { types: types.iter().map(ty).collect() })
        }
        Type::Dictionary(key, value) => Kind::Dictionary(Box::new(proto::DictionaryType {
            key_type: Some(Box::new(ty(key))),
            value_type: Some(Box::new(ty(value))),
        })),
        Type::State(inner) => {
            Kind::State(Box::new(proto::StateType { wrapped_type: Some(Box::new(ty(inner))) }))
        }
    };
    proto::ValueType { r#type: Some(kind) }
}

fn tensor_type(tensor: &TensorType) -> proto::TensorType {
    let variadic = tensor.shape.contains(&Dim::Unknown { variadic: true });
    proto::TensorType {
        data_type: tensor.dtype.code().into(),
        rank: if variadic { -1 } else { i64::try_from(tensor.shape.len()).unwrap_or(i64::MAX) },
        dimensions: tensor.shape.iter().map(|&d| dim(d)).collect(),
        attributes: attributes(&tensor.attributes),
    }
}

fn dim(of: Dim) -> proto::Dimension {
    proto::Dimension {
        dimension: Some(match of {
            Dim::Fixed(size) => proto::DimensionKind::Constant(proto::ConstantDimension { size }),
            Dim::Unknown { variadic } => {
                proto::DimensionKind::Unknown(proto::UnknownDimension { variadic })
            }
        }),
    }
}

fn value(of: &Value) -> proto::Value {
    use proto::{ImmediateKind as Immediate, ValueKind as Kind};
    let immediate = |kind| Kind::Immediate(proto::ImmediateValue { value: Some(kind) });
    let many = |values: &[Value]| values.iter().map(value).collect();
    let kind = match &of.data {
        Data::Blob(blob) => Kind::BlobFile(proto::BlobFileValue {
            file_name: blob.file.clone(),
            offset: blob.offset,
        }),
        Data::Tensor(data) => {
            immediate(Immediate::Tensor(proto::TensorValue { value: Some(tensor_data(data)) }))
        }
        Data::Tuple(values) => {
            immediate(Immediate::Tuple(proto::TupleValue { values: many(values) }))
        }
        Data::List(values) => immediate(Immediate::List(proto::ListValue { values: many(values) })),
        Data::Dictionary(pairs) => {
            let pair = |(key, v): &(Value, Value)| proto::KeyValuePair {
                key: Some(value(key)),
                value: Some(value(v)),
            };
            immediate(Immediate::Dictionary(proto::DictionaryValue {
                values: pairs.iter().map(pair).collect(),
            }))
        }
    };
    proto::Value { doc_string: String::new(), r#type: Some(ty(&of.ty)), value: Some(kind) }
}

fn tensor_data(data: &TensorData) -> proto::TensorValueKind {
    use proto::TensorValueKind as Kind;
    match data {
        TensorData::Floats(values) => {
            Kind::Floats(proto::RepeatedFloats { values: values.clone() })
        }
        TensorData::Ints(values) => Kind::Ints(proto::RepeatedInts { values: values.clone() }),
        TensorData::Bools(values) => Kind::Bools(proto::RepeatedBools { values: values.clone() }),
        TensorData::Strings(values) => {
            Kind::Strings(proto::RepeatedStrings { values: values.clone() })
        }
        TensorData::Longs(values) => {
            Kind::LongInts(proto::RepeatedLongInts { values: values.clone() })
        }
        TensorData::Doubles(values) => {
            Kind::Doubles(proto::RepeatedDoubles { values: values.clone() })
        }
        TensorData::Bytes(values) => Kind::Bytes(proto::RepeatedBytes { values: values.clone() }),
    }
}
