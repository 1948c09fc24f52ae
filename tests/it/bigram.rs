//! A language model small enough to write by hand: the logits after a token depend on that token alone.
//!
//! Its package has the functions that `convert` writes, with the cache as inputs and outputs, so evaluation runs on it
//! as on any artifact; [`Bigram`] is the same model in plain Rust, in f32.

use std::collections::BTreeMap;
use std::path::Path;

use coremill::blob::{BlobType, WriterError};
use coremill::eval::{
    reference::Continuation, reference::Continue, reference::Distributions,
    reference::EmbedRequest, reference::Identity, reference::Noise, reference::Reference,
    reference::ReferenceError,
};
use coremill::lm::Prepared;
use coremill::mil::{
    Arg, BlobRef, Block, DType, Data, Function, NamedType, Op, Program, TensorData, Type, Value,
};
use coremill::package::{Draft, Model, WEIGHT_FILE};
use coremill::proto::feature::{
    ArrayDataType, ArrayFeatureType, FeatureDescription, FeatureKind, FeatureType,
};
use coremill::proto::model::{FunctionDescription, ModelDescription};
use half::f16;

pub(crate) const VOCAB: usize = 12;
const WIDTH: usize = 4;
const LENGTH: usize = 8;

/// The weights: embeddings and head, [V, H] each, all of them eighths that fp16 holds.
#[derive(Debug, Clone)]
pub(crate) struct Bigram {
    vocab: usize,
    width: usize,
    embeddings: Vec<f32>,
    head: Vec<f32>,
    identity: Identity,
}

impl Bigram {
    pub(crate) fn new() -> Self {
        Self::sized(VOCAB, WIDTH)
    }

    /// The same with other weights, [vocab, width] each.
    pub(crate) fn sized(vocab: usize, width: usize) -> Self {
        let weights = |seed: usize| {
            let weight = |i: usize| ((i * 37 + seed * 11 + i * i * 5) % 23) as f32 / 8.0 - 1.25;
            // Logits are as large however many products they add up.
            let weight = |i: usize| weight(i) * (WIDTH as f32 / width as f32).sqrt();
            (0..vocab * width).map(weight).collect()
        };
        let (embeddings, head) = (weights(1), weights(2));
        Self { vocab, width, embeddings, head, identity: Identity::default() }
    }

    /// The same model with its head damaged.
    pub(crate) fn damaged(mut self) -> Self {
        self.head.iter_mut().step_by(5).for_each(|w| *w += 0.5);
        self
    }

    pub(crate) fn logits_after(&self, token: u32) -> Vec<f32> {
        let row = &self.embeddings[token as usize * self.width..][..self.width];
        let dot = |head: &[f32]| row.iter().zip(head).map(|(a, b)| a * b).sum();
        self.head.chunks(self.width).map(dot).collect()
    }

    pub(crate) fn log_probs_after(&self, token: u32) -> Vec<f64> {
        let logits = self.logits_after(token);
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        logits.iter().map(|&l| f64::from(l) - sum.ln()).collect()
    }

    /// Writes the package.
    pub(crate) fn write(&self, path: &Path) {
        Draft::begin(path, false).unwrap().finish(&self.package(), None).unwrap();
    }

    /// Writes the package with its weights in a file of their own, each once, as those are that can be compressed.
    pub(crate) fn write_poured(&self, path: &Path) {
        let mut model = self.package();
        let draft = Draft::begin(path, false).unwrap();
        let mut writer = draft.weights(2).unwrap();
        for name in ["embeddings", "head"] {
            let all = model.program.functions.values_mut().flat_map(|f| &mut f.block.ops);
            let mut weights: Vec<&mut Value> = all
                .filter(|op| op.name() == name)
                .filter_map(|op| op.attributes.get_mut("val"))
                .collect();
            let Data::Tensor(TensorData::Bytes(bytes)) = weights[0].data.clone() else {
                panic!("weights are fp16")
            };
            let n = (self.vocab * self.width) as u64;
            let put = writer.blob::<WriterError>(BlobType::Float16, n, 16, |put| put(&bytes));
            let at = BlobRef { file: WEIGHT_FILE.to_owned(), offset: put.unwrap() };
            for value in &mut weights {
                value.data = Data::Blob(at.clone());
            }
        }
        // The first whose operations have all forms of compressed weights.
        for function in model.program.functions.values_mut() {
            "CoreML8".clone_into(&mut function.opset);
        }
        let written = writer.finish().unwrap();
        draft.finish(&model, Some(written)).unwrap();
    }

    /// Writes a package of `encode` alone, which is then called `main`.
    pub(crate) fn write_encoder(&self, path: &Path) {
        let mut model = self.package();
        let encode = model.program.functions.remove("encode").unwrap();
        model.program.functions = BTreeMap::from([("main".to_owned(), encode)]);
        let described = model.description.functions.pop().unwrap();
        model.description = ModelDescription {
            input: described.input,
            output: described.output,
            ..ModelDescription::default()
        };
        Draft::begin(path, false).unwrap().finish(&model, None).unwrap();
    }

    fn package(&self) -> Model {
        let Self { vocab, width, .. } = self;
        let head = format!(
            "scores = linear(x=row, weight=head, bias=bias) : fp16 1 1 {vocab}
             logits = squeeze(x=scores, axes=#one) : fp16 1 {vocab}"
        );
        let init = format!(
            "hidden_states = gather(x=embeddings, indices=input_ids, axis=#zero) : fp16 1 8 {width}
             last = sub(x=length, y=one) : int32 1
             row = gather(x=hidden_states, indices=last, axis=#one) : fp16 1 1 {width}
             {head}
             tokens = cast(x=input_ids, dtype=#fp16) : fp16 1 8
             keyCache = reshape(x=tokens, shape=#cache) : fp16 1 1 8 1
             valueCache = relu(x=keyCache) : fp16 1 1 8 1"
        );
        let decode = format!(
            "row = gather(x=embeddings, indices=input_ids, axis=#zero) : fp16 1 1 {width}
             {head}
             keyCacheOut = relu(x=keyCache) : fp16 1 1 8 1
             valueCacheOut = relu(x=valueCache) : fp16 1 1 8 1"
        );
        let encode = format!(
            "rows = gather(x=embeddings, indices=input_ids, axis=#zero) : fp16 1 8 {width}
             counted = cast(x=pool_mask, dtype=#fp16) : fp16 1 8
             column = reshape(x=counted, shape=#column) : fp16 1 8 1
             pooled = mul(x=rows, y=column) : fp16 1 8 {width}
             embedding = reduce_sum(x=pooled, axes=#one, keep_dims=#no) : fp16 1 {width}"
        );
        let caches = "keyCache fp16 1 1 8 1; valueCache fp16 1 1 8 1";
        let functions = [
            (
                "init",
                "input_ids int32 1 8; length int32 1".to_owned(),
                format!("logits fp16 1 {vocab}; {caches}"),
                init.as_str(),
            ),
            (
                "decode",
                format!("input_ids int32 1 1; position int32 1; {caches}"),
                format!(
                    "logits fp16 1 {vocab}; keyCacheOut fp16 1 1 8 1; valueCacheOut fp16 1 1 8 1"
                ),
                &decode,
            ),
            (
                "encode",
                "input_ids int32 1 8; attention_mask int32 1 8; pool_mask int32 1 8".to_owned(),
                format!("embedding fp16 1 {width}"),
                &encode,
            ),
        ];
        let mut program =
            Program { version: 1, functions: BTreeMap::new(), attributes: BTreeMap::new() };
        let mut description = ModelDescription::default();
        for (name, inputs, outputs, text) in functions {
            let ports =
                |text: &str| text.split(';').map(|port| named(port.trim())).collect::<Vec<_>>();
            let (inputs, outputs) = (ports(&inputs), ports(&outputs));
            description.functions.push(FunctionDescription {
                name: name.to_owned(),
                input: inputs.iter().map(feature).collect(),
                output: outputs.iter().map(feature).collect(),
                ..FunctionDescription::default()
            });
            let ops = self.constants().into_iter().chain(text.lines().map(|line| op(line.trim())));
            let outputs = outputs.into_iter().map(|port| port.name).collect();
            let block = Block { ops: ops.collect(), outputs, ..Block::default() };
            let opset = "CoreML5".to_owned();
            let function = Function { inputs, opset, block, attributes: BTreeMap::new() };
            program.functions.insert(name.to_owned(), function);
        }
        "init".clone_into(&mut description.default_function_name);
        Model { specification_version: 9, description, program }
    }

    fn constants(&self) -> Vec<Op> {
        let Self { vocab, width, .. } = self;
        let halves = |values: &[f32]| {
            let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
            TensorData::Bytes(bytes)
        };
        vec![
            constant("embeddings", &format!("fp16 {vocab} {width}"), halves(&self.embeddings)),
            constant("head", &format!("fp16 {vocab} {width}"), halves(&self.head)),
            constant("bias", &format!("fp16 {vocab}"), halves(&vec![0.0; *vocab])),
            constant("one", "int32", TensorData::Ints(vec![1])),
        ]
    }
}

/// `name type dims…`.
fn named(text: &str) -> NamedType {
    let (name, ty) = text.split_once(' ').unwrap();
    NamedType { name: name.to_owned(), ty: tensor(ty) }
}

fn tensor(text: &str) -> Type {
    let mut words = text.split_whitespace();
    let dtype = DType::from_name(words.next().unwrap()).unwrap();
    let shape: Vec<u64> = words.map(|n| n.parse().unwrap()).collect();
    Type::tensor(dtype, &shape)
}

fn constant(name: &str, ty: &str, data: TensorData) -> Op {
    let value = Value { ty: tensor(ty), data: Data::Tensor(data) };
    Op {
        kind: "const".to_owned(),
        inputs: BTreeMap::new(),
        outputs: vec![NamedType { name: name.to_owned(), ty: tensor(ty) }],
        blocks: Vec::new(),
        attributes: BTreeMap::from([
            ("name".to_owned(), Value::string(name)),
            ("val".to_owned(), value),
        ]),
    }
}

/// `name = kind(parameter=argument, …) : type dims…`; an argument `#key` stands for a value written in place.
fn op(line: &str) -> Op {
    let (name, rest) = line.split_once(" = ").unwrap();
    let (call, ty) = rest.split_once(" : ").unwrap();
    let (kind, args) = call.trim_end_matches(')').split_once('(').unwrap();
    let ints = |values: &[i32]| Value {
        ty: Type::tensor(DType::I32, &[values.len() as u64]),
        data: Data::Tensor(TensorData::Ints(values.to_vec())),
    };
    let argument = |parameter: &str, text: &str| match text.strip_prefix('#') {
        None => Arg::Name(text.to_owned()),
        Some("zero") => Arg::Value(Value::int(0)),
        Some("one") if parameter == "axes" => Arg::Value(ints(&[1])),
        Some("one") => Arg::Value(Value::int(1)),
        Some("no") => Arg::Value(Value::bool(false)),
        Some("cache") => Arg::Value(ints(&[1, 1, LENGTH as i32, 1])),
        Some("column") => Arg::Value(ints(&[1, LENGTH as i32, 1])),
        Some(text) => Arg::Value(Value::string(text)),
    };
    let inputs = args.split(", ").map(|arg| {
        let (parameter, text) = arg.split_once('=').unwrap();
        (parameter.to_owned(), vec![argument(parameter, text)])
    });
    Op {
        kind: kind.to_owned(),
        inputs: inputs.collect(),
        outputs: vec![NamedType { name: name.to_owned(), ty: tensor(ty) }],
        blocks: Vec::new(),
        attributes: BTreeMap::from([("name".to_owned(), Value::string(name))]),
    }
}

fn feature(port: &NamedType) -> FeatureDescription {
    let tensor = port.ty.as_tensor().unwrap();
    let half = tensor.dtype == DType::F16;
    let data_type = if half { ArrayDataType::Float16 } else { ArrayDataType::Int32 };
    let shape = tensor.fixed_shape().unwrap().iter().map(|&n| n as i64).collect();
    let array =
        ArrayFeatureType { shape, data_type: data_type as i32, ..ArrayFeatureType::default() };
    let kind = FeatureKind::MultiArray(array);
    FeatureDescription {
        name: port.name.clone(),
        short_description: String::new(),
        r#type: Some(FeatureType { r#type: Some(kind), is_optional: false }),
    }
}

impl Reference for Bigram {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn describe(&self) -> String {
        "the model in plain Rust".to_owned()
    }

    fn logits(&self, windows: &[Vec<u32>], top_k: usize) -> Result<Distributions, ReferenceError> {
        assert!(top_k <= self.vocab);
        let (mut next, mut ids, mut log_probs) = (Vec::new(), Vec::new(), Vec::new());
        let mut tail = Vec::new();
        for window in windows {
            for (i, &token) in window.iter().enumerate() {
                let all = self.log_probs_after(token);
                let mut order: Vec<u32> = (0..self.vocab as u32).collect();
                order.sort_by(|&a, &b| all[b as usize].total_cmp(&all[a as usize]));
                let rest = order.split_off(top_k);
                tail.push(rest.iter().map(|&id| all[id as usize].exp()).sum::<f64>().ln() as f32);
                log_probs.extend(order.iter().map(|&id| all[id as usize] as f32));
                ids.extend(order);
                next.extend(window.get(i + 1).map(|&id| all[id as usize] as f32));
            }
        }
        Ok(Distributions { window: windows[0].len(), top_k, next, ids, log_probs, tail })
    }

    fn noise(&self, windows: &[Vec<u32>]) -> Result<Option<Noise>, ReferenceError> {
        let table = vec![vec![0.001; windows[0].len() - 1]; windows.len()];
        let same_top = vec![vec![true; windows[0].len() - 1]; windows.len()];
        let how = "a thousandth everywhere".to_owned();
        Ok(Some(Noise { how, divergence: table.clone(), nll_change: table, same_top }))
    }

    fn generate(&self, request: &Continue) -> Result<Vec<Continuation>, ReferenceError> {
        let continued = |prompt: &Vec<u32>| {
            let mut one =
                Continuation { tokens: Vec::new(), margins: Vec::new(), likeliest: Vec::new() };
            let mut token = *prompt.last().unwrap();
            while one.tokens.len() < request.max_tokens && !one.tokens.ends_with(&request.eos) {
                let logits = self.logits_after(token);
                let mut order: Vec<u32> = (0..self.vocab as u32).collect();
                order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
                token = order[0];
                one.margins.push(f64::from(logits[token as usize] - logits[order[1] as usize]));
                one.tokens.push(token);
            }
            one
        };
        Ok(request.prompts.iter().map(continued).collect())
    }

    fn embed(&self, request: &EmbedRequest) -> Result<Vec<Vec<f32>>, ReferenceError> {
        let embedded = |sentence: &Prepared| {
            let mut sum = vec![0.0; self.width];
            for (&id, _) in sentence.ids.iter().zip(&sentence.pool).filter(|(_, p)| **p == 1) {
                let row = &self.embeddings[id as usize * self.width..][..self.width];
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            }
            sum
        };
        Ok(request.prepared.iter().map(embedded).collect())
    }
}
