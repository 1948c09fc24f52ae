//! `Dequantized`: a constant of a program, dense or compressed, whose values are read a run at a time.

use std::cell::RefCell;

use super::constant::Budget;
use super::error::OpError;
use super::exec::Kernel;
use super::op_context::{Binding, OpContext, Scope};
use super::ops::{self, Opset};
use super::options::Precision;
use super::stored::{self, Shared};
use crate::mil::{Blobs, Op};

/// A constant as the runtime would use it: in its stored form, its values rounded to its type.
pub struct Dequantized(Shared);

impl Dequantized {
    /// The first result of the last of `ops`, which are constants and compressed constants (`constexpr_*`) of a function
    /// of `opset`, each after those that it needs.
    pub fn of(ops: &[&Op], opset: &str, blobs: &dyn Blobs) -> Result<Self, OpError> {
        let mut scope = Scope::new();
        let budget = Budget::default();
        for &op in ops {
            if let Some(value) = op.const_value() {
                scope.insert(op.name().to_owned(), Binding::Const(value));
                continue;
            }
            let entry = Opset::from_name(opset).and_then(|opset| ops::lookup(&op.kind, opset));
            let unknown = || OpError::Unsupported(format!("`{}` of {opset}", op.kind));
            let entry = entry.ok_or_else(unknown)?;
            let site = OpContext {
                op,
                scope: &scope,
                blobs,
                budget: &budget,
                precision: Precision::Declared,
                later: &[],
                bodies: &[],
                uses: RefCell::default(),
            };
            let Kernel::Stored(constants) = (entry.build)(&site)? else {
                return Err(OpError::invalid(format!("`{}` is no constant", op.kind)));
            };
            for (out, constant) in op.outputs.iter().zip(constants) {
                scope.insert(out.name.clone(), Binding::Stored(constant));
            }
        }
        let last = ops.last().ok_or_else(|| OpError::invalid("nothing makes the constant"))?;
        match scope.remove(last.name()) {
            Some(Binding::Stored(constant)) => Ok(Self(constant)),
            Some(Binding::Const(value)) => {
                let tensor = super::constant::tensor(value, blobs, &budget)?;
                Ok(Self(stored::of_tensor(tensor)))
            }
            _ => Err(OpError::invalid(format!("`{}` is no constant", last.name()))),
        }
    }

    /// Its extents.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// Its elements.
    pub fn n_elements(&self) -> usize {
        self.0.len()
    }

    /// Writes the elements from the row-major position `at` on, which must be there.
    pub fn read(&self, at: usize, out: &mut [f32]) {
        self.0.fill(at, out);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::interp::testing::NoBlobs;
    use crate::mil::{Arg, DType, Data, NamedType, TensorData, Type, Value};

    fn floats(values: &[f32]) -> Value {
        let ty = Type::tensor(DType::F32, &[values.len() as u64]);
        Value { ty, data: Data::Tensor(TensorData::Floats(values.to_vec())) }
    }

    fn op(kind: &str, out: &str, n: u64, inputs: &[(&str, Arg)]) -> Op {
        Op {
            kind: kind.to_owned(),
            inputs: inputs.iter().map(|(p, arg)| ((*p).to_owned(), vec![arg.clone()])).collect(),
            outputs: vec![NamedType { name: out.to_owned(), ty: Type::tensor(DType::F32, &[n]) }],
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    fn values(ops: &[&Op], opset: &str) -> Result<Vec<f32>, String> {
        let constant = Dequantized::of(ops, opset, &NoBlobs).map_err(|e| e.to_string())?;
        let mut out = vec![0.0; constant.n_elements()];
        constant.read(0, &mut out);
        Ok(out)
    }

    #[test]
    fn constants_that_nest_are_read() {
        let data = Value {
            ty: Type::tensor(DType::I8, &[4]),
            data: Data::Tensor(TensorData::Bytes(vec![1, 255, 2, 3])),
        };
        let mut dense = op("const", "s", 2, &[]);
        dense.attributes.insert("val".to_owned(), floats(&[2.0, 0.5]));
        let scale = Arg::Name("s".to_owned());
        let inner = op(
            "constexpr_blockwise_shift_scale",
            "a",
            4,
            &[("data", Arg::Value(data)), ("scale", scale)],
        );
        let a = Arg::Name("a".to_owned());
        let outer = op(
            "constexpr_blockwise_shift_scale",
            "b",
            4,
            &[("data", a), ("scale", Arg::Value(floats(&[10.0])))],
        );
        assert_eq!(values(&[&dense], "CoreML8").unwrap(), [2.0, 0.5]);
        assert_eq!(values(&[&dense, &inner], "CoreML8").unwrap(), [2.0, -2.0, 1.0, 1.5]);
        assert_eq!(
            values(&[&dense, &inner, &outer], "CoreML8").unwrap(),
            [20.0, -20.0, 10.0, 15.0]
        );
        let cases: [(&[&Op], &str, &str); 4] = [
            (&[], "CoreML8", "nothing makes the constant"),
            (&[&outer], "CoreML8", "nothing before it defines `a`"),
            (
                &[&dense, &inner],
                "CoreML5",
                "`constexpr_blockwise_shift_scale` of CoreML5 is not supported",
            ),
            (
                &[&dense, &op("relu", "r", 2, &[("x", Arg::Name("s".to_owned()))])],
                "CoreML8",
                "`relu` is no constant",
            ),
        ];
        for (ops, opset, want) in cases {
            assert_eq!(values(ops, opset).unwrap_err(), want);
        }
    }
}
