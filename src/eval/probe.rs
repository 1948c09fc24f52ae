//! `Trace`: what the functions of an artifact give, call by call, for inputs made from a seed.
//!
//! An artifact with the functions that this crate writes is fed as it is in use: tokens at their positions. Any other
//! package gets elements by chance in the shapes and types that it declares: floats in [-1, 1), whole numbers below the
//! extent that they index in a `gather`, or 0 and 1 where they index nothing that can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::cancel;
use crate::base::clock::Clock;
use crate::base::split_mix64::SplitMix64;
use crate::eval::error::EvalError;
use crate::lm::Artifact;
use crate::lm::Decoder;
use crate::lm::Engine;
use crate::lm::LmError;
use crate::lm::Prepared;
use crate::lm::Role;
use crate::lm::embed;
use crate::mil::{Allowed, Arg, Dim, Function, Op, Rule, TensorType};
use crate::package::Package;
use crate::runtime::{Loaded, Runtime, RuntimeError, Source, Value, Values};

/// Number and inputs of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Seed of the inputs.
    pub seed: u64,
    /// Calls of each function.
    pub calls: usize,
}

/// All calls in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The runtime.
    pub runtime: String,
    /// Load time.
    pub load: Duration,
    /// The calls.
    pub steps: Vec<Step>,
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The function.
    pub function: String,
    /// The number of the call, from 0 for each function.
    pub call: usize,
    /// Duration of the call.
    pub time: Duration,
    /// Its output.
    pub outputs: BTreeMap<String, Output>,
}

/// One output of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The extents.
    pub shape: Vec<usize>,
    /// The elements in row-major order.
    pub elements: Vec<f32>,
}

impl Output {
    fn of(value: &Value) -> Self {
        Self { shape: value.shape(), elements: value.to_f32() }
    }
}

/// Feeds an artifact by its roles: a prompt of one chunk and a half, then tokens; sentences of random length.
pub fn of_artifact(
    artifact: &Artifact,
    runtime: &dyn Runtime,
    probe: Probe,
    clock: &dyn Clock,
) -> Result<Trace, EvalError> {
    let engine = Engine::load(artifact, runtime, clock)?;
    let mut chance = SplitMix64::new(probe.seed);
    let mut steps = Vec::new();
    let mut timed = |function: &str, call, output: &str, work: &mut Work<'_>| {
        cancel::check()?;
        let start = clock.elapsed();
        let elements = work()?;
        let time = clock.elapsed().saturating_sub(start);
        let output = (output.to_owned(), Output { shape: vec![1, elements.len()], elements });
        steps.push(Step { function: function.to_owned(), call, time, outputs: [output].into() });
        Ok::<_, EvalError>(())
    };
    if let Some(layout) = engine.layout().decoder {
        let most = layout.capacity.saturating_sub(probe.calls).max(1);
        let length = (layout.chunk + layout.chunk / 2).clamp(1, most);
        let mut token = || below(&mut chance, layout.vocab) as u32;
        let prompt: Vec<u32> = (0..length).map(|_| token()).collect();
        let mut decoder = Decoder::new(&engine)?;
        timed("init", 0, "logits", &mut || decoder.prefill(&prompt))?;
        for call in 0..probe.calls.min(layout.capacity - length) {
            let next = token();
            timed("decode", call, "logits", &mut || decoder.feed(next))?;
        }
    }
    if let (Some(layout), Some((_, function))) =
        (engine.layout().encoder, artifact.function(Role::Encode))
    {
        let vocab = indexed(function, "input_ids").unwrap_or(SMALL);
        for call in 0..probe.calls {
            let length = 1 + below(&mut chance, layout.seq_len);
            let ids = (0..length).map(|_| below(&mut chance, vocab) as u32).collect();
            let sentence = Prepared { ids, pool: vec![1; length], left_out: 0 };
            timed("encode", call, "embedding", &mut || embed(&engine, &sentence))?;
        }
    }
    Ok(Trace { runtime: runtime.name().to_owned(), load: engine.load_time(), steps })
}

/// One call that is timed.
type Work<'f> = dyn FnMut() -> Result<Vec<f32>, LmError> + 'f;

/// Calls every function of any package, all with one state; those without states once more as a batch.
pub fn of_package(
    package: &Package,
    runtime: &dyn Runtime,
    probe: Probe,
    clock: &dyn Clock,
) -> Result<Trace, EvalError> {
    let start = clock.elapsed();
    let rules = package.model().rules().map_err(|e| RuntimeError::input(e.to_string()))?;
    let (program, blobs) = (package.program(), package.blobs());
    let source = Source { program, blobs, rules: rules.clone(), package: Some(package.path()) };
    let loaded = runtime.load(&source)?;
    let load = clock.elapsed().saturating_sub(start);
    let mut state = loaded.state();
    let mut chance = SplitMix64::new(probe.seed);
    let mut steps = Vec::new();
    for (name, function) in &program.functions {
        let none = BTreeMap::new();
        let rules = rules.get(name).unwrap_or(&none);
        let mut given = Vec::new();
        for call in 0..probe.calls {
            cancel::check()?;
            let inputs = inputs(loaded.as_ref(), function, rules, &mut chance)?;
            given.push(inputs.clone());
            let start = clock.elapsed();
            let values = loaded.run(name, inputs, &mut state, &[])?;
            let time = clock.elapsed().saturating_sub(start);
            steps.push(Step { function: name.clone(), call, time, outputs: outputs(&values) });
        }
        if function.inputs.iter().any(|input| input.ty.is_state()) {
            continue;
        }
        // The same inputs once more, at once as far as the runtime can.
        let start = clock.elapsed();
        let values = loaded.batch(name, given)?;
        let time =
            clock.elapsed().saturating_sub(start) / u32::try_from(probe.calls).unwrap_or(1).max(1);
        let function = format!("{name} in a batch");
        let step = |(call, values)| Step {
            function: function.clone(),
            call,
            time,
            outputs: outputs(values),
        };
        steps.extend(values.iter().enumerate().map(step));
    }
    Ok(Trace { runtime: runtime.name().to_owned(), load, steps })
}

fn outputs(values: &Values) -> BTreeMap<String, Output> {
    values.iter().map(|(name, value)| (name.clone(), Output::of(value))).collect()
}

/// Whole numbers that index nothing known are below this.
const SMALL: usize = 2;

/// More elements than this an input is not made with: shapes come from the package.
const MOST: usize = 1 << 28;

fn inputs(
    loaded: &dyn Loaded,
    function: &Function,
    rules: &BTreeMap<String, Rule>,
    chance: &mut SplitMix64,
) -> Result<Values, RuntimeError> {
    let mut values = Values::new();
    for input in function.inputs.iter().filter(|input| !input.ty.is_state()) {
        let wrong = |what: &str| RuntimeError::input(format!("input `{}` {what}", input.name));
        let ty = input.ty.as_tensor().ok_or_else(|| wrong("is no tensor"))?;
        let shape = shape(ty, rules.get(&input.name));
        let n = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST);
        let n = n.ok_or_else(|| wrong("is too large to be made up"))?;
        let value = if ty.dtype.is_float() {
            let unit = |_| (chance.unit() * 2.0 - 1.0) as f32;
            loaded.floats(&shape, (0..n).map(unit).collect())
        } else {
            let most = indexed(function, &input.name).unwrap_or(SMALL);
            loaded.ints(&shape, (0..n).map(|_| below(chance, most) as i32).collect())
        };
        values.insert(input.name.clone(), value);
    }
    Ok(values)
}

/// The declared extents; where one is open, the smallest that is allowed, or that of the default.
fn shape(ty: &TensorType, rule: Option<&Rule>) -> Vec<usize> {
    if let Some(fill) = rule.and_then(|rule| rule.default.as_ref()) {
        return fill.shape.clone();
    }
    let allowed = rule.and_then(|rule| rule.allowed.as_ref());
    if let Some(Allowed::Enumerated(shapes)) = allowed
        && let Some(first) = shapes.first()
    {
        return first.clone();
    }
    let least = |at: usize| match allowed {
        Some(Allowed::Range(dims)) => dims.get(at).map_or(1, |(least, _)| (*least).max(1)),
        _ => 1,
    };
    let dim = |(at, dim): (usize, &Dim)| match dim {
        Dim::Fixed(n) => usize::try_from(*n).unwrap_or(usize::MAX),
        Dim::Unknown { .. } => least(at),
    };
    ty.shape.iter().enumerate().map(dim).collect()
}

/// A number below `n`, or 0 where `n` is.
fn below(chance: &mut SplitMix64, n: usize) -> usize {
    ((chance.unit() * n as f64) as usize).min(n.saturating_sub(1))
}

/// Operations whose result holds the indices that they are given, or those moved by a whole extent.
const CARRIERS: [&str; 7] =
    ["add", "cast", "expand_dims", "identity", "reshape", "select", "squeeze"];

/// The smallest extent that the elements of an input index; nothing where they index none.
fn indexed(function: &Function, input: &str) -> Option<usize> {
    let mut carried = BTreeSet::from([input]);
    let mut types: BTreeMap<&str, &TensorType> = BTreeMap::new();
    let mut constants: BTreeMap<&str, &Op> = BTreeMap::new();
    let mut least: Option<usize> = None;
    for op in &function.block.ops {
        let name = |parameter: &str| op.input_name(parameter);
        let takes = |arg: &Arg| matches!(arg, Arg::Name(name) if carried.contains(name.as_str()));
        if matches!(op.kind.as_str(), "gather" | "gather_along_axis")
            && name("indices").is_some_and(|indices| carried.contains(indices))
            && let Some(x) = name("x").and_then(|x| types.get(x))
        {
            let axis = axis(op, &constants).unwrap_or(0);
            let rank = x.shape.len() as i64;
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok();
            if let Some(Dim::Fixed(n)) = axis.and_then(|axis| x.shape.get(axis)) {
                let n = usize::try_from(*n).unwrap_or(usize::MAX);
                least = Some(least.map_or(n, |least| least.min(n)));
            }
        }
        let carries =
            CARRIERS.contains(&op.kind.as_str()) && op.inputs.values().flatten().any(takes);
        for output in &op.outputs {
            types.extend(output.ty.as_tensor().map(|ty| (output.name.as_str(), ty)));
            constants.insert(output.name.as_str(), op);
            if carries {
                carried.insert(output.name.as_str());
            }
        }
    }
    least
}

fn axis(op: &Op, constants: &BTreeMap<&str, &Op>) -> Option<i64> {
    let value = match op.inputs.get("axis")?.first()? {
        Arg::Value(value) => value,
        Arg::Name(name) => constants.get(name.as_str())?.const_value()?,
    };
    match &value.data {
        crate::mil::Data::Tensor(crate::mil::TensorData::Ints(ints)) => {
            ints.first().map(|&n| n.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::FixedClock;
    use crate::interp::Precision;
    use crate::mil::{Fill, text};
    use crate::runtime::Interp;

    const INTERP: Interp = Interp { precision: Precision::Declared };

    fn function(text: &str) -> Function {
        let program = format!("program(1.3) {{ func main<ios18>({text}; }}");
        text::read(&program).unwrap().functions.remove("main").unwrap()
    }

    #[test]
    fn whole_numbers_stay_below_what_they_index() {
        let table = "tensor<int32, [5]> small = const()[val = tensor<int32, [5]>([1, 2, 3, 4, 5])];
             tensor<fp16, [3, 7]> wide = const()[val = tensor<fp16, [3, 7]>([[0x0p+0, 0x0p+0, 0x0p+0, \
             0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0], [0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0], [0x0p+0, \
             0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0, 0x0p+0]])];";
        let gather = |indices: &str, x: &str, axis: i32| {
            format!(
                "tensor<int32, [2]> y = gather(x = {x}, indices = {indices}, axis = int32({axis}));"
            )
        };
        let cast = "tensor<int16, [2]> c = cast(x = i, dtype = string(\"int16\"));";
        let cases = [
            (gather("i", "small", 0), Some(5)),
            (gather("i", "wide", 1), Some(7)),
            (gather("i", "wide", -2), Some(3)),
            (format!("{cast} {}", gather("c", "wide", 0)), Some(3)),
            (gather("j", "small", 0), None),
        ];
        for (body, want) in cases {
            let function = function(&format!(
                "tensor<int32, [2]> i, tensor<int32, [2]> j) {{ {table} {body} }} -> (y)"
            ));
            assert_eq!(indexed(&function, "i"), want, "{body}");
        }
    }

    #[test]
    fn open_extents_are_closed_by_the_rules() {
        let open = || Dim::Unknown { variadic: false };
        let mut ty = TensorType::fixed(crate::mil::DType::F32, &[1, 4]);
        ty.shape[1] = open();
        let range = Allowed::Range(vec![(1, Some(1)), (3, Some(8))]);
        let listed = Allowed::Enumerated(vec![vec![1, 6], vec![1, 8]]);
        let fill = Fill { shape: vec![1, 5], value: 0.0 };
        for (rule, want) in [
            (None, [1, 1]),
            (Some(Rule { allowed: Some(range), default: None }), [1, 3]),
            (Some(Rule { allowed: Some(listed), default: None }), [1, 6]),
            (Some(Rule { allowed: None, default: Some(fill) }), [1, 5]),
        ] {
            assert_eq!(shape(&ty, rule.as_ref()), want);
        }
    }

    #[test]
    fn one_seed_is_one_trace() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/tiny_multifunction.mlpackage");
        let package = Package::open(&path).unwrap();
        let trace = |seed| {
            let probe = Probe { seed, calls: 2 };
            of_package(&package, &INTERP, probe, &FixedClock(0)).unwrap()
        };
        let first = trace(1);
        let calls: Vec<_> = first.steps.iter().map(|s| (s.function.as_str(), s.call)).collect();
        let [one, two] = ["first in a batch", "second in a batch"];
        let want = [("first", 0), ("first", 1), (one, 0), (one, 1)];
        assert_eq!(calls[..4], want);
        assert_eq!(calls[4..], [("second", 0), ("second", 1), (two, 0), (two, 1)]);
        assert_eq!(first.steps[1].outputs, first.steps[3].outputs, "a batch changes nothing");
        assert_eq!(first, trace(1));
        assert_ne!(first, trace(2));
        assert_ne!(first.steps[0].outputs, first.steps[1].outputs);
    }
}
