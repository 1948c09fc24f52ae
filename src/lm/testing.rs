//! A runtime for tests: its model is a checksum over the tokens that a position sees, so any token fed wrongly, twice
//! or at another position changes the logits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::lm::artifact::Place;
use crate::lm::engine::Engine;
use crate::lm::{
    layout::CacheForm, layout::DecoderLayout, layout::EncoderLayout, layout::Layout, layout::Role,
};
use crate::runtime::{Held, Loaded, Runtime, RuntimeError, Source, State, Value, Values};

/// Tokens of the model.
pub(crate) const VOCAB: usize = 50;

/// The logits after `tokens`.
pub(crate) fn logits_after(tokens: &[u32]) -> Vec<f32> {
    let cells: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
    logits_of(checksum(&cells))
}

fn checksum(cells: &[i32]) -> f32 {
    let step =
        |(i, sum): (i64, i64), &cell: &i32| (i + 1, (sum * 31 + i64::from(cell) * 17 + i) % 65_521);
    cells.iter().fold((1, 7), step).1 as f32
}

fn logits_of(checksum: f32) -> Vec<f32> {
    let logit = |v: usize| (checksum as u64 * 7919 + 1) * (v as u64 + 1) * 104_729 % 997;
    (0..VOCAB).map(|v| logit(v) as f32 / 100.0).collect()
}

/// The model and its shapes; as a runtime it loads the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fake {
    capacity: usize,
    chunk: usize,
    cache: CacheForm,
    /// Added to the logits of token 0.
    pub(crate) bias: f32,
}

impl Fake {
    pub(crate) fn state(capacity: usize, chunk: usize) -> Self {
        Self { capacity, chunk, cache: CacheForm::State, bias: 0.0 }
    }

    pub(crate) fn io(capacity: usize) -> Self {
        Self { capacity, chunk: capacity, cache: CacheForm::Io, bias: 0.0 }
    }

    pub(crate) fn engine(self) -> Engine {
        let place = |role: Role| (role, Place { package: 0, function: role.name().to_owned() });
        let decoder = DecoderLayout {
            capacity: self.capacity,
            chunk: self.chunk,
            vocab: VOCAB,
            cache: self.cache,
            cache_bytes: 8 * self.capacity as u64,
        };
        let encoder = EncoderLayout { seq_len: self.capacity, width: 2, pool_mask: true };
        let layout = Layout { decoder: Some(decoder), encoder: Some(encoder) };
        Engine::new(layout, Role::ALL.map(place).into(), vec![Box::new(self)])
    }

    fn biased(&self, checksum: f32) -> Vec<f32> {
        let mut logits = logits_of(checksum);
        logits[0] += self.bias;
        logits
    }

    fn init(&self, inputs: &Values, cells: &mut [i32]) -> Values {
        let ids = ints(inputs, "input_ids");
        let length = ints(inputs, "length")[0] as usize;
        let position = inputs.get("position").map_or(0, |_| ints(inputs, "position")[0] as usize);
        assert_eq!(ids.len(), self.chunk);
        assert!((1..=self.chunk).contains(&length));
        cells[position..][..self.chunk].copy_from_slice(&ids);
        let sums: Vec<f32> = (0..self.chunk).map(|i| checksum(&cells[..=position + i])).collect();
        let logits = self.biased(sums[length - 1]);
        BTreeMap::from([
            ("hidden_states".to_owned(), self.floats(&[1, self.chunk, 1], sums)),
            ("logits".to_owned(), self.floats(&[1, VOCAB], logits)),
        ])
    }

    fn decode(&self, inputs: &Values, cells: &mut [i32]) -> Values {
        let position = ints(inputs, "position")[0] as usize;
        cells[position] = ints(inputs, "input_ids")[0];
        let logits = self.biased(checksum(&cells[..=position]));
        BTreeMap::from([("logits".to_owned(), self.floats(&[1, VOCAB], logits))])
    }

    /// The embedding is the checksum over all tokens, and the sum of the tokens that are pooled.
    fn encode(&self, inputs: &Values) -> Values {
        let [ids, seen, pooled] =
            ["input_ids", "attention_mask", "pool_mask"].map(|n| ints(inputs, n));
        let all: Vec<i32> =
            ids.iter().zip(&seen).filter(|(_, m)| **m == 1).map(|(i, _)| *i).collect();
        let sum: i32 = ids.iter().zip(&pooled).map(|(i, m)| i * m).sum();
        let embedding = self.floats(&[1, 2], vec![checksum(&all) + self.bias * 1e4, sum as f32]);
        BTreeMap::from([("embedding".to_owned(), embedding)])
    }
}

impl Loaded for Fake {
    fn state(&self) -> State {
        State::new(vec![-1_i32; self.capacity])
    }

    fn ints(&self, shape: &[usize], elements: Vec<i32>) -> Value {
        Arc::new(Plain { shape: shape.to_vec(), ints: elements, floats: Vec::new() })
    }

    fn floats(&self, shape: &[usize], elements: Vec<f32>) -> Value {
        Arc::new(Plain { shape: shape.to_vec(), ints: Vec::new(), floats: elements })
    }

    fn run(
        &self,
        function: &str,
        inputs: Values,
        state: &mut State,
        _taps: &[&str],
    ) -> Result<Values, RuntimeError> {
        let mut cells = match (self.cache, function) {
            (CacheForm::State, _) => state.get_mut::<Vec<i32>>().unwrap().clone(),
            (CacheForm::Io, "decode") => ints(&inputs, "keyCache"),
            (CacheForm::Io, _) => vec![-1; self.capacity],
        };
        let mut values = match function {
            "init" => self.init(&inputs, &mut cells),
            "decode" => self.decode(&inputs, &mut cells),
            "encode" => self.encode(&inputs),
            _ => {
                let sums = inputs["hidden_states"].to_f32();
                let logits: Vec<f32> = sums.iter().flat_map(|&sum| self.biased(sum)).collect();
                let logits = self.floats(&[1, sums.len(), VOCAB], logits);
                Values::from([("logits".to_owned(), logits)])
            }
        };
        if self.cache == CacheForm::Io {
            let suffix = if function == "decode" { "Out" } else { "" };
            for name in ["keyCache", "valueCache"] {
                values
                    .insert(format!("{name}{suffix}"), self.ints(&[self.capacity], cells.clone()));
            }
        }
        if let Some(kept) = state.get_mut::<Vec<i32>>() {
            *kept = cells;
        }
        Ok(values)
    }
}

impl Runtime for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn load(&self, _source: &Source<'_>) -> Result<Box<dyn Loaded>, RuntimeError> {
        Ok(Box::new(*self))
    }
}

#[derive(Debug)]
struct Plain {
    shape: Vec<usize>,
    ints: Vec<i32>,
    floats: Vec<f32>,
}

impl Held for Plain {
    fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    fn to_f32(&self) -> Vec<f32> {
        self.floats.clone()
    }
}

fn ints(inputs: &Values, name: &str) -> Vec<i32> {
    let held: &dyn std::any::Any = inputs[name].as_ref();
    held.downcast_ref::<Plain>().unwrap().ints.clone()
}

/// A clock by which every look takes a millisecond.
#[derive(Debug, Default)]
pub(crate) struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn unix_seconds(&self) -> i64 {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
