//! `Chain`: a model in several packages, run one after the other; what one gives, the next ones take by name.

use std::collections::BTreeMap;

use super::error::{LoadError, RunError};
use super::function::{Function, Outputs};
use super::model::Model;
use super::port::Port;
use super::state::State;
use super::tensor::Tensor;

/// Planned programs in the order they run in. States of one name are one state.
#[derive(Debug)]
pub struct Chain {
    parts: Vec<Model>,
}

impl Chain {
    /// Joins programs; a state that several declare has to have one type.
    pub fn new(parts: Vec<Model>) -> Result<Self, LoadError> {
        let mut states: BTreeMap<&str, &Port> = BTreeMap::new();
        for port in parts.iter().flat_map(|p| p.functions().values()).flat_map(Function::states) {
            let first = states.entry(&port.name).or_insert(port);
            if *first != port {
                let (first, second) = (first.to_string(), port.to_string());
                return Err(LoadError::States { name: port.name.clone(), first, second });
            }
        }
        Ok(Self { parts })
    }

    /// The programs.
    pub fn parts(&self) -> &[Model] {
        &self.parts
    }

    /// The states of all programs, zero.
    pub fn state(&self) -> State {
        let mut state = State::default();
        for part in &self.parts {
            state.adopt(part.state());
        }
        state
    }

    /// Runs one function of each part. An input of a part is the latest output of that name of the parts before it, or
    /// the given input of that name; the results are the outputs that no later part takes, and the values in `taps`.
    pub fn run(
        &self,
        functions: &[&str],
        inputs: &[(&str, Tensor)],
        state: &mut State,
        taps: &[&str],
    ) -> Result<Outputs, RunError> {
        let functions = self
            .parts
            .iter()
            .zip(functions)
            .map(|(part, name)| part.function(name))
            .collect::<Result<Vec<_>, _>>()?;
        check(&functions, inputs, taps)?;
        let (mut results, mut tapped) = (Outputs::default(), Outputs::default());
        for function in &functions {
            let mut given = Vec::new();
            for port in function.inputs() {
                let name = port.name.as_str();
                let first = || inputs.iter().find(|(input, _)| *input == name).map(|(_, t)| t);
                if let Some(tensor) = results.get(name).or_else(first) {
                    given.push((name, tensor.clone()));
                }
            }
            let here: Vec<&str> =
                taps.iter().copied().filter(|tap| function.computes(tap)).collect();
            let mut outputs = function.run(&given, state, &here)?;
            let mut only_taps = outputs.clone();
            only_taps.retain(|name| here.contains(&name));
            tapped.extend(only_taps);
            outputs.retain(|name| gives(function, name));
            results.extend(outputs);
        }
        results.retain(|name| is_result(&functions, name));
        results.extend(tapped);
        Ok(results)
    }
}

/// Refuses inputs that no part takes and values that no part computes.
fn check(
    functions: &[&Function],
    inputs: &[(&str, Tensor)],
    taps: &[&str],
) -> Result<(), RunError> {
    let ports = || functions.iter().flat_map(|f| f.inputs());
    for (name, _) in inputs {
        if !ports().any(|port| port.name == *name) {
            let present = ports().map(|port| port.name.clone()).collect();
            return Err(RunError::NotAnInput { name: (*name).to_owned(), present });
        }
    }
    for tap in taps {
        if !functions.iter().any(|f| f.computes(tap)) {
            let names: Vec<_> = functions.iter().map(|f| f.name()).collect();
            return Err(RunError::NoTap { name: (*tap).to_owned(), function: names.join("`, `") });
        }
    }
    Ok(())
}

fn gives(function: &Function, name: &str) -> bool {
    function.outputs().iter().any(|output| output.name == name)
}

/// True if no part takes the value after the last one that gives it.
fn is_result(functions: &[&Function], name: &str) -> bool {
    let takes = |f: &&Function| f.inputs().iter().any(|input| input.name == name);
    let after = functions.iter().rposition(|f| gives(f, name)).map_or(0, |last| last + 1);
    !functions[after..].iter().any(takes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::interp::testing::NoBlobs;
    use crate::interp::{Options, Precision};
    use crate::mil::{Blobs, DType, text};

    fn part(program: &str) -> Model {
        let program = text::read(program).unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(NoBlobs);
        Model::load(&program, &blobs, Options { precision: Precision::Declared }).unwrap()
    }

    /// Adds `x` to a state and gives the sum as `h`, and its negative as `n`.
    fn first() -> Model {
        part(
            "program(1.3) { func main<ios18>(state<tensor<fp16, [2]>> s, tensor<fp16, [2]> x) {
                tensor<fp16, [2]> old = read_state(input = s);
                tensor<fp16, [2]> h = add(x = old, y = x);
                write_state(input = s, data = h);
                tensor<fp16, [2]> n = mul(x = h, y = fp16(-0x1p+0));
            } -> (h, n); }",
        )
    }

    /// Doubles `h` and multiplies by `x` and the state, which the first part has written.
    fn second() -> Model {
        part(
            "program(1.3) { func main<ios18>(tensor<fp16, [2]> h, tensor<fp16, [2]> x, state<tensor<fp16, [2]>> s) {
                tensor<fp16, [2]> twice = add(x = h, y = h);
                tensor<fp16, [2]> kept = read_state(input = s);
                tensor<fp16, [2]> product = mul(x = twice, y = kept);
                tensor<fp16, [2]> y = mul(x = product, y = x);
            } -> (y); }",
        )
    }

    #[test]
    fn scalars_leave_and_enter_as_one_element() {
        let scalars =
            "program(1.3) { func main<ios18>(state<tensor<fp16, []>> s, tensor<fp16, []> x) {
                tensor<fp16, []> old = read_state(input = s);
                tensor<fp16, []> y = add(x = old, y = x);
                write_state(input = s, data = y);
            } -> (y); }";
        let chain = Chain::new(vec![part(scalars), part(scalars)]).unwrap();
        let mut state = chain.state();
        state.set("s", Tensor::f32(&[1], vec![4.0]).tagged(DType::F16)).unwrap();
        for shape in [&[1][..], &[]] {
            let x = Tensor::f32(shape, vec![1.0]);
            let outputs = chain.run(&["main", "main"], &[("x", x)], &mut state, &["old"]).unwrap();
            assert_eq!(outputs.get("y").unwrap().shape(), [1]);
            // What is tapped stays as the program has it.
            assert_eq!(outputs.get("old").unwrap().rank(), 0);
        }
        assert_eq!(state.get("s").unwrap().to_f32().unwrap(), [8.0]);
        assert_eq!(state.get("s").unwrap().rank(), 0);
    }

    #[test]
    fn outputs_feed_inputs_and_states_are_shared() {
        let chain = Chain::new(vec![first(), second()]).unwrap();
        let mut state = chain.state();
        let x = Tensor::f32(&[2], vec![1.0, 3.0]);
        let mut run = |taps: &[&str]| {
            let outputs = chain.run(&["main", "main"], &[("x", x.clone())], &mut state, taps);
            let shown = |(name, t): (&str, &Tensor)| (name.to_owned(), t.to_f32().unwrap());
            outputs.unwrap().iter().map(shown).collect::<Vec<_>>()
        };
        let named = |name: &str, values: [f32; 2]| (name.to_owned(), values.to_vec());
        // y = 2h · h · x, h the sum of all x so far; `h` is taken by the second part, `n` by none.
        assert_eq!(run(&[]), [named("n", [-1.0, -3.0]), named("y", [2.0, 54.0])]);
        let second = [
            named("h", [2.0, 6.0]),
            named("n", [-2.0, -6.0]),
            named("twice", [4.0, 12.0]),
            named("y", [8.0, 216.0]),
        ];
        assert_eq!(run(&["h", "twice"]), second);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let chain = Chain::new(vec![first(), second()]).unwrap();
        let x = || Tensor::f32(&[2], vec![1.0, 3.0]);
        let mut state = chain.state();
        let mut fails = |inputs: &[(&str, Tensor)], taps: &[&str]| {
            chain.run(&["main", "main"], inputs, &mut state, taps).unwrap_err().to_string()
        };
        let unknown = fails(&[("x", x()), ("z", x())], &[]);
        assert!(unknown.contains("`z`"), "{unknown}");
        let tap = fails(&[("x", x())], &["nothing"]);
        assert!(tap.contains("`nothing`"), "{tap}");
        let missing = fails(&[], &[]);
        assert!(missing.contains("`x`"), "{missing}");

        let other = part(
            "program(1.3) { func main<ios18>(state<tensor<fp16, [3]>> s) {
                tensor<fp16, [3]> y = read_state(input = s);
            } -> (y); }",
        );
        let error = Chain::new(vec![first(), other]).unwrap_err().to_string();
        let want = "state `s` has type fp16[2] in one function and fp16[3] in another";
        assert_eq!(error, want);
    }
}
