//! How many fields there are in a model file, counted on its bytes before anything is made of them.
//!
//! Two bytes can be a message of two hundred in memory, so the size of a file says little of what it takes to read it.
//! The walk goes into the messages that hold messages or repeated texts, and into nothing else: numbers and bytes take
//! about as much memory as in the file.

/// Messages, by what is followed in them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Description,
    FunctionDescription,
    Feature,
    FeatureType,
    StateType,
    Image,
    Array,
    Program,
    Function,
    Block,
    Argument,
    Binding,
    Operation,
    NamedType,
    Type,
    Types,
    TensorType,
    Value,
    Immediate,
    Values,
    Pairs,
    Pair,
    Tensor,
    /// Entries of maps, from names to messages of a kind.
    Functions,
    Blocks,
    Arguments,
    Attributes,
    /// Its fields count and none is followed.
    Flat,
}

use Kind::{
    Argument, Arguments, Array, Attributes, Binding, Block, Blocks, Description, Feature,
    FeatureType, Flat, Function, FunctionDescription, Functions, Image, Immediate, Model,
    NamedType, Operation, Pair, Pairs, Program, StateType, Tensor, TensorType, Type, Types, Value,
    Values,
};

/// Message, number of a field in it, and what that field holds.
const FIELDS: &[(Kind, usize, Kind)] = &[
    (Model, 2, Description),
    (Model, 502, Program),
    (Description, 1, Feature),
    (Description, 10, Feature),
    (Description, 13, Feature),
    (Description, 20, FunctionDescription),
    (Description, 50, Feature),
    (Description, 100, Flat),
    (FunctionDescription, 2, Feature),
    (FunctionDescription, 3, Feature),
    (FunctionDescription, 6, Feature),
    (Feature, 3, FeatureType),
    (FeatureType, 4, Image),
    (FeatureType, 5, Array),
    (FeatureType, 8, StateType),
    (StateType, 1, Array),
    (Image, 21, Flat),
    (Array, 21, Flat),
    (Array, 31, Flat),
    (Program, 2, Functions),
    (Program, 4, Attributes),
    (Functions, 2, Function),
    (Function, 1, NamedType),
    (Function, 3, Blocks),
    (Function, 4, Attributes),
    (Blocks, 2, Block),
    (Block, 1, NamedType),
    (Block, 3, Operation),
    (Block, 4, Attributes),
    (Operation, 2, Arguments),
    (Operation, 3, NamedType),
    (Operation, 4, Block),
    (Operation, 5, Attributes),
    (Arguments, 2, Argument),
    (Argument, 1, Binding),
    (Binding, 2, Value),
    (NamedType, 2, Type),
    // Lists, tuples, dictionaries and states hold types in their fields 1 and 2.
    (Type, 1, TensorType),
    (Type, 2, Types),
    (Type, 3, Types),
    (Type, 4, Types),
    (Type, 5, Types),
    (Types, 1, Type),
    (Types, 2, Type),
    (TensorType, 4, Attributes),
    (Attributes, 2, Value),
    (Value, 2, Type),
    (Value, 3, Immediate),
    (Immediate, 1, Tensor),
    (Immediate, 2, Values),
    (Immediate, 3, Values),
    (Immediate, 4, Pairs),
    (Values, 1, Value),
    (Pairs, 1, Pair),
    (Pair, 1, Value),
    (Pair, 2, Value),
    (Tensor, 4, Flat),
];

/// True if a model file has more than `most` fields; where its bytes end to be fields, the count does too, for decoding
/// them fails there.
pub fn has_more_than(most: usize, model: &[u8]) -> bool {
    let mut count = 0;
    let mut left = vec![(Model, model)];
    while let Some((kind, mut bytes)) = left.pop() {
        while let Some((number, held)) = field(&mut bytes) {
            count += 1;
            if count > most {
                return true;
            }
            let inner = FIELDS.iter().find(|(of, n, _)| *of == kind && *n == number);
            if let (Some(held), Some((_, _, inner))) = (held, inner) {
                left.push((*inner, held));
            }
        }
    }
    false
}

/// The next field: its number, and its bytes where it has a length.
fn field<'b>(bytes: &mut &'b [u8]) -> Option<(usize, Option<&'b [u8]>)> {
    let key = varint(bytes)?;
    let held = match key & 7 {
        0 => varint(bytes).map(|_| None)?,
        1 => take(bytes, 8).map(|_| None)?,
        2 => {
            let length = varint(bytes)?;
            Some(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_| None)?,
        // The marks of a group, which decoding passes over: what stands between them is counted.
        3 | 4 => None,
        _ => return None,
    };
    Some((key >> 3, held))
}

fn take<'b>(bytes: &mut &'b [u8], n: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<usize> {
    // A length is a number like any other on the wire.
    prost::decode_length_delimiter(bytes).ok()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::mil;

    #[test]
    fn fields_are_counted_wherever_messages_are() {
        let text = mil::RepeatedStrings { values: vec![String::new(); 3] };
        let tensor = mil::TensorValue { value: Some(mil::TensorValueKind::Strings(text)) };
        let value = mil::Value {
            value: Some(mil::ValueKind::Immediate(mil::ImmediateValue {
                value: Some(mil::ImmediateKind::Tensor(tensor)),
            })),
            ..mil::Value::default()
        };
        let op = mil::Operation {
            attributes: [("val".to_owned(), value)].into(),
            ..mil::Operation::default()
        };
        let block = mil::Block { operations: vec![op; 5], ..mil::Block::default() };
        let function = mil::Function {
            block_specializations: [("CoreML8".to_owned(), block)].into(),
            ..mil::Function::default()
        };
        let program = mil::Program {
            functions: [("main".to_owned(), function)].into(),
            ..mil::Program::default()
        };
        let model =
            crate::proto::Model { ml_program: Some(program), ..crate::proto::Model::default() };
        let bytes = model.encode_to_vec();
        // Program, entry of a function with name and message, entry of a block likewise: 7 fields. Each operation: itself,
        // the attribute's entry, name and value, immediate value, tensor, strings, and three of them.
        let all = 7 + 5 * 10;
        assert!(!has_more_than(all, &bytes));
        assert!(has_more_than(all - 1, &bytes));
        // The same within a group that nobody knows, and before what is no field.
        let group = [&[0x0B][..], &bytes, &[0x0C]].concat();
        assert!(has_more_than(all + 1, &group) && !has_more_than(all + 2, &group));
        let damaged = [&bytes[..], &[0xFF; 20]].concat();
        assert!(has_more_than(all - 1, &damaged) && !has_more_than(all, &damaged));
        // Decoding does not begin with a message that is longer than what there is.
        assert!(!has_more_than(0, bytes.split_last().unwrap().1));
    }
}
