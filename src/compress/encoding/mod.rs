//! The MIL forms of compressed weights: which blobs each has, and the operations that take the constant's place.
//!
//! One file for each family of opsets. A form is laid out before anything is compressed, as far as the number of blobs goes,
//! since that is the first thing in the file.

mod ios16;
mod ios18;

use std::collections::BTreeMap;

use half::f16;

use super::audit::Role;
use super::error::CompressError;
use crate::blob::BlobType;
use crate::mil::{Arg, BlobRef, DType, NamedType, Op, Type, Value};
use crate::package::WEIGHT_FILE;
use crate::quant::{self, Scheme};

/// The deployment targets that differ in their forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// No compressed constants.
    Ios15,
    /// Also iOS 17: attributes, one table, one axis of scales.
    Ios16,
    /// Any blocks, and operations that nest.
    Ios18,
}

impl Target {
    /// Of a package with this specification version.
    pub(super) fn of(version: i32) -> Self {
        match version {
            ..=6 => Self::Ios15,
            7..=8 => Self::Ios16,
            _ => Self::Ios18,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ios15 => "iOS15",
            Self::Ios16 => "iOS16",
            Self::Ios18 => "iOS18",
        }
    }
}

/// The operations that give a dense weight back, in order; the last takes the constant's place and name.
#[derive(Debug, Clone)]
pub(super) struct Encoding {
    lines: Vec<Line>,
}

/// One operation.
#[derive(Debug, Clone)]
struct Line {
    kind: &'static str,
    /// Behind the weight's name, where this is not the last.
    suffix: &'static str,
    parameters: Vec<(&'static str, Source)>,
    /// Types of the results, where this is not the last.
    results: Vec<Type>,
}

/// Source of an argument.
#[derive(Debug, Clone)]
enum Source {
    Part(Part),
    /// Written in the program.
    Value(Value),
    /// A result of an earlier line: its number and which result.
    Result(usize, usize),
}

/// One blob of a compressed weight.
#[derive(Debug, Clone)]
pub(super) struct Part {
    dtype: DType,
    shape: Vec<u64>,
    /// Kind of its bytes.
    pub(super) content: Content,
}

/// The bytes of a part.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// What [`quant::Compressed::pour`] hands over.
    Codes,
    /// The bits of the weight's mask.
    Mask,
    /// These.
    Bytes(Vec<u8>),
}

impl Part {
    /// The type in the blob file.
    pub(super) fn blob_type(&self) -> BlobType {
        self.dtype.blob_type().expect("forms use types of the blob format")
    }

    /// The bits of its elements.
    pub(super) fn bits(&self) -> u64 {
        self.shape.iter().product::<u64>() * u64::from(self.dtype.bits())
    }
}

impl Encoding {
    /// The form of `compressed` for a target that [`check`] has found able to hold it.
    pub(super) fn of(compressed: &quant::Compressed<'_>, shape: &[u64], target: Target) -> Self {
        let lines = if target == Target::Ios18 {
            ios18::lines(compressed, shape)
        } else {
            ios16::lines(compressed, shape)
        };
        Self { lines }
    }

    /// Its blobs in the order of the file.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.lines.iter().flat_map(|line| &line.parameters).filter_map(|(_, source)| match source {
            Source::Part(part) => Some(part),
            _ => None,
        })
    }

    /// Its blobs with what each holds.
    pub(super) fn roles(&self) -> impl Iterator<Item = (Role, &Part)> {
        self.lines.iter().flat_map(|line| {
            // A line of its own under a table makes the table's entries.
            let is_table = line.suffix == "_lut";
            line.parameters.iter().filter_map(move |(parameter, source)| {
                let Source::Part(part) = source else { return None };
                let (_, role) = Role::of(parameter)?;
                Some((if is_table && role == Role::Codes { Role::Tables } else { role }, part))
            })
        })
    }

    /// The same, to take their bytes.
    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        let sources = self.lines.iter_mut().flat_map(|line| &mut line.parameters);
        sources.filter_map(|(_, source)| match source {
            Source::Part(part) => Some(part),
            _ => None,
        })
    }

    /// The operations in the place of the constant `op`, whose name and type stay, with its blobs at `offsets`.
    pub(super) fn ops(&self, op: &Op, offsets: &[u64], target: Target) -> Vec<Op> {
        let mut offsets = offsets.iter();
        let mut ops: Vec<Op> = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let last = i + 1 == self.lines.len();
            let outputs = if last {
                op.outputs.clone()
            } else {
                let name = |j: usize| {
                    let result = if j == 0 { String::new() } else { format!("_{j}") };
                    format!("{}{}{result}", op.name(), line.suffix)
                };
                let named = |(j, ty): (usize, &Type)| NamedType { name: name(j), ty: ty.clone() };
                line.results.iter().enumerate().map(named).collect()
            };
            let mut new = Op {
                kind: line.kind.to_owned(),
                inputs: BTreeMap::new(),
                outputs,
                blocks: Vec::new(),
                attributes: op.attributes.clone(),
            };
            new.attributes.remove("val");
            if !last {
                let name = new.name().to_owned();
                new.attributes.insert("name".to_owned(), Value::string(&name));
            }
            for (parameter, source) in &line.parameters {
                let arg = match source {
                    Source::Part(part) => {
                        let offset = *offsets.next().expect("every part was written");
                        let at = BlobRef { file: WEIGHT_FILE.to_owned(), offset };
                        Arg::Value(Value::blob(part.dtype, &part.shape, at))
                    }
                    Source::Value(value) => Arg::Value(value.clone()),
                    Source::Result(line, result) => {
                        Arg::Name(ops[*line].outputs[*result].name.clone())
                    }
                };
                match arg {
                    Arg::Value(value) if target != Target::Ios18 => {
                        new.attributes.insert((*parameter).to_owned(), value);
                    }
                    arg => drop(new.inputs.insert((*parameter).to_owned(), vec![arg])),
                }
            }
            ops.push(new);
        }
        ops
    }
}

/// Number of blobs of a weight with that many output channels under `scheme`.
pub(super) fn n_parts(scheme: Scheme, target: Target, output_channels: u64) -> u32 {
    match target {
        _ if scheme == Scheme::FP16 => 1,
        Target::Ios18 => ios18::n_parts(scheme),
        _ => ios16::n_parts(scheme, output_channels),
    }
}

/// Fails, with the first target that can, if packages of `version` cannot hold `scheme`.
pub(super) fn check(scheme: Scheme, version: i32) -> Result<(), CompressError> {
    let needed = if scheme == Scheme::FP16 {
        Target::Ios15
    } else if ios16::can_hold(scheme) {
        Target::Ios16
    } else {
        Target::Ios18
    };
    if needed <= Target::of(version) {
        return Ok(());
    }
    Err(CompressError::Target { scheme: scheme.to_string(), needed: needed.name(), version })
}

/// Fails if the encoding found for a weight does not fit the target: the bits of `unique` are known only then.
pub(super) fn check_found(
    compressed: &quant::Compressed<'_>,
    scheme: Scheme,
    version: i32,
) -> Result<(), CompressError> {
    let three = compressed.palette().is_some_and(|palette| palette.bits.get() == 3);
    if !three || Target::of(version) == Target::Ios18 {
        return Ok(());
    }
    let scheme = format!("{scheme} (3 bits)");
    Err(CompressError::Target { scheme, needed: Target::Ios18.name(), version })
}

fn halves(values: &[f16]) -> Vec<u8> {
    // Little-endian, as every machine that this is built for.
    bytemuck::cast_slice(values).to_vec()
}

fn sizes(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&size| size as u64).collect()
}

fn bytes(dtype: DType, shape: &[u64], bytes: Vec<u8>) -> Source {
    Source::Part(Part { dtype, shape: shape.to_vec(), content: Content::Bytes(bytes) })
}

fn codes(dtype: DType, shape: &[u64]) -> Source {
    Source::Part(Part { dtype, shape: shape.to_vec(), content: Content::Codes })
}

/// The mask, as elements of this type and shape.
fn mask(dtype: DType, shape: &[u64]) -> Source {
    Source::Part(Part { dtype, shape: shape.to_vec(), content: Content::Mask })
}

/// The type of indices of so many bits.
fn index_type(bits: quant::Bits) -> DType {
    match bits.get() {
        1 => DType::U1,
        2 => DType::U2,
        3 => DType::U3,
        4 => DType::U4,
        6 => DType::U6,
        _ => DType::U8,
    }
}

/// The MIL type of quantized integers.
fn integer_type(dtype: quant::Dtype) -> DType {
    match dtype {
        quant::Dtype::Int4 => DType::I4,
        quant::Dtype::Uint4 => DType::U4,
        quant::Dtype::Int8 => DType::I8,
        quant::Dtype::Uint8 => DType::U8,
    }
}
