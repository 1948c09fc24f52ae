//! From a program to text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use half::{bf16, f16};

use super::lexer::{begins_word, continues_word};
use super::{float, fp8, opset};
use crate::mil::{
    Arg, Block, DType, Data, Dim, NamedType, Op, Program, TensorData, TensorType, Type, Value,
};

/// The program as text, whole.
pub fn write(program: &Program) -> String {
    let short = program.functions.values().any(|f| opset::has_short_scalars(&f.opset));
    let mut writer = Writer { out: String::new(), short };
    let minor = if short { 3 } else { 0 };
    writer.put(&format!("program({}.{minor})\n", program.version));
    if !program.attributes.is_empty() {
        writer.attributes(&program.attributes);
        writer.put("\n");
    }
    writer.put("{\n");
    for (name, function) in &program.functions {
        writer.put("    func ");
        writer.name(name);
        writer.put("<");
        writer.name(opset::to_text(&function.opset));
        writer.put(">(");
        writer.named_types(&function.inputs);
        writer.put(")");
        if !function.attributes.is_empty() {
            writer.put(" ");
            writer.attributes(&function.attributes);
        }
        writer.put(" ");
        writer.body(&function.block, 3);
        writer.put(";\n");
    }
    writer.put("}\n");
    writer.out
}

struct Writer {
    out: String,
    /// True if a tensor type of rank 0 is its element type alone.
    short: bool,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("    ", depth));
    }

    /// `items` with commas between them.
    fn list<T>(&mut self, items: &[T], mut one: impl FnMut(&mut Self, &T)) {
        for (i, item) in items.iter().enumerate() {
            self.put(if i == 0 { "" } else { ", " });
            one(self, item);
        }
    }

    fn name(&mut self, name: &str) {
        let plain = name.starts_with(begins_word) && name.chars().all(continues_word);
        if plain { self.put(name) } else { self.string(name) }
    }

    fn string(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\t' => self.put("\\t"),
                '\r' => self.put("\\r"),
                c if c.is_ascii_control() => {
                    write!(self.out, "\\x{:02x}", u32::from(c)).expect("writing to a string");
                }
                c => self.out.push(c),
            }
        }
        self.put("\"");
    }

    /// `{ operations } -> (outputs)`, the operations `depth` steps in.
    fn body(&mut self, block: &Block, depth: usize) {
        self.put("{\n");
        for op in &block.ops {
            self.indent(depth);
            self.op(op, depth);
            self.put(";\n");
        }
        self.indent(depth - 1);
        self.put("} -> (");
        self.list(&block.outputs, |w, name| w.name(name));
        self.put(")");
    }

    fn op(&mut self, op: &Op, depth: usize) {
        if !op.outputs.is_empty() {
            self.named_types(&op.outputs);
            self.put(" = ");
        }
        self.name(&op.kind);
        self.put("(");
        let inputs: Vec<_> = op.inputs.iter().collect();
        self.list(&inputs, |w, (parameter, bound)| {
            w.name(parameter);
            w.put(" = ");
            match bound.as_slice() {
                [one] => w.argument(one),
                several => {
                    w.put("(");
                    w.list(several, Self::argument);
                    w.put(")");
                }
            }
        });
        self.put(")");
        if !op.attributes.is_empty() {
            self.attributes(&op.attributes);
        }
        if op.blocks.is_empty() {
            return;
        }
        self.put(" {\n");
        for (i, block) in op.blocks.iter().enumerate() {
            self.indent(depth + 1);
            self.put(&format!("block{i}("));
            self.named_types(&block.inputs);
            self.put(")");
            if !block.attributes.is_empty() {
                self.attributes(&block.attributes);
            }
            self.put(" ");
            self.body(block, depth + 2);
            self.put(";\n");
        }
        self.indent(depth);
        self.put("}");
    }

    fn argument(&mut self, arg: &Arg) {
        match arg {
            // A name that reads as the beginning of a type would be taken for a value only with `<` or `(` behind it.
            Arg::Name(name) => self.name(name),
            Arg::Value(value) => self.value(value),
        }
    }

    fn attributes(&mut self, attributes: &BTreeMap<String, Value>) {
        let attributes: Vec<_> = attributes.iter().collect();
        self.put("[");
        self.list(&attributes, |w, (name, value)| {
            w.name(name);
            w.put(" = ");
            w.value(value);
        });
        self.put("]");
    }

    fn named_types(&mut self, types: &[NamedType]) {
        self.list(types, |w, named| {
            w.ty(&named.ty);
            w.put(" ");
            w.name(&named.name);
        });
    }

    fn ty(&mut self, ty: &Type) {
        match ty {
            Type::Tensor(tensor) if self.short && tensor.shape.is_empty() => {
                self.put(tensor.dtype.name());
            }
            Type::Tensor(tensor) => {
                self.put("tensor<");
                self.put(tensor.dtype.name());
                self.put(", [");
                self.list(&tensor.shape, |w, dim| w.dim(*dim));
                self.put("]>");
            }
            Type::List(element, length) => {
                self.put("list<");
                self.ty(element);
                self.put(", ");
                self.dim(*length);
                self.put(">");
            }
            Type::Tuple(types) => {
                self.put("tuple<");
                self.list(types, Self::ty);
                self.put(">");
            }
            Type::Dictionary(key, value) => {
                self.put("dict<");
                self.ty(key);
                self.put(", ");
                self.ty(value);
                self.put(">");
            }
            Type::State(inner) => {
                self.put("state<");
                self.ty(inner);
                self.put(">");
            }
        }
    }

    fn dim(&mut self, dim: Dim) {
        write!(self.out, "{dim}").expect("writing to a string");
    }

    fn value(&mut self, value: &Value) {
        self.ty(&value.ty);
        self.put("(");
        self.data(&value.ty, &value.data);
        self.put(")");
    }

    fn data(&mut self, ty: &Type, data: &Data) {
        match data {
            Data::Blob(blob) => {
                self.put("BLOBFILE(path = ");
                self.value(&Value::string(&blob.file));
                self.put(", offset = ");
                self.ty(&Type::tensor(DType::U64, &[]));
                self.put(&format!("({}))", blob.offset));
            }
            Data::Tensor(data) => match ty.as_tensor() {
                Some(tensor) => self.tensor(tensor, data),
                None => self.elements(DType::Bool, data, 0..0),
            },
            Data::Tuple(values) => {
                self.put("(");
                self.list(values, |w, v| w.data(&v.ty, &v.data));
                self.put(")");
            }
            Data::List(values) => {
                self.put("[");
                self.list(values, |w, v| w.data(&v.ty, &v.data));
                self.put("]");
            }
            Data::Dictionary(pairs) => {
                self.put("{");
                self.list(pairs, |w, (key, value)| {
                    w.put("{");
                    w.data(&key.ty, &key.data);
                    w.put(", ");
                    w.data(&value.ty, &value.data);
                    w.put("}");
                });
                self.put("}");
            }
        }
    }

    /// Elements nested as the shape says; in one row where their number is not the shape's.
    fn tensor(&mut self, ty: &TensorType, data: &TensorData) {
        let n = count(ty, data);
        let shape: Option<Vec<usize>> =
            ty.fixed_shape().and_then(|s| s.iter().map(|&d| usize::try_from(d).ok()).collect());
        let fits = |shape: &Vec<usize>| {
            shape.iter().try_fold(1_usize, |a, &d| a.checked_mul(d)) == Some(n)
        };
        // A tensor without elements may state any number of empty rows; no program has many.
        let few = |shape: &Vec<usize>| {
            let rows = shape.iter().take_while(|&&d| d > 0);
            n > 0 || rows.fold(1_usize, |a, &d| a.saturating_mul(d)) <= MAX_EMPTY
        };
        if let Some(shape) = shape.filter(fits).filter(few) {
            self.nested(ty.dtype, data, &shape, 0..n);
        } else {
            self.put("[");
            self.elements(ty.dtype, data, 0..n);
            self.put("]");
        }
    }

    fn nested(
        &mut self,
        dtype: DType,
        data: &TensorData,
        shape: &[usize],
        range: std::ops::Range<usize>,
    ) {
        let Some((&n, inner)) = shape.split_first() else {
            return self.elements(dtype, data, range);
        };
        self.put("[");
        if inner.is_empty() {
            self.elements(dtype, data, range);
        } else {
            let step = range.len().checked_div(n).unwrap_or(0);
            for i in 0..n {
                self.put(if i == 0 { "" } else { ", " });
                let start = range.start + i * step;
                self.nested(dtype, data, inner, start..start + step);
            }
        }
        self.put("]");
    }

    fn elements(&mut self, dtype: DType, data: &TensorData, range: std::ops::Range<usize>) {
        for i in range.clone() {
            self.put(if i == range.start { "" } else { ", " });
            self.element(dtype, data, i);
        }
    }

    fn element(&mut self, dtype: DType, data: &TensorData, i: usize) {
        match data {
            TensorData::Floats(values) => float::write(&mut self.out, f64::from(values[i])),
            TensorData::Doubles(values) => float::write(&mut self.out, values[i]),
            TensorData::Ints(values) => self.put(&values[i].to_string()),
            TensorData::Longs(values) if dtype == DType::U64 => {
                self.put(&values[i].cast_unsigned().to_string());
            }
            TensorData::Longs(values) => self.put(&values[i].to_string()),
            TensorData::Bools(values) => self.put(if values[i] { "true" } else { "false" }),
            TensorData::Strings(values) => self.string(&values[i]),
            TensorData::Bytes(bytes) => self.bytes(dtype, bytes, i),
        }
    }

    /// Element `i` of packed bytes.
    fn bytes(&mut self, dtype: DType, bytes: &[u8], i: usize) {
        let at = |n: usize| bytes.get(n).copied().unwrap_or_default();
        let pair = [at(2 * i), at(2 * i + 1)];
        match dtype {
            DType::F16 => return float::write(&mut self.out, f16::from_le_bytes(pair).to_f64()),
            DType::Bf16 => return float::write(&mut self.out, bf16::from_le_bytes(pair).to_f64()),
            DType::F8E4M3 | DType::F8E5M2 => {
                return float::write(&mut self.out, fp8::value(dtype, at(i)));
            }
            DType::Bool => return self.put(if at(i) == 0 { "false" } else { "true" }),
            DType::F32 => {
                let four = [0, 1, 2, 3].map(|k| at(4 * i + k));
                return float::write(&mut self.out, f64::from(f32::from_le_bytes(four)));
            }
            _ => {}
        }
        let bits = dtype.bits() as usize;
        let bit = |k: usize| u128::from(at((i * bits + k) / 8) >> ((i * bits + k) % 8) & 1);
        let code = (0..bits).fold(0_u128, |n, k| n | bit(k) << k);
        let negative = !dtype.is_unsigned() && bits > 0 && code >> (bits - 1) & 1 == 1;
        let n = if negative { code as i128 - (1 << bits) } else { code as i128 };
        self.put(&n.to_string());
    }
}

/// Rows written of a tensor that has no elements.
const MAX_EMPTY: usize = 4096;

/// The number of elements in `data`; bits left over in the last byte are none.
fn count(ty: &TensorType, data: &TensorData) -> usize {
    match data {
        TensorData::Floats(values) => values.len(),
        TensorData::Doubles(values) => values.len(),
        TensorData::Ints(values) => values.len(),
        TensorData::Longs(values) => values.len(),
        TensorData::Bools(values) => values.len(),
        TensorData::Strings(values) => values.len(),
        TensorData::Bytes(bytes) => {
            let bits = ty.dtype.bits() as usize;
            let n = bytes.len().saturating_mul(8).checked_div(bits).unwrap_or(0);
            // Packed elements fill their last byte only by chance.
            let stated = ty.elements().and_then(|n| usize::try_from(n).ok());
            match stated {
                Some(stated)
                    if bits < 8 && stated.saturating_mul(bits).div_ceil(8) == bytes.len() =>
                {
                    stated
                }
                _ => n,
            }
        }
    }
}
