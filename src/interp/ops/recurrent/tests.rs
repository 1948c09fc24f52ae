//! The operations against a plain twin in f64 that goes through one row of the batch at a time, and against PyTorch.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::interp::testing::{check, floats};

type Vector = Vec<f64>;

/// `rows` of a weight `[n, k]` from `first` on, times a vector.
fn times(weight: &[f32], k: usize, first: usize, rows: usize, x: &[f64]) -> Vector {
    let row = |r: usize| {
        weight[(first + r) * k..][..k].iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()
    };
    (0..rows).map(row).collect()
}

fn activation(name: &str, v: f64) -> f64 {
    match name {
        "tanh" | "scaled_tanh" => v.tanh(),
        "sigmoid" => 1.0 / (1.0 + (-v).exp()),
        "hard_sigmoid" => (0.2 * v + 0.5).clamp(0.0, 1.0),
        "relu" => v.max(0.0),
        _ => v,
    }
}

const ACTIVATIONS: [&str; 6] = ["tanh", "sigmoid", "hard_sigmoid", "relu", "linear", "scaled_tanh"];

/// One direction of any of the three operations.
#[derive(Clone)]
struct Plain {
    kind: &'static str,
    ih: Vec<f32>,
    hh: Vec<f32>,
    bias: Vec<f32>,
    input_bias: Vec<f32>,
    peephole: Vec<f32>,
    clip: f64,
    reset_after: bool,
    /// Gates, cell, output.
    names: [&'static str; 3],
    hidden: usize,
    features: usize,
}

impl Plain {
    /// The next state and memory of one row.
    fn step(&self, x: &[f64], h: &Vector, c: &Vector) -> (Vector, Vector) {
        let n = self.hidden;
        let given = |gate: usize| times(&self.ih, self.features, gate * n, n, x);
        let kept = |gate: usize, h: &[f64]| times(&self.hh, n, gate * n, n, h);
        let bias = |gate: usize, j: usize| f64::from(self.bias[gate * n + j]);
        let own = |gate: usize, j: usize| f64::from(self.input_bias[gate * n + j]);
        let peep = |gate: usize, j: usize| f64::from(self.peephole[gate * n + j]);
        let [gate, inner, outer] = self.names;
        match self.kind {
            "rnn" => {
                let (a, b) = (given(0), kept(0, h));
                let h = (0..n).map(|j| activation(outer, a[j] + b[j] + bias(0, j))).collect();
                (h, c.clone())
            }
            "gru" => {
                let sum = |g: usize| -> Vector {
                    let (a, b) = (given(g), kept(g, h));
                    let all = |j: usize| activation(gate, a[j] + b[j] + bias(g, j) + own(g, j));
                    (0..n).map(all).collect()
                };
                let (r, z) = (sum(0), sum(2));
                let reset: Vector = r.iter().zip(h).map(|(r, h)| r * h).collect();
                let (a, before, after) = (given(1), kept(1, &reset), kept(1, h));
                let next = |j: usize| {
                    let state = if self.reset_after {
                        r[j] * (after[j] + bias(1, j))
                    } else {
                        before[j] + bias(1, j)
                    };
                    let o = activation(outer, a[j] + own(1, j) + state);
                    (1.0 - z[j]) * o + z[j] * h[j]
                };
                ((0..n).map(next).collect(), c.clone())
            }
            _ => {
                let sums: Vec<Vector> = (0..4)
                    .map(|g| {
                        let (a, b) = (given(g), kept(g, h));
                        (0..n).map(|j| a[j] + b[j] + bias(g, j)).collect()
                    })
                    .collect();
                let memory: Vector = (0..n)
                    .map(|j| {
                        let i = activation(gate, sums[0][j] + peep(0, j) * c[j]);
                        let f = activation(gate, sums[1][j] + peep(1, j) * c[j]);
                        (f * c[j] + i * activation(inner, sums[3][j])).clamp(-self.clip, self.clip)
                    })
                    .collect();
                let h = |j: usize| {
                    activation(gate, sums[2][j] + peep(2, j) * memory[j])
                        * activation(outer, memory[j])
                };
                ((0..n).map(h).collect(), memory)
            }
        }
    }
}

/// Numbers in [-1, 1] that look random.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// What a case has besides its numbers.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each turns one parameter of a case on")]
struct Case {
    kind: &'static str,
    steps: usize,
    batch: usize,
    features: usize,
    hidden: usize,
    direction: &'static str,
    all: bool,
    bias: bool,
    peephole: bool,
    clip: Option<f32>,
    reset_after: bool,
    names: [&'static str; 3],
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let extents = (0_usize..4, 1_usize..7, 1_usize..6, 1_usize..5);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let kind = prop::sample::select(vec!["rnn", "gru", "lstm"]);
    let direction = prop::sample::select(vec!["forward", "reverse", "bidirectional"]);
    let names = prop::array::uniform3(prop::sample::select(ACTIVATIONS.to_vec()));
    let clip = prop::option::of((1_u8..40).prop_map(|twentieths| f32::from(twentieths) / 20.0));
    (kind, direction, extents, flags, names, clip, any::<u64>()).prop_map(
        |(kind, direction, (steps, batch, features, hidden), flags, names, clip, seed)| {
            let (all, bias, peephole, reset_after) = flags;
            let direction =
                if kind != "lstm" && direction == "bidirectional" { "reverse" } else { direction };
            Case {
                kind,
                steps,
                batch,
                features,
                hidden,
                direction,
                all,
                bias,
                peephole,
                clip,
                reset_after,
                names,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn as_the_formulas_say(case in cases()) {
        let Case { kind, steps, batch, features, hidden, direction, .. } = case;
        let gates = match kind { "rnn" => 1, "gru" => 3, _ => 4 };
        let directions = if direction == "bidirectional" { 2 } else { 1 };
        let (n, width) = (gates * hidden, directions * hidden);
        let x = numbers(steps * batch * features, case.seed);
        let h0 = numbers(batch * width, case.seed ^ 1);
        let c0 = numbers(batch * width, case.seed ^ 2);
        let none_unless = |given: bool, n: usize, seed: u64| if given { numbers(n, seed) } else { vec![0.0; n] };
        let cells: Vec<Plain> = (0..directions as u64).map(|d| Plain {
            kind,
            ih: numbers(n * features, case.seed ^ (3 + 10 * d)),
            hh: numbers(n * hidden, case.seed ^ (4 + 10 * d)),
            bias: none_unless(case.bias, n, case.seed ^ (5 + 10 * d)),
            input_bias: none_unless(case.bias && kind == "gru", n, case.seed ^ (6 + 10 * d)),
            peephole: none_unless(case.peephole, 3 * hidden, case.seed ^ (7 + 10 * d)),
            clip: case.clip.map_or(f64::INFINITY, f64::from),
            reset_after: case.reset_after,
            names: case.names,
            hidden,
            features,
        }).collect();

        // The plain way: [steps][batch][width], handed out as the module says.
        let mut out = vec![vec![vec![0.0; width]; batch]; steps];
        let (mut h_last, mut c_last) = (vec![vec![0.0; width]; batch], vec![vec![0.0; width]; batch]);
        for (d, cell) in cells.iter().enumerate() {
            for b in 0..batch {
                let part = |all: &[f32]| -> Vector { (0..hidden).map(|j| f64::from(all[b * width + d * hidden + j])).collect() };
                let (mut h, mut c) = (part(&h0), part(&c0));
                for i in 0..steps {
                    let t = if d == 1 || direction == "reverse" { steps - 1 - i } else { i };
                    let row: Vector = (0..features).map(|k| f64::from(x[(t * batch + b) * features + k])).collect();
                    (h, c) = cell.step(&row, &h, &c);
                    let place = if d == 1 { t } else { i };
                    out[place][b][d * hidden..(d + 1) * hidden].copy_from_slice(&h);
                }
                h_last[b][d * hidden..(d + 1) * hidden].copy_from_slice(&h);
                c_last[b][d * hidden..(d + 1) * hidden].copy_from_slice(&c);
            }
        }
        let flat = |rows: &[Vec<f64>]| rows.concat();
        let (h_last, c_last) = (flat(&h_last), flat(&c_last));
        let all: Vec<f64> = if case.all { out.iter().flat_map(|rows| flat(rows)).collect() } else { h_last.clone() };

        let mut c = check(kind)
            .input("x", floats(&[steps, batch, features], &x))
            .input("initial_h", floats(&[batch, width], &h0))
            .text("direction", direction)
            .flag("output_sequence", case.all)
            .text("activation", case.names[2]);
        for (cell, suffix) in cells.iter().zip(["", "_back"]) {
            let name = |name: &str| format!("{name}{suffix}");
            c = c
                .constant(&name("weight_ih"), &floats(&[n, features], &cell.ih))
                .constant(&name("weight_hh"), &floats(&[n, hidden], &cell.hh));
            if case.bias {
                c = c.constant(&name("bias"), &floats(&[n], &cell.bias));
            }
            if case.peephole && kind == "lstm" {
                c = c.constant(&name("peephole"), &floats(&[3 * hidden], &cell.peephole));
            }
        }
        if kind != "rnn" {
            c = c.text("recurrent_activation", case.names[0]);
        }
        if kind == "gru" {
            c = c.flag("reset_after", case.reset_after);
            if case.bias {
                c = c.constant("input_bias", &floats(&[n], &cells[0].input_bias));
            }
        }
        if kind == "lstm" {
            c = c.input("initial_c", floats(&[batch, width], &c0)).text("cell_activation", case.names[1]);
            if let Some(clip) = case.clip {
                c = c.floats_const(&[("clip", clip)]);
            }
        }
        let got = c.results(if kind == "lstm" { 3 } else { 2 }).runs();
        prop_assert_eq!(got[0].shape(), [if case.all { steps } else { 1 }, batch, width]);
        // Unbounded activations let the state grow with each step, and its error with it.
        let largest = out.iter().flatten().flatten().chain(&h_last).chain(&c_last).fold(1.0_f64, |m, v| m.max(v.abs()));
        for (got, want) in got.iter().zip([&all, &h_last, &c_last]) {
            for (g, w) in got.to_f32().unwrap().iter().zip(want) {
                prop_assert!((f64::from(*g) - w).abs() <= 5e-5 * largest, "{} for {}", g, w);
            }
            prop_assert_eq!(got.len(), want.len());
        }
    }
}

/// A tensor of the goldens.
#[derive(serde::Deserialize)]
struct Golden {
    shape: Vec<usize>,
    values: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Layer {
    kind: String,
    direction: String,
    inputs: BTreeMap<String, Golden>,
    constants: BTreeMap<String, Golden>,
    outputs: Vec<Golden>,
}

#[test]
fn as_pytorch_has_it() {
    let layers = include_str!("../../goldens/recurrent.json");
    let layers: Vec<Layer> = serde_json::from_str(layers).unwrap();
    for layer in layers {
        for all in [true, false] {
            let mut c = check(&layer.kind).flag("output_sequence", all);
            c = c.text("direction", &layer.direction);
            for (name, golden) in &layer.inputs {
                c = c.input(name, floats(&golden.shape, &golden.values));
            }
            for (name, golden) in &layer.constants {
                c = c.constant(name, &floats(&golden.shape, &golden.values));
            }
            if layer.kind == "gru" {
                c = c.flag("reset_after", true);
            }
            let got = c.results(layer.outputs.len()).runs();
            for (i, (got, want)) in got.iter().zip(&layer.outputs).enumerate() {
                // Without the sequence the first result is the last state, handed out as a sequence of one.
                let (want, shape) = match i {
                    0 if all => (want, want.shape.clone()),
                    0 => {
                        let last = &layer.outputs[1];
                        (last, [&[1], last.shape.as_slice()].concat())
                    }
                    _ => (want, want.shape.clone()),
                };
                assert_eq!(got.shape(), shape, "{} {}", layer.kind, layer.direction);
                for (g, w) in got.to_f32().unwrap().iter().zip(&want.values) {
                    assert!(
                        (g - w).abs() < 1e-6,
                        "{} {}: {g} for {w}",
                        layer.kind,
                        layer.direction
                    );
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let c = |hidden: usize, state: usize| {
        check("rnn")
            .input("x", floats(&[1, 1, 2], &[0.0; 2]))
            .input("initial_h", floats(&[1, state], &vec![0.0; state]))
            .constant("weight_ih", &floats(&[hidden, 2], &vec![0.0; 2 * hidden]))
            .constant("weight_hh", &floats(&[3, 3], &[0.0; 9]))
            .results(2)
    };
    let cases = [
        (c(2, 3), "cannot be planned: weights [2, 2] and [3, 3] for 1 gates"),
        (c(3, 2), "failed: an initial state [1, 2], [1, 3] is needed"),
        (c(3, 3).text("direction", "bidirectional"), "(direction `bidirectional`) of CoreML8"),
        (c(3, 3).text("activation", "cosine"), "(activation `cosine`) of CoreML8"),
    ];
    for (c, want) in cases {
        let failed = c.fails();
        assert!(failed.contains(want), "{failed}");
    }
}
