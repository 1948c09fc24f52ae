//! The parts of a program.

use std::collections::BTreeMap;
use std::fmt;

use super::DType;

/// A whole program: its functions by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The version of the program format, 1 today.
    pub version: i64,
    /// The functions, `main` alone or several.
    pub functions: BTreeMap<String, Function>,
    /// Free attributes, build information among them.
    pub attributes: BTreeMap<String, Value>,
}

/// One function: inputs (states among them) and the block that its opset selects.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Inputs in order; a state has type [`Type::State`].
    pub inputs: Vec<NamedType>,
    /// The opset in force, such as `CoreML8`.
    pub opset: String,
    /// The body.
    pub block: Block,
    /// Free attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// A sequence of operations with outputs chosen among their results.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// Inputs of a nested block; empty for a function's own block.
    pub inputs: Vec<NamedType>,
    /// Names of the results.
    pub outputs: Vec<String>,
    /// The operations in order of execution.
    pub ops: Vec<Op>,
    /// Free attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// The operation's name in the opset: `linear`, `const`, `slice_by_index`.
    pub kind: String,
    /// Arguments by parameter name; a list argument (as of `concat`) has several bindings.
    pub inputs: BTreeMap<String, Vec<Arg>>,
    /// Results, each with its declared type.
    pub outputs: Vec<NamedType>,
    /// Nested blocks of `cond` and `while_loop`.
    pub blocks: Vec<Block>,
    /// Attributes: `name`, and `val` of a constant.
    pub attributes: BTreeMap<String, Value>,
}

/// Binding of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// The result of an earlier operation, or an input.
    Name(String),
    /// A value written in place.
    Value(Value),
}

/// A name with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedType {
    /// The name, unique in its function.
    pub name: String,
    /// The declared type.
    pub ty: Type,
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// A tensor; rank 0 is a scalar.
    Tensor(TensorType),
    /// A list of one element type.
    List(Box<Type>, Dim),
    /// Several values.
    Tuple(Vec<Type>),
    /// A map.
    Dictionary(Box<Type>, Box<Type>),
    /// A tensor kept between calls.
    State(Box<Type>),
}

/// Element type and shape.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorType {
    /// Type of one element.
    pub dtype: DType,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<Dim>,
    /// Free attributes, the default shape of a flexible input among them.
    pub attributes: BTreeMap<String, Value>,
}

/// The extent of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(u64),
    /// Known only when run; `variadic` stands for any number of dimensions.
    Unknown {
        /// Any number of dimensions.
        variadic: bool,
    },
}

/// A constant value with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The declared type.
    pub ty: Type,
    /// The content.
    pub data: Data,
}

/// The content of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Elements written in the program.
    Tensor(TensorData),
    /// Elements stored in a blob file.
    Blob(BlobRef),
    /// Several values.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// Key and value pairs in file order.
    Dictionary(Vec<(Value, Value)>),
}

/// Location of a blob: file name in the program and offset of its record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobRef {
    /// File name, usually `@model_path/weights/weight.bin`.
    pub file: String,
    /// Offset of the blob's record in the file, in bytes.
    pub offset: u64,
}

/// Elements written in the program, in the field that the format keeps them in.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// fp32.
    Floats(Vec<f32>),
    /// int32, int16, uint16.
    Ints(Vec<i32>),
    /// Booleans.
    Bools(Vec<bool>),
    /// Strings.
    Strings(Vec<String>),
    /// int64 and uint64.
    Longs(Vec<i64>),
    /// fp64.
    Doubles(Vec<f64>),
    /// Little-endian bytes: fp16, int8, uint8 and the types below 8 bits.
    Bytes(Vec<u8>),
}

impl TensorType {
    /// A tensor of fixed shape.
    pub fn fixed(dtype: DType, shape: &[u64]) -> Self {
        let shape = shape.iter().map(|&n| Dim::Fixed(n)).collect();
        Self { dtype, shape, attributes: BTreeMap::new() }
    }

    /// The shape, where every dimension is known.
    pub fn fixed_shape(&self) -> Option<Vec<u64>> {
        let known = |dim: &Dim| if let Dim::Fixed(n) = dim { Some(*n) } else { None };
        self.shape.iter().map(known).collect()
    }

    /// The number of elements, where every dimension is known and the product fits.
    pub fn elements(&self) -> Option<u64> {
        self.fixed_shape()?.iter().try_fold(1_u64, |n, &d| n.checked_mul(d))
    }
}

impl Type {
    /// A tensor type of fixed shape.
    pub fn tensor(dtype: DType, shape: &[u64]) -> Self {
        Self::Tensor(TensorType::fixed(dtype, shape))
    }

    /// The tensor type itself, or the one a state wraps.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::State(inner) => inner.as_tensor(),
            _ => None,
        }
    }

    /// True if this is a state.
    pub fn is_state(&self) -> bool {
        matches!(self, Self::State(_))
    }
}

impl Value {
    /// A string, as attributes and enumeration parameters use it.
    pub fn string(text: &str) -> Self {
        let data = Data::Tensor(TensorData::Strings(vec![text.to_owned()]));
        Self { ty: Type::tensor(DType::Str, &[]), data }
    }

    /// One int32.
    pub fn int(n: i32) -> Self {
        Self { ty: Type::tensor(DType::I32, &[]), data: Data::Tensor(TensorData::Ints(vec![n])) }
    }

    /// One boolean.
    pub fn bool(b: bool) -> Self {
        Self { ty: Type::tensor(DType::Bool, &[]), data: Data::Tensor(TensorData::Bools(vec![b])) }
    }

    /// A tensor whose elements stand in a blob file.
    pub fn blob(dtype: DType, shape: &[u64], blob: BlobRef) -> Self {
        Self { ty: Type::tensor(dtype, shape), data: Data::Blob(blob) }
    }

    /// The single string, where the value is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Tensor(TensorData::Strings(texts)) => match texts.as_slice() {
                [text] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The single boolean, where the value is one.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.data {
            Data::Tensor(TensorData::Bools(flags)) if flags.len() == 1 => flags.first().copied(),
            _ => None,
        }
    }

    /// The blob that holds the elements, where one does.
    pub fn as_blob(&self) -> Option<&BlobRef> {
        if let Data::Blob(blob) = &self.data { Some(blob) } else { None }
    }
}

impl Op {
    /// The name of the first result, or the kind for an operation without one.
    pub fn name(&self) -> &str {
        self.outputs.first().map_or(&self.kind, |output| &output.name)
    }

    /// The value of a `const`.
    pub fn const_value(&self) -> Option<&Value> {
        if self.kind == "const" { self.attributes.get("val") } else { None }
    }

    /// The single name that `parameter` is bound to.
    pub fn input_name(&self, parameter: &str) -> Option<&str> {
        match self.inputs.get(parameter)?.as_slice() {
            [Arg::Name(name)] => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Unknown { variadic: false } => f.write_str("?"),
            Self::Unknown { variadic: true } => f.write_str("..."),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(tensor) => tensor.fmt(f),
            Self::List(element, length) => write!(f, "list<{element}, {length}>"),
            Self::Tuple(types) => {
                f.write_str("tuple<")?;
                for (i, ty) in types.iter().enumerate() {
                    write!(f, "{}{ty}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(">")
            }
            Self::Dictionary(key, value) => write!(f, "dict<{key}, {value}>"),
            Self::State(inner) => write!(f, "state<{inner}>"),
        }
    }
}
