//! From Core ML's messages to the typed program; every way they can be wrong has its own error.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    Arg, BlobRef, Block, DType, Data, Dim, Function, NamedType, Op, Program, TensorData,
    TensorType, Type, Value,
};
use crate::proto::mil as proto;

/// Deeper nesting of types, values or blocks than any converter writes; a guard against made-up input.
const MAX_DEPTH: usize = 32;

/// An error of a program's messages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// A field that the format requires is not there.
    #[error("{place}: `{field}` is missing")]
    Missing {
        /// Where, as `function/operation`.
        place: String,
        /// The field.
        field: &'static str,
    },
    /// A type code that the format does not define.
    #[error("{place}: unknown data type code {code}")]
    UnknownType {
        /// Where.
        place: String,
        /// The code.
        code: i32,
    },
    /// The stated rank is not the number of dimensions.
    #[error("{place}: rank {rank} is stated with {dims} dimensions")]
    Rank {
        /// Where.
        place: String,
        /// The stated rank.
        rank: i64,
        /// The dimensions listed.
        dims: usize,
    },
    /// A function without the block that its opset names.
    #[error("function `{function}`: opset `{opset}` has no block, only {present:?}")]
    NoBlock {
        /// The function.
        function: String,
        /// The opset it names.
        opset: String,
        /// The blocks there are.
        present: Vec<String>,
    },
    /// Types, values or blocks nested deeper than the bound, or a type of more dimensions.
    #[error("{place}: nested deeper than {MAX_DEPTH} levels or dimensions")]
    Depth {
        /// Where.
        place: String,
    },
}

/// Reads a program.
pub fn program(message: proto::Program) -> Result<Program, ReadError> {
    let mut functions = BTreeMap::new();
    for (name, function) in message.functions {
        let read = read_function(start(&name), function)?;
        functions.insert(name, read);
    }
    let attributes = attributes("program", message.attributes, 0)?;
    Ok(Program { version: message.version, functions, attributes })
}

/// As much of a name as a message shows: a place is put together for each operation.
fn start(name: &str) -> &str {
    name.get(..name.floor_char_boundary(256)).unwrap_or(name)
}

fn read_function(name: &str, mut message: proto::Function) -> Result<Function, ReadError> {
    let inputs = named_types(name, message.inputs, 0)?;
    let Some(block) = message.block_specializations.remove(&message.opset) else {
        return Err(ReadError::NoBlock {
            function: name.to_owned(),
            opset: message.opset,
            present: message.block_specializations.into_keys().collect(),
        });
    };
    Ok(Function {
        inputs,
        block: read_block(name, block, 0)?,
        attributes: attributes(name, message.attributes, 0)?,
        opset: message.opset,
    })
}

fn read_block(place: &str, message: proto::Block, depth: usize) -> Result<Block, ReadError> {
    check_depth(place, depth)?;
    let ops = message
        .operations
        .into_iter()
        .map(|op| read_op(place, op, depth))
        .collect::<Result<_, _>>()?;
    Ok(Block {
        inputs: named_types(place, message.inputs, depth)?,
        outputs: message.outputs,
        ops,
        attributes: attributes(place, message.attributes, depth)?,
    })
}

fn read_op(function: &str, message: proto::Operation, depth: usize) -> Result<Op, ReadError> {
    let name = message.outputs.first().map_or(message.r#type.as_str(), |o| o.name.as_str());
    let place = format!("{function}/{}", start(name));
    let mut inputs = BTreeMap::new();
    for (parameter, argument) in message.inputs {
        let bindings = argument
            .arguments
            .into_iter()
            .map(|binding| match binding.binding {
                Some(proto::BindingKind::Name(name)) => Ok(Arg::Name(name)),
                Some(proto::BindingKind::Value(value)) => {
                    Ok(Arg::Value(read_value(&place, value, depth)?))
                }
                None => Err(missing(&place, "binding")),
            })
            .collect::<Result<_, _>>()?;
        inputs.insert(parameter, bindings);
    }
    let blocks = message
        .blocks
        .into_iter()
        .map(|b| read_block(&place, b, depth + 1))
        .collect::<Result<_, _>>()?;
    Ok(Op {
        inputs,
        outputs: named_types(&place, message.outputs, depth)?,
        blocks,
        attributes: attributes(&place, message.attributes, depth)?,
        kind: message.r#type,
    })
}

fn named_types(
    place: &str,
    messages: Vec<proto::NamedValueType>,
    depth: usize,
) -> Result<Vec<NamedType>, ReadError> {
    let read = |named: proto::NamedValueType| {
        let ty = read_type(place, named.r#type.ok_or_else(|| missing(place, "type"))?, depth)?;
        Ok(NamedType { name: named.name, ty })
    };
    messages.into_iter().map(read).collect()
}

fn attributes(
    place: &str,
    messages: BTreeMap<String, proto::Value>,
    depth: usize,
) -> Result<BTreeMap<String, Value>, ReadError> {
    messages.into_iter().map(|(name, value)| Ok((name, read_value(place, value, depth)?))).collect()
}

fn read_type(place: &str, message: proto::ValueType, depth: usize) -> Result<Type, ReadError> {
    use proto::ValueTypeKind as Kind;
    check_depth(place, depth)?;
    let inner = |boxed: Option<Box<proto::ValueType>>| {
        let ty = boxed.ok_or_else(|| missing(place, "type"))?;
        Ok(Box::new(read_type(place, *ty, depth + 1)?))
    };
    Ok(match message.r#type.ok_or_else(|| missing(place, "type"))? {
        Kind::Tensor(tensor) => Type::Tensor(read_tensor_type(place, tensor, depth)?),
        Kind::List(list) => {
            let length = list
                .length
                .map_or(Ok(Dim::Unknown { variadic: false }), |dim| read_dim(place, dim))?;
            Type::List(inner(list.r#type)?, length)
        }
        Kind::Tuple(tuple) => Type::Tuple(
            tuple
                .types
                .into_iter()
                .map(|ty| read_type(place, ty, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Kind::Dictionary(dict) => Type::Dictionary(inner(dict.key_type)?, inner(dict.value_type)?),
        Kind::State(state) => Type::State(inner(state.wrapped_type)?),
    })
}

fn read_tensor_type(
    place: &str,
    message: proto::TensorType,
    depth: usize,
) -> Result<TensorType, ReadError> {
    let code = message.data_type;
    let dtype = proto::DataType::try_from(code)
        .ok()
        .and_then(DType::from_code)
        .ok_or_else(|| ReadError::UnknownType { place: place.to_owned(), code })?;
    let dims = message.dimensions.len();
    check_depth(place, dims)?;
    let shape = message
        .dimensions
        .into_iter()
        .map(|dim| read_dim(place, dim))
        .collect::<Result<Vec<_>, _>>()?;
    // Rank -1 stands for any rank.
    if message.rank >= 0 && usize::try_from(message.rank) != Ok(dims) {
        return Err(ReadError::Rank { place: place.to_owned(), rank: message.rank, dims });
    }
    Ok(TensorType { dtype, shape, attributes: attributes(place, message.attributes, depth + 1)? })
}

fn read_dim(place: &str, message: proto::Dimension) -> Result<Dim, ReadError> {
    match message.dimension {
        Some(proto::DimensionKind::Constant(constant)) => Ok(Dim::Fixed(constant.size)),
        Some(proto::DimensionKind::Unknown(unknown)) => {
            Ok(Dim::Unknown { variadic: unknown.variadic })
        }
        None => Err(missing(place, "dimension")),
    }
}

fn read_value(place: &str, message: proto::Value, depth: usize) -> Result<Value, ReadError> {
    use proto::{ImmediateKind as Immediate, ValueKind as Kind};
    check_depth(place, depth)?;
    let ty = read_type(place, message.r#type.ok_or_else(|| missing(place, "type"))?, depth)?;
    let many = |values: Vec<proto::Value>| {
        values.into_iter().map(|v| read_value(place, v, depth + 1)).collect::<Result<Vec<_>, _>>()
    };
    let data = match message.value.ok_or_else(|| missing(place, "value"))? {
        Kind::BlobFile(blob) => Data::Blob(BlobRef { file: blob.file_name, offset: blob.offset }),
        Kind::Immediate(immediate) => match immediate
            .value
            .ok_or_else(|| missing(place, "immediateValue"))?
        {
            Immediate::Tensor(tensor) => {
                Data::Tensor(tensor_data(tensor.value.ok_or_else(|| missing(place, "tensor"))?))
            }
            Immediate::Tuple(tuple) => Data::Tuple(many(tuple.values)?),
            Immediate::List(list) => Data::List(many(list.values)?),
            Immediate::Dictionary(dict) => {
                let pair = |pair: proto::KeyValuePair| {
                    let key = pair.key.ok_or_else(|| missing(place, "key"))?;
                    let value = pair.value.ok_or_else(|| missing(place, "value"))?;
                    Ok((read_value(place, key, depth + 1)?, read_value(place, value, depth + 1)?))
                };
                Data::Dictionary(
                    dict.values.into_iter().map(pair).collect::<Result<_, ReadError>>()?,
                )
            }
        },
    };
    Ok(Value { ty, data })
}

fn tensor_data(message: proto::TensorValueKind) -> TensorData {
    use proto::TensorValueKind as Kind;
    match message {
        Kind::Floats(floats) => TensorData::Floats(floats.values),
        Kind::Ints(ints) => TensorData::Ints(ints.values),
        Kind::Bools(bools) => TensorData::Bools(bools.values),
        Kind::Strings(strings) => TensorData::Strings(strings.values),
        Kind::LongInts(longs) => TensorData::Longs(longs.values),
        Kind::Doubles(doubles) => TensorData::Doubles(doubles.values),
        Kind::Bytes(bytes) => TensorData::Bytes(bytes.values),
    }
}

fn check_depth(place: &str, depth: usize) -> Result<(), ReadError> {
    if depth > MAX_DEPTH { Err(ReadError::Depth { place: place.to_owned() }) } else { Ok(()) }
}

fn missing(place: &str, field: &'static str) -> ReadError {
    ReadError::Missing { place: place.to_owned(), field }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor_type(code: i32, rank: i64, dims: &[u64]) -> proto::ValueType {
        let dimensions = dims
            .iter()
            .map(|&size| proto::Dimension {
                dimension: Some(proto::DimensionKind::Constant(proto::ConstantDimension { size })),
            })
            .collect();
        let tensor =
            proto::TensorType { data_type: code, rank, dimensions, attributes: BTreeMap::new() };
        proto::ValueType { r#type: Some(proto::ValueTypeKind::Tensor(tensor)) }
    }

    #[test]
    fn wrong_types_are_named() {
        let cases = [
            (tensor_type(10, 2, &[3, 4]), "fp16[3, 4]"),
            (tensor_type(10, 1, &[3, 4]), "p: rank 1 is stated with 2 dimensions"),
            (tensor_type(99, 0, &[]), "p: unknown data type code 99"),
            (proto::ValueType { r#type: None }, "p: `type` is missing"),
        ];
        for (message, want) in cases {
            let got =
                read_type("p", message, 0).map_or_else(|e| e.to_string(), |ty| ty.to_string());
            assert_eq!(got, want);
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut ty = tensor_type(10, 0, &[]);
        for _ in 0..100 {
            let state = proto::StateType { wrapped_type: Some(Box::new(ty)) };
            ty = proto::ValueType { r#type: Some(proto::ValueTypeKind::State(Box::new(state))) };
        }
        assert_eq!(read_type("p", ty, 0), Err(ReadError::Depth { place: "p".to_owned() }));
    }

    #[test]
    fn a_function_needs_the_block_of_its_opset() {
        let function = proto::Function {
            opset: "CoreML8".to_owned(),
            block_specializations: BTreeMap::from([(
                "CoreML7".to_owned(),
                proto::Block::default(),
            )]),
            ..Default::default()
        };
        let error = read_function("main", function).unwrap_err().to_string();
        assert_eq!(error, "function `main`: opset `CoreML8` has no block, only [\"CoreML7\"]");
    }
}
