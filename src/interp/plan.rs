//! From a program to steps: names to slots, constants folded, last uses found, everything missing listed at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::error::{LoadError, OpError, Unsupported};
use super::model::{Function, Options, Port, Room};
use super::ops::{self, Opset};
use super::pool::Pool;
use super::run::{In, Kernel, Out, Run, Step};
use super::site::{Binding, Scope, Site};
use super::state::State;
use crate::mil::{self, Blobs, Dim, Program, edit};

/// Plans all functions.
pub(super) fn program(
    program: &Program,
    blobs: &dyn Blobs,
    options: Options,
) -> Result<BTreeMap<String, Function>, LoadError> {
    let mut missing = Missing::default();
    edit::for_each_op(program, &mut |function, op| {
        let opset = program.functions.get(function).map_or("", |f| f.opset.as_str());
        let known = op.kind == "const"
            || Opset::from_name(opset).is_some_and(|o| ops::lookup(&op.kind, o).is_some());
        if !known {
            missing.add(function, op, opset, None);
        }
    });
    let mut functions = BTreeMap::new();
    for (name, function) in &program.functions {
        let planned =
            Planner { name, function, blobs, options, missing: &mut missing }.function()?;
        functions.insert(name.clone(), planned);
    }
    if missing.0.is_empty() { Ok(functions) } else { Err(LoadError::Unsupported(missing.0)) }
}

/// What this runtime does not have, in the order in which it occurs.
#[derive(Default)]
struct Missing(Vec<Unsupported>);

impl Missing {
    fn add(&mut self, function: &str, op: &mil::Op, opset: &str, form: Option<String>) {
        let same = |u: &&mut Unsupported| u.kind == op.kind && u.opset == opset && u.form == form;
        match self.0.iter_mut().find(same) {
            Some(known) => known.count += 1,
            None => self.0.push(Unsupported {
                kind: op.kind.clone(),
                opset: opset.to_owned(),
                form,
                count: 1,
                first: format!("{function}/{}", op.name()),
            }),
        }
    }
}

struct Planner<'a> {
    name: &'a str,
    function: &'a mil::Function,
    blobs: &'a dyn Blobs,
    options: Options,
    missing: &'a mut Missing,
}

impl<'a> Planner<'a> {
    fn function(mut self) -> Result<Function, LoadError> {
        let mut scope: Scope<'a> = BTreeMap::new();
        let (mut inputs, mut input_slots, mut states) = (Vec::new(), Vec::new(), Vec::new());
        let mut n_slots = 0;
        for input in &self.function.inputs {
            let port = self.port(input)?;
            if input.ty.is_state() {
                scope.insert(input.name.clone(), Binding::State(input.name.clone()));
                states.push(port);
            } else {
                scope.insert(input.name.clone(), Binding::Slot(n_slots));
                input_slots.push(n_slots);
                inputs.push(port);
                n_slots += 1;
            }
        }
        let mut steps = Vec::new();
        let mut reads = Vec::new();
        let ops = &self.function.block.ops;
        for (i, op) in ops.iter().enumerate() {
            if let Some(value) = op.const_value() {
                scope.insert(op.name().to_owned(), Binding::Const(value));
                continue;
            }
            let Some((kernel, read)) = self.kernel(op, &ops[i + 1..], &scope)? else {
                // Reported with everything else that is missing; what follows only needs the names.
                for out in &op.outputs {
                    scope.insert(out.name.clone(), Binding::Slot(n_slots));
                    n_slots += 1;
                }
                continue;
            };
            if let Kernel::Stored(constants) = kernel {
                for (out, stored) in op.outputs.iter().zip(constants) {
                    scope.insert(out.name.clone(), Binding::Stored(stored));
                }
                continue;
            }
            let outs = self.outs(op, n_slots)?;
            let step = Step { kind: op.kind.clone(), kernel, outs, frees: vec![], takes: vec![] };
            if read.is_empty() && ops::is_pure(&op.kind) {
                for (out, tensor) in step.outs.iter().zip(self.fold(op, &step, n_slots)?) {
                    scope.insert(out.name.clone(), Binding::Tensor(tensor));
                }
                continue;
            }
            for out in &step.outs {
                scope.insert(out.name.clone(), Binding::Slot(out.slot));
            }
            n_slots += step.outs.len();
            steps.push(step);
            reads.push(read);
        }
        let (outputs, output_args) = self.outputs(&scope)?;
        last_uses(&mut steps, &reads, &input_slots, &output_args);
        Ok(Function {
            name: self.name.to_owned(),
            inputs,
            outputs,
            states,
            input_slots,
            output_args,
            steps,
            n_slots,
            precision: self.options.precision,
            room: Mutex::new(Room::default()),
        })
    }

    /// The kernel of an operation and the slots it reads; nothing when this runtime does not have it.
    fn kernel(
        &mut self,
        op: &'a mil::Op,
        later: &'a [mil::Op],
        scope: &Scope<'a>,
    ) -> Result<Option<(Kernel, Vec<usize>)>, LoadError> {
        let opset = Opset::from_name(&self.function.opset);
        let Some(entry) = opset.and_then(|o| ops::lookup(&op.kind, o)) else { return Ok(None) };
        let site = Site {
            op,
            scope,
            blobs: self.blobs,
            precision: self.options.precision,
            later,
            reads: RefCell::default(),
        };
        match (entry.build)(&site) {
            Ok(kernel) => Ok(Some((kernel, site.reads.into_inner()))),
            Err(OpError::Unsupported(form)) => {
                self.missing.add(self.name, op, &self.function.opset, Some(form));
                Ok(None)
            }
            Err(source) => Err(self.failed(op, source)),
        }
    }

    fn failed(&self, op: &mil::Op, source: OpError) -> LoadError {
        LoadError::Op {
            function: self.name.to_owned(),
            op: op.name().to_owned(),
            kind: op.kind.clone(),
            source,
        }
    }

    /// Computes an operation over constants.
    fn fold(
        &self,
        op: &mil::Op,
        step: &Step,
        first: usize,
    ) -> Result<Vec<super::Tensor>, LoadError> {
        let mut slots = vec![None; first + step.outs.len()];
        let mut run = Run {
            slots: &mut slots,
            takes: &[],
            state: &mut State::default(),
            pool: &RefCell::new(Pool::default()),
        };
        step.run(&mut run, self.options.precision).map_err(|e| self.failed(op, e))?;
        Ok(slots.into_iter().skip(first).flatten().collect())
    }

    fn outs(&self, op: &mil::Op, first: usize) -> Result<Vec<Out>, LoadError> {
        op.outputs
            .iter()
            .enumerate()
            .map(|(i, named)| {
                let port = self.port(named)?;
                let variadic = named.ty.as_tensor().is_some_and(|t| {
                    t.shape.iter().any(|d| matches!(d, Dim::Unknown { variadic: true }))
                });
                let shape = (!variadic).then_some(port.shape);
                Ok(Out { name: port.name, slot: first + i, dtype: port.dtype, shape })
            })
            .collect()
    }

    fn outputs(&self, scope: &Scope<'a>) -> Result<(Vec<Port>, Vec<In>), LoadError> {
        let mut ports = Vec::new();
        let mut args = Vec::new();
        for name in &self.function.block.outputs {
            let ops = self.function.block.ops.iter().flat_map(|op| &op.outputs);
            let defined = ops.chain(&self.function.inputs).find(|n| &n.name == name);
            let undefined =
                || LoadError::Undefined { function: self.name.to_owned(), name: name.clone() };
            ports.push(self.port(defined.ok_or_else(undefined)?)?);
            let site_error = |source| LoadError::Op {
                function: self.name.to_owned(),
                op: name.clone(),
                kind: "const".to_owned(),
                source,
            };
            args.push(match scope.get(name).ok_or_else(undefined)? {
                Binding::Slot(slot) => In::Slot(*slot),
                Binding::Tensor(tensor) => In::Const(tensor.clone()),
                Binding::Stored(stored) => In::Const(super::stored::expand(&**stored)),
                Binding::Const(value) => {
                    In::Const(super::constant::tensor(value, self.blobs).map_err(site_error)?)
                }
                Binding::State(_) => {
                    return Err(site_error(OpError::invalid("a state cannot be an output")));
                }
            });
        }
        Ok((ports, args))
    }

    fn port(&self, named: &mil::NamedType) -> Result<Port, LoadError> {
        let tensor = named.ty.as_tensor().ok_or_else(|| LoadError::Type {
            function: self.name.to_owned(),
            name: named.name.clone(),
            ty: named.ty.to_string(),
        })?;
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(n) => usize::try_from(*n).ok(),
            Dim::Unknown { .. } => None,
        };
        Ok(Port {
            name: named.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.iter().map(extent).collect(),
        })
    }
}

/// Tells each step which values nobody reads after it.
fn last_uses(steps: &mut [Step], reads: &[Vec<usize>], inputs: &[usize], outputs: &[In]) {
    let mut needed: std::collections::BTreeSet<usize> = outputs
        .iter()
        .filter_map(|o| if let In::Slot(slot) = o { Some(*slot) } else { None })
        .collect();
    // Inputs are cloned from the caller's tensors and may be freed as any other value.
    debug_assert!(inputs.windows(2).all(|w| w[0] < w[1]), "slots are given in order");
    for (step, reads) in steps.iter_mut().zip(reads).rev() {
        for &slot in reads {
            if needed.insert(slot) {
                step.frees.push(slot);
                if reads.iter().filter(|&&r| r == slot).count() == 1 {
                    step.takes.push(slot);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{NoBlobs, value};
    use super::super::{Model, Precision, Tensor};
    use super::*;
    use crate::mil::{Arg, Block, DType, NamedType, Op, Type, Value};

    fn named(name: &str, dtype: DType, shape: &[u64]) -> NamedType {
        NamedType { name: name.to_owned(), ty: Type::tensor(dtype, shape) }
    }

    fn op(kind: &str, args: &[(&str, Arg)], out: Option<NamedType>) -> Op {
        Op {
            kind: kind.to_owned(),
            inputs: args.iter().map(|(p, a)| ((*p).to_owned(), vec![a.clone()])).collect(),
            outputs: out.into_iter().collect(),
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    fn name(name: &str) -> Arg {
        Arg::Name(name.to_owned())
    }

    fn program_of(inputs: Vec<NamedType>, ops: Vec<Op>, outputs: &[&str]) -> Program {
        let outputs = outputs.iter().map(|&o| o.to_owned()).collect();
        let function = mil::Function {
            inputs,
            opset: "CoreML8".to_owned(),
            block: Block { outputs, ops, ..Block::default() },
            attributes: BTreeMap::new(),
        };
        let functions = BTreeMap::from([("main".to_owned(), function)]);
        Program { version: 1, functions, attributes: BTreeMap::new() }
    }

    fn load(program: &Program) -> Result<Model, LoadError> {
        let blobs: Arc<dyn Blobs> = Arc::new(NoBlobs);
        Model::load(program, &blobs, Options { precision: Precision::Declared })
    }

    /// `cache[at:at+1] = x`, twice, as a decoder with two layers does it.
    fn cache() -> Program {
        let state = NamedType {
            name: "cache".to_owned(),
            ty: Type::State(Box::new(Type::tensor(DType::F16, &[2, 3]))),
        };
        let at = |i| Arg::Value(value(&Tensor::i32(&[2], i)));
        let layer = |i: i32, read: &str, new: &str| {
            vec![
                op(
                    "read_state",
                    &[("input", name("cache"))],
                    Some(named(read, DType::F16, &[2, 3])),
                ),
                op(
                    "slice_update",
                    &[
                        ("x", name(read)),
                        ("update", name("x")),
                        ("begin", at(vec![i, 0])),
                        ("end", at(vec![i + 1, 3])),
                    ],
                    Some(named(new, DType::F16, &[2, 3])),
                ),
                op("write_state", &[("input", name("cache")), ("data", name(new))], None),
            ]
        };
        let mut ops = layer(0, "old_0", "new_0");
        ops.extend(layer(1, "old_1", "new_1"));
        ops.push(op(
            "read_state",
            &[("input", name("cache"))],
            Some(named("seen", DType::F16, &[2, 3])),
        ));
        let ones = Arg::Value(value(&Tensor::f32(&[], vec![1.0])));
        ops.push(op(
            "add",
            &[("x", name("seen")), ("y", ones)],
            Some(named("y", DType::F16, &[2, 3])),
        ));
        program_of(vec![named("x", DType::F16, &[1, 3]), state], ops, &["y"])
    }

    #[test]
    fn states_change_in_place_and_stay() {
        let model = load(&cache()).unwrap();
        let function = model.function("main").unwrap();
        let mut state = model.state();
        assert_eq!((state.names().collect::<Vec<_>>(), state.bytes()), (vec!["cache"], 12));
        let address = |state: &State| match state.get("cache").unwrap().carrier() {
            super::super::tensor::Slice::F16(v) => v.as_ptr().addr(),
            _ => panic!("an fp16 state takes two bytes an element"),
        };
        let place = address(&state);
        let x = |v: f32| [("x", Tensor::f32(&[1, 3], vec![v, 0.1, 2.0]))];
        let y = function.run(&x(5.0), &mut state, &[]).unwrap();
        assert_eq!(y.get("y").unwrap().to_f32().unwrap()[..2], [6.0, 1.099_609_4]);
        function.run(&x(7.0), &mut state, &[]).unwrap();
        assert_eq!(address(&state), place, "nothing was copied");
        let rounded = half::f16::from_f32(0.1).to_f32();
        let want = [7.0, rounded, 2.0, 7.0, rounded, 2.0];
        assert_eq!(state.get("cache").unwrap().to_f32().unwrap(), want);
        // Somebody else's copy does not change with it.
        let kept = state.clone();
        function.run(&x(9.0), &mut state, &[]).unwrap();
        assert_eq!(kept.get("cache").unwrap().to_f32().unwrap(), want);
    }

    #[test]
    fn taps_see_values_that_are_later_changed_in_place() {
        let one = || Arg::Value(value(&Tensor::f32(&[1], vec![1.0])));
        let add = |x: &str, y: &str| {
            op("add", &[("x", name(x)), ("y", one())], Some(named(y, DType::F32, &[1])))
        };
        let program = program_of(
            vec![named("x", DType::F32, &[1])],
            vec![add("x", "a"), add("a", "b"), add("b", "c")],
            &["c"],
        );
        let model = load(&program).unwrap();
        let function = model.function("main").unwrap();
        let given = [("x", Tensor::f32(&[1], vec![1.0]))];
        let got = function.run(&given, &mut model.state(), &["a", "x"]).unwrap();
        let values: Vec<_> = got.iter().map(|(n, t)| (n, t.to_f32().unwrap()[0])).collect();
        assert_eq!(values, [("a", 2.0), ("c", 4.0), ("x", 1.0)]);
        let failed = function.run(&given, &mut model.state(), &["z"]).unwrap_err();
        assert_eq!(failed.to_string(), "no value `z` to tap in function `main`");
    }

    #[test]
    fn operations_over_constants_are_folded() {
        let two = || Arg::Value(value(&Tensor::f32(&[1], vec![2.0])));
        let ops = vec![
            op("mul", &[("x", two()), ("y", two())], Some(named("four", DType::F32, &[1]))),
            op("add", &[("x", name("x")), ("y", name("four"))], Some(named("y", DType::F32, &[1]))),
        ];
        let model =
            load(&program_of(vec![named("x", DType::F32, &[1])], ops, &["y", "four"])).unwrap();
        let function = model.function("main").unwrap();
        assert_eq!(function.n_steps(), 1);
        let given = [("x", Tensor::f32(&[1], vec![1.0]))];
        let got = function.run(&given, &mut model.state(), &[]).unwrap();
        assert_eq!(got.get("y").unwrap().to_f32().unwrap(), [5.0]);
        assert_eq!(got.get("four").unwrap().to_f32().unwrap(), [4.0]);
    }

    #[test]
    fn everything_missing_is_listed_at_once() {
        let x = || [("x", name("x"))];
        let out = |name: &str| Some(named(name, DType::F32, &[1]));
        let gelu = [("x", name("x")), ("mode", Arg::Value(Value::string("GUESS")))];
        let ops = vec![
            op("make_coffee", &x(), out("a")),
            op("relu", &x(), out("b")),
            op("gelu", &gelu, out("c")),
            op("make_coffee", &x(), out("d")),
        ];
        let failed =
            load(&program_of(vec![named("x", DType::F32, &[1])], ops, &["d"])).unwrap_err();
        assert_eq!(
            failed.to_string(),
            "2 kinds of operations are not supported: `make_coffee` of CoreML8, 2 times, first at `main/a`; \
             `gelu` (mode `GUESS`) of CoreML8, 1 times, first at `main/c`"
        );
    }

    #[test]
    fn inputs_are_checked_and_cast() {
        let ops = vec![op("identity", &[("x", name("x"))], Some(named("y", DType::I32, &[2])))];
        let model = load(&program_of(vec![named("x", DType::I32, &[2])], ops, &["y"])).unwrap();
        let function = model.function("main").unwrap();
        let run = |given: &[(&str, Tensor)]| {
            function.run(given, &mut model.state(), &[]).map_err(|e| e.to_string())
        };
        let cases = [
            (vec![("x", Tensor::f32(&[2], vec![1.0, 2.0]))], ""),
            (vec![], "input `x` of type int32[2] is not given"),
            (vec![("z", Tensor::f32(&[1], vec![1.0]))], "`z` is no input, only x"),
            (
                vec![("x", Tensor::i32(&[1, 2], vec![1, 2]))],
                "input `x` should be int32[2], not int32[1, 2]",
            ),
            (
                vec![("x", Tensor::f32(&[2], vec![1.5, 2.0]))],
                "input `x` should be int32[2], not fp32[2]",
            ),
        ];
        for (given, want) in cases {
            match run(&given) {
                Ok(got) => assert_eq!(got.get("y").unwrap().as_i32().unwrap(), [1, 2]),
                Err(error) => assert_eq!(error, want),
            }
        }
        let missing = model.function("decode").unwrap_err().to_string();
        assert_eq!(missing, "no function `decode`, only main");
    }

    #[test]
    fn a_result_must_be_what_is_declared() {
        let cases = [
            (
                named("y", DType::F32, &[3]),
                "operation `y` (`relu`) failed: the result has shape [2], declared is [3]",
            ),
            (
                named("y", DType::I32, &[2]),
                "operation `y` (`relu`) failed: the result is fp32[2], declared is int32",
            ),
        ];
        for (out, want) in cases {
            let ops = vec![op("relu", &[("x", name("x"))], Some(out))];
            let model = load(&program_of(vec![named("x", DType::F32, &[2])], ops, &["y"])).unwrap();
            let given = [("x", Tensor::f32(&[2], vec![1.0, 2.0]))];
            let failed =
                model.function("main").unwrap().run(&given, &mut model.state(), &[]).unwrap_err();
            assert_eq!(failed.to_string(), want);
        }
    }
}
