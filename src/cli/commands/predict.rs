//! `predict`: one function on named tensors, of one package or of several in a chain.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::context::Context;
use super::{Outcome, SUCCESS, backend, precision};
use crate::base::clock::Clock as _;
use crate::base::fs::write_atomic;
use crate::cli::args::{PrecisionArg, PredictArgs};
use crate::coreml::{Feature, Timings};
use crate::interp::{Chain, Label, Model, Options, Precision, Tensor, Value};
use crate::mil::DType;
use crate::package::Package;
use crate::pipeline::Failure;
use crate::runtime::{Backend, CHAINS, INSIDE, Requirements, UNROUNDED, array, value};

/// As many of a classifier's classes are shown.
const SHOWN: usize = 5;

pub(super) fn run(args: &PredictArgs, context: &Context) -> Outcome {
    let packages =
        args.packages.iter().all(|path| path.extension().is_none_or(|e| e != "mlmodelc"));
    let required = Requirements { beyond_coreml: beyond_coreml(args), packages };
    let choice = backend::of(args.backend.backend.as_ref(), required, context)?;
    if args.precision_report {
        return report(args, context);
    }
    let ran = match choice.backend {
        Backend::Interp => in_interp(args, context)?,
        Backend::CoreMl => in_coreml(args, context)?,
    };
    if let Some(path) = &args.outputs {
        write(path, ran.outputs.iter().map(|(name, value)| (name.as_str(), value)))?;
    }
    if let Some(path) = &args.state {
        write(path, ran.states.iter().map(|(name, value)| (name.as_str(), value)))?;
    }
    let outputs = || ran.outputs.iter().map(|(name, value)| (name.as_str(), value));
    let described: BTreeMap<_, _> = outputs().map(|(n, v)| (n, v.describe())).collect();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut answer = json!({
        "function": ran.function,
        "backend": choice,
        "compile_ms": ran.compile.map(ms),
        "load_ms": ms(ran.load),
        "run_ms": ms(ran.run),
        "outputs": described,
        "file": args.outputs,
    });
    let mut lines = Vec::new();
    for (name, value) in outputs() {
        match value {
            Value::Label(label) => {
                lines.push(format!("{name}: {label}"));
                answer["classes"][name] = match label {
                    Label::Text(text) => json!(text),
                    Label::Int(n) => json!(n),
                };
            }
            Value::Dictionary(dictionary) => {
                let likely = dictionary.greatest(SHOWN);
                let likely: Vec<_> = likely.iter().map(|(k, v)| format!("{k} {v:.4}")).collect();
                lines.push(format!("{name}: {}", likely.join(", ")));
                let all = dictionary.iter().map(|(key, v)| (key.to_string(), json!(v)));
                answer["classes"][name] = all.collect::<serde_json::Map<_, _>>().into();
            }
            Value::Tensor(_) | Value::List(_) => {
                lines.push(format!("{name}: {}", value.describe()));
            }
        }
    }
    context.printer.answer(&answer, &lines.join("\n"))?;
    Ok(SUCCESS)
}

/// Requirements that Core ML cannot meet.
fn beyond_coreml(args: &PredictArgs) -> Option<&'static str> {
    if args.packages.len() > 1 {
        return Some(CHAINS);
    }
    if args.precision == PrecisionArg::F32 {
        return Some(UNROUNDED);
    }
    (args.precision_report || !args.tap.is_empty()).then_some(INSIDE)
}

/// Output of a runtime.
struct Ran {
    /// The functions that were run.
    function: String,
    outputs: Vec<(String, Value)>,
    /// The states as they are afterwards.
    states: Vec<(String, Value)>,
    /// Duration of compiling, where something was compiled.
    compile: Option<Duration>,
    load: Duration,
    run: Duration,
}

fn in_interp(args: &PredictArgs, context: &Context) -> Result<Ran, Failure> {
    let precision = match args.precision {
        PrecisionArg::Declared => Precision::Declared,
        PrecisionArg::F32 => Precision::F32,
    };
    let start = context.clock.elapsed();
    let (mut models, mut functions) = (Vec::new(), Vec::new());
    for path in &args.packages {
        let package = Package::open(path)?;
        let model = Model::load(package.program(), &package.blobs(), Options { precision })?;
        models.push(model.with_rules(&package.model().rules()?));
        functions.push(function(&package, args.function.as_deref(), args.packages.len() > 1)?);
    }
    let chain = Chain::new(models)?;
    let load = context.clock.elapsed().saturating_sub(start);
    let inputs = read(&args.inputs)?;
    let mut state = chain.state();
    if let Some(path) = args.state.as_deref().filter(|path| path.exists()) {
        for (name, tensor) in read(path)? {
            state.set(&name, tensor)?;
        }
    }
    let named: Vec<(&str, Tensor)> =
        inputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    let taps: Vec<&str> = args.tap.iter().map(String::as_str).collect();
    let names: Vec<&str> = functions.iter().map(String::as_str).collect();
    let start = context.clock.elapsed();
    let outputs = chain.run(&names, &named, &mut state, &taps)?;
    let run = context.clock.elapsed().saturating_sub(start);
    let kept =
        |name: &str| Some((name.to_owned(), Value::from(state.get(name)?.clone()).leaving()));
    Ok(Ran {
        function: functions.join(", "),
        outputs: outputs.values().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        states: state.names().filter_map(kept).collect(),
        compile: None,
        load,
        run,
    })
}

fn in_coreml(args: &PredictArgs, context: &Context) -> Result<Ran, Failure> {
    let path = args.packages.first().ok_or_else(|| Failure::input("there is no package"))?;
    let package = Package::open(path)?;
    let function = function(&package, args.function.as_deref(), false)?;
    let runtime = backend::coreml(args.backend.compute_units, context)?;
    let named = package.program().functions.len() > 1;
    let model = runtime.load_functions(package.path(), vec![function.clone()], named)?;
    let mut inputs = Vec::new();
    for (name, tensor) in read(&args.inputs)? {
        let array = array(&tensor)
            .ok_or_else(|| Failure::input(format!("input `{name}` is no array of numbers")))?;
        inputs.push((name, array));
    }
    let mut state = model.state()?;
    if let Some(path) = args.state.as_deref().filter(|path| path.exists()) {
        for (name, tensor) in read(path)? {
            let array = array(&tensor)
                .ok_or_else(|| Failure::input(format!("state `{name}` is no array of numbers")))?;
            state.write(&name, &array)?;
        }
    }
    let given: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let start = context.clock.elapsed();
    let outputs = model.run(&function, &given, &mut state)?;
    let run = context.clock.elapsed().saturating_sub(start);
    let mut states = Vec::new();
    if args.state.is_some() {
        for name in state.names() {
            let kept = state.read(&name)?;
            states.push((name, value(Feature::Array(kept))));
        }
    }
    let outputs = outputs.into_iter().map(|(name, feature)| (name, value(feature))).collect();
    let Timings { compile, load } = model.timings();
    Ok(Ran { function, outputs, states, compile, load, run })
}

/// Precision report of one call.
fn report(args: &PredictArgs, context: &Context) -> Outcome {
    let [path] = args.packages.as_slice() else {
        return Err(Failure::input("a precision report is made of one package at a time"));
    };
    let package = Package::open(path)?;
    let options = Options { precision: Precision::Declared };
    let model = Model::load(package.program(), &package.blobs(), options)?
        .with_rules(&package.model().rules()?);
    let function = model.function(&function(&package, args.function.as_deref(), false)?)?;
    let inputs = read(&args.inputs)?;
    let mut state = model.state();
    if let Some(path) = args.state.as_deref().filter(|path| path.exists()) {
        for (name, tensor) in read(path)? {
            state.set(&name, tensor)?;
        }
    }
    let named: Vec<(&str, Tensor)> =
        inputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    let found = precision::of_call(&package, function, &state, &named)?;
    precision::answer(&[(path.display().to_string(), vec![found])], args.worst, context)
}

/// The function asked for, or the default; of a chain, not every part needs to have the one asked for.
fn function(package: &Package, asked: Option<&str>, in_chain: bool) -> Result<String, Failure> {
    match asked {
        Some(name) if !in_chain || package.program().functions.contains_key(name) => {
            Ok(name.to_owned())
        }
        _ => default_function(package),
    }
}

fn default_function(package: &Package) -> Result<String, Failure> {
    let named = &package.model().description.default_function_name;
    let functions = &package.program().functions;
    if functions.contains_key(named) {
        return Ok(named.clone());
    }
    let mut names = functions.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(Failure::input("package has several functions and no default")
            .hint("pass `--function NAME`")),
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, Failure> {
    let bytes = fs_err::read(path)?;
    let wrong = |what: String| Failure::input(format!("`{}`: {what}", path.display()));
    let file =
        SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("no safetensors file: {e}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let tensor = tensor(&view).ok_or_else(|| {
            wrong(format!("tensor `{name}` has type {:?}, which no function takes", view.dtype()))
        })?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn tensor(view: &TensorView<'_>) -> Option<Tensor> {
    fn elements<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    let (shape, bytes) = (view.shape(), view.data());
    let ints = |dtype, values| Tensor::i32(shape, values).tagged(dtype);
    Some(match view.dtype() {
        Dtype::F32 => Tensor::f32(shape, elements(bytes, f32::from_le_bytes)),
        Dtype::F16 => Tensor::f16(shape, elements(bytes, f16::from_le_bytes)),
        Dtype::F64 => Tensor::f32(shape, elements(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::I32 => Tensor::i32(shape, elements(bytes, i32::from_le_bytes)),
        Dtype::I64 => {
            let wide = elements(bytes, i64::from_le_bytes);
            Tensor::i32(
                shape,
                wide.into_iter().map(|n| i32::try_from(n).ok()).collect::<Option<_>>()?,
            )
        }
        Dtype::U8 => ints(DType::U8, bytes.iter().map(|&b| i32::from(b)).collect()),
        Dtype::I8 => ints(DType::I8, elements(bytes, |b| i32::from(i8::from_le_bytes(b)))),
        Dtype::U16 => ints(DType::U16, elements(bytes, |b| i32::from(u16::from_le_bytes(b)))),
        Dtype::I16 => ints(DType::I16, elements(bytes, |b| i32::from(i16::from_le_bytes(b)))),
        Dtype::BF16 => Tensor::f32(shape, elements(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        Dtype::BOOL => Tensor::bool(shape, bytes.iter().map(|&b| b != 0).collect()),
        _ => return None,
    })
}

fn write<'a>(
    path: &Path,
    values: impl Iterator<Item = (&'a str, &'a Value)>,
) -> Result<(), Failure> {
    let wrong = |name: &str, what: &str| Failure::input(format!("output `{name}` {what}"));
    let mut stored = Vec::new();
    for (name, value) in values {
        let tensor = match value {
            Value::Tensor(tensor) => tensor,
            Value::Dictionary(dictionary) => {
                let bytes = dictionary.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                stored.push((name, Dtype::F64, vec![dictionary.values.len()], bytes));
                continue;
            }
            // A class has no place among tensors; it is printed.
            Value::Label(_) => continue,
            Value::List(_) => return Err(wrong(name, "is a list")),
        };
        let dtype = match tensor.dtype() {
            DType::F16 => Dtype::F16,
            DType::F32 => Dtype::F32,
            DType::I32 => Dtype::I32,
            DType::U32 => Dtype::U32,
            DType::I16 => Dtype::I16,
            DType::U16 => Dtype::U16,
            DType::I8 => Dtype::I8,
            DType::U8 => Dtype::U8,
            DType::Bool => Dtype::BOOL,
            _ => return Err(wrong(name, "has a type that safetensors files do not hold")),
        };
        let bytes = tensor.to_bytes().ok_or_else(|| wrong(name, "has no bytes"))?;
        stored.push((name, dtype, tensor.shape().to_vec(), bytes));
    }
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &stored {
        let view = TensorView::new(*dtype, shape.clone(), bytes)
            .map_err(|e| wrong(name, &format!("cannot be stored: {e}")))?;
        views.push((*name, view));
    }
    let bytes = safetensors::serialize(views, None)
        .map_err(|e| Failure::input(format!("outputs cannot be stored: {e}")))?;
    Ok(write_atomic(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type in the file, bytes, type and value in the function.
    type Case<'a> = (Dtype, &'a [u8], Option<(DType, f32)>);

    #[test]
    fn tensors_of_every_type_that_a_function_takes() {
        let wide = [1_u8, 0, 0, 0, 0, 0, 0, 0];
        let cases: &[Case<'_>] = &[
            (Dtype::F32, &1.5_f32.to_le_bytes(), Some((DType::F32, 1.5))),
            (Dtype::F64, &1.5_f64.to_le_bytes(), Some((DType::F32, 1.5))),
            (Dtype::F16, &[0x00, 0x3e], Some((DType::F16, 1.5))),
            (Dtype::BF16, &[0xc0, 0x3f], Some((DType::F32, 1.5))),
            (Dtype::U8, &[200], Some((DType::U8, 200.0))),
            (Dtype::I8, &[200], Some((DType::I8, -56.0))),
            (Dtype::U16, &[0xff, 0xff], Some((DType::U16, 65535.0))),
            (Dtype::I16, &[0xff, 0xff], Some((DType::I16, -1.0))),
            (Dtype::I32, &(-7_i32).to_le_bytes(), Some((DType::I32, -7.0))),
            (Dtype::I64, &wide, Some((DType::I32, 1.0))),
            (Dtype::I64, &i64::MAX.to_le_bytes(), None),
            (Dtype::BOOL, &[1], Some((DType::Bool, 1.0))),
            (Dtype::U64, &wide, None),
        ];
        for (dtype, bytes, want) in cases {
            let view = TensorView::new(*dtype, vec![1], bytes).unwrap();
            let got = tensor(&view).map(|t| (t.dtype(), t.to_f32().unwrap()[0]));
            assert_eq!(got, *want, "{dtype:?}");
        }
    }
}
