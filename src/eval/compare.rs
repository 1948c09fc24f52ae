//! Two runtimes on the same calls, output by output: how far they are apart, and where first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::eval::{probe::Output, probe::Step, probe::Trace};

/// Tolerance of two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// The largest difference of two elements, as a part of the largest element.
    pub relative: f64,
    /// The least cosine of the two outputs.
    pub cosine: f64,
}

/// Difference between the elements of two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Elements compared.
    pub elements: usize,
    /// The largest difference of two finite elements.
    pub max_abs: f64,
    /// The same as a part of the largest finite element of both.
    pub relative: f64,
    /// The cosine over the elements that are finite in both; 1 where both are zero.
    pub cosine: f64,
    /// Elements that are infinite or NaN in one and not, or not in the same way, in the other.
    pub nonfinite: usize,
}

impl Difference {
    /// Compares two outputs of as many elements.
    pub fn of(a: &[f32], b: &[f32]) -> Self {
        let (mut max_abs, mut largest, mut nonfinite) = (0.0_f64, 0.0_f64, 0);
        let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x), f64::from(y));
            if !x.is_finite() || !y.is_finite() {
                nonfinite += usize::from(!same(x, y));
                continue;
            }
            max_abs = max_abs.max((x - y).abs());
            largest = largest.max(x.abs()).max(y.abs());
            dot += x * y;
            aa += x * x;
            bb += y * y;
        }
        let relative = if max_abs == 0.0 { 0.0 } else { max_abs / largest };
        let cosine = match (aa == 0.0, bb == 0.0) {
            (true, true) => 1.0,
            (false, false) => dot / (aa.sqrt() * bb.sqrt()),
            _ => 0.0,
        };
        Self { elements: a.len(), max_abs, relative, cosine, nonfinite }
    }

    /// True if it is within `tolerance`.
    pub fn holds(&self, tolerance: Tolerance) -> bool {
        self.nonfinite == 0
            && self.relative <= tolerance.relative
            && self.cosine >= tolerance.cosine
    }
}

/// True if two values, of which one is not finite, are the same.
fn same(x: f64, y: f64) -> bool {
    (x.is_nan() && y.is_nan()) || x.partial_cmp(&y) == Some(std::cmp::Ordering::Equal)
}

/// Two traces compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The runtimes.
    pub runtimes: [String; 2],
    /// Milliseconds that each took to load.
    pub load_ms: [f64; 2],
    /// Allowed value.
    pub tolerance: Tolerance,
    /// Function by function.
    pub functions: Vec<Compared>,
    /// The first call whose outputs are too far apart.
    pub first: Option<First>,
    /// True if all outputs are near enough.
    pub holds: bool,
}

/// One function compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The function.
    pub function: String,
    /// Calls.
    pub calls: usize,
    /// The median of the milliseconds that a call took in each runtime.
    pub median_ms: [f64; 2],
    /// Output by output.
    pub outputs: Vec<ComparedOutput>,
}

/// One output of a function, at the call where it is farthest apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedOutput {
    /// The output.
    pub output: String,
    /// The call.
    pub call: usize,
    /// The shape in each runtime; nothing where a runtime does not give it.
    pub shapes: [Option<Vec<usize>>; 2],
    /// How far; nothing where the shapes differ.
    pub difference: Option<Difference>,
    /// True if all calls are near enough.
    pub holds: bool,
}

/// First difference between two runtimes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct First {
    /// The function.
    pub function: String,
    /// The call.
    pub call: usize,
    /// The output.
    pub output: String,
    /// The element that is farthest apart, as its index in row-major order.
    pub element: Option<usize>,
    /// Its value in each runtime; NaN and infinities as texts.
    pub values: Option<[String; 2]>,
}

impl Comparison {
    /// Compares two traces of the same calls.
    pub fn of(a: &Trace, b: &Trace, tolerance: Tolerance) -> Self {
        let mut first = None;
        let mut functions: Vec<Compared> = Vec::new();
        let mut times: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
        for (x, y) in a.steps.iter().zip(&b.steps) {
            let at = functions.iter().position(|f| f.function == x.function).unwrap_or_else(|| {
                let function = x.function.clone();
                functions.push(Compared {
                    function,
                    calls: 0,
                    median_ms: [0.0; 2],
                    outputs: Vec::new(),
                });
                functions.len() - 1
            });
            let function = &mut functions[at];
            function.calls += 1;
            let [ours, theirs] = times.entry(&x.function).or_default();
            ours.push(ms(x.time));
            theirs.push(ms(y.time));
            for output in outputs(x, y, tolerance) {
                if !output.holds && first.is_none() {
                    first = Some(parting(x, y, &output));
                }
                merge(&mut function.outputs, output);
            }
        }
        for function in &mut functions {
            let [ours, theirs] = times.remove(function.function.as_str()).unwrap_or_default();
            function.median_ms = [median(ours), median(theirs)];
        }
        let outputs = functions.iter().map(|function| function.outputs.len()).sum::<usize>();
        let holds = outputs > 0
            && a.steps.len() == b.steps.len()
            && functions.iter().flat_map(|f| &f.outputs).all(|output| output.holds);
        Self {
            runtimes: [a.runtime.clone(), b.runtime.clone()],
            load_ms: [ms(a.load), ms(b.load)],
            tolerance,
            functions,
            first,
            holds,
        }
    }
}

/// The outputs of one call.
fn outputs(a: &Step, b: &Step, tolerance: Tolerance) -> Vec<ComparedOutput> {
    let names: BTreeSet<_> = a.outputs.keys().chain(b.outputs.keys()).collect();
    let compared = |name: &String| {
        let pair = [a.outputs.get(name), b.outputs.get(name)];
        let shapes = pair.map(|output| output.map(|o| o.shape.clone()));
        let difference = match pair {
            [Some(x), Some(y)] if x.shape == y.shape && x.elements.len() == y.elements.len() => {
                Some(Difference::of(&x.elements, &y.elements))
            }
            _ => None,
        };
        let holds = difference.is_some_and(|d| d.holds(tolerance));
        ComparedOutput { output: name.clone(), call: a.call, shapes, difference, holds }
    };
    names.into_iter().map(compared).collect()
}

/// Keeps the call where the output is farthest apart.
fn merge(known: &mut Vec<ComparedOutput>, new: ComparedOutput) {
    let Some(old) = known.iter_mut().find(|old| old.output == new.output) else {
        known.push(new);
        return;
    };
    let holds = old.holds && new.holds;
    let badness = |output: &ComparedOutput| {
        output.difference.map_or((usize::MAX, f64::INFINITY), |d| (d.nonfinite, d.relative))
    };
    if badness(&new) > badness(old) {
        *old = new;
    }
    old.holds = holds;
}

/// The element of an output that is farthest apart.
fn parting(a: &Step, b: &Step, output: &ComparedOutput) -> First {
    let far = |x: &Output, y: &Output| {
        let apart = |(x, y): (&f32, &f32)| {
            let (x, y) = (f64::from(*x), f64::from(*y));
            match (x - y).abs() {
                _ if same(x, y) => 0.0,
                distance if distance.is_nan() => f64::INFINITY,
                distance => distance,
            }
        };
        let distances = x.elements.iter().zip(&y.elements).map(apart);
        // The first of the farthest.
        let farthest = distances.enumerate().max_by(|p, q| p.1.total_cmp(&q.1).then(q.0.cmp(&p.0)));
        farthest.map(|(at, _)| (at, [x.elements[at], y.elements[at]].map(|v| v.to_string())))
    };
    let found = match (a.outputs.get(&output.output), b.outputs.get(&output.output)) {
        (Some(x), Some(y)) if output.difference.is_some() => far(x, y),
        _ => None,
    };
    First {
        function: a.function.clone(),
        call: a.call,
        output: output.output.clone(),
        element: found.as_ref().map(|(at, _)| *at),
        values: found.map(|(_, values)| values),
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::clock::FixedClock;
    use crate::eval::{probe::Probe, probe::of_package};
    use crate::interp::Precision;
    use crate::package::Package;
    use crate::runtime::Interp;

    const TOLERANCE: Tolerance = Tolerance { relative: 0.02, cosine: 0.999 };

    #[test]
    fn differences_of_two_outputs() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let d = |max_abs, relative, cosine, nonfinite| (max_abs, relative, cosine, nonfinite);
        let cases: &[(&[f32], &[f32], _)] = &[
            (&[3.0, 4.0], &[3.0, 4.0], d(0.0, 0.0, 1.0, 0)),
            (&[3.0, 4.0], &[4.0, 3.0], d(1.0, 0.25, 0.96, 0)),
            (&[0.0, 0.0], &[0.0, -0.0], d(0.0, 0.0, 1.0, 0)),
            (&[0.0, 0.0], &[0.0, 2.0], d(2.0, 1.0, 0.0, 0)),
            (&[1.0, inf, nan], &[1.0, inf, nan], d(0.0, 0.0, 1.0, 0)),
            (&[1.0, inf, nan, 2.0], &[1.0, -inf, 0.0, inf], d(0.0, 0.0, 1.0, 3)),
            (&[], &[], d(0.0, 0.0, 1.0, 0)),
        ];
        for (a, b, want) in cases {
            let got = Difference::of(a, b);
            let got = (got.max_abs, got.relative, (got.cosine * 1e9).round() / 1e9, got.nonfinite);
            assert_eq!(got, *want, "{a:?} {b:?}");
        }
    }

    fn trace(runtime: &str, calls: &[&[(&str, &[f32])]]) -> Trace {
        let step = |(call, outputs): (usize, &&[(&str, &[f32])])| {
            let output = |(name, elements): &(&str, &[f32])| {
                let shape = vec![elements.len()];
                ((*name).to_owned(), Output { shape, elements: elements.to_vec() })
            };
            Step {
                function: "main".to_owned(),
                call,
                time: Duration::from_millis(call as u64 + 1),
                outputs: outputs.iter().map(output).collect(),
            }
        };
        let steps = calls.iter().enumerate().map(step).collect();
        Trace { runtime: runtime.to_owned(), load: Duration::from_secs(2), steps }
    }

    #[test]
    fn the_first_call_that_parts_is_named() {
        let a = trace(
            "coreml",
            &[
                &[("x", &[1.0, 2.0]), ("y", &[5.0])],
                &[("x", &[1.0, 2.5]), ("y", &[5.0])],
                &[("x", &[1.0, f32::NAN])],
            ],
        );
        let b = trace(
            "interp",
            &[
                &[("x", &[1.0, 2.01]), ("y", &[5.0])],
                &[("x", &[1.0, 2.0]), ("y", &[5.0])],
                &[("x", &[1.0, 2.0]), ("y", &[5.0])],
            ],
        );
        let found = Comparison::of(&a, &b, TOLERANCE);
        assert!(!found.holds);
        let first = found.first.unwrap();
        assert_eq!((first.call, first.output.as_str(), first.element), (1, "x", Some(1)));
        assert_eq!(first.values.unwrap(), ["2.5", "2"]);
        let [function] = found.functions.as_slice() else { panic!() };
        assert_eq!((function.calls, function.median_ms), (3, [2.0; 2]));
        let shown: Vec<_> =
            function.outputs.iter().map(|o| (&*o.output, o.call, o.holds)).collect();
        // A NaN is worse than any distance, an output that is not there worse than any value.
        assert_eq!(shown, [("x", 2, false), ("y", 2, false)]);
        assert_eq!(function.outputs[1].shapes, [None, Some(vec![1])]);

        assert!(Comparison::of(&b, &b, TOLERANCE).holds);
        let shorter = Trace { steps: b.steps[..1].to_vec(), ..b.clone() };
        assert!(!Comparison::of(&b, &shorter, TOLERANCE).holds);
    }

    #[test]
    fn two_precisions_are_two_runtimes() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let clock = FixedClock(0);
        let probe = Probe { seed: 3, calls: 2 };
        let run = |name: &str, precision| {
            let package = Package::open(&fixtures.join(name)).unwrap();
            of_package(&package, &Interp { precision }, probe, &clock).unwrap()
        };
        for name in ["tiny.mlpackage", "tiny_multifunction.mlpackage"] {
            let pair = [Precision::Declared, Precision::F32].map(|p| run(name, p));
            let found = Comparison::of(&pair[0], &pair[1], TOLERANCE);
            assert!(found.holds, "{found:?}");
            let exact = Tolerance { relative: 0.0, cosine: 1.0 };
            let found = Comparison::of(&pair[0], &pair[1], exact);
            // fp16 is not f32, and that is seen.
            assert!(!found.holds && found.first.is_some(), "{found:?}");
        }
    }
}
