//! One operation as a program, for the tables of cases in `ops`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::Model;
use super::options::{Options, Precision};
use super::tensor::Tensor;
use crate::blob::Blob;
use crate::mil::{
    Arg, BlobRef, Blobs, Block, ConstError, DType, Data, Dim, Function, NamedType, Op, Program,
    TensorData, TensorType, Type, Value,
};

/// No blobs: everything stands in the program.
pub(super) struct NoBlobs;

impl Blobs for NoBlobs {
    fn blob(&self, at: &BlobRef) -> Result<Blob, ConstError> {
        Err(ConstError::Outside { name: at.file.clone() })
    }
}

/// A float tensor.
pub(super) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::f32(shape, values.to_vec())
}

/// An operation to run on its own.
pub(super) struct Check {
    kind: String,
    opset: String,
    args: BTreeMap<String, Vec<Arg>>,
    inputs: Vec<(String, Tensor)>,
    outs: Vec<DType>,
    rank: Option<usize>,
    any_shape: bool,
    precision: Precision,
}

/// Starts with an operation in the newest opset, with one fp32 result.
pub(super) fn check(kind: &str) -> Check {
    Check {
        kind: kind.to_owned(),
        opset: "CoreML8".to_owned(),
        args: BTreeMap::new(),
        inputs: Vec::new(),
        outs: vec![DType::F32],
        rank: None,
        any_shape: false,
        precision: Precision::Declared,
    }
}

impl Check {
    pub(super) fn opset(mut self, opset: &str) -> Self {
        self.opset = opset.to_owned();
        self
    }

    pub(super) fn unrounded(mut self) -> Self {
        self.precision = Precision::F32;
        self
    }

    /// An argument that is computed.
    pub(super) fn input(self, parameter: &str, tensor: Tensor) -> Self {
        self.list(parameter, vec![tensor])
    }

    /// An argument of several computed tensors.
    pub(super) fn list(mut self, parameter: &str, tensors: Vec<Tensor>) -> Self {
        for tensor in tensors {
            let name = format!("in{}", self.inputs.len());
            self.args.entry(parameter.to_owned()).or_default().push(Arg::Name(name.clone()));
            self.inputs.push((name, tensor));
        }
        self
    }

    /// An argument that is constant.
    pub(super) fn constant(self, parameter: &str, tensor: &Tensor) -> Self {
        let value = value(tensor);
        self.value(parameter, value)
    }

    pub(super) fn value(mut self, parameter: &str, value: Value) -> Self {
        self.args.insert(parameter.to_owned(), vec![Arg::Value(value)]);
        self
    }

    pub(super) fn floats_const(mut self, values: &[(&str, f32)]) -> Self {
        for (parameter, v) in values {
            self = self.constant(parameter, &floats(&[], &[*v]));
        }
        self
    }

    pub(super) fn int(self, parameter: &str, n: i32) -> Self {
        self.value(parameter, Value::int(n))
    }

    pub(super) fn ints(self, parameter: &str, values: &[i32]) -> Self {
        self.constant(parameter, &Tensor::i32(&[values.len()], values.to_vec()))
    }

    pub(super) fn flag(self, parameter: &str, b: bool) -> Self {
        self.value(parameter, Value::bool(b))
    }

    pub(super) fn flags(self, parameter: &str, values: &[bool]) -> Self {
        self.constant(parameter, &Tensor::bool(&[values.len()], values.to_vec()))
    }

    pub(super) fn text(self, parameter: &str, text: &str) -> Self {
        self.value(parameter, Value::string(text))
    }

    /// The declared type of the result.
    pub(super) fn out(mut self, dtype: DType) -> Self {
        self.outs = vec![dtype];
        self
    }

    /// The declared types of several results of one rank.
    pub(super) fn outs(mut self, dtypes: &[DType], rank: usize) -> Self {
        self.outs = dtypes.to_vec();
        self.rank = Some(rank);
        self
    }

    /// The rank of the result, where it is not that of the first input.
    pub(super) fn rank(mut self, rank: usize) -> Self {
        self.rank = Some(rank);
        self
    }

    /// Several results whose ranks are left open.
    pub(super) fn untyped(mut self, dtypes: &[DType]) -> Self {
        self.outs = dtypes.to_vec();
        self.any_shape = true;
        self
    }

    /// Several fp32 results whose ranks are left open.
    pub(super) fn results(mut self, n: usize) -> Self {
        self.outs = vec![DType::F32; n];
        self.any_shape = true;
        self
    }

    /// Runs and checks the single result.
    pub(super) fn gives(mut self, shape: &[usize], want: &[f32]) {
        self.rank = Some(shape.len());
        let kind = self.kind.clone();
        let got = self.run().unwrap_or_else(|e| panic!("{kind}: {e}"));
        // A scalar leaves a function as one element.
        let shape = if shape.is_empty() { &[1] } else { shape };
        assert_eq!(got[0].shape(), shape, "{kind}");
        for (g, w) in got[0].to_f32().unwrap().iter().zip(want) {
            let close =
                g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= 1e-6 * w.abs().max(1.0);
            assert!(close, "{kind}: {g} for {w} in {:?}", got[0].to_f32().unwrap());
        }
        assert_eq!(got[0].len(), want.len(), "{kind}");
    }

    /// Runs and gives the results.
    pub(super) fn runs(self) -> Vec<Tensor> {
        self.run().unwrap()
    }

    /// Runs and gives the error.
    pub(super) fn fails(self) -> String {
        self.run().unwrap_err()
    }

    fn run(self) -> Result<Vec<Tensor>, String> {
        let rank = self.rank.or_else(|| self.inputs.first().map(|i| i.1.rank())).unwrap_or(1);
        let rank = if self.any_shape { 1 } else { rank };
        let open = || vec![Dim::Unknown { variadic: self.any_shape }; rank];
        let names: Vec<String> = (0..self.outs.len())
            .map(|i| if i == 0 { "out".to_owned() } else { format!("out{i}") })
            .collect();
        let outputs = names.iter().zip(&self.outs).map(|(name, &dtype)| NamedType {
            name: name.clone(),
            ty: Type::Tensor(TensorType { dtype, shape: open(), attributes: BTreeMap::new() }),
        });
        let op = Op {
            kind: self.kind,
            inputs: self.args,
            outputs: outputs.collect(),
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        };
        let inputs = self.inputs.iter().map(|(name, t)| NamedType {
            name: name.clone(),
            ty: Type::tensor(t.dtype(), &t.shape().iter().map(|&n| n as u64).collect::<Vec<_>>()),
        });
        let function = Function {
            inputs: inputs.collect(),
            opset: self.opset,
            block: Block { ops: vec![op], outputs: names.clone(), ..Block::default() },
            attributes: BTreeMap::new(),
        };
        let functions = BTreeMap::from([("main".to_owned(), function)]);
        let program = Program { version: 1, functions, attributes: BTreeMap::new() };
        let blobs: Arc<dyn Blobs> = Arc::new(NoBlobs);
        let options = Options { precision: self.precision };
        let model = Model::load(&program, &blobs, options).map_err(|e| e.to_string())?;
        let function = model.function("main").unwrap();
        let given: Vec<(&str, Tensor)> =
            self.inputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
        let mut state = model.state();
        let mut first = function.run(&given, &mut state, &[]).map_err(|e| e.to_string())?;
        let again = function.run(&given, &mut state, &[]).map_err(|e| e.to_string())?;
        for name in &names {
            // What one run leaves behind must not show in the next.
            let bits =
                |t: &Tensor| t.to_f32().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(first.get(name).unwrap()), bits(again.get(name).unwrap()));
        }
        Ok(names.iter().map(|name| first.take(name).unwrap()).collect())
    }
}

/// A tensor as a constant of a program.
pub(super) fn value(tensor: &Tensor) -> Value {
    let shape: Vec<u64> = tensor.shape().iter().map(|&n| n as u64).collect();
    let data = match tensor.dtype() {
        DType::F32 => TensorData::Floats(tensor.to_f32().unwrap()),
        DType::I32 => TensorData::Ints(tensor.as_i32().unwrap().to_vec()),
        DType::Bool => TensorData::Bools(tensor.as_bool().unwrap().to_vec()),
        _ => TensorData::Bytes(tensor.to_bytes().unwrap()),
    };
    Value { ty: Type::tensor(tensor.dtype(), &shape), data: Data::Tensor(data) }
}
